//! One story a row of the tables in `docs/semantics.md`.

use std::collections::BTreeMap;

use syncfiles::core::base::{Base, BaseContent};
use syncfiles::core::merge::merge;
use syncfiles::core::plan::Why::{self, *};
use syncfiles::core::policy::{ConflictPolicy, May, Policy};
use syncfiles::core::reconcile::reconcile;
use syncfiles::core::side::Side::{One, Two};
use syncfiles::core::side::Sides;

use crate::support::trees::{
    Tree, base, file, folder, link, now, path, perform, seen, settle, snapshot, text, unknown,
};
use crate::tree;

/// What a sync made of two trees.
struct Synced {
    one: Tree,
    two: Tree,
    why: BTreeMap<String, Why>,
    base: Base,
    suppressed: usize,
    acts: usize,
}

impl Synced {
    /// Asserts that both sides hold exactly `tree` now, ages aside.
    #[track_caller]
    fn both(self, tree: Tree) -> Synced {
        assert_eq!(seen(&self.one), seen(&tree), "System 1");
        assert_eq!(seen(&self.two), seen(&tree), "System 2");
        self
    }

    #[track_caller]
    fn why(self, at: &str, why: Why) -> Synced {
        assert_eq!(self.why.get(at), Some(&why), "{:?}", self.why);
        self
    }

    #[track_caller]
    fn sides(self, one: Tree, two: Tree) -> Synced {
        assert_eq!((seen(&self.one), seen(&self.two)), (seen(&one), seen(&two)));
        self
    }

    fn is_gone(&self, at: &str) -> bool {
        self.base.at(&path(at)).is_some_and(|row| row.content == BaseContent::Folder { gone: true })
    }
}

fn sync_from(base: &Base, one: Tree, two: Tree, policy: Policy) -> Synced {
    let plan = reconcile(&merge(base, &snapshot(&one), &snapshot(&two), now()), &policy);
    let after = Sides { one: perform(&plan, One, &one, &two), two: perform(&plan, Two, &two, &one) };
    Synced {
        base: settle(&plan, base, &after),
        why: plan.items.iter().map(|item| (text(&item.path), item.why)).collect(),
        suppressed: plan.items.iter().filter(|i| i.suppressed.one || i.suppressed.two).count(),
        acts: [One, Two]
            .iter()
            .map(|s| plan.totals(*s))
            .map(|t| (t.puts + t.bits + t.removals) as usize)
            .sum(),
        one: after.one,
        two: after.two,
    }
}

fn sync(old: Tree, one: Tree, two: Tree, policy: Policy) -> Synced {
    sync_from(&base(&old), one, two, policy)
}

fn first_meeting(one: Tree, two: Tree) -> Synced {
    sync(Tree::new(), one, two, Policy::default())
}

fn delete() -> Policy {
    Policy { delete: true, ..Policy::default() }
}

fn conflict(conflict: ConflictPolicy) -> Policy {
    Policy { conflict, ..Policy::default() }
}

const ALL: May = May { write: true, delete: true };
const NONE: May = May { write: false, delete: false };

// Without a base.

#[test]
fn what_only_one_side_has_is_copied_to_the_other() {
    first_meeting(tree! {"a" => file("x")}, tree! {"d" => folder(), "d/l" => link("y")})
        .both(tree! {"a" => file("x"), "d" => folder(), "d/l" => link("y")})
        .why("a", New)
        .why("d/l", New);
}

#[test]
fn the_same_content_on_both_sides_transfers_nothing() {
    let synced = first_meeting(tree! {"a" => file("x").aged(1)}, tree! {"a" => file("x").aged(9)});
    assert_eq!(synced.acts, 0);
    synced.why("a", Agreed).sides(tree! {"a" => file("x")}, tree! {"a" => file("x")});
}

#[test]
fn without_a_base_the_younger_content_wins() {
    first_meeting(tree! {"a" => file("new").aged(1)}, tree! {"a" => file("old").aged(9)})
        .both(tree! {"a" => file("new")})
        .why("a", Younger);
    first_meeting(tree! {"a" => file("old").aged(9)}, tree! {"a" => link("new").aged(1)})
        .both(tree! {"a" => link("new")});
}

#[test]
fn equal_ages_are_a_tie_that_the_greater_hash_wins_on_both_sides_alike() {
    // SHA-256 of `y` begins with a1, of `x` with 2d.
    first_meeting(tree! {"a" => file("x")}, tree! {"a" => file("y")})
        .both(tree! {"a" => file("y")})
        .why("a", Tie(Two));
    first_meeting(tree! {"a" => file("y")}, tree! {"a" => file("x")})
        .both(tree! {"a" => file("y")})
        .why("a", Tie(One));
}

