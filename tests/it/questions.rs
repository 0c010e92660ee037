//! What must be hashed before a decision: nothing that cannot change it.

use syncfiles::core::merge::{Fork, merge};
use syncfiles::core::policy::{ConflictPolicy, Policy};
use syncfiles::core::question::undecided;
use syncfiles::core::side::Sides;
use syncfiles::core::snapshot::{Folder, Node, Snapshot};

use crate::support::trees::{Tree, base, file, folder, link, now, snapshot, text};
use crate::tree;

fn unhashed(tree: &Tree) -> Snapshot {
    let mut root = snapshot(tree);
    forget(&mut root);
    root
}

fn forget(folder: &mut Folder) {
    for (_, node) in &mut folder.members {
        match node {
            Node::File(file) => file.sha256 = None,
            Node::Folder(inner) => forget(inner),
            _ => {}
        }
    }
}

fn asked(old: Tree, one: Tree, two: Tree, policy: Policy) -> (Vec<String>, Vec<String>) {
    let fork: Fork = merge(&base(&old), &unhashed(&one), &unhashed(&two), now());
    let Sides { one, two } = undecided(&fork, &policy);
    (one.iter().map(text).collect(), two.iter().map(text).collect())
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

fn delete() -> Policy {
    Policy { delete: true, ..Policy::default() }
}

#[test]
fn files_of_equal_size_are_hashed_on_both_sides() {
    let (one, two) = (tree! {"a" => file("x").aged(1)}, tree! {"a" => file("y").aged(9)});
    assert_eq!(asked(Tree::new(), one, two, delete()), (names(&["a"]), names(&["a"])));
}

#[test]
fn what_sizes_or_kinds_tell_apart_and_what_is_empty_needs_no_hash() {
    let one = tree! {"a" => file("x").aged(1), "b" => file("x"), "c" => file("")};
    let two = tree! {"a" => file("two").aged(9), "b" => link("x"), "c" => file("")};
    assert_eq!(asked(Tree::new(), one, two, delete()), (vec![], vec![]));
}

#[test]
fn a_tie_is_broken_by_both_hashes() {
    let (one, two) = (tree! {"a" => file("x")}, tree! {"a" => file("two")});
    assert_eq!(asked(Tree::new(), one, two, delete()), (names(&["a"]), names(&["a"])));
}

#[test]
fn what_only_one_side_has_is_hashed_only_if_a_deletion_hangs_on_it() {
    let one = || tree! {"new" => file("x"), "old" => file("x"), "grown" => file("long")};
    let old = || tree! {"old" => file("x"), "grown" => file("x")};
    assert_eq!(asked(old(), one(), Tree::new(), Policy::default()), (vec![], vec![]));
    assert_eq!(asked(old(), one(), Tree::new(), delete()), (names(&["old"]), vec![]));
}

#[test]
fn a_file_of_the_bases_size_is_hashed_to_see_whether_it_changed() {
    let (one, two) = (tree! {"a" => file("x").aged(1)}, tree! {"a" => file("two").aged(9)});
    assert_eq!(asked(tree! {"a" => file("y")}, one, two, delete()), (names(&["a"]), vec![]));
}

#[test]
fn a_folder_against_a_file_is_hashed_only_while_it_may_be_unchanged() {
    let old = || tree! {"p" => folder(), "p/a" => file("x"), "p/b" => file("y")};
    let two = || tree! {"p" => file("file")};
    assert_eq!(asked(old(), old(), two(), delete()), (names(&["p/a", "p/b"]), vec![]));
    let grown = tree! {"p" => folder(), "p/a" => file("x"), "p/b" => file("grown")};
    assert_eq!(asked(old(), grown, two(), delete()), (vec![], vec![]));
}

#[test]
fn keep_both_needs_the_losers_hash_for_its_name() {
    let (one, two) = (tree! {"a" => file("x").aged(1)}, tree! {"a" => file("two").aged(9)});
    let policy = Policy { conflict: ConflictPolicy::KeepBoth, ..Policy::default() };
    assert_eq!(asked(Tree::new(), one, two, policy), (vec![], names(&["a"])));
}
