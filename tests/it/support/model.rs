//! A second, naive answer to what a sync does, straight from the prose of `docs/semantics.md`: sets of paths
//! instead of a tree, and results instead of acts. Slow, and as different from the real one as it can be.

use std::collections::{BTreeMap, BTreeSet};

use syncfiles::core::digest::Digest;
use syncfiles::core::policy::ConflictPolicy;
use syncfiles::core::side::{Side, Sides};

use super::random::Case;
use super::trees::{Entry, Kind, Tree};

const BOTH: [Side; 2] = [Side::One, Side::Two];

/// What both sides hold afterwards, and what the base says.
pub struct Outcome {
    pub trees: Sides<Tree>,
    pub base: Tree,
}

/// What is to stand at a path on both sides.
#[derive(Clone, Debug, PartialEq)]
enum Want {
    Both(Entry),
    Nothing,
    Leave,
}

struct Model<'a> {
    case: &'a Case,
    kept: BTreeMap<String, Entry>,
}

pub fn outcome(case: &Case) -> Outcome {
    let mut model = Model { case, kept: BTreeMap::new() };
    model.find_kept();
    let mut out = Outcome { trees: case.trees.clone(), base: case.base.clone() };
    let mut paths: BTreeSet<String> = model.kept.keys().cloned().collect();
    paths.extend(case.base.keys().chain(case.trees.one.keys()).chain(case.trees.two.keys()).cloned());
    // Children first, so that a folder knows what is left in it.
    for path in paths.iter().rev().filter(|p| !model.dark(p) && !model.ancestors(p).any(|q| model.clashes(q)))
    {
        if model.clashes(path) {
            model.clash(path, &paths, &mut out);
        } else {
            model.plain(path, &mut out);
        }
    }
    out
}

