//! Step 2 of the exchange, on System 2: which paths differ, and what both sides and the base hold there.
//!
//! A folder whose digest is the same on both sides is settled and never listed. System 2 names its folders with
//! their digests, so that System 1 lists just those that differ, and what only it has, in one answer. Where System 2
//! has too many folders for that, it asks level by level: a round trip is paid for a level, never for a folder.

use std::collections::{HashMap, VecDeque};

use super::budget::Budget;
use super::control::{Control, path_size};
use super::error::SessionError;
use super::have::have;
use super::told::Told;
use super::trio::{Trio, trios};
use crate::core::age::Timestamp;
use crate::core::base::Base;
use crate::core::kept::looks_kept;
use crate::core::merge::Fork;
use crate::core::path::{Name, RelPath};
use crate::core::side::Sides;
use crate::core::snapshot::{Folder, Node, Snapshot};
use crate::core::span::covers;
use crate::core::version::Standing;
use crate::protocol::listed::{FolderPart, Listed};
use crate::protocol::message::{MAX_HAVE, MAX_PATHS, MAX_SPANS, Message};

/// What System 2 holds the listing of System 1 against.
pub(crate) struct Own<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) base: &'a Base,
    /// Whether the exclude rules of either side hide a path (`true`: a folder).
    pub(crate) excluded: &'a (dyn Fn(&RelPath, bool) -> bool + Sync),
    /// Both clocks at the hello.
    pub(crate) now: Sides<Timestamp>,
}

/// The paths that differ, as a tree; and those found equal, whose base rows System 2 brings up to date by itself.
pub(crate) struct Comparison {
    pub(crate) tree: Fork,
    pub(crate) settled: Vec<RelPath>,
    /// Folders of which everything below was found equal, but not the folder's own permission bits.
    pub(crate) settled_below: Vec<RelPath>,
}

impl Comparison {
    /// Of two roots with the same digest.
    pub(crate) fn equal(own: &Own<'_>) -> Comparison {
        Comparison { tree: root(own), settled: Vec::new(), settled_below: vec![RelPath::root()] }
    }
}

/// A root that both sides have, without members.
fn root(own: &Own<'_>) -> Fork {
    let root = Node::Folder(Folder::default());
    Fork { one: root.standing(own.now.one), two: root.standing(own.now.two), ..Fork::default() }
}

/// Asks System 1 for what it takes to know every path that differs. Of this side's folders at most `most` are named to it,
/// unless the first question, for everything, is `asked` already.
pub(crate) async fn compare(
    control: &Control,
    own: &Own<'_>,
    most: usize,
    mut asked: bool,
) -> Result<Comparison, SessionError> {
    let mut join = Join {
        own,
        folders: HashMap::new(),
        settled: Vec::new(),
        settled_below: Vec::new(),
        budget: Budget::new(),
    };
    let have = if asked { Vec::new() } else { have(own.snapshot) };
    let few = have.len() <= most.min(MAX_HAVE);
    if few && !have.is_empty() {
        control.send_list(have, |(path, _)| path_size(path) + 16, Message::Have).await?;
    }
    let mut ask = vec![(RelPath::root(), few)];
    while !ask.is_empty() {
        let mut next = Vec::new();
        let unasked = if std::mem::take(&mut asked) { &[][..] } else { &ask };
        let (sent, listed) =
            tokio::join!(send_questions(control, unasked), join.receive(control, &ask, &mut next));
        sent?;
        listed?;
        ask = next;
    }
    let mut tree = root(own);
    join.assemble(&RelPath::root(), &mut tree)?;
    Ok(Comparison { tree, settled: join.settled, settled_below: join.settled_below })
}

async fn send_questions(control: &Control, ask: &[(RelPath, bool)]) -> Result<(), SessionError> {
    for batch in ask.chunks(MAX_PATHS) {
        // A batch of long paths may need several messages; System 1 answers each on its own.
        control.send_list(batch.iter().cloned(), |(path, _)| path_size(path), Message::List).await?;
    }
    Ok(())
}

/// Joins what System 1 lists with System 2's own snapshot and base.
struct Join<'a> {
    own: &'a Own<'a>,
    /// Members that differ, or may, of every folder listed so far.
    folders: HashMap<RelPath, Vec<(Name, Fork)>>,
    settled: Vec<RelPath>,
    settled_below: Vec<RelPath>,
    budget: Budget,
}

