//! Hashes that must be known before both sides can decide, or that spare a transfer: asking, and filling in.

use super::control::{Control, path_size};
use super::error::SessionError;
use super::progress::{Problem, ProblemKind};
use crate::core::digest::Digest;
use crate::core::merge::Fork;
use crate::core::path::RelPath;
use crate::core::side::Side;
use crate::core::version::{Content, Standing, Version};
use crate::protocol::message::{MAX_PATHS, Message, Unhashed};

/// Asks the other side for the hashes of its files, in their order.
pub(crate) async fn ask_hashes(
    control: &Control,
    paths: &[RelPath],
) -> Result<Vec<Result<Digest, Unhashed>>, SessionError> {
    let mut hashes = Vec::with_capacity(paths.len());
    for batch in paths.chunks(MAX_PATHS) {
        control.send_list(batch.iter().cloned(), path_size, Message::AskHashes).await?;
        let until = hashes.len() + batch.len();
        while hashes.len() < until {
            match control.receive().await? {
                Message::Hashes(more) if hashes.len() + more.len() <= until => hashes.extend(more),
                _ => return Err(SessionError::broke("it did not answer with the hashes asked for")),
            }
        }
    }
    Ok(hashes)
}

/// Puts a hash, or the lack of one, where a tree asked for it.
pub(crate) fn fill(tree: &mut Fork, side: Side, path: &RelPath, hash: Option<Digest>) {
    let Some(fork) = tree.find_mut(path) else { return };
    let standing = match side {
        Side::One => &mut fork.one,
        Side::Two => &mut fork.two,
    };
    match (standing, hash) {
        (Standing::Holds(Version { content: Content::File { sha256, .. }, .. }), Some(hash)) => {
            *sha256 = Some(hash)
        }
        (standing, _) => {
            *standing = Standing::Unknown;
            fork.members.clear();
        }
    }
}

/// A file that could not be hashed, as it is reported.
pub(crate) fn unhashed(side: Side, path: &RelPath, why: Unhashed) -> Problem {
    let kind = match why {
        Unhashed::Unreadable => ProblemKind::Failed,
        Unhashed::Changed => ProblemKind::Changed,
    };
    let text = why.to_string();
    Problem { side, path: path.clone(), text, kind }
}