impl Model<'_> {
    fn at(&self, side: Side, path: &str) -> Option<&Entry> {
        self.case.trees.of(side).get(path).filter(|e| e.visible())
    }

    fn is_folder(&self, side: Side, path: &str) -> bool {
        self.at(side, path).is_some_and(|e| e.kind == Kind::Folder)
    }

    fn ancestors<'a>(&self, path: &'a str) -> impl Iterator<Item = &'a str> {
        path.match_indices('/').map(|(at, _)| &path[..at])
    }

    /// Unknown on a side, or below something that is.
    fn dark(&self, path: &str) -> bool {
        let unknown =
            |p: &str| BOTH.iter().any(|s| self.case.trees.of(*s).get(p).is_some_and(|e| !e.visible()));
        unknown(path) || self.ancestors(path).any(unknown)
    }

    fn below(&self, side: Side, path: &str) -> impl Iterator<Item = (&String, &Entry)> {
        let prefix = format!("{path}/");
        self.case.trees.of(side).iter().filter(move |(p, _)| p.starts_with(&prefix))
    }

    fn gone(&self, path: &str) -> bool {
        self.case.base.get(path).is_some_and(|e| !e.visible())
    }

    fn base(&self, path: &str) -> Option<&Entry> {
        self.case.base.get(path).filter(|e| e.visible())
    }

    /// A folder that both agreed to remove and without a visible member counts as absent.
    fn ghost(&self, side: Side, path: &str) -> bool {
        let shows = |(p, e): (&String, &Entry)| e.visible() && !(e.kind == Kind::Folder && self.gone(p));
        self.gone(path)
            && self.is_folder(side, path)
            && !self.is_folder(side.other(), path)
            && !self.below(side, path).any(shows)
    }

    fn present(&self, side: Side, path: &str) -> Option<&Entry> {
        self.at(side, path).filter(|_| !self.ghost(side, path))
    }

    fn clashes(&self, path: &str) -> bool {
        let both = BOTH.iter().all(|s| self.at(*s, path).is_some());
        both && self.is_folder(Side::One, path) != self.is_folder(Side::Two, path)
    }

    fn differs(&self, path: &str, entry: &Entry) -> bool {
        self.base(path).is_none_or(|b| b.compared() != entry.compared())
    }

    fn younger(&self, one: i64, two: i64) -> Option<Side> {
        if (one - two).abs() <= self.case.policy.uncertainty {
            None
        } else if one < two {
            Some(Side::One)
        } else {
            Some(Side::Two)
        }
    }

    /// The side that a policy names, or else the one that won by age.
    fn named(&self, by_age: Side) -> Option<Side> {
        match self.case.policy.conflict {
            ConflictPolicy::Skip => None,
            ConflictPolicy::One => Some(Side::One),
            ConflictPolicy::Two => Some(Side::Two),
            ConflictPolicy::Newer | ConflictPolicy::KeepBoth => Some(by_age),
        }
    }

    fn keeps(&self) -> bool {
        self.case.policy.conflict == ConflictPolicy::KeepBoth && self.case.policy.mirrored().is_none()
    }

    /// Whether a file or link that only one side has goes on to exist.
    fn lives(&self, path: &str, entry: &Entry) -> bool {
        !self.case.policy.delete || self.differs(path, entry)
    }

    fn lone(&self, side: Side, path: &str, entry: &Entry) -> Want {
        let keeps = |(p, e): (&String, &Entry)| {
            e.visible()
                && if e.kind == Kind::Folder { !self.gone(p) && self.lives(p, e) } else { self.lives(p, e) }
        };
        let survives = match self.case.policy.mirrored() {
            Some(source) => source == side,
            None if entry.kind != Kind::Folder => self.lives(path, entry),
            None => (!self.gone(path) && self.lives(path, entry)) || self.below(side, path).any(keeps),
        };
        if survives { Want::Both(entry.clone()) } else { Want::Nothing }
    }

    /// Two folders, or two that are files or links. Also whether the loser is kept.
    fn pair(&self, path: &str, one: &Entry, two: &Entry) -> (Want, Option<Side>) {
        let of = |side| if side == Side::One { one } else { two };
        let base_is = |e: &Entry| self.base(path).is_some_and(|b| b.kind == e.kind);
        let conflict = !base_is(one) && !base_is(two);
        let winner = if one.kind == two.kind {
            None
        } else if let Some(source) = self.case.policy.mirrored() {
            Some(source)
        } else if conflict {
            match self.named(self.by_age(one, two)) {
                None => return (Want::Leave, None),
                winner => winner,
            }
        } else {
            Some(if base_is(one) { Side::Two } else { Side::One })
        };
        let kind = of(winner.unwrap_or(Side::One)).kind.clone();
        let same_class = std::mem::discriminant(&one.kind) == std::mem::discriminant(&two.kind);
        let mode = match winner {
            Some(winner) if !same_class => Some(of(winner).mode),
            _ => self.mode(path, one, two, winner.filter(|_| !conflict)),
        };
        let Some(mode) = mode else { return (Want::Leave, None) };
        let loser = winner.filter(|_| conflict && self.keeps()).map(Side::other);
        (Want::Both(Entry { kind, mode, age: 0 }), loser)
    }

    fn by_age(&self, one: &Entry, two: &Entry) -> Side {
        let rank = |e: &Entry| match e.kind {
            Kind::File(text) => (1, Digest::of(text.as_bytes())),
            Kind::Link(text) => (0, Digest::of(text.as_bytes())),
            _ => unreachable!("folders never tie"),
        };
        let greater = if rank(one) > rank(two) { Side::One } else { Side::Two };
        self.younger(one.age, two.age).unwrap_or(greater)
    }

    fn mode(&self, path: &str, one: &Entry, two: &Entry, changed: Option<Side>) -> Option<u32> {
        let class = (one.kind == Kind::Folder, matches!(one.kind, Kind::File(_)));
        let alike = |b: &&Entry| {
            (b.kind == Kind::Folder, matches!(b.kind, Kind::File(_))) == class && class != (false, false)
        };
        let base = self.base(path).filter(alike).map(|b| b.mode);
        if one.mode == two.mode {
            return Some(one.mode);
        }
        if let Some(source) = self.case.policy.mirrored() {
            return Some(if source == Side::One { one.mode } else { two.mode });
        }
        if base == Some(one.mode) {
            return Some(two.mode);
        }
        if base == Some(two.mode) {
            return Some(one.mode);
        }
        let by_age = if one.kind == Kind::Folder { None } else { self.younger(one.age, two.age) };
        let smaller = if one.mode < two.mode { Side::One } else { Side::Two };
        self.named(changed.or(by_age).unwrap_or(smaller))
            .map(|side| if side == Side::One { one.mode } else { two.mode })
    }

    /// The winner of a file against a folder, if one may win, and whether the loser is kept.
    fn clash_winner(&self, path: &str) -> (Option<Side>, bool) {
        let folder = if self.is_folder(Side::One, path) { Side::One } else { Side::Two };
        let file = folder.other();
        if let Some(source) = self.case.policy.mirrored() {
            return (Some(source), false);
        }
        if self.ghost(folder, path) {
            return (Some(file), false);
        }
        let visible = || self.below(folder, path).filter(|(_, e)| e.visible());
        let counts = |p: &str| {
            !self.gone(p)
                || visible().any(|(q, e)| {
                    q.starts_with(&format!("{p}/")) && !(e.kind == Kind::Folder && self.gone(q))
                })
        };
        let members: Vec<_> = visible().filter(|(p, e)| e.kind != Kind::Folder || counts(p)).collect();
        let own = self.at(folder, path).unwrap();
        let folder_changed = self.differs(path, own) || members.iter().any(|(p, e)| self.differs(p, e));
        let entry = self.at(file, path).unwrap();
        let file_changed = self.base(path).is_none_or(|b| b.kind != entry.kind);
        if !folder_changed {
            return (Some(file), false);
        }
        if !file_changed {
            return (Some(folder), false);
        }
        if self.keeps() {
            return (Some(folder), true);
        }
        let youngest = members.iter().filter(|(_, e)| e.kind != Kind::Folder).map(|(_, e)| e.age).min();
        let wins = youngest.is_some_and(|youngest| youngest <= entry.age + self.case.policy.uncertainty);
        let by_age = if wins { folder } else { file };
        (self.named(by_age), false)
    }

    /// Which losers are kept under which names: the shortest name that is free or holds the same.
    fn find_kept(&mut self) {
        let mut paths: Vec<&String> =
            self.case.trees.one.keys().filter(|p| self.case.trees.two.contains_key(*p)).collect();
        paths.sort();
        for path in paths {
            if self.dark(path) || self.ancestors(path).any(|q| self.clashes(q)) {
                continue;
            }
            let loser = if self.clashes(path) {
                let (winner, kept) = self.clash_winner(path);
                winner.filter(|_| kept).map(Side::other)
            } else {
                self.pair(path, self.at(Side::One, path).unwrap(), self.at(Side::Two, path).unwrap()).1
            };
            // Bits that are skipped leave the path; content that loses is kept all the same.
            let Some(loser) = loser else { continue };
            let entry = self.at(loser, path).unwrap().clone();
            let (Kind::File(text) | Kind::Link(text)) = entry.kind else { continue };
            let hash = Digest::of(text.as_bytes()).to_string();
            // A dot in the name of a folder above begins no extension.
            let (stem, extension) = match path.rsplit_once('.') {
                Some((stem, extension)) if !extension.contains('/') => (stem, format!(".{extension}")),
                _ => (path.as_str(), String::new()),
            };
            let names =
                [8, 16, 32, 64].map(|digits| format!("{stem}.conflict-{}{extension}", &hash[..digits]));
            let usable = |side: &Side, name: &String| {
                self.case.trees.of(*side).get(name).is_none_or(|e| e.kind == entry.kind)
            };
            let leaving = |name: &String| {
                let policy = &self.case.policy;
                let absent = |s: &Side| !self.case.trees.of(*s).contains_key(name);
                let refused = BOTH.iter().any(|side| absent(side) && !policy.may.of(*side).write);
                policy.delete && refused && self.base(name).is_some()
            };
            let mut names = names.to_vec();
            names.retain(|name| BOTH.iter().all(|side| usable(side, name)) && !leaving(name));
            let there = |name: &&String| BOTH.iter().any(|s| self.case.trees.of(*s).contains_key(*name));
            let name = names.iter().find(there).or(names.first()).cloned();
            self.kept.extend(name.map(|name| (name, entry)));
        }
    }

    fn want(&self, path: &str) -> Want {
        let kept = self.kept.get(path);
        match (self.present(Side::One, path), self.present(Side::Two, path), kept) {
            (None, None, Some(kept)) => Want::Both(kept.clone()),
            (Some(entry), None, Some(_)) | (None, Some(entry), Some(_)) => Want::Both(entry.clone()),
            (None, None, None) => Want::Nothing,
            (Some(entry), None, None) => self.lone(Side::One, path, entry),
            (None, Some(entry), None) => self.lone(Side::Two, path, entry),
            (Some(one), Some(two), _) => self.pair(path, one, two).0,
        }
    }

    fn plain(&self, path: &str, out: &mut Outcome) {
        let may = &self.case.policy.may;
        let mut agreed = true;
        match self.want(path) {
            Want::Leave => {}
            Want::Both(entry) => {
                for side in BOTH {
                    let differs = self.present(side, path).is_none_or(|e| e.compared() != entry.compared());
                    agreed &= !differs || may.of(side).write;
                    if differs && may.of(side).write {
                        out.trees.of_mut(side).insert(path.into(), entry.clone());
                    }
                }
                if agreed {
                    out.base.insert(path.into(), entry);
                }
            }
            Want::Nothing => {
                for side in BOTH.into_iter().filter(|side| self.present(*side, path).is_some()) {
                    agreed &= may.of(side).delete;
                    let held = out.trees.of(side).keys().any(|p| p.starts_with(&format!("{path}/")));
                    if may.of(side).delete && held {
                        out.base.insert(
                            path.into(),
                            Entry { kind: Kind::Unknown, ..self.at(side, path).unwrap().clone() },
                        );
                    } else if may.of(side).delete {
                        out.trees.of_mut(side).remove(path);
                    }
                }
                if agreed && BOTH.iter().all(|side| !out.trees.of(*side).contains_key(path)) {
                    out.base.remove(path);
                }
            }
        }
    }

    /// One decision for everything at and below `path`.
    fn clash(&self, path: &str, paths: &BTreeSet<String>, out: &mut Outcome) {
        let folder = if self.is_folder(Side::One, path) { Side::One } else { Side::Two };
        let file = folder.other();
        let winner = self.clash_winner(path).0;
        let within = |p: &str| p.starts_with(&format!("{path}/"));
        let may = self.case.policy.may;
        let nothing_there = |p: &&String| {
            within(p)
                && !self.dark(p)
                && !self.case.trees.one.contains_key(*p)
                && !self.case.trees.two.contains_key(*p)
        };
        let holds_unknown = self.below(folder, path).any(|(_, e)| !e.visible());
        if winner == Some(folder) && self.ghost(folder, path) {
            if may.of(file).delete {
                out.trees.of_mut(file).remove(path);
            }
            return;
        }
        if winner.is_none() || (winner == Some(file) && holds_unknown) {
            return;
        }
        out.base.retain(|p, _| !paths.get(p).is_some_and(|p| nothing_there(&p)));
        if winner == Some(folder) && may.of(file).write {
            let own = [(path, self.at(folder, path).unwrap())].into_iter();
            for (p, e) in own.chain(self.below(folder, path).map(|(p, e)| (p.as_str(), e))) {
                if e.visible() && !(p != path && self.hidden(folder, p)) {
                    out.trees.of_mut(file).insert(p.into(), e.clone());
                    out.base.insert(p.into(), e.clone());
                }
            }
        }
        let empty = !self.below(folder, path).any(|(_, e)| e.visible());
        if winner == Some(file) && may.of(folder).write && (empty || may.of(folder).delete) {
            let entry = self.at(file, path).unwrap();
            out.trees.of_mut(folder).retain(|p, _| !within(p));
            out.base.retain(|p, _| !within(p));
            out.trees.of_mut(folder).insert(path.into(), entry.clone());
            out.base.insert(path.into(), entry.clone());
        }
    }

    /// A ghost below a folder that the other side does not have.
    fn hidden(&self, side: Side, path: &str) -> bool {
        let shows = |(p, e): (&String, &Entry)| e.visible() && !(e.kind == Kind::Folder && self.gone(p));
        self.gone(path) && self.is_folder(side, path) && !self.below(side, path).any(shows)
    }
}
