//! With what to log in, best first: keys of an agent, key files, certificates.
//!
//! The order is OpenSSH's: keys of the agent that a file names, then its other keys, then files. A key that needs a
//! passphrase asks for it only once the server has said that it would take the key.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use russh::keys::agent::AgentIdentity;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Certificate, HashAlg, PrivateKey, PublicKey};

use super::identity::{self, Half, IdentityError, beside};
use super::key_file::read_small;

/// The most bytes of a certificate's file.
const CERTIFICATE_CAP: u64 = 64 * 1024;

/// Asks a person for the passphrase of the key in a file; may block.
pub type AskSecret = Arc<dyn Fn(&Path) -> io::Result<String> + Send + Sync>;

/// Which keys a user wants to log in with.
#[derive(Clone, Default)]
pub struct Wanted {
    /// Key files, best first; what does not exist is passed over.
    pub files: Vec<PathBuf>,
    /// Certificates for them; none: `FILE-cert.pub` beside each.
    pub certificates: Vec<PathBuf>,
    /// The agent's socket.
    pub agent: Option<PathBuf>,
    /// Of the agent's keys, only those that a file or a certificate names.
    pub only: bool,
    /// How passphrases are asked for; nothing where there is nobody to ask.
    pub ask: Option<AskSecret>,
}

/// A user's identities. Clones of the [`Arc`] around it share what was unlocked, so that nobody is asked twice.
#[derive(Default)]
pub struct Identities {
    pub(super) wanted: Wanted,
    opened: Mutex<HashMap<PathBuf, Arc<PrivateKey>>>,
}

impl From<Wanted> for Identities {
    fn from(wanted: Wanted) -> Self {
        Self { wanted, ..Self::default() }
    }
}

/// What is shown to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Card {
    Key(PublicKey),
    Certificate(Box<Certificate>),
    /// Only the passphrase tells.
    Unknown,
}

/// Who can sign for it.
#[derive(Clone, Debug)]
pub(super) enum Hand {
    Agent(Box<AgentIdentity>),
    Key(Arc<PrivateKey>),
    Locked(PathBuf),
}

/// One way to log in.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) card: Card,
    pub(super) hand: Hand,
}

impl Candidate {
    /// A key that needs nothing more.
    pub(super) fn open(key: Arc<PrivateKey>) -> Self {
        Self { card: Card::Key(key.public_key().clone()), hand: Hand::Key(key) }
    }

    /// What a user knows it by.
    pub(super) fn name(&self) -> String {
        match (&self.card, &self.hand) {
            (Card::Key(key), _) => key.fingerprint(HashAlg::Sha256).to_string(),
            (Card::Certificate(certificate), _) => {
                format!("certificate of {}", certificate.public_key().fingerprint(HashAlg::Sha256))
            }
            (Card::Unknown, Hand::Locked(path)) => super::key_file::shown(path).to_string(),
            (Card::Unknown, _) => "a key".to_owned(),
        }
    }
}

/// A key file and what belongs to it.
struct Stored {
    path: PathBuf,
    half: Half,
}

