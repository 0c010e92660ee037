//! Logging in: one key after another, until the server takes one.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use russh::Signer as RemoteSigner;
use russh::client::{AuthResult, Handle};
use russh::keys::agent::AgentIdentity;
use russh::keys::signature::Signer;
use russh::keys::ssh_encoding::Encode;
use russh::keys::ssh_key::Signature;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::{Algorithm, HashAlg, PrivateKey};

use super::agent::Agent;
use super::error::ConnectError;
use super::identities::{Candidate, Card, Hand, Identities};
use super::visitor::Visitor;

/// How many keys a server lets a client try before it hangs up; so no client tries more.
pub(super) const TRIES: usize = 10;

/// What to do where there is no key at all.
const NO_KEY: &str = "there is no key to try; make one with ssh-keygen -t ed25519, add one to ssh-agent, or name one with --identity";

/// How to log in.
#[derive(Clone)]
pub enum Login {
    /// With the first of these keys that the server accepts.
    Keys(Vec<Arc<PrivateKey>>),
    /// With the first of a user's identities that the server accepts.
    Identities(Arc<Identities>),
    /// Not at all: whoever made the stream has authenticated both ends.
    None,
}

/// Whether a person is being asked something, and whether one was.
#[derive(Default)]
pub(super) struct Asking {
    now: AtomicBool,
    ever: AtomicBool,
}

impl Asking {
    /// Until the result is dropped, a person is being asked.
    pub(super) fn begin(&self) -> Asked<'_> {
        self.now.store(true, Ordering::SeqCst);
        self.ever.store(true, Ordering::SeqCst);
        Asked(self)
    }

    pub(super) fn now(&self) -> bool {
        self.now.load(Ordering::SeqCst)
    }

    pub(super) fn ever(&self) -> bool {
        self.ever.load(Ordering::SeqCst)
    }
}

/// See [`Asking::begin`].
pub(super) struct Asked<'a>(&'a Asking);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.now.store(false, Ordering::SeqCst);
    }
}

/// Logs in, or says why not.
pub(super) async fn log_in(
    handle: &mut Handle<Visitor>,
    user: &str,
    login: Login,
    asking: &Asking,
) -> Result<(), ConnectError> {
    let nobody = Arc::new(Identities::default());
    let (candidates, identities, agent, notes) = match login {
        Login::None => {
            let result = handle.authenticate_none(user).await.map_err(broken)?;
            return if result.success() { Ok(()) } else { Err(no_key(user, &["none".to_owned()], &[])) };
        }
        Login::Keys(keys) => (keys.into_iter().map(Candidate::open).collect(), nobody, None, Vec::new()),
        Login::Identities(identities) => {
            let (candidates, agent, mut notes) = gather(handle, identities.clone()).await;
            if candidates.is_empty() {
                notes.push(NO_KEY.to_owned());
            }
            (candidates, identities, agent, notes)
        }
    };
    Tries { handle, user, identities, agent, asking, notes, tried: Vec::new() }.all(candidates).await
}

/// What there is to try, and why some of it cannot be.
async fn gather(
    handle: &Handle<Visitor>,
    identities: Arc<Identities>,
) -> (Vec<Candidate>, Option<Agent>, Vec<String>) {
    let mut notes = Vec::new();
    let (mut agent, mut held) = (None, Vec::new());
    if let Some(socket) = &identities.wanted.agent {
        match Agent::connect(socket, handle.agent_session_binding()).await {
            Ok((connected, keys)) => (agent, held) = (Some(connected), keys),
            Err(why) => notes.push(why),
        }
    }
    let reading = tokio::task::spawn_blocking(move || identities.candidates(&held)).await;
    let (candidates, unusable) = reading.unwrap_or_default();
    notes.extend(unusable.iter().map(|error| error.to_string()));
    (candidates, agent, notes)
}

fn broken(error: russh::Error) -> ConnectError {
    ConnectError::broken(&error)
}

fn no_key(user: &str, tried: &[String], notes: &[String]) -> ConnectError {
    let user = user.to_owned();
    if tried.is_empty() && !notes.is_empty() {
        return ConnectError::Unusable { user, causes: notes.join("; ") };
    }
    let tried = if tried.is_empty() { "none".to_owned() } else { tried.join(", ") };
    let tried = notes.iter().fold(tried, |tried, note| format!("{tried}; {note}"));
    ConnectError::NoKey { user, tried }
}

