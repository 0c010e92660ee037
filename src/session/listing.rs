//! Step 2 of the exchange, on System 1: its versions, folder by folder, as System 2 asks for them.

use std::collections::HashMap;

use super::control::Control;
use super::error::SessionError;
use crate::core::path::{Name, RelPath};
use crate::core::snapshot::{Folder, Node, Snapshot};
use crate::protocol::message::{FolderPart, Half, Listed, Message};

/// Messages are cut at about this many bytes.
const FULL: usize = 256 * 1024;

/// Digests of folders that System 2 has.
pub(crate) type Have = HashMap<RelPath, Half>;

/// Answers one question: every folder in its order, a deep one followed by all below it that System 2 does not have.
pub(crate) async fn list(
    control: &Control,
    snapshot: &Snapshot,
    have: &Have,
    ask: &[(RelPath, bool)],
) -> Result<(), SessionError> {
    let mut pages = Pages { control, have, parts: Vec::new(), bytes: 0 };
    for (path, deep) in ask {
        let folder = match snapshot.find(path) {
            _ if path.is_root() => snapshot,
            Some(Node::Folder(folder)) => folder,
            _ => return Err(SessionError::broke("it asked to list what is no folder")),
        };
        pages.folder(path, folder).await?;
        if *deep {
            pages.below(path, folder).await?;
        }
    }
    pages.flush().await
}

/// Gathers parts of folders into messages.
struct Pages<'a> {
    control: &'a Control,
    have: &'a Have,
    parts: Vec<FolderPart>,
    bytes: usize,
}

impl Pages<'_> {
    /// All folders below that System 2 does not have, each before its members.
    async fn below(&mut self, path: &RelPath, folder: &Folder) -> Result<(), SessionError> {
        let mut open = vec![(path.clone(), folder.members.iter())];
        while let Some((path, members)) = open.last_mut() {
            let Some((name, node)) = members.next() else {
                open.pop();
                continue;
            };
            if let Node::Folder(inner) = node {
                let path = path.join(name).map_err(|_| SessionError::Root("a path is too long".into()))?;
                if inner.digest.is_some_and(|digest| self.have.get(&path) == Some(&digest.half())) {
                    continue;
                }
                self.folder(&path, inner).await?;
                open.push((path, inner.members.iter()));
            }
        }
        Ok(())
    }

    async fn folder(&mut self, path: &RelPath, folder: &Folder) -> Result<(), SessionError> {
        if self.bytes >= FULL {
            self.flush().await?;
        }
        self.begin(path);
        for (name, node) in &folder.members {
            if self.bytes >= FULL {
                if let Some(part) = self.parts.last_mut() {
                    part.more = true;
                }
                self.flush().await?;
                self.begin(path);
            }
            self.bytes += member_size(name, node);
            if let Some(part) = self.parts.last_mut() {
                part.members.push((name.clone(), Listed::of(node)));
            }
        }
        Ok(())
    }

    fn begin(&mut self, path: &RelPath) {
        self.bytes += path.as_bytes().len() + 16;
        self.parts.push(FolderPart { folder: path.clone(), members: Vec::new(), more: false });
    }

    async fn flush(&mut self) -> Result<(), SessionError> {
        self.bytes = 0;
        if self.parts.is_empty() {
            return Ok(());
        }
        self.control.send(&Message::Listing(std::mem::take(&mut self.parts))).await
    }
}

/// An estimate from above of an entry's encoded bytes.
fn member_size(name: &Name, node: &Node) -> usize {
    let target = if let Node::Link(link) = node { link.target.len() } else { 0 };
    name.as_bytes().len() + target + 90
}