impl<'a> Join<'a> {
    /// Receives the answers to `ask`, strictly in its order, and collects in `next` what to ask then.
    async fn receive(
        &mut self,
        control: &Control,
        ask: &[(RelPath, bool)],
        next: &mut Vec<(RelPath, bool)>,
    ) -> Result<(), SessionError> {
        let mut expected: VecDeque<(RelPath, bool)> = ask.iter().cloned().collect();
        let (mut told, mut spanned) = (Told::default(), Vec::new());
        while !expected.is_empty() {
            for FolderPart { folder, members, spans, more } in listing(control).await? {
                told.take(&mut self.budget, members, spans)?;
                let (_, deep) = expected.front().filter(|(path, _)| *path == folder).ok_or_else(unasked)?;
                if more {
                    continue;
                }
                let (deep, told) = (*deep, std::mem::take(&mut told));
                expected.pop_front();
                let inner = if told.has_spans() {
                    let inner = if deep { self.following(&folder, &told)? } else { Vec::new() };
                    spanned.push(Spanned { folder, told, deep });
                    inner
                } else {
                    self.join(&folder, told, deep, next)?
                };
                for path in inner.into_iter().rev() {
                    expected.push_front((path, true));
                }
            }
        }
        self.receive_spans(control, &mut spanned).await?;
        for Spanned { folder, told, deep } in spanned {
            self.join(&folder, told, deep, next)?;
        }
        Ok(())
    }

    /// Asks for what the spans that differ cover, and receives it.
    async fn receive_spans(
        &mut self,
        control: &Control,
        spanned: &mut [Spanned],
    ) -> Result<(), SessionError> {
        let mut ask = Vec::new();
        for (at, Spanned { folder, told, .. }) in spanned.iter_mut().enumerate() {
            let numbers = told.compare(self.own_folder(folder)).chunks(MAX_SPANS);
            ask.extend(numbers.map(|numbers| (at, (folder.clone(), numbers.to_vec()))));
        }
        let sending = async {
            for batch in ask.chunks(MAX_PATHS) {
                let questions = batch.iter().map(|(_, question)| question.clone());
                let size = |(path, numbers): &(RelPath, Vec<u32>)| path_size(path) + 5 * numbers.len();
                control.send_list(questions, size, Message::ListSpans).await?;
            }
            Ok::<_, SessionError>(())
        };
        let receiving = async {
            let mut parts = VecDeque::new();
            for (at, (folder, _)) in &ask {
                let members = self.receive_members(control, folder, &mut parts).await?;
                spanned[*at].told.complete(members)?;
            }
            if parts.is_empty() { Ok(()) } else { Err(unasked()) }
        };
        let (sent, received) = tokio::join!(sending, receiving);
        sent.and(received)
    }

    /// The members that one answer names, which may come in several parts.
    async fn receive_members(
        &mut self,
        control: &Control,
        folder: &RelPath,
        parts: &mut VecDeque<FolderPart>,
    ) -> Result<Vec<(Name, Listed)>, SessionError> {
        let mut told = Told::default();
        loop {
            let Some(part) = parts.pop_front() else {
                parts.extend(listing(control).await?);
                continue;
            };
            if part.folder != *folder {
                return Err(unasked());
            }
            told.take(&mut self.budget, part.members, Vec::new())?;
            if !part.more {
                return Ok(told.members);
            }
        }
    }

    /// The folders in a folder whose listings follow because the question was deep.
    fn following(&self, path: &RelPath, told: &Told) -> Result<Vec<RelPath>, SessionError> {
        let own = self.own_folder(path);
        let mut follow = Vec::new();
        for (name, listed) in
            told.members.iter().filter(|(_, listed)| matches!(listed, Listed::Folder { .. }))
        {
            let inner = path.join(name).map_err(|_| too_long())?;
            let own = own.and_then(|own| own.member(name.as_bytes()));
            let trio = Trio { name: name.clone(), listed: Some(listed.clone()), own, base: None };
            if matches!(self.decide(&inner, &trio), Step::Both(_) | Step::OnlyOne(_)) {
                follow.push(inner);
            }
        }
        Ok(follow)
    }