/// The tries of one connection.
struct Tries<'a> {
    handle: &'a mut Handle<Visitor>,
    user: &'a str,
    identities: Arc<Identities>,
    agent: Option<Agent>,
    asking: &'a Asking,
    /// Why some keys could not be used.
    notes: Vec<String>,
    /// Names of the keys that the server did not take.
    tried: Vec<String>,
}

/// How the try of one key ended.
enum Tried {
    Accepted,
    Refused,
    /// There was no signature, or nothing to offer.
    Unused,
    /// The server has gone.
    Gone,
}

impl Tries<'_> {
    async fn all(mut self, candidates: Vec<Candidate>) -> Result<(), ConnectError> {
        for candidate in fitting(candidates) {
            let name = candidate.name();
            // The agent and a file may have the same key. A server that does not want it is not asked twice.
            if self.tried.contains(&name) {
                continue;
            }
            if self.tried.len() == TRIES {
                break;
            }
            let asked_before = self.asking.ever();
            let ended = self.one(candidate).await;
            if !matches!(ended, Tried::Unused) {
                self.tried.push(name);
            }
            match ended {
                Tried::Accepted => return Ok(()),
                Tried::Refused | Tried::Unused => {}
                // Servers hang up after too many keys, but one is not too many: there the line was cut. So it was where the
                // server lost its patience with a person.
                Tried::Gone if self.tried.len() == 1 || self.asking.ever() != asked_before => {
                    return Err(broken(russh::Error::Disconnect));
                }
                Tried::Gone => break,
            }
        }
        Err(no_key(self.user, &self.tried, &self.notes))
    }

    async fn one(&mut self, candidate: Candidate) -> Tried {
        let Candidate { mut card, mut hand } = candidate;
        if let (Card::Unknown, Hand::Locked(path)) = (&card, &hand) {
            match unlock(&self.identities, path, self.asking).await {
                Ok(key) => Candidate { card, hand } = Candidate::open(key),
                Err(why) => {
                    self.notes.push(why);
                    return Tried::Unused;
                }
            }
        }
        let hash = match self.hash_for(&card).await {
            Ok(Some(hash)) => hash,
            Ok(None) => {
                self.notes.push("the server takes no RSA key that signs with SHA-2".to_owned());
                return Tried::Unused;
            }
            Err(_) => return Tried::Gone,
        };
        let mut pen =
            Pen { hand: &hand, agent: &mut self.agent, identities: &self.identities, asking: self.asking };
        let ended = match card {
            Card::Key(key) => self.handle.authenticate_publickey_with(self.user, key, hash, &mut pen).await,
            Card::Certificate(certificate) => {
                self.handle.authenticate_certificate_with(self.user, *certificate, hash, &mut pen).await
            }
            Card::Unknown => return Tried::Unused,
        };
        match ended {
            Ok(AuthResult::Success) => Tried::Accepted,
            // A server that is still there names the methods that remain.
            Ok(AuthResult::Failure { remaining_methods, .. }) if remaining_methods.is_empty() => Tried::Gone,
            Ok(AuthResult::Failure { .. }) => Tried::Refused,
            Err(Unsigned::Because(why)) => {
                self.notes.push(why);
                Tried::Unused
            }
            Err(Unsigned::Gone) => Tried::Gone,
        }
    }

    /// An RSA key signs with the best SHA-2 that the server knows; `None` where it knows only SHA-1.
    async fn hash_for(&self, card: &Card) -> Result<Option<Option<HashAlg>>, russh::Error> {
        let algorithm = match card {
            Card::Key(key) => key.algorithm(),
            Card::Certificate(certificate) => certificate.algorithm(),
            Card::Unknown => return Ok(None),
        };
        if !matches!(algorithm, Algorithm::Rsa { .. }) {
            return Ok(Some(None));
        }
        Ok(match self.handle.best_supported_rsa_hash().await? {
            Some(None) => None,
            Some(hash) => Some(hash),
            None => Some(Some(HashAlg::Sha512)),
        })
    }
}

