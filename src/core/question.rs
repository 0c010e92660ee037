//! Which files must be hashed before a decision can be made. Sizes that differ need no hash.

use std::collections::BTreeSet;

use super::contest::{Shape, younger};
use super::kept::looks_kept;
use super::merge::Fork;
use super::path::RelPath;
use super::policy::{ConflictPolicy, Policy};
use super::side::{Side, Sides};
use super::version::{Content, Version};

/// The files, in path order, whose SHA-256 each side must fill into the fork before
/// [`reconcile`](super::reconcile::reconcile) can decide as if it knew them all. One round is enough.
pub fn undecided(fork: &Fork, policy: &Policy) -> Sides<Vec<RelPath>> {
    let mut asker = Asker { policy, asked: Sides::default() };
    if fork.shape() != Shape::Unknown {
        asker.members(&RelPath::root(), fork);
    }
    let Sides { one, two } = asker.asked;
    Sides { one: one.into_iter().collect(), two: two.into_iter().collect() }
}

struct Asker<'a> {
    policy: &'a Policy,
    asked: Sides<BTreeSet<RelPath>>,
}

impl Asker<'_> {
    fn members(&mut self, path: &RelPath, fork: &Fork) {
        for (name, member) in &fork.members {
            if let Ok(path) = path.join(name) {
                self.ask(&path, member);
            }
        }
        self.kept(path, fork);
    }

    fn ask(&mut self, path: &RelPath, fork: &Fork) {
        match fork.shape() {
            Shape::Unknown | Shape::Nothing => {}
            Shape::Folders(_) => self.members(path, fork),
            Shape::Lone(_, version) if version.content.is_folder() => self.members(path, fork),
            // Whether a deletion meets a change.
            Shape::Lone(side, version) => {
                let decides = self.policy.delete && self.policy.mirrored().is_none();
                if decides && fork.is_base(version).is_none() {
                    self.want(path, side, version);
                }
            }
            Shape::Pair(both) => self.pair(path, fork, both),
            Shape::Clash(folder, both) => self.clash(path, fork, folder, both),
        }
    }

    fn pair(&mut self, path: &RelPath, fork: &Fork, both: Sides<&Version>) {
        let same = both.one.content.same(&both.two.content);
        for side in [Side::One, Side::Two] {
            let hidden = fork.has_base_content(both.of(side)).is_none();
            let needed = match same {
                None => true,
                Some(true) => false,
                Some(false) if self.policy.mirrored().is_some() => false,
                Some(false) => hidden || self.loser_or_tied(fork, both, side),
            };
            if needed {
                self.want(path, side, both.of(side));
            }
        }
    }

    /// Whether a possible conflict needs the hash of `side`: to break a tie, or for the name it is kept under.
    fn loser_or_tied(&self, fork: &Fork, both: Sides<&Version>, side: Side) -> bool {
        let conflict = [both.one, both.two].iter().all(|v| fork.has_base_content(v) != Some(true));
        let younger = younger(both.one.age, both.two.age, self.policy);
        let decides = match self.policy.conflict {
            ConflictPolicy::One | ConflictPolicy::Two | ConflictPolicy::Skip => false,
            ConflictPolicy::Newer => younger.is_none() && alike(both),
            ConflictPolicy::KeepBoth => younger != Some(side),
        };
        conflict && decides
    }

    fn clash(&mut self, path: &RelPath, fork: &Fork, folder: Side, both: Sides<&Version>) {
        if self.policy.mirrored().is_some() || fork.is_ghost(folder) {
            return;
        }
        let (file, version) = (folder.other(), both.of(folder.other()));
        if fork.changed(folder).is_none() {
            self.below(path, fork, folder);
        }
        let kept = self.policy.conflict == ConflictPolicy::KeepBoth && fork.changed(folder) != Some(false);
        let same = fork.has_base_content(version);
        if same.is_none() || (kept && same != Some(true)) {
            self.want(path, file, version);
        }
    }

    /// Every file below on `side` that only a hash can tell from the base.
    fn below(&mut self, path: &RelPath, fork: &Fork, side: Side) {
        for (name, member) in &fork.members {
            let Ok(path) = path.join(name) else { continue };
            if let Some(version) = member.at(side).version()
                && member.is_base(version).is_none()
            {
                self.want(&path, side, version);
            }
            self.below(&path, member, side);
        }
    }

    /// The members that may already be the kept losers of possible conflicts in this folder.
    fn kept(&mut self, path: &RelPath, fork: &Fork) {
        if self.policy.conflict != ConflictPolicy::KeepBoth {
            return;
        }
        let mut losers = BTreeSet::new();
        for (_, member) in &fork.members {
            if let Shape::Pair(both) | Shape::Clash(_, both) = member.shape() {
                losers.extend([both.one.content.size(), both.two.content.size()]);
            }
        }
        for (name, member) in fork.members.iter().filter(|(name, _)| looks_kept(name)) {
            let Ok(path) = path.join(name) else { continue };
            for side in [Side::One, Side::Two] {
                if let Some(version) =
                    member.at(side).version().filter(|v| losers.contains(&v.content.size()))
                {
                    self.want(&path, side, version);
                }
            }
        }
    }

    fn want(&mut self, path: &RelPath, side: Side, version: &Version) {
        if matches!(version.content, Content::File { size: 1.., sha256: None }) {
            self.asked.of_mut(side).insert(path.clone());
        }
    }
}

/// Whether both are files: between a file and a link the kind breaks a tie.
fn alike(both: Sides<&Version>) -> bool {
    [both.one, both.two].iter().all(|v| matches!(v.content, Content::File { .. }))
}