impl Identities {
    /// All ways to log in, in the order in which they are tried, given what the agent holds; and why files that exist are of
    /// no use. Reads files: call it off the async threads.
    pub(super) fn candidates(&self, held: &[AgentIdentity]) -> (Vec<Candidate>, Vec<IdentityError>) {
        let (stored, unusable) = self.stored();
        let certificates = self.certificates(&stored);
        let (named, others): (Vec<_>, Vec<_>) = held.iter().partition(|identity| match identity {
            AgentIdentity::PublicKey { key, .. } => names(&stored, key.key_data()),
            AgentIdentity::Certificate { certificate, .. } => {
                certificates.contains(certificate) || names(&stored, certificate.public_key())
            }
        });
        let holds = |key: &KeyData| {
            held.iter().find(
                |identity| matches!(identity, AgentIdentity::PublicKey { key: held, .. } if held.key_data() == key),
            )
        };
        let mut all = Vec::new();
        // Certificates from files first: whoever has one needs it.
        for certificate in &certificates {
            let key = certificate.public_key();
            let certified = |held: &&AgentIdentity| covered(held, std::slice::from_ref(certificate));
            let hand = match holds(key).or_else(|| held.iter().find(certified)) {
                Some(identity) => Some(Hand::Agent(Box::new(identity.clone()))),
                None => stored.iter().find(|stored| stored.is(key)).and_then(|stored| self.hand(stored)),
            };
            all.extend(
                hand.map(|hand| Candidate { card: Card::Certificate(Box::new(certificate.clone())), hand }),
            );
        }
        all.extend(named.into_iter().filter(|held| !covered(held, &certificates)).map(from_agent));
        // Also what the agent holds: it may refuse to sign.
        let files: Vec<_> = stored.iter().filter_map(|stored| self.by_file(stored)).collect();
        if !self.wanted.only {
            all.extend(others.into_iter().map(from_agent));
        }
        (all.into_iter().chain(files).collect(), unusable)
    }

    /// The keys in the files that exist.
    fn stored(&self) -> (Vec<Stored>, Vec<IdentityError>) {
        let (mut stored, mut unusable) = (Vec::new(), Vec::new());
        for path in &self.wanted.files {
            match identity::look(path) {
                Ok(half) => stored.push(Stored { path: path.clone(), half }),
                Err(IdentityError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => unusable.push(error),
            }
        }
        (stored, unusable)
    }

    /// The certificates that are good for a login now.
    fn certificates(&self, stored: &[Stored]) -> Vec<Certificate> {
        let beside_each: Vec<_> = stored.iter().map(|stored| beside(&stored.path, "-cert.pub")).collect();
        let files =
            if self.wanted.certificates.is_empty() { &beside_each } else { &self.wanted.certificates };
        let mut found: Vec<Certificate> = Vec::new();
        for certificate in files.iter().filter_map(|file| certificate(file)) {
            if !found.contains(&certificate) {
                found.push(certificate);
            }
        }
        found
    }

    fn by_file(&self, stored: &Stored) -> Option<Candidate> {
        let card = stored.public().map_or(Card::Unknown, |key| Card::Key(key.clone()));
        Some(Candidate { card, hand: self.hand(stored)? })
    }

    fn hand(&self, stored: &Stored) -> Option<Hand> {
        match &stored.half {
            Half::Open(key) => Some(Hand::Key(key.clone())),
            Half::Locked(_) => Some(match self.opened(&stored.path) {
                Some(key) => Hand::Key(key),
                None => Hand::Locked(stored.path.clone()),
            }),
            Half::Public(_) => None,
        }
    }

    fn opened(&self, path: &Path) -> Option<Arc<PrivateKey>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned()
    }

    /// Unlocks a key, asking for its passphrase at most once in the life of `self`. Blocks.
    pub(super) fn unlock(&self, path: &Path) -> Result<Arc<PrivateKey>, IdentityError> {
        if let Some(key) = self.opened(path) {
            return Ok(key);
        }
        let key = match &self.wanted.ask {
            Some(ask) => identity::load(path, Some(&mut |path: &Path| ask(path))),
            None => identity::load(path, None),
        };
        let key = Arc::new(key?);
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.insert(path.to_owned(), key.clone());
        Ok(key)
    }
}

impl Stored {
    fn public(&self) -> Option<&PublicKey> {
        match &self.half {
            Half::Open(key) => Some(key.public_key()),
            Half::Locked(key) => key.as_ref(),
            Half::Public(key) => Some(key),
        }
    }

    fn is(&self, key: &KeyData) -> bool {
        self.public().is_some_and(|own| own.key_data() == key)
    }
}

fn names(stored: &[Stored], key: &KeyData) -> bool {
    stored.iter().any(|stored| stored.is(key))
}

