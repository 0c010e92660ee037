//! Random walks: edits of all kinds on both sides, a sync, and what must result by the naive model; over and over.
//!
//! `SYNCFILES_ROUNDS=10000 cargo test --release --test it walks` walks far; a failure names the seed that repeats it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use syncfiles::core::base::BaseEntry;
use syncfiles::core::guard::MaxDelete;
use syncfiles::core::policy::{ConflictPolicy, May, Policy};
use syncfiles::core::side::{Side, Sides};
use syncfiles::replica::root::Root;
use syncfiles::replica::state::State;
use syncfiles::replica::{base_store, identity, pairs};
use syncfiles::session::{Options, Way};

use crate::support::dice::{self, Dice, rounds, seeds};
use crate::support::model;
use crate::support::pair::{self, Pair};
use crate::support::random::Case;
use crate::support::trees::{Entry, Kind, Tree, seen};
use crate::support::wander::{Hand, Ledger};

/// Rounds of one walk; then two new folders meet.
const ROUNDS: usize = 10;
/// Edits this far apart in time are never a tie; nanoseconds.
pub(crate) const APART: i64 = 1_000_000_000;

/// The texts that the model knows, each leaked once.
#[derive(Default)]
pub(crate) struct Texts(HashMap<Vec<u8>, &'static str>);

impl Texts {
    fn of(&mut self, bytes: &[u8]) -> &'static str {
        let leak = || &*Box::leak(String::from_utf8(bytes.to_vec()).unwrap().into_boxed_str());
        self.0.entry(bytes.to_vec()).or_insert_with(leak)
    }

    /// A real tree as the model sees it: every byte of a name a character, ages in nanoseconds.
    pub(crate) fn tree(&mut self, side: &pair::Side) -> Tree {
        use std::os::unix::ffi::OsStrExt;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64;
        let mut tree = Tree::new();
        for (path, entry) in side.tree() {
            let age = now - modified(&side.root.join(&path));
            let (kind, mode) = match entry {
                pair::Entry::File(mode, content) => (Kind::File(self.of(&content)), mode),
                pair::Entry::Folder(mode) => (Kind::Folder, mode),
                pair::Entry::Link(target) => (Kind::Link(self.of(target.as_os_str().as_bytes())), 0o777),
            };
            tree.insert(name(path.as_os_str().as_bytes()), Entry { kind, mode, age });
        }
        tree
    }
}

fn modified(path: &Path) -> i64 {
    use std::os::unix::fs::MetadataExt;
    let stat = fs::symlink_metadata(path).unwrap();
    stat.mtime() * 1_000_000_000 + stat.mtime_nsec()
}

fn without_ages(tree: &Tree) -> BTreeMap<String, (Kind, u32)> {
    seen(tree).into_iter().map(|(path, entry)| (path.to_owned(), entry)).collect()
}

/// Every path that is not as the model wants it, with what it was made from.
pub(crate) fn faults(case: &Case, wanted: &Sides<Tree>, now: &Sides<Tree>) -> String {
    let mut faults = String::new();
    for side in [Side::One, Side::Two] {
        let (want, is) = (without_ages(wanted.of(side)), without_ages(now.of(side)));
        for path in want.keys().chain(is.keys()).filter(|path| want.get(*path) != is.get(*path)) {
            let (base, one, two) = (case.base.get(path), case.trees.one.get(path), case.trees.two.get(path));
            let (want, is) = (want.get(path), is.get(path));
            faults += &format!(
                "\n{side:?} {path:?}\n  base {base:?}\n  one {one:?}\n  two {two:?}\n  wanted {want:?}\n  is {is:?}"
            );
        }
    }
    faults
}

/// What one side, or both, remember as agreed in the last run.
fn rows(pair: &Pair) -> Rows {
    let state = |side: &pair::Side| State::peek(&Root::open(&side.root).unwrap()).unwrap().unwrap();
    let (one, two) = (state(&pair.one), state(&pair.two));
    let id = |state| identity::look(state).unwrap().unwrap();
    let agreed = |state, peer| pairs::agreed(state, peer).unwrap().unwrap();
    let (of_one, of_two) = (agreed(&one, id(&two)), agreed(&two, id(&one)));
    let run = of_two.runs().find(|run| of_one.runs().any(|other| other == *run)).unwrap();
    let bases = [base_store::load(&one, id(&two), run), base_store::load(&two, id(&one), run)];
    let bases: Vec<_> = bases.into_iter().filter_map(|base| base.unwrap()).collect();
    assert!(bases.iter().all(|base| *base == bases[0]), "the two bases of one run differ");
    bases[0].rows().iter().map(|(path, row)| (name(path.as_bytes()), row.clone())).collect()
}

type Rows = BTreeMap<String, BaseEntry>;

