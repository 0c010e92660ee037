//! Moves and local copies: a side that already has the content transfers nothing, and ends the same.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use syncfiles::core::merge::merge;
use syncfiles::core::moves::{Arrangement, Holdings, How, Move, arrange, wanted_hashes};
use syncfiles::core::path::RelPath;
use syncfiles::core::plan::{Act, Item, Plan, Settles, Source};
use syncfiles::core::policy::Policy;
use syncfiles::core::reconcile::reconcile;
use syncfiles::core::side::{Side, Sides};
use syncfiles::core::snapshot::{Folder, Node};
use syncfiles::core::version::{Content, Standing};

use crate::support::random::{Case, case};
use crate::support::trees::{
    Entry, Kind, Tree, base, file, folder, now, path, perform, seen, snapshot, text, unknown,
};
use crate::tree;

const DELETE: Policy = Policy {
    delete: true,
    conflict: syncfiles::core::policy::ConflictPolicy::Newer,
    may: Sides {
        one: syncfiles::core::policy::May { write: true, delete: true },
        two: syncfiles::core::policy::May { write: true, delete: true },
    },
    mirror: false,
    uncertainty: 0,
};

/// System 1 still holds the base; System 2 holds `two`. The plan, and how System 1 carries it out.
fn follow(old: &Tree, two: &Tree, policy: &Policy) -> (Plan, Arrangement) {
    let plan = reconcile(&merge(&base(old), &snapshot(old), &snapshot(two), now()), policy);
    let arrangement = arrange(&plan, Side::One, &Holdings::of(&snapshot(old), &plan, Side::One));
    (plan, arrangement)
}

fn renames(moves: &[Move]) -> Vec<(String, String, How)> {
    moves.iter().map(|m| (text(&m.from), text(&m.to), m.how)).collect()
}

fn rename(from: &str, to: &str) -> (String, String, How) {
    (from.into(), to.into(), How::Rename)
}

#[test]
fn a_renamed_file_is_moved_and_its_removal_is_no_deletion() {
    let (plan, done) = follow(&tree! {"old" => file("x")}, &tree! {"new" => file("x")}, &DELETE);
    assert_eq!(renames(&done.moves), [rename("old", "new")]);
    assert!(done.needs.is_empty() && done.copies.is_empty());
    assert_eq!(done.paired, [1].into());
    assert_eq!(*plan.items[1].act.of(Side::One), Act::Remove);
}

#[test]
fn a_rename_that_changes_only_the_case_is_a_move() {
    let (_, done) = follow(&tree! {"readme" => file("x")}, &tree! {"README" => file("x")}, &DELETE);
    assert_eq!(renames(&done.moves), [rename("readme", "README")]);
}

#[test]
fn without_delete_a_rename_is_a_local_copy() {
    let (_, done) = follow(&tree! {"old" => file("x")}, &tree! {"new" => file("x")}, &Policy::default());
    assert!(done.moves.is_empty() && done.needs.is_empty() && done.paired.is_empty());
    assert_eq!(done.copies.len(), 1);
    assert_eq!(text(&done.copies[0].from), "old");
}

#[test]
fn two_files_that_change_places_are_exchanged() {
    let old = tree! {"a" => file("x"), "b" => file("y")};
    let (_, done) = follow(&old, &tree! {"a" => file("y"), "b" => file("x")}, &DELETE);
    assert_eq!(renames(&done.moves), [("a".into(), "b".into(), How::Exchange)]);
    assert!(done.needs.is_empty() && done.copies.is_empty() && done.paired.is_empty());
}

#[test]
fn a_chain_of_renames_goes_end_first() {
    let old = tree! {"a" => file("x"), "b" => file("y")};
    let (_, done) = follow(&old, &tree! {"b" => file("x"), "c" => file("y")}, &DELETE);
    assert_eq!(renames(&done.moves), [rename("b", "c"), rename("a", "b")]);
}

#[test]
fn a_move_onto_something_else_is_a_local_copy() {
    let old = tree! {"a" => file("x"), "b" => file("y")};
    let (_, done) = follow(&old, &tree! {"b" => file("x")}, &DELETE);
    assert!(done.moves.is_empty() && done.paired.is_empty());
    assert_eq!(done.copies.len(), 1);
}

/// Renamed away first, it left its path empty, and its new content did not find what the plan saw there.
#[test]
fn content_that_is_only_replaced_is_copied_and_not_moved_away() {
    let old = tree! {"a" => file("x")};
    for now_a in [folder(), file("y")] {
        let (_, done) = follow(&old, &tree! {"a" => now_a, "b" => file("x")}, &DELETE);
        assert!(done.moves.is_empty() && done.paired.is_empty());
        assert_eq!(done.copies.len(), 1);
    }
}