/// Without those of the agent's other keys for which a server has no patience, so that every file has its turn.
fn fitting(candidates: Vec<Candidate>) -> Vec<Candidate> {
    let from_agent = |candidate: &Candidate| matches!(candidate.hand, Hand::Agent(_));
    let names: HashSet<String> = candidates.iter().map(Candidate::name).collect();
    let mut surplus = names.len().saturating_sub(TRIES);
    let mut kept: Vec<Candidate> = Vec::new();
    for candidate in candidates.into_iter().rev() {
        match surplus > 0 && from_agent(&candidate) {
            true => surplus -= 1,
            false => kept.push(candidate),
        }
    }
    kept.reverse();
    kept
}

async fn unlock(
    identities: &Arc<Identities>,
    path: &Path,
    asking: &Asking,
) -> Result<Arc<PrivateKey>, String> {
    let _asked = asking.begin();
    let (identities, path) = (identities.clone(), path.to_owned());
    let unlocked = tokio::task::spawn_blocking(move || identities.unlock(&path)).await;
    match unlocked {
        Ok(unlocked) => unlocked.map_err(|error| error.to_string()),
        Err(_) => Err("unlocking the key failed".to_owned()),
    }
}

/// Signs for one candidate, once the server has said that it would take it.
struct Pen<'a> {
    hand: &'a Hand,
    agent: &'a mut Option<Agent>,
    identities: &'a Arc<Identities>,
    asking: &'a Asking,
}

/// Why there is no signature.
#[derive(Debug)]
enum Unsigned {
    Because(String),
    /// The connection has ended.
    Gone,
}

impl From<russh::SendError> for Unsigned {
    fn from(_: russh::SendError) -> Self {
        Self::Gone
    }
}

impl RemoteSigner for Pen<'_> {
    type Error = Unsigned;

    async fn auth_sign(
        &mut self,
        _: &AgentIdentity,
        hash: Option<HashAlg>,
        data: Vec<u8>,
    ) -> Result<Vec<u8>, Unsigned> {
        let signed = match (self.hand, self.agent.as_mut()) {
            (Hand::Agent(identity), Some(agent)) => {
                let _asked = self.asking.begin();
                agent.sign(identity, hash, data).await
            }
            (Hand::Agent(_), None) => Err("ssh-agent is gone".to_owned()),
            (Hand::Key(key), _) => signed(key, hash, data),
            (Hand::Locked(path), _) => match unlock(self.identities, path, self.asking).await {
                Ok(key) => signed(&key, hash, data),
                Err(why) => Err(why),
            },
        };
        signed.map_err(Unsigned::Because)
    }
}

/// `data` with a signature behind it, as an SSH login has it.
fn signed(key: &PrivateKey, hash: Option<HashAlg>, mut data: Vec<u8>) -> Result<Vec<u8>, String> {
    let signature: Result<Signature, _> = match key.key_data() {
        KeypairData::Rsa(pair) => (pair, hash).try_sign(&data),
        pair => pair.try_sign(&data),
    };
    let failed = |cause: &dyn std::fmt::Display| format!("cannot sign: {cause}");
    let mut wire = Vec::new();
    signature.map_err(|error| failed(&error))?.encode(&mut wire).map_err(|error| failed(&error))?;
    wire.encode(&mut data).map_err(|error| failed(&error))?;
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::host_key::ephemeral;

    #[test]
    fn the_agents_last_keys_give_way_so_that_every_file_has_its_turn() {
        let from_agent = |count| {
            std::iter::repeat_with(|| {
                let key = ephemeral().public_key().clone();
                let hand = Hand::Agent(Box::new(key.clone().into()));
                Candidate { card: Card::Key(key), hand }
            })
            .take(count)
            .collect::<Vec<_>>()
        };
        let files = vec![Candidate::open(Arc::new(ephemeral())), Candidate::open(Arc::new(ephemeral()))];
        let names = |candidates: &[Candidate]| candidates.iter().map(Candidate::name).collect::<Vec<_>>();
        for (held, kept) in [(3, 3), (8, 8), (9, 8), (40, 8)] {
            let all = [from_agent(held), files.clone()].concat();
            let expected = [&all[..kept], &files].concat();
            assert_eq!(names(&fitting(all)), names(&expected), "{held}");
        }
    }
}