fn differing<'a>(
    is: &'a Rows,
    wanted: &'a Rows,
) -> Vec<(&'a String, Option<&'a BaseEntry>, Option<&'a BaseEntry>)> {
    let all: BTreeSet<&String> = is.keys().chain(wanted.keys()).collect();
    let rows = all.into_iter().map(|path| (path, is.get(path), wanted.get(path)));
    rows.filter(|(_, is, wanted)| is != wanted).collect()
}

/// Every byte of a path a character.
fn name(path: &[u8]) -> String {
    path.iter().map(|&byte| char::from(byte)).collect()
}

/// What a user may choose, in `options` and as the core has it.
fn choose(dice: &mut Dice, conflict: ConflictPolicy, options: &mut Options) -> Policy {
    options.delete = dice.chance(80);
    options.conflict = conflict;
    options.max_delete = MaxDelete::Percent(100);
    options.checksum = dice.chance(10);
    options.way = *dice.pick(&[Way::Both, Way::Both, Way::Both, Way::Both, Way::Both, Way::Pull, Way::Push]);
    options.mirror = options.way != Way::Both && dice.chance(30);
    let may = |way| May { write: options.way != way, delete: options.way != way };
    Policy {
        delete: options.delete,
        conflict,
        may: Sides { one: may(Way::Pull), two: may(Way::Push) },
        mirror: options.mirror,
        uncertainty: APART,
    }
}

fn walk(seed: u64, ties: bool, swaps: bool) {
    use ConflictPolicy::{KeepBoth, Newer, One, Skip, Two};
    let _way = dice::Way(seed);
    let mut dice = Dice::new(seed);
    let conflict = *dice.pick(&[Newer, Newer, Newer, KeepBoth, KeepBoth, Skip, One, Two]);
    let mut hand = Hand::new(Dice::new(dice.throw()), ties);
    let pair = if swaps { Pair::fast().beside() } else { Pair::fast() };
    let (mut texts, mut base) = (Texts::default(), Tree::new());
    for round in 0..ROUNDS {
        for _ in 0..1 + dice.below(12) {
            hand.edit(if dice.chance(50) { &pair.one } else { &pair.two }, 0);
        }
        let mut options = pair.options();
        let policy = choose(&mut dice, conflict, &mut options);
        // Who is System 1 in this round.
        let swapped = swaps && dice.chance(50);
        let sync = |options: &Options| {
            let set = |other: &mut Options| *other = options.clone();
            if swapped { pair.sync_swapped(set) } else { pair.try_sync(set) }.unwrap()
        };
        let roles = if swapped { [&pair.two, &pair.one] } else { [&pair.one, &pair.two] };
        let trees = Sides { one: texts.tree(roles[0]), two: texts.tree(roles[1]) };
        let case = Case { base: base.clone(), trees, policy };
        let ledger = Ledger::open([&pair.one, &pair.two]);
        let ran = sync(&options);
        let wanted = model::outcome(&case);
        let at = format!("seed {seed}, round {round}, {:?}", case.policy);
        assert_eq!(ran.outcome.problems, [], "{at}");
        ledger.close();
        let now = Sides { one: texts.tree(roles[0]), two: texts.tree(roles[1]) };
        let faults = faults(&case, &wanted.trees, &now);
        assert!(faults.is_empty(), "{at}{faults}");
        let (remembers, agreed) =
            (rows(&pair), wanted.base.iter().map(|(p, e)| (p.clone(), e.row())).collect());
        assert!(remembers == agreed, "{at}\nthe base {:#?}", differing(&remembers, &agreed));
        base = wanted.base;
        if dice.chance(30) {
            let again = sync(&options);
            let did = (again.travelled(), again.outcome.moved, again.outcome.deleted, again.outcome.changed);
            assert_eq!(did, (0, 0, (0, 0), false), "a second sync does nothing: {at}");
            let after = Sides { one: texts.tree(roles[0]), two: texts.tree(roles[1]) };
            assert_eq!(without_ages(&after.one), without_ages(&now.one), "{at}");
            assert_eq!(without_ages(&after.two), without_ages(&now.two), "{at}");
        }
    }
}

#[test]
fn every_walk_ends_where_the_model_says_and_nothing_is_lost_on_the_way() {
    for seed in seeds(rounds(60) / ROUNDS) {
        walk(seed, false, false);
    }
}

#[test]
fn walks_with_edits_of_equal_age_end_alike_on_both_sides() {
    for seed in seeds(rounds(30) / ROUNDS) {
        walk(seed, true, false);
    }
}

#[test]
fn walks_of_local_roots_that_swap_roles_end_as_if_they_never_had() {
    for seed in seeds(rounds(60) / ROUNDS) {
        walk(seed, false, true);
    }
}