    fn own_folder(&self, path: &RelPath) -> Option<&'a Folder> {
        if path.is_root() { Some(self.own.snapshot) } else { folder_at(self.own.snapshot, path) }
    }

    /// Joins one folder; returns the folders below whose listings follow because the question was deep.
    fn join(
        &mut self,
        path: &RelPath,
        told: Told,
        deep: bool,
        next: &mut Vec<(RelPath, bool)>,
    ) -> Result<Vec<RelPath>, SessionError> {
        let (own, base) = (self.own_folder(path), self.own.base.within(path));
        let (mut told, mut follow, mut members) = (told, Vec::new(), Vec::new());
        for trio in trios(std::mem::take(&mut told.members), own, base, path.depth()) {
            let inner = path.join(&trio.name).map_err(|_| too_long())?;
            let step = match (&trio.listed, trio.own) {
                (None, Some(own)) if told.is_equal(&trio.name) && covers(&trio.name, own) => Step::Settled,
                _ => self.decide(&inner, &trio),
            };
            match step {
                Step::Settled => self.settled.push(inner),
                Step::Hidden => {}
                Step::Whole(fork) => members.push((trio.name, fork)),
                Step::BitsOnly(fork) => {
                    self.settled_below.push(inner);
                    members.push((trio.name, fork));
                }
                Step::Both(fork) => {
                    if deep {
                        follow.push(inner);
                    } else {
                        next.push((inner, false));
                    }
                    members.push((trio.name, fork));
                }
                Step::OnlyOne(fork) => {
                    if deep {
                        follow.push(inner)
                    } else {
                        next.push((inner, true))
                    }
                    members.push((trio.name, fork));
                }
            }
        }
        self.folders.insert(path.clone(), members);
        Ok(follow)
    }

    /// What one member asks for. At each branch the comment says what is known to hold.
    fn decide(&self, path: &RelPath, trio: &Trio<'_>) -> Step {
        let now = self.own.now;
        let one = trio.listed.as_ref().map_or(Standing::Absent, |listed| listed.standing(now.one));
        let two = trio.own.map_or(Standing::Absent, |node| node.standing(now.two));
        let base = trio.base.as_ref().and_then(|member| member.entry.cloned());
        match (&trio.listed, trio.own) {
            // Nobody has it, and the rules hide it: the base keeps its row.
            (None, None)
                if (self.own.excluded)(path, base.as_ref().is_none_or(|b| b.as_content().is_folder())) =>
            {
                Step::Hidden
            }
            // Folders on both sides, with the same digest: nothing below differs.
            (Some(Listed::Folder { digest: Some(a), bits, .. }), Some(Node::Folder(folder)))
                if Some(*a) == folder.digest && !looks_kept(&trio.name) =>
            {
                let fork = Fork { base, one, two, members: Vec::new() };
                if *bits == folder.bits { Step::Settled } else { Step::BitsOnly(fork) }
            }
            (Some(Listed::Folder { .. }), Some(Node::Folder(_))) => {
                Step::Both(Fork { base, one, two, members: Vec::new() })
            }
            // Nothing may be concluded on a side, so nothing is asked below.
            (Some(Listed::Unknown), _) | (_, Some(Node::Unknown(_))) => {
                Step::Whole(Fork { base, one, two, members: Vec::new() })
            }
            // A folder that System 2 does not have as a folder.
            (Some(Listed::Folder { .. }), _) => Step::OnlyOne(Fork { base, one, two, members: Vec::new() }),
            // No folder on System 1: System 2 knows all that matters below.
            (_, own) => {
                let equal = one.same(&two) && two != Standing::Absent && trio.below().is_empty();
                if equal && !looks_kept(&trio.name) {
                    return Step::Settled;
                }
                let members = self.below(path, own, trio);
                Step::Whole(Fork { base, one, two, members })
            }
        }
    }

    /// The tree below a path where System 1 has no folder: System 2's members and the base's rows.
    fn below(&self, path: &RelPath, own: Option<&Node>, trio: &Trio<'_>) -> Vec<(Name, Fork)> {
        let own = if let Some(Node::Folder(folder)) = own { Some(folder) } else { None };
        let mut members = Vec::new();
        for inner in trios(Vec::new(), own, trio.below(), path.depth()) {
            let Ok(path) = path.join(&inner.name) else { continue };
            if let Step::Whole(fork) = self.decide(&path, &inner) {
                members.push((inner.name, fork));
            }
        }
        members
    }

    /// Puts the members of every listed folder where they belong.
    fn assemble(&mut self, path: &RelPath, fork: &mut Fork) -> Result<(), SessionError> {
        if let Some(members) = self.folders.remove(path) {
            fork.members = members;
        }
        for (name, member) in &mut fork.members {
            let inner = path.join(name).map_err(|_| too_long())?;
            self.assemble(&inner, member)?;
        }
        Ok(())
    }
}

/// A folder of which some members are told by spans.
struct Spanned {
    folder: RelPath,
    told: Told,
    deep: bool,
}

/// The next parts of System 1's answers.
async fn listing(control: &Control) -> Result<Vec<FolderPart>, SessionError> {
    match control.receive().await? {
        Message::Listing(parts) => Ok(parts),
        _ => Err(SessionError::broke("it sent something else than the listing asked for")),
    }
}

fn too_long() -> SessionError {
    SessionError::broke("it lists a path too long")
}

fn unasked() -> SessionError {
    SessionError::broke("it lists a folder that was not asked for")
}

fn folder_at<'a>(snapshot: &'a Snapshot, path: &RelPath) -> Option<&'a Folder> {
    if let Some(Node::Folder(folder)) = snapshot.find(path) { Some(folder) } else { None }
}

/// What becomes of one member of a listed folder.
enum Step {
    /// Equal on both sides.
    Settled,
    /// Excluded, and on neither side.
    Hidden,
    /// Differs, and all of it is known.
    Whole(Fork),
    /// A folder on both sides that differs in its own permission bits alone.
    BitsOnly(Fork),
    /// A folder on both sides that differs somewhere below.
    Both(Fork),
    /// A folder that only System 1 has.
    OnlyOne(Fork),
}