#[test]
fn ages_within_the_uncertainty_are_equal() {
    let policy = Policy { uncertainty: 5, ..Policy::default() };
    let (x, y) = (|age| tree! {"a" => file("x").aged(age)}, tree! {"a" => file("y").aged(10)});
    sync(Tree::new(), x(5), y.clone(), policy).both(tree! {"a" => file("y")}).why("a", Tie(Two));
    sync(Tree::new(), x(4), y, policy).both(tree! {"a" => file("x")}).why("a", Younger);
}

// With a base.

#[test]
fn what_both_changed_alike_is_agreed() {
    let new = tree! {"a" => file("new")};
    let synced =
        sync(tree! {"a" => file("old")}, new.clone(), new.clone(), Policy::default()).why("a", Agreed);
    assert_eq!(synced.base, base(&new));
}

#[test]
fn a_change_is_taken_where_the_other_side_is_unchanged() {
    let old = || tree! {"a" => file("old").aged(1)};
    let new = || tree! {"a" => file("new").aged(9)};
    sync(old(), old(), new(), Policy::default()).both(new()).why("a", Changed);
    sync(old(), new(), old(), Policy::default()).both(new()).why("a", Changed);
}

#[test]
fn of_two_changes_the_younger_wins_and_is_reported() {
    let (one, two) = (tree! {"a" => file("one").aged(9)}, tree! {"a" => file("two").aged(1)});
    sync(tree! {"a" => file("old")}, one, two.clone(), Policy::default())
        .both(two)
        .why("a", Conflict(Some(Two)));
}

#[test]
fn deletion_travels_when_the_other_side_is_unchanged() {
    let old = || tree! {"a" => file("x"), "b" => file("y")};
    sync(old(), old(), tree! {"b" => file("y")}, delete()).both(tree! {"b" => file("y")}).why("a", Deleted);
}

#[test]
fn without_delete_what_was_deleted_comes_back() {
    let old = || tree! {"d" => folder(), "d/a" => file("x")};
    sync(old(), Tree::new(), old(), Policy::default()).both(old()).why("d/a", Restored).why("d", Restored);
}

#[test]
fn a_change_survives_a_deletion() {
    let new = tree! {"a" => file("new")};
    sync(tree! {"a" => file("old")}, new.clone(), Tree::new(), delete()).both(new).why("a", Survived);
    let bits = tree! {"a" => file("old").mode(0o600)};
    sync(tree! {"a" => file("old")}, Tree::new(), bits.clone(), delete()).both(bits).why("a", Survived);
}

#[test]
fn what_both_deleted_leaves_the_base() {
    let synced = sync(tree! {"a" => file("x")}, Tree::new(), Tree::new(), delete()).why("a", Agreed);
    assert_eq!(synced.base, Base::default());
}

// A file against a folder.

#[test]
fn a_file_against_a_folder_is_decided_by_the_folders_youngest_member() {
    let tree =
        |age| tree! {"p" => folder().aged(0), "p/a" => file("x").aged(age), "p/b" => file("y").aged(90)};
    let file = || tree! {"p" => file("file").aged(20)};
    first_meeting(tree(10), file()).both(tree(10)).why("p", Clash(Some(One)));
    first_meeting(tree(30), file()).both(file()).why("p", Clash(Some(Two))).why("p/a", Changed);
}

#[test]
fn folders_without_a_file_or_link_lose_against_a_file_whatever_their_times() {
    let file = || tree! {"p" => file("file").aged(20)};
    for age in [10, 30] {
        first_meeting(tree! {"p" => folder().aged(age)}, file()).both(file());
        first_meeting(tree! {"p" => folder(), "p/d" => folder().aged(age)}, file()).both(file());
    }
}

#[test]
fn an_unchanged_folder_gives_way_to_a_file_whatever_their_ages() {
    let old = || tree! {"p" => folder(), "p/a" => file("x").aged(1)};
    let new = || tree! {"p" => file("file").aged(90)};
    sync(old(), old(), new(), Policy::default()).both(new()).why("p", Changed);
    sync(new(), old(), new(), Policy::default()).both(old()).why("p", Changed);
}