#[test]
fn empty_files_are_never_moved() {
    let (_, done) = follow(&tree! {"old" => file("")}, &tree! {"new" => file("")}, &DELETE);
    assert!(done.moves.is_empty() && done.copies.is_empty());
    assert_eq!(done.needs, [0]);
}

#[test]
fn a_folder_is_renamed_whole_with_its_ignored_members() {
    let old = tree! {"d" => folder(), "d/f" => file("x"), "d/s" => folder(), "d/s/g" => file("y"), "d/s/o" => unknown()};
    let new =
        tree! {"e" => folder(), "e/f" => file("x"), "e/s" => folder(), "e/s/g" => file("y").mode(0o600)};
    let (_, done) = follow(&old, &new, &DELETE);
    assert_eq!(renames(&done.folder_moves), [rename("d", "e")]);
    assert!(done.moves.is_empty() && done.needs.is_empty() && done.copies.is_empty());
}

#[test]
fn a_folder_moves_into_a_new_folder() {
    let old = tree! {"d" => folder(), "d/f" => file("x")};
    let new = tree! {"n" => folder(), "n/d" => folder(), "n/d/f" => file("x")};
    let (_, done) = follow(&old, &new, &DELETE);
    assert_eq!(renames(&done.folder_moves), [rename("d", "n/d")]);
}

#[test]
fn a_folder_that_is_not_re_created_alike_moves_file_by_file() {
    let old = tree! {"d" => folder(), "d/f" => file("x"), "d/g" => file("y")};
    let new = tree! {"e" => folder(), "e/f" => file("x"), "e/h" => file("y")};
    let (_, done) = follow(&old, &new, &DELETE);
    assert!(done.folder_moves.is_empty());
    assert_eq!(renames(&done.moves), [rename("d/f", "e/f"), rename("d/g", "e/h")]);
}

#[test]
fn a_folder_that_was_edited_here_moves_file_by_file() {
    let old = tree! {"d" => folder(), "d/f" => file("x"), "d/g" => file("y")};
    let one = tree! {"d" => folder(), "d/f" => file("x"), "d/g" => file("mine")};
    let two = tree! {"e" => folder(), "e/f" => file("x"), "e/g" => file("y")};
    let plan = reconcile(&merge(&base(&old), &snapshot(&one), &snapshot(&two), now()), &DELETE);
    let done = arrange(&plan, Side::One, &Holdings::of(&snapshot(&one), &plan, Side::One));
    assert!(done.folder_moves.is_empty());
    assert_eq!(renames(&done.moves), [rename("d/f", "e/f")]);
    assert_eq!(done.needs.len(), 1);
}

#[test]
fn nothing_moves_to_below_what_is_still_a_file() {
    let old = tree! {"a" => file("x")};
    let (_, done) = follow(&old, &tree! {"a" => folder(), "a/a" => file("x")}, &DELETE);
    assert!(done.moves.is_empty());
    assert_eq!(done.copies.len(), 1);
}

#[test]
fn hashes_are_wanted_only_where_a_size_matches() {
    let old = tree! {"old" => file("x"), "other" => file("four")};
    let two = tree! {"new" => file("y"), "big" => file("three"), "none" => file("")};
    let mut fork = merge(&base(&Tree::new()), &snapshot(&old), &snapshot(&two), now());
    for (_, member) in &mut fork.members {
        if let Standing::Holds(version) = &mut member.two
            && let Content::File { sha256, .. } = &mut version.content
        {
            *sha256 = None;
        }
    }
    let plan = reconcile(&fork, &Policy::default());
    let mut own = snapshot(&old);
    if let Some(Node::File(f)) = own.find_mut(&path("old")) {
        f.sha256 = None;
    }
    let holdings = Holdings::of(&own, &plan, Side::One);
    let wanted = wanted_hashes(&plan, Side::One, &holdings, 1);
    assert_eq!((wanted.own, wanted.peer), (vec![path("old")], vec![path("new")]));
    assert_eq!(wanted_hashes(&plan, Side::One, &holdings, 1 << 20), Default::default());
}

