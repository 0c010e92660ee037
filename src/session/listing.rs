//! Step 2 of the exchange, on System 1: its versions, folder by folder, as System 2 asks for them.

use std::collections::HashMap;

use super::control::Control;
use super::error::SessionError;
use crate::core::path::{Name, RelPath};
use crate::core::snapshot::{Folder, Node, Snapshot};
use crate::core::span::{covers, members, spans};
use crate::protocol::listed::{FolderPart, Listed};
use crate::protocol::message::{Half, Message, NO_DIGEST, UNKNOWN};

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
    let mut pages = Pages::new(control);
    for (path, deep) in ask {
        let folder = folder_at(snapshot, path)?;
        // Asked for everything below, System 2 need not have it.
        let there = !deep || path.is_root() || have.contains_key(path);
        pages.folder(path, folder, there).await?;
        if *deep {
            pages.below(path, folder, have).await?;
        }
    }
    pages.flush().await
}

/// Answers the question for the members of spans, a folder a part.
pub(crate) async fn list_spans(
    control: &Control,
    snapshot: &Snapshot,
    ask: &[(RelPath, Vec<u32>)],
) -> Result<(), SessionError> {
    let wrong = || SessionError::broke("it asked for spans that no folder has");
    // Each folder is looked through for each question about it: none is asked for nothing, or twice for the same.
    let in_order = ask.is_sorted_by(|a, b| (&a.0, a.1.first()) < (&b.0, b.1.first()));
    if !in_order || ask.iter().any(|(_, numbers)| numbers.is_empty()) {
        return Err(wrong());
    }
    let mut pages = Pages::new(control);
    for (path, numbers) in ask {
        let members = members(folder_at(snapshot, path)?, numbers).ok_or_else(wrong)?;
        pages.begin(path).await?;
        for (name, node) in members {
            pages.member(path, name, node).await?;
        }
    }
    pages.flush().await
}

fn folder_at<'a>(snapshot: &'a Snapshot, path: &RelPath) -> Result<&'a Folder, SessionError> {
    match snapshot.find(path) {
        _ if path.is_root() => Ok(snapshot),
        Some(Node::Folder(folder)) => Ok(folder),
        _ => Err(SessionError::broke("it asked to list what is no folder")),
    }
}

/// Gathers parts of folders into messages.
struct Pages<'a> {
    control: &'a Control,
    parts: Vec<FolderPart>,
    bytes: usize,
}

impl<'a> Pages<'a> {
    fn new(control: &'a Control) -> Pages<'a> {
        Pages { control, parts: Vec::new(), bytes: 0 }
    }

    /// All folders below that System 2 does not have, each before its members.
    async fn below(&mut self, path: &RelPath, folder: &Folder, have: &Have) -> Result<(), SessionError> {
        let mut open = vec![(path.clone(), folder.members.iter())];
        while let Some((path, members)) = open.last_mut() {
            let Some((name, node)) = members.next() else {
                open.pop();
                continue;
            };
            if let Node::Folder(inner) = node {
                let path = path.join(name).map_err(|_| SessionError::Root("a path is too long".into()))?;
                let theirs = have.get(&path);
                if theirs == Some(&UNKNOWN) {
                    continue;
                }
                if inner.digest.is_some_and(|digest| theirs == Some(&digest.half()))
                    && theirs != Some(&NO_DIGEST)
                {
                    continue;
                }
                self.folder(&path, inner, theirs.is_some()).await?;
                open.push((path, inner.members.iter()));
            }
        }
        Ok(())
    }

    /// One folder. Where System 2 has it too, what spans cover is not named.
    async fn folder(&mut self, path: &RelPath, folder: &Folder, there: bool) -> Result<(), SessionError> {
        let spans = if there { spans(folder) } else { Vec::new() };
        self.begin(path).await?;
        for (name, node) in
            folder.members.iter().filter(|(name, node)| spans.is_empty() || !covers(name, node))
        {
            self.member(path, name, node).await?;
        }
        for span in spans {
            self.bytes += span.last.as_bytes().len() + 36;
            self.part(path).await?.spans.push(span);
        }
        Ok(())
    }

    async fn member(&mut self, path: &RelPath, name: &Name, node: &Node) -> Result<(), SessionError> {
        self.bytes += member_size(name, node);
        self.part(path).await?.members.push((name.clone(), Listed::of(node)));
        Ok(())
    }

    async fn begin(&mut self, path: &RelPath) -> Result<(), SessionError> {
        if self.bytes >= FULL {
            self.flush().await?;
        }
        self.push(path);
        Ok(())
    }

    /// The part to which the next entry of the folder under way belongs.
    async fn part(&mut self, path: &RelPath) -> Result<&mut FolderPart, SessionError> {
        if self.bytes >= FULL {
            if let Some(part) = self.parts.last_mut() {
                part.more = true;
            }
            self.flush().await?;
        }
        if self.parts.is_empty() {
            self.push(path);
        }
        let last = self.parts.len() - 1;
        Ok(&mut self.parts[last])
    }

    fn push(&mut self, path: &RelPath) {
        self.bytes += path.as_bytes().len() + 16;
        self.parts.push(FolderPart { folder: path.clone(), ..FolderPart::default() });
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