#[test]
fn a_folder_edited_inside_is_in_conflict_with_a_file_that_replaced_it() {
    let old = tree! {"p" => folder(), "p/a" => file("x"), "p/b" => file("y")};
    let edited = tree! {"p" => folder(), "p/a" => file("edit").aged(5), "p/b" => file("y")};
    let new = tree! {"p" => file("file").aged(90)};
    sync(old, edited.clone(), new, Policy::default()).both(edited).why("p", Clash(Some(One)));
}

#[test]
fn a_losing_folder_that_holds_unknown_members_is_left_and_reported() {
    let one = tree! {"p" => folder(), "p/a" => file("x").aged(90), "p/u" => unknown()};
    let two = tree! {"p" => file("file").aged(1)};
    let synced = first_meeting(one.clone(), two.clone()).why("p", Clash(None)).sides(one, two);
    assert_eq!((synced.acts, synced.base), (0, Base::default()));
}

// --conflict.

#[test]
fn a_named_side_wins_conflicts_and_nothing_else() {
    let old = tree! {"a" => file("old"), "b" => file("b")};
    let one = tree! {"a" => file("one").aged(1), "b" => file("b")};
    let two = tree! {"a" => file("two").aged(9), "b" => file("change")};
    let after = |a| tree! {"a" => file(a), "b" => file("change")};
    sync(old.clone(), one.clone(), two.clone(), conflict(ConflictPolicy::Two)).both(after("two"));
    sync(old, one, two, conflict(ConflictPolicy::One)).both(after("one")).why("a", Conflict(Some(One)));
}

#[test]
fn keep_both_keeps_the_loser_beside_the_winner() {
    let (one, two) = (tree! {"a.txt" => file("y").aged(1)}, tree! {"a.txt" => file("x").aged(9)});
    sync(tree! {"a.txt" => file("old")}, one, two, conflict(ConflictPolicy::KeepBoth))
        .both(tree! {"a.txt" => file("y"), "a.conflict-2d711642.txt" => file("x")})
        .why("a.txt", Conflict(Some(One)))
        .why("a.conflict-2d711642.txt", Kept);
}

#[test]
fn keep_both_reuses_a_loser_that_is_kept_already() {
    let kept = "a.conflict-2d711642";
    let one = tree! {"a" => file("y").aged(1), kept => file("x")};
    let two = tree! {"a" => file("x").aged(9)};
    let after = || tree! {"a" => file("y"), kept => file("x")};
    sync(tree! {"a" => file("old")}, one.clone(), two.clone(), conflict(ConflictPolicy::KeepBoth))
        .both(after());
    // Even if its deletion would travel otherwise.
    let policy = Policy { delete: true, ..conflict(ConflictPolicy::KeepBoth) };
    sync(tree! {"a" => file("old"), kept => file("x")}, one, two, policy).both(after());
}

#[test]
fn keep_both_takes_a_longer_name_where_something_else_has_the_name() {
    let taken = || tree! {"a.conflict-2d711642" => file("other")};
    let mut one = taken();
    one.insert("a".into(), file("y").aged(1));
    let mut after = one.clone();
    after.insert("a.conflict-2d711642b726b044".into(), file("x"));
    sync(
        taken(),
        one,
        tree! {"a" => file("x"), "a.conflict-2d711642" => file("other")},
        conflict(ConflictPolicy::KeepBoth),
    )
    .both(after);
}

#[test]
fn keep_both_finds_its_loser_again_after_a_shorter_name_became_free() {
    let pull =
        Policy { may: Sides { one: ALL, two: NONE }, delete: true, ..conflict(ConflictPolicy::KeepBoth) };
    let old = tree! {"a.conflict-2d711642" => file("other")};
    let one = tree! {"a" => file("y").aged(1), "a.conflict-2d711642" => file("other")};
    let two = tree! {"a" => file("x").aged(9)};
    let first = sync(old, one, two, pull);
    assert!(first.one.contains_key("a.conflict-2d711642b726b044"));
    assert_eq!(sync_from(&first.base, first.one, first.two, pull).acts, 0);
}

#[test]
fn keep_both_does_not_rely_on_a_copy_that_is_about_to_be_deleted() {
    let pull =
        Policy { may: Sides { one: ALL, two: NONE }, delete: true, ..conflict(ConflictPolicy::KeepBoth) };
    let kept = || tree! {"a.conflict-2d711642" => file("x")};
    let mut one = kept();
    one.insert("a".into(), file("x").aged(9));
    let first = sync(kept(), one, tree! {"a" => file("y").aged(1)}, pull);
    let after = tree! {"a" => file("y"), "a.conflict-2d711642b726b044" => file("x")};
    assert_eq!(seen(&first.one), seen(&after));
    assert_eq!(sync_from(&first.base, first.one, first.two, pull).acts, 0);
}

