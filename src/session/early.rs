//! The first question, asked before its turn: System 2 says what it has, and asks for the rest, as soon as it has looked, while its
//! hello is still on the way. That spares a round trip in every run that has something to do.

use super::control::{Control, path_size};
use super::error::SessionError;
use super::have::have;
use super::listing::{Have, list};
use crate::core::digest::Digest;
use crate::core::path::RelPath;
use crate::core::snapshot::Snapshot;
use crate::protocol::message::{Begin, Half, MAX_HAVE, MAX_PATHS, Message, NO_DIGEST};

/// With more folders it waits for its turn: most runs have nothing to do, and names cost bytes.
const MOST: usize = 1024;

/// Asks for the root and everything below, if there are few folders; whether it did.
pub(crate) async fn ask(control: &Control, snapshot: &Snapshot) -> Result<bool, SessionError> {
    let mut have = have(snapshot);
    if have.len() >= MOST {
        return Ok(false);
    }
    have.insert(0, (RelPath::root(), half(snapshot.digest)));
    control.send_list(have, |(path, _)| path_size(path) + 16, Message::Have).await?;
    control.send(&Message::List(vec![(RelPath::root(), true)])).await?;
    Ok(true)
}

/// Whether System 1 answers, given the digests of both roots: not where they are the same.
pub(crate) fn is_answered(one: Option<Digest>, two: Option<Digest>) -> bool {
    half(one) != half(two) || one.is_none()
}

fn half(digest: Option<Digest>) -> Half {
    digest.map_or(NO_DIGEST, |digest| digest.half())
}

/// On System 1: what comes before the beginning, and that. Only if `heed` is it answered.
pub(crate) async fn answer(
    control: &Control,
    snapshot: &Snapshot,
    heed: bool,
) -> Result<(Begin, Have), SessionError> {
    let mut have = Have::new();
    loop {
        match control.receive().await? {
            Message::Begin(begin) if heed => return Ok((begin, have)),
            Message::Begin(begin) => return Ok((begin, Have::new())),
            Message::Have(more) if have.len() + more.len() <= MAX_HAVE => have.extend(more),
            Message::List(ask) if ask.len() <= MAX_PATHS => {
                let theirs = have.get(&RelPath::root()).copied().unwrap_or(NO_DIGEST);
                let same = theirs == half(snapshot.digest) && theirs != NO_DIGEST;
                if heed && !same {
                    list(control, snapshot, &have, &ask).await?;
                }
            }
            _ => return Err(SessionError::broke("it did not begin with a beginning, or asks too much")),
        }
    }
}
