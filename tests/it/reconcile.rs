//! Properties of the decision, over random trees: it converges, it agrees with the model, it is idempotent,
//! symmetric, blind to what is settled, and asks for every hash it needs.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::RngSeed;
use proptest::test_runner::TestRunner;
use syncfiles::core::base::{Base, BaseEntry};
use syncfiles::core::guard::{Census, MaxDelete, guard};
use syncfiles::core::merge::{Fork, merge};
use syncfiles::core::moves::{Holdings, arrange};
use syncfiles::core::path::RelPath;
use syncfiles::core::plan::{Act, Item, Plan, Settles, Why};
use syncfiles::core::policy::{ConflictPolicy, Policy};
use syncfiles::core::question::undecided;
use syncfiles::core::reconcile::reconcile;
use syncfiles::core::settled::{Settled, Whole, leave_out, settled_rows};
use syncfiles::core::side::{Side, Sides};
use syncfiles::core::version::{Content, Standing};

use crate::support::model;
use crate::support::random::{Case, case};
use crate::support::trees::{
    Tree, base, base_tree, file, folder, link, now, path, perform, seen, settle, snapshot, text, unknown,
};
use crate::tree;

/// `SYNCFILES_CASES=1000000 cargo test --release --test it reconcile` runs a million.
pub(crate) fn config() -> ProptestConfig {
    let cases = std::env::var("SYNCFILES_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(2_000);
    // The slice that every run takes is always the same; a long run looks at new cases.
    let rng_seed = match std::env::var_os("SYNCFILES_CASES") {
        Some(_) => RngSeed::Random,
        None => RngSeed::Fixed(2026),
    };
    ProptestConfig {
        cases,
        rng_seed,
        failure_persistence: None,
        max_shrink_iters: 200_000,
        ..ProptestConfig::default()
    }
}

fn fork(case: &Case) -> Fork {
    merge(&base(&case.base), &snapshot(&case.trees.one), &snapshot(&case.trees.two), now())
}

fn plan(case: &Case) -> Plan {
    reconcile(&fork(case), &case.policy)
}

fn carry_out(case: &Case, plan: &Plan) -> Sides<Tree> {
    let Sides { one, two } = &case.trees;
    Sides { one: perform(plan, Side::One, one, two), two: perform(plan, Side::Two, two, one) }
}

fn swapped(fork: &Fork) -> Fork {
    Fork {
        base: fork.base.clone(),
        one: fork.two.clone(),
        two: fork.one.clone(),
        members: fork.members.iter().map(|(name, member)| (name.clone(), swapped(member))).collect(),
    }
}

fn swapped_item(item: Item) -> Item {
    let other = |side: Option<Side>| side.map(Side::other);
    let why = match item.why {
        Why::Conflict(side) => Why::Conflict(other(side)),
        Why::Clash(side) => Why::Clash(other(side)),
        Why::Tie(side) => Why::Tie(side.other()),
        why => why,
    };
    let Item { path, saw, act, suppressed, settles, .. } = item;
    Item { path, saw: saw.swapped(), act: act.swapped(), suppressed: suppressed.swapped(), why, settles }
}

fn swapped_policy(policy: &Policy) -> Policy {
    let conflict = match policy.conflict {
        ConflictPolicy::One => ConflictPolicy::Two,
        ConflictPolicy::Two => ConflictPolicy::One,
        conflict => conflict,
    };
    Policy { conflict, may: policy.may.swapped(), ..*policy }
}

/// Forgets the hash of every non-empty file.
fn forget(content: &mut Content) {
    if let Content::File { size: 1.., sha256 } = content {
        *sha256 = None;
    }
}

fn forget_fork(fork: &mut Fork) {
    for standing in [&mut fork.one, &mut fork.two] {
        if let Standing::Holds(version) = standing {
            forget(&mut version.content);
        }
    }
    fork.members.iter_mut().for_each(|(_, member)| forget_fork(member));
}

fn forget_plan(plan: &mut Plan) {
    for item in &mut plan.items {
        for act in [&mut item.act.one, &mut item.act.two] {
            if let Act::Put { version, .. } = act {
                forget(&mut version.content);
            }
        }
        for standing in [&mut item.saw.one, &mut item.saw.two] {
            if let Standing::Holds(version) = standing {
                forget(&mut version.content);
            }
        }
        if let Settles::Version { content, .. } = &mut item.settles {
            forget(content);
        }
    }
}

/// Without unknown paths, and without folders that are gone.
fn know_everything(case: &mut Case) {
    for tree in [&mut case.base, &mut case.trees.one, &mut case.trees.two] {
        tree.retain(|_, entry| entry.visible());
    }
}

/// Members below files and below unknowns, missing hashes, rows without parents.
fn wild_fork() -> impl Strategy<Value = Fork> {
    let entry = || {
        prop_oneof![
            Just(file("x")),
            Just(file("y").aged(1)),
            Just(folder()),
            Just(link("l")),
            Just(unknown())
        ]
    };
    let standing = || {
        (prop::option::of(entry()), any::<bool>()).prop_map(|(entry, hashed)| {
            let tree: Tree = entry.map(|entry| ("a".to_owned(), entry)).into_iter().collect();
            let mut fork = merge(&base(&Tree::new()), &snapshot(&tree), &snapshot(&Tree::new()), now());
            if !hashed {
                forget_fork(&mut fork);
            }
            fork.members.pop().map(|(_, fork)| fork.one).unwrap_or_default()
        })
    };
    let leaf = (prop::option::of(entry()), standing(), standing()).prop_map(|(base, one, two)| Fork {
        base: base.map(|entry| entry.row()),
        one,
        two,
        members: Vec::new(),
    });
    leaf.prop_recursive(4, 24, 3, move |inner| {
        let names = prop::sample::subsequence(vec!["a", "a.conflict-2d711642", "b"], 0..=3);
        (inner.clone(), names, prop::collection::vec(inner, 3)).prop_map(|(fork, names, members)| {
            let name = |name: &str| path(name).name().unwrap();
            Fork { members: names.into_iter().map(name).zip(members).collect(), ..fork }
        })
    })
}

/// A base with changes to its rows.
fn with_rows(base: &Base, changes: Vec<(RelPath, Option<BaseEntry>)>) -> Base {
    let mut rows: BTreeMap<_, _> = base.rows().iter().cloned().collect();
    for (path, row) in changes {
        rows.remove(&path);
        rows.extend(row.map(|row| (path, row)));
    }
    base_tree(&rows)
}

fn without_agreed(plan: Plan) -> Vec<Item> {
    plan.items.into_iter().filter(|item| item.why != Why::Agreed).collect()
}

/// The properties prove nothing about rows that never occur.
#[test]
fn the_random_cases_reach_every_row() {
    let mut runner = TestRunner::deterministic();
    let (mut seen, mut acts) = (BTreeMap::new(), BTreeMap::new());
    for _ in 0..2_000 {
        let case = case().new_tree(&mut runner).unwrap().current();
        for item in plan(&case).items {
            let why = format!("{:?}", item.why);
            *seen.entry(why.replace("Two", "One")).or_insert(0) += 1;
            for act in [&item.act.one, &item.act.two] {
                let from = if let Act::Put { from, .. } = act { format!("{from:?}") } else { String::new() };
                let kind = format!("{act:?}").split(['(', ' ']).next().unwrap_or_default().to_owned();
                *acts.entry(kind + from.split('(').next().unwrap_or_default()).or_insert(0) += 1;
            }
            let settles = format!("{:?}", item.settles).split(' ').next().unwrap_or_default().to_owned();
            *acts.entry(settles).or_insert(0) += 1;
        }
    }
    let rare: Vec<_> = seen.iter().chain(&acts).filter(|(_, count)| **count < 10).collect();
    assert!(rare.is_empty() && seen.len() == 14 && acts.len() == 10, "{seen:?} {acts:?}");
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_plan_does_what_the_model_says_and_planning_again_does_nothing(case in case()) {
        let plan = plan(&case);
        prop_assert!(plan.items.is_sorted_by(|a, b| a.path < b.path));
        let after = carry_out(&case, &plan);
        let settled = settle(&plan, &base(&case.base), &after);
        let model = model::outcome(&case);
        prop_assert_eq!(seen(&after.one), seen(&model.trees.one), "System 1: {:#?}", plan);
        prop_assert_eq!(seen(&after.two), seen(&model.trees.two), "System 2: {:#?}", plan);
        let rows: Vec<_> = base(&model.base).rows().to_vec();
        let rows = rows.into_iter().map(|(p, mut row)| { row.bits = settled.at(&p).map_or(row.bits, |r| r.bits); (p, row) });
        prop_assert_eq!(settled.rows().to_vec(), rows.collect::<Vec<_>>(), "base: {:#?}", plan);
        let again = merge(&settled, &snapshot(&after.one), &snapshot(&after.two), now());
        let again = reconcile(&again, &case.policy);
        prop_assert!(again.is_idle(), "again: {:#?} after {:#?}", again, plan);
    }

    #[test]
    fn what_both_may_change_converges(mut case in case()) {
        if case.policy.conflict == ConflictPolicy::Skip {
            case.policy.conflict = ConflictPolicy::Newer;
        }
        know_everything(&mut case);
        case.policy.may = Policy::default().may;
        let plan = plan(&case);
        let after = carry_out(&case, &plan);
        prop_assert_eq!(seen(&after.one), seen(&after.two), "{:#?}", plan);
    }

    #[test]
    fn a_mirrored_target_becomes_equal(mut case in case(), to_one: bool) {
        know_everything(&mut case);
        case.policy.may = Policy::default().may;
        let source = if to_one { Side::Two } else { Side::One };
        case.policy.may.of_mut(source).write = false;
        case.policy.may.of_mut(source).delete = false;
        case.policy.mirror = true;
        let after = carry_out(&case, &plan(&case));
        prop_assert_eq!(after.of(source), case.trees.of(source));
        prop_assert_eq!(seen(&after.one), seen(&after.two));
    }

    #[test]
    fn exchanging_the_sides_exchanges_the_plan(case in case()) {
        let fork = fork(&case);
        let there = reconcile(&swapped(&fork), &swapped_policy(&case.policy));
        let here: Vec<_> = reconcile(&fork, &case.policy).items.into_iter().map(swapped_item).collect();
        prop_assert_eq!(here, there.items);
    }

    #[test]
    fn an_empty_base_never_deletes(mut case in case()) {
        case.base.clear();
        case.policy.mirror = false;
        let plan = plan(&case);
        for (at, item) in plan.items.iter().enumerate() {
            for side in [Side::One, Side::Two] {
                let replaced = plan.items[..at].iter().any(|above| {
                    item.path.is_within(&above.path) && matches!(above.act.of(side), Act::Put { .. })
                });
                prop_assert!(*item.act.of(side) != Act::Remove || replaced, "{:?}", item);
            }
        }
    }

    #[test]
    fn what_is_settled_may_be_left_out(case in case()) {
        let (mut rest, mut settled) = (fork(&case), Vec::new());
        leave_out(&mut rest, &mut settled);
        let (rest, whole) = (reconcile(&rest, &case.policy), plan(&case));
        let (old, own) = (base(&case.base), snapshot(&case.trees.two));
        let after = carry_out(&case, &whole);
        let none = Whole::new();
        let rows = settled_rows(&own, &old, &settled, &[], &|_, _| false, &none).rows;
        prop_assert_eq!(settle(&rest, &with_rows(&old, rows), &after), settle(&whole, &old, &after));
        prop_assert_eq!(without_agreed(rest), without_agreed(whole));
    }

    #[test]
    fn equal_folders_settle_alike_with_and_without_a_plan(mut case in case()) {
        case.trees.two = case.trees.one.clone();
        let plan = plan(&case);
        prop_assert!(plan.is_idle());
        let (old, mut own) = (base(&case.base), snapshot(&case.trees.one));
        own.digest_all();
        let found = |base: &Base, whole: &Whole| {
            settled_rows(&own, base, &[], &[RelPath::root()], &|_, _| false, whole)
        };
        let Settled { rows, walked } = found(&old, &Whole::new());
        let now = with_rows(&old, rows);
        prop_assert_eq!(&now, &settle(&plan, &old, &case.trees));
        // What was walked is right from then on, and needs no second look.
        prop_assert!(found(&now, &Whole::new()).rows.is_empty());
        prop_assert!(found(&old, &walked.into_iter().collect()).walked.is_empty());
    }

    #[test]
    fn every_hash_that_decides_is_asked_for_at_once(case in case()) {
        let known = fork(&case);
        let mut asked = known.clone();
        forget_fork(&mut asked);
        let questions = undecided(&asked, &case.policy);
        for side in [Side::One, Side::Two] {
            for path in questions.of(side) {
                let mut all = known.clone();
                let answer = all.find_mut(path).unwrap().at(side).clone();
                let fork = asked.find_mut(path).unwrap();
                *if side == Side::One { &mut fork.one } else { &mut fork.two } = answer;
            }
        }
        prop_assert_eq!(undecided(&asked, &case.policy), Sides::default());
        let (mut plan, mut full) = (reconcile(&asked, &case.policy), reconcile(&known, &case.policy));
        forget_plan(&mut plan);
        forget_plan(&mut full);
        if !case.policy.delete || case.policy.mirrored().is_some() {
            // What comes back in any case is not hashed to say why.
            for item in plan.items.iter_mut().chain(&mut full.items).filter(|item| item.why == Why::Survived) {
                item.why = Why::Restored;
            }
        }
        prop_assert_eq!(plan, full);
    }

    #[test]
    fn everything_displaced_was_seen_and_is_live_or_in_history(case in case()) {
        let plan = plan(&case);
        let after = carry_out(&case, &plan);
        for side in [Side::One, Side::Two] {
            for (path, entry) in case.trees.of(side) {
                let acted = plan.items.iter().find(|item| text(&item.path) == *path).map(|item| item.act.of(side));
                let displaced = matches!(acted, Some(Act::Put { .. } | Act::Remove));
                let stays = after.of(side).get(path).is_some_and(|now| now.kind == entry.kind);
                prop_assert!(displaced || stays, "{}", path);
                prop_assert!(!displaced || entry.visible(), "{}", path);
            }
        }
    }

    #[test]
    fn a_fork_that_no_trees_could_make_is_decided_too(fork in wild_fork(), case in case()) {
        let plan = reconcile(&fork, &case.policy);
        prop_assert!(plan.items.is_sorted_by(|a, b| a.path < b.path));
        undecided(&fork, &case.policy);
        for side in [Side::One, Side::Two] {
            arrange(&plan, side, &Holdings::of(&snapshot(case.trees.of(side)), &plan, side));
            let _ = guard(&plan, side, Census::default(), &Default::default(), MaxDelete::default());
        }
    }
}

/// Every walk over a fork fits a thread's stack of 1 MiB at the depth that paths allow.
#[test]
fn the_deepest_tree_is_decided() {
    let deepest = || {
        let mut tree = Tree::new();
        for depth in 1..256 {
            tree.insert(vec!["a"; depth].join("/"), folder());
        }
        tree.insert(vec!["a"; 256].join("/"), file("x"));
        let two = tree! {"a" => file("y").aged(1)};
        for (old, two) in [(Tree::new(), two.clone()), (tree.clone(), two), (tree.clone(), Tree::new())] {
            let mut fork = merge(&base(&old), &snapshot(&tree), &snapshot(&two), now());
            let policy = Policy { delete: true, ..Policy::default() };
            assert_eq!(undecided(&fork, &policy), Sides::default());
            assert_eq!(reconcile(&fork, &policy).items.len(), 256);
            leave_out(&mut fork, &mut Vec::new());
        }
    };
    std::thread::Builder::new().stack_size(1 << 20).spawn(deepest).unwrap().join().unwrap();
}