/// Planned again, the copy looked deleted on the side that could not take it, and another one was kept.
#[test]
fn keep_both_takes_no_name_that_both_have_deleted_where_a_side_cannot_take_it_back() {
    let pull =
        Policy { may: Sides { one: ALL, two: NONE }, delete: true, ..conflict(ConflictPolicy::KeepBoth) };
    let (one, two) = (tree! {"a" => file("y").aged(1)}, tree! {"a" => file("x").aged(9)});
    let first = sync(tree! {"a.conflict-2d711642" => file("x")}, one, two, pull);
    assert_eq!(seen(&first.one), seen(&tree! {"a" => file("y"), "a.conflict-2d711642b726b044" => file("x")}));
    assert_eq!(sync_from(&first.base, first.one, first.two, pull).acts, 0);
}

#[test]
fn keep_both_keeps_a_file_beside_a_folder() {
    let one = tree! {"p" => folder(), "p/a" => file("y").aged(90)};
    sync(Tree::new(), one, tree! {"p" => file("x").aged(1)}, conflict(ConflictPolicy::KeepBoth))
        .both(tree! {"p" => folder(), "p/a" => file("y"), "p.conflict-2d711642" => file("x")});
}

#[test]
fn skip_leaves_conflicts_and_reports_them() {
    let (one, two) = (tree! {"a" => file("one"), "n" => file("x")}, tree! {"a" => file("two")});
    let after = tree! {"a" => file("two"), "n" => file("x")};
    let old = tree! {"a" => file("old")};
    let synced = sync(old.clone(), one.clone(), two, conflict(ConflictPolicy::Skip)).why("a", Conflict(None));
    assert_eq!(synced.base.at(&path("a")), base(&old).at(&path("a")));
    synced.sides(one, after);
}

// Permission bits.

#[test]
fn content_and_bits_are_merged_each_on_its_own() {
    let old = tree! {"a" => file("old").mode(0o644)};
    let (one, two) = (tree! {"a" => file("new").mode(0o644)}, tree! {"a" => file("old").mode(0o600)});
    sync(old, one, two, Policy::default()).both(tree! {"a" => file("new").mode(0o600)}).why("a", Changed);
}

#[test]
fn bits_that_both_changed_follow_the_younger_content() {
    let at = |mode, age| tree! {"a" => file("x").mode(mode).aged(age)};
    sync(at(0o644, 5), at(0o755, 1), at(0o600, 9), Policy::default()).both(at(0o755, 1)).why("a", Bits);
    first_meeting(at(0o755, 9), at(0o600, 1)).both(at(0o600, 1));
}

#[test]
fn bits_that_both_changed_follow_the_content_that_only_one_changed() {
    let old = tree! {"a" => file("old").mode(0o755)};
    let (one, two) =
        (tree! {"a" => file("old").mode(0o600).aged(1)}, tree! {"a" => file("new").mode(0o644).aged(9)});
    sync(old, one, two.clone(), Policy::default()).both(two);
}

#[test]
fn at_equal_age_the_smaller_bits_win() {
    let at = |mode| tree! {"a" => file("x").mode(mode)};
    first_meeting(at(0o755), at(0o700)).both(at(0o700));
    first_meeting(at(0o700), at(0o755)).both(at(0o700));
}

#[test]
fn folders_made_on_both_sides_with_different_bits_get_the_smaller_ones() {
    let at = |mode, age| tree! {"d" => folder().mode(mode).aged(age)};
    first_meeting(at(0o755, 1), at(0o700, 9)).both(at(0o700, 1)).why("d", Bits);
    sync(at(0o755, 1), at(0o750, 1), at(0o755, 1), Policy::default()).both(at(0o750, 1));
}

#[test]
fn a_difference_of_times_alone_is_no_difference() {
    let at = |age| tree! {"a" => file("x").aged(age)};
    assert!(sync(at(1), at(5), at(9), Policy::default()).why.is_empty());
}

// Folders.

#[test]
fn a_deleted_folder_goes_with_all_its_unchanged_members() {
    let old = || tree! {"d" => folder(), "d/e" => folder(), "d/e/a" => file("x")};
    let synced = sync(old(), old(), Tree::new(), delete()).both(Tree::new()).why("d", Deleted);
    assert_eq!(synced.base, Base::default());
}

