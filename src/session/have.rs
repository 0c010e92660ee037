//! What System 2 says it has before it asks System 1 for anything.

use crate::core::kept::looks_kept;
use crate::core::path::RelPath;
use crate::core::snapshot::{Folder, Node, Snapshot, Unknown};
use crate::protocol::message::{Half, MAX_HAVE, NO_DIGEST, UNKNOWN};

/// System 2's folders with their digests: those that System 1 need not list if it has the same.
pub(crate) fn have(snapshot: &Snapshot) -> Vec<(RelPath, Half)> {
    let mut have = Vec::new();
    have_below(snapshot, &RelPath::root(), &mut have);
    have
}

fn have_below(folder: &Folder, path: &RelPath, have: &mut Vec<(RelPath, Half)>) {
    for (name, node) in &folder.members {
        let Ok(path) = path.join(name) else { continue };
        let inner = match node {
            Node::Folder(inner) => inner,
            // Excluded here is excluded there: System 1 lists nothing below it either.
            Node::Unknown(Unknown::Excluded) | Node::File(_) | Node::Link(_) => continue,
            Node::Unknown(_) => {
                have.push((path, UNKNOWN));
                continue;
            }
        };
        // A conflict beside it may ask what is in a folder with such a name.
        if !looks_kept(name) {
            have.push((path.clone(), inner.digest.map_or(NO_DIGEST, |digest| digest.half())));
        }
        have_below(inner, &path, have);
        if have.len() > MAX_HAVE {
            return;
        }
    }
}