fn covered(held: &AgentIdentity, certificates: &[Certificate]) -> bool {
    matches!(held, AgentIdentity::Certificate { certificate, .. } if certificates.contains(certificate))
}

fn from_agent(identity: &AgentIdentity) -> Candidate {
    let card = match identity {
        AgentIdentity::PublicKey { key, .. } => Card::Key(key.clone()),
        AgentIdentity::Certificate { certificate, .. } => Card::Certificate(Box::new(certificate.clone())),
    };
    Candidate { card, hand: Hand::Agent(Box::new(identity.clone())) }
}

/// The user certificate in a file, if it is valid now.
fn certificate(path: &Path) -> Option<Certificate> {
    let (text, _) = read_small(path, CERTIFICATE_CAP, |_| true).ok()?;
    let certificate = Certificate::from_openssh(std::str::from_utf8(&text?).ok()?).ok()?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    let valid = certificate.valid_after() <= now && now < certificate.valid_before();
    (valid && certificate.cert_type() == CertType::User).then_some(certificate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::host_key::ephemeral;
    use russh::keys::ssh_key::LineEnding;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use tempfile::TempDir;

    /// Key files in a folder.
    struct Keys(TempDir);

    impl Keys {
        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn make(&self, name: &str) -> AgentIdentity {
            let key = ephemeral();
            key.write_openssh_file(self.path(name), LineEnding::LF).unwrap();
            fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
            key.public_key().clone().into()
        }

        fn wanted(&self, files: &[&str]) -> Wanted {
            Wanted { files: files.iter().map(|name| self.path(name)).collect(), ..Wanted::default() }
        }
    }

    /// `agent` or `file` and the fingerprint of each candidate.
    fn order(wanted: Wanted, held: &[AgentIdentity]) -> Vec<(&'static str, String)> {
        let (candidates, unusable) = Identities::from(wanted).candidates(held);
        assert!(unusable.is_empty(), "{unusable:?}");
        let by = |hand: &Hand| if matches!(hand, Hand::Agent(_)) { "agent" } else { "file" };
        candidates.iter().map(|candidate| (by(&candidate.hand), candidate.name())).collect()
    }

    fn name(identity: &AgentIdentity) -> String {
        identity.public_key().fingerprint(HashAlg::Sha256).to_string()
    }

    #[test]
    fn keys_of_the_agent_that_a_file_names_come_first_then_its_others_then_files() {
        let keys = Keys(tempfile::tempdir().unwrap());
        let (a, b, c) = (keys.make("a"), keys.make("b"), keys.make("c"));
        let held = [a.clone(), b.clone()];
        let expected = |plan: &[(&'static str, &AgentIdentity)]| {
            plan.iter().map(|(by, identity)| (*by, name(identity))).collect::<Vec<_>>()
        };
        let all = order(keys.wanted(&["b", "missing", "c"]), &held);
        assert_eq!(all, expected(&[("agent", &b), ("agent", &a), ("file", &b), ("file", &c)]));
        let only = order(Wanted { only: true, ..keys.wanted(&["b", "c"]) }, &held);
        assert_eq!(only, expected(&[("agent", &b), ("file", &b), ("file", &c)]));
        assert_eq!(order(keys.wanted(&["c"]), &[]), expected(&[("file", &c)]));
    }

    #[test]
    fn a_file_that_cannot_be_used_is_told_and_the_others_are_tried() {
        let keys = Keys(tempfile::tempdir().unwrap());
        keys.make("good");
        fs::write(keys.path("bad"), "nonsense").unwrap();
        fs::set_permissions(keys.path("bad"), fs::Permissions::from_mode(0o600)).unwrap();
        let (candidates, unusable) = Identities::from(keys.wanted(&["bad", "good"])).candidates(&[]);
        assert_eq!((candidates.len(), unusable.len()), (1, 1));
    }
}