#[test]
fn a_deleted_folder_survives_for_what_was_added_in_it() {
    let old = tree! {"d" => folder(), "d/a" => file("x")};
    let one = tree! {"d" => folder(), "d/a" => file("x"), "d/new" => file("y")};
    sync(old, one, Tree::new(), delete())
        .both(tree! {"d" => folder(), "d/new" => file("y")})
        .why("d", Survived)
        .why("d/a", Deleted)
        .why("d/new", New);
}

#[test]
fn a_folder_that_unknown_members_hold_stays_and_counts_as_absent() {
    let old = || tree! {"d" => folder(), "d/a" => file("x")};
    let one = tree! {"d" => folder(), "d/a" => file("x"), "d/u" => unknown()};
    let synced =
        sync(old(), one, Tree::new(), delete()).why("d", Deleted).sides(tree! {"d" => folder()}, Tree::new());
    assert!(synced.is_gone("d"));
    let again = sync_from(&synced.base, synced.one, synced.two, Policy::default());
    assert!(again.why.is_empty() && again.is_gone("d"));
}

#[test]
fn a_folder_that_was_gone_returns_with_a_visible_member() {
    let gone = tree! {"d" => unknown()};
    let one = tree! {"d" => folder(), "d/u" => unknown(), "d/new" => file("x")};
    let after = tree! {"d" => folder(), "d/new" => file("x")};
    let synced = sync(gone, one, Tree::new(), delete()).both(after).why("d", New);
    assert!(!synced.is_gone("d"));
}

#[test]
fn a_folder_that_was_gone_is_no_obstacle_once_nothing_unknown_holds_it() {
    let gone = || tree! {"d" => unknown()};
    let file = || tree! {"d" => file("x")};
    sync(gone(), tree! {"d" => folder()}, file(), delete()).both(file()).why("d", New);
    let held = tree! {"d" => folder(), "d/u" => unknown()};
    sync(gone(), held.clone(), file(), delete()).sides(held, file()).why("d", Clash(None));
}

// Unknown.

#[test]
fn unknown_paths_cause_no_action_and_keep_their_rows() {
    let old = tree! {"u" => folder(), "u/a" => file("x"), "v" => file("v")};
    let one = tree! {"u" => unknown(), "v" => unknown()};
    let synced = sync(old.clone(), one.clone(), Tree::new(), delete());
    assert_eq!(synced.base, base(&old));
    synced.sides(one.clone(), Tree::new());
    let two = tree! {"u" => folder(), "u/b" => file("y")};
    assert!(sync(old, one, two, delete()).why.is_empty());
}

// Direction.

#[test]
fn what_a_side_does_not_accept_is_decided_suppressed_and_stays_different() {
    let old = tree! {"a" => file("a"), "b" => file("b")};
    let (one, two) =
        (tree! {"a" => file("one"), "b" => file("b")}, tree! {"a" => file("a"), "b" => file("two")});
    let pull = Policy { may: Sides { one: NONE, two: ALL }, ..Policy::default() };
    let synced = sync(old.clone(), one.clone(), two, pull);
    assert_eq!(synced.suppressed, 1);
    assert_eq!(synced.base.at(&path("b")), base(&old).at(&path("b")));
    synced.sides(one, tree! {"a" => file("one"), "b" => file("two")});
}

#[test]
fn a_no_delete_server_keeps_what_was_deleted_elsewhere() {
    let old = || tree! {"d" => folder(), "d/a" => file("x")};
    let policy = Policy { may: Sides { one: May { write: true, delete: false }, two: ALL }, ..delete() };
    let synced = sync(old(), old(), Tree::new(), policy).sides(old(), Tree::new());
    assert_eq!((synced.suppressed, synced.base), (2, base(&old())));
}

#[test]
fn a_folder_is_not_replaced_where_its_members_may_not_go() {
    let old = || tree! {"p" => folder(), "p/a" => file("x")};
    let new = || tree! {"p" => file("file")};
    let policy =
        Policy { may: Sides { one: May { write: true, delete: false }, two: ALL }, ..Policy::default() };
    assert_eq!(sync(old(), old(), new(), policy).sides(old(), new()).suppressed, 2);
}

#[test]
fn a_mirror_loses_its_edits_and_extras() {
    let one = tree! {"a" => file("one").aged(9).mode(0o600), "p" => folder(), "p/q" => file("x")};
    let two =
        tree! {"a" => file("two").aged(1), "extra" => folder(), "extra/e" => file("y"), "p" => file("z")};
    let policy = Policy { may: Sides { one: NONE, two: ALL }, mirror: true, ..Policy::default() };
    sync(Tree::new(), one.clone(), two, policy).both(one);
}
