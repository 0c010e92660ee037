//! Which folders a side renames whole.

use std::collections::BTreeMap;

use super::digest::{Digest, Hasher};
use super::moves::{Arrangement, How, Move};
use super::path::RelPath;
use super::plan::{Act, Item, Plan, Settles, Why};
use super::side::Side;
use super::version::{Content, Standing, Version};

/// Pairs folders that are removed with folders that are created alike, the outermost first, one to one in path
/// order. A folder is removed unchanged: [`Why::Deleted`] says that everything visible in it equals the base.
pub(crate) fn folder_moves(plan: &Plan, side: Side) -> Arrangement {
    let mut done = Arrangement::default();
    let leaving = subtrees(plan, |item| leaving(item, side));
    let mut arriving: BTreeMap<Digest, Vec<Subtree>> = BTreeMap::new();
    for subtree in subtrees(plan, |item| arriving_at(item, side)).into_iter().rev() {
        arriving.entry(subtree.digest).or_default().push(subtree);
    }
    let mut free = 0;
    for from in leaving {
        let Some(alike) = arriving.get_mut(&from.digest).filter(|_| from.start >= free) else { continue };
        let taken = |to: &Subtree| done.placed.contains(&to.start);
        let Some(to) = std::iter::from_fn(|| alike.pop()).find(|to| !taken(to)) else { continue };
        let path = |at: usize| plan.items[at].path.clone();
        done.folder_moves.push(Move { from: path(from.start), to: path(to.start), how: How::Rename });
        done.paired.extend(from.start..from.end);
        done.placed.extend(to.start..to.end);
        free = from.end;
    }
    done
}

/// A folder and everything below it that is removed, or created, as a whole.
struct Subtree {
    /// Its own item.
    start: usize,
    /// One past the last item below it.
    end: usize,
    /// Names, kinds and content of everything below.
    digest: Digest,
}

/// What an item does for a subtree that is removed or created.
enum Part<'a> {
    /// It removes or creates this.
    Whole(&'a Content),
    /// It does nothing on this side, and nothing stands here.
    Nothing,
    /// It does something else: no folder above it goes as a whole.
    Other,
}

/// Removed on `side` as the base has it. A folder that unknown members hold counts: they travel along.
fn leaving(item: &Item, side: Side) -> Part<'_> {
    match (item.saw.of(side), item.act.of(side)) {
        (Standing::Absent, Act::Nothing) => Part::Nothing,
        (Standing::Holds(Version { content, .. }), Act::Remove) if item.why == Why::Deleted => {
            Part::Whole(content)
        }
        (Standing::Holds(Version { content, .. }), Act::Nothing)
            if matches!(item.settles, Settles::Gone { .. }) && !item.suppressed.of(side) =>
        {
            Part::Whole(content)
        }
        _ => Part::Other,
    }
}

/// Created on `side`, where nothing stands.
fn arriving_at(item: &Item, side: Side) -> Part<'_> {
    match (item.saw.of(side), item.act.of(side)) {
        (Standing::Absent, Act::Put { version, .. }) => Part::Whole(&version.content),
        (Standing::Absent, Act::Nothing) if *item.saw.of(side.other()) == Standing::Absent => Part::Nothing,
        _ => Part::Other,
    }
}

/// Every folder that is a part as a whole and holds a non-empty file, in path order.
fn subtrees<'a>(plan: &'a Plan, part: impl Fn(&'a Item) -> Part<'a>) -> Vec<Subtree> {
    let mut found = Vec::new();
    let mut open: Vec<Open<'a>> = Vec::new();
    for (at, item) in plan.items.iter().enumerate() {
        while open.last().is_some_and(|folder| !item.path.is_within(folder.path)) {
            close(&mut open, &mut found, at);
        }
        match part(item) {
            Part::Whole(Content::Folder) => open.push(Open::new(&item.path, at)),
            Part::Whole(content) => {
                if let Some(folder) = open.last_mut() {
                    folder.add(&item.path, content);
                }
            }
            Part::Nothing => {}
            Part::Other => open.iter_mut().for_each(|folder| folder.whole = false),
        }
    }
    while !open.is_empty() {
        close(&mut open, &mut found, plan.items.len());
    }
    found.sort_unstable_by_key(|subtree| subtree.start);
    found
}

struct Open<'a> {
    path: &'a RelPath,
    start: usize,
    hasher: Hasher,
    whole: bool,
    filled: bool,
}

impl<'a> Open<'a> {
    fn new(path: &'a RelPath, start: usize) -> Open<'a> {
        Open { path, start, hasher: Hasher::new(), whole: true, filled: false }
    }

    fn member(&mut self, kind: u8, path: &RelPath, content: &[u8]) {
        let name = path.split().map(|(_, name)| name).unwrap_or_default();
        self.hasher.update(&[kind, name.len() as u8]);
        self.hasher.update(name);
        self.hasher.update(&(content.len() as u64).to_le_bytes());
        self.hasher.update(content);
    }

    fn add(&mut self, path: &RelPath, content: &Content) {
        match content {
            Content::File { size: 0, .. } => self.member(b'f', path, b""),
            Content::File { sha256: Some(sha256), .. } => {
                self.filled = true;
                self.member(b'f', path, &sha256.0);
            }
            Content::File { sha256: None, .. } => self.whole = false,
            Content::Link { target } => self.member(b'l', path, target),
            Content::Folder => {}
        }
    }
}

/// Ends the innermost open folder before item `end` and adds it to the one around it.
fn close(open: &mut Vec<Open<'_>>, found: &mut Vec<Subtree>, end: usize) {
    let Some(folder) = open.pop() else { return };
    let digest = folder.hasher.finish();
    if let Some(parent) = open.last_mut() {
        parent.member(b'd', folder.path, &digest.0);
        parent.whole &= folder.whole;
        parent.filled |= folder.filled;
    }
    if folder.whole && folder.filled {
        found.push(Subtree { start: folder.start, end, digest });
    }
}