/// Carries out an arrangement as its contract says: copies staged, folders, moves, placements, deletions.
fn perform_arranged(plan: &Plan, done: &Arrangement, side: Side, own: &Tree, peer: &Tree) -> Tree {
    let mut tree = own.clone();
    let placed = |tree: &mut Tree, at: usize, kind: Kind| {
        let Act::Put { version, .. } = plan.items[at].act.of(side) else { panic!("not put") };
        let age = if kind == Kind::Folder { 0 } else { version.age.0 };
        tree.insert(text(&plan.items[at].path), Entry { kind, mode: version.bits.mode(), age });
    };
    for m in &done.folder_moves {
        let (from, to) = (text(&m.from), text(&m.to));
        assert!(!tree.contains_key(&to), "{to} is not absent");
        let moved: Vec<_> = tree.keys().filter(|p| path(p).is_within(&m.from)).cloned().collect();
        for p in moved {
            let entry = tree.remove(&p).unwrap();
            tree.insert(format!("{to}{}", &p[from.len()..]), entry);
        }
    }
    for m in &done.moves {
        let (from, to) = (text(&m.from), text(&m.to));
        let entry = tree.remove(&from).unwrap();
        assert!(matches!(entry.kind, Kind::File(_)));
        let there = tree.insert(to.clone(), entry);
        assert_eq!(there.is_some(), m.how == How::Exchange, "{from} to {to}");
        tree.extend(there.map(|there| (from, there)));
    }
    for (at, item) in plan.items.iter().enumerate().rev() {
        if *item.act.of(side) == Act::Remove && !done.paired.contains(&at) {
            tree.remove(&text(&item.path)).unwrap();
        }
    }
    let copies: BTreeMap<usize, &RelPath> = done.copies.iter().map(|c| (c.item, &c.from)).collect();
    for (at, item) in plan.items.iter().enumerate() {
        let here = text(&item.path);
        match item.act.of(side) {
            Act::Put { version, from } => {
                let kind = match (copies.get(&at), from) {
                    _ if done.placed.contains(&at) => tree[&here].kind.clone(),
                    (Some(from), _) => own[&text(from)].kind.clone(),
                    (None, Source::Peer) => peer[&here].kind.clone(),
                    (None, Source::PeerAt(from)) => peer[&text(from)].kind.clone(),
                    (None, Source::Own(from)) => own[&text(from)].kind.clone(),
                };
                let known = done.placed.contains(&at) || copies.contains_key(&at);
                let file = matches!(version.content, Content::File { .. });
                assert_eq!(file && !known, done.needs.contains(&at), "{here}");
                placed(&mut tree, at, kind);
            }
            Act::SetBits(bits) => tree.get_mut(&here).unwrap().mode = bits.mode(),
            _ => {}
        }
    }
    tree
}

proptest! {
    #![proptest_config(crate::reconcile::config())]

    #[test]
    fn an_arranged_plan_ends_like_the_plan(case in case()) {
        let Case { base: old, trees, policy } = &case;
        let plan = reconcile(&merge(&base(old), &snapshot(&trees.one), &snapshot(&trees.two), now()), policy);
        for side in [Side::One, Side::Two] {
            let (own, peer) = (trees.of(side), trees.of(side.other()));
            let holdings = Holdings::of(&snapshot(own), &plan, side);
            let done = arrange(&plan, side, &holdings);
            prop_assert_eq!(wanted_hashes(&plan, side, &holdings, 1), Default::default());
            let arranged = perform_arranged(&plan, &done, side, own, peer);
            let plain = perform(&plan, side, own, peer);
            // A folder that unknown members hold stays in the plan, but travels with them when it is renamed whole.
            let gone = |item: &&Item| matches!(item.settles, Settles::Gone { .. });
            let gone: BTreeSet<_> = plan.items.iter().filter(gone).map(|item| text(&item.path)).collect();
            let left = |mut tree: Tree| {
                tree.retain(|path, _| !gone.contains(path));
                tree
            };
            let (arranged, plain) = (left(arranged), left(plain));
            prop_assert_eq!(seen(&arranged), seen(&plain), "{:?} {:?}", &plan, &done);
            let sources: BTreeSet<_> = done.moves.iter().chain(&done.folder_moves).map(|m| &m.from).collect();
            prop_assert!(done.paired.is_empty() || !sources.is_empty());
        }
    }
}

#[test]
fn an_empty_snapshot_holds_nothing() {
    let (plan, done) = follow(&Tree::new(), &tree! {"a" => file("x")}, &DELETE);
    assert_eq!(done.needs, [0]);
    assert!(arrange(&plan, Side::Two, &Holdings::of(&Folder::default(), &plan, Side::Two)).needs.is_empty());
}
