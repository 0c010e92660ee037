//! Several clients at once, and programs that go on writing while a sync runs: nothing is lost, and what a race took
//! from one run is settled by it looking again, or reported.
//!
//! `SYNCFILES_ROUNDS=1000 cargo test --release --test it races` races for longer.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use syncfiles::replica::history;
use syncfiles::replica::identity::Id;
use syncfiles::replica::restore::Restorer;
use syncfiles::replica::root::Root;
use syncfiles::replica::state::State;
use syncfiles::session::Clock;
use syncfiles::session::progress::{Event, ProblemKind};

use crate::support::dice::{self, Dice, rounds, seeds};
use crate::support::hub::Hub;
use crate::support::pair::{Pair, Ran, Side, fast_folder};
use crate::support::wander::{Contents, Hand, Ledger, kept, live};

/// Nothing but changes may be in the way of a sync that races.
fn only_changes(ran: &Ran) {
    for problem in &ran.outcome.problems {
        assert_eq!(problem.kind, ProblemKind::Changed, "{problem:?}");
    }
}

#[test]
fn clients_that_sync_with_one_root_at_the_same_time_lose_nothing_and_end_alike() {
    const ROUNDS: usize = 5;
    for seed in seeds(rounds(20) / ROUNDS) {
        let _way = dice::Way(seed);
        let mut dice = Dice::new(seed);
        let hub = Hub::new(&[0; 4]);
        let mut hand = Hand::orderly(Dice::new(dice.throw()));
        for _ in 0..ROUNDS {
            for _ in 0..10 {
                hand.edit(dice.pick(&hub.systems), 0);
            }
            let ledger = Ledger::open(&hub.systems);
            thread::scope(|scope| {
                for client in hub.clients() {
                    let hub = &hub;
                    scope.spawn(move || {
                        let ran = hub.sync(client).unwrap();
                        let of = |kind| ran.outcome.problems.iter().filter(move |p| p.kind == kind).count();
                        // What could not be made below a folder that changed comes along with a change.
                        assert!(
                            of(ProblemKind::Failed) == 0 || of(ProblemKind::Changed) > 0,
                            "{:?}",
                            ran.outcome.problems
                        );
                    });
                }
            });
            ledger.close();
        }
        let ledger = Ledger::open(&hub.systems);
        hub.converge();
        ledger.close();
    }
}

/// Passes a moment of its own length, so that what comes next meets the sync anywhere.
fn dawdle(dice: &mut Dice) {
    (0..dice.below(1000)).for_each(|_| thread::yield_now());
}

/// Replaces files in one step, as careful programs do, and keeps what stood there: so it never loses anything itself.
/// Returns all that it wrote.
fn replace(side: &Side, own: &Path, seed: u64, stop: &AtomicBool) -> Contents {
    let mut dice = Dice::new(seed);
    let mut wrote = BTreeSet::new();
    while !stop.load(Ordering::Relaxed) {
        dawdle(&mut dice);
        let content = format!("{seed} wrote {} {}", wrote.len(), ".".repeat(dice.below(3000))).into_bytes();
        let new = own.join(format!("{seed}-{}", wrote.len()));
        fs::write(&new, &content).unwrap();
        wrote.insert(content);
        let path = side.path(&format!("f{}", dice.below(5)));
        // What was there, if anything, has the other name afterwards.
        let flags = [RenameFlags::EXCHANGE, RenameFlags::NOREPLACE];
        while !flags.iter().any(|flag| renameat_with(CWD, &new, CWD, &path, *flag).is_ok()) {}
    }
    wrote
}

/// Appends lines, each in a single write, as logs are written.
fn append(side: &Side, seed: u64, stop: &AtomicBool) -> Contents {
    let mut dice = Dice::new(seed);
    let mut wrote = BTreeSet::new();
    while !stop.load(Ordering::Relaxed) {
        dawdle(&mut dice);
        let line = format!("{seed} line {}\n", wrote.len()).into_bytes();
        let path = side.path(&format!("log{}", dice.below(2)));
        let mut file = fs::File::options().append(true).create(true).open(path).unwrap();
        file.write_all(&line).unwrap();
        wrote.insert(line);
    }
    wrote
}

#[test]
fn what_programs_write_while_syncs_run_is_live_or_kept() {
    let pair = Pair::fast();
    let own = fast_folder();
    let stop = AtomicBool::new(false);
    let (replaced, appended) = thread::scope(|scope| {
        let (stop, own, pair) = (&stop, own.path(), &pair);
        let writers = [(&pair.one, 1), (&pair.two, 2)];
        let writers = writers.map(|(side, seed)| scope.spawn(move || replace(side, own, seed, stop)));
        let loggers = [(&pair.one, 3), (&pair.two, 4)];
        let loggers = loggers.map(|(side, seed)| scope.spawn(move || append(side, seed, stop)));
        let synced = (0..rounds(25)).try_for_each(|_| pair.try_sync(|_| {}).map(|ran| only_changes(&ran)));
        stop.store(true, Ordering::Relaxed);
        let all = |threads: [thread::ScopedJoinHandle<'_, Contents>; 2]| {
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<BTreeSet<_>>()
        };
        let written = (all(writers), all(loggers));
        synced.unwrap();
        written
    });
    pair.sync();
    pair.assert_same();
    let own = Side { root: own.path().into() };
    let found = [live(&pair.one), live(&pair.two), kept(&pair.one), kept(&pair.two), live(&own)];
    let found: Contents = found.into_iter().flatten().collect();
    for content in &replaced {
        assert!(
            found.contains(content),
            "lost {}",
            String::from_utf8_lossy(&content[..30.min(content.len())])
        );
    }
    let lines: BTreeSet<&[u8]> =
        found.iter().flat_map(|text| text.split_inclusive(|b| *b == b'\n')).collect();
    for line in &appended {
        assert!(lines.contains(&line[..]), "lost {}", String::from_utf8_lossy(line));
    }
}

/// A pair in which System 2 has edited `a`, and a way for it to edit it once more with what it hears.
fn about_to_send() -> (Pair, impl Fn(&str) + Send + Sync + 'static) {
    let pair = Pair::new();
    pair.one.write("a", "agreed", 5000).write("b", "agreed too", 5000);
    pair.sync();
    pair.two.write("a", "edited", 1000);
    let path = pair.two.path("a");
    (pair, move |content: &str| fs::write(&path, content).unwrap())
}

#[test]
fn a_source_that_changes_before_it_is_read_is_sent_as_it_is_then() {
    let (pair, edit) = about_to_send();
    let first = AtomicBool::new(true);
    let ran = pair.sync_meddled(move |event| {
        if matches!(event, Event::Planned(_)) && first.swap(false, Ordering::Relaxed) {
            edit("edited while the sync ran");
        }
    });
    assert_eq!(ran.outcome.problems, []);
    assert!(ran.notices().contains("looking again"), "{}", ran.notices());
    assert!(
        !ran.events.iter().any(|event| matches!(event, Event::Problem(_))),
        "what was settled is no problem"
    );
    pair.assert_same();
    assert_eq!(pair.one.read("a").unwrap(), "edited while the sync ran");
    pair.assert_settled();
}

#[test]
fn a_source_that_goes_on_changing_is_reported_and_the_other_side_keeps_what_it_had() {
    let (pair, edit) = about_to_send();
    pair.one.write("b", "travels all the same", 10);
    let count = AtomicUsize::new(0);
    let ran = pair.sync_meddled(move |event| {
        if matches!(event, Event::Planned(_)) {
            edit(&format!("edit {}", count.fetch_add(1, Ordering::Relaxed)));
        }
    });
    let [problem] = &ran.outcome.problems[..] else { panic!("{:?}", ran.outcome.problems) };
    assert_eq!(problem.kind, ProblemKind::Changed);
    assert_eq!(ran.events.iter().filter(|event| matches!(event, Event::Problem(_))).count(), 1);
    assert_eq!(pair.one.read("a").unwrap(), "agreed");
    assert_eq!(pair.two.read("b").unwrap(), "travels all the same");
    pair.sync();
    assert_eq!(pair.one.read("a").unwrap(), "edit 2");
}

#[test]
fn a_conflict_that_is_looked_at_again_is_one_conflict() {
    let pair = Pair::new();
    pair.one.write("a", "agreed", 5000).write("b", "agreed", 5000);
    pair.sync();
    pair.one.write("a", "edited", 1000).write("b", "edited", 1000);
    pair.two.write("a", "edited as well", 2000).write("b", "edited as well", 2000);
    let path = pair.two.path("a");
    let first = AtomicBool::new(true);
    let ran = pair.sync_meddled(move |event| {
        if matches!(event, Event::Committing) && first.swap(false, Ordering::Relaxed) {
            fs::write(&path, "edited once more").unwrap();
        }
    });
    assert_eq!((ran.outcome.conflicts, ran.conflicts(), &ran.outcome.problems[..]), (2, 2, &[][..]));
    pair.assert_same();
}

#[test]
fn an_edit_of_what_is_about_to_be_replaced_survives() {
    let pair = Pair::new();
    pair.one.write("a", "agreed", 5000).write("b", "b", 10);
    pair.sync();
    pair.one.write("a", "newer", 1000);
    let path = pair.two.path("a");
    let first = AtomicBool::new(true);
    let ran = pair.sync_meddled(move |event| {
        if matches!(event, Event::Committing) && first.swap(false, Ordering::Relaxed) {
            fs::write(&path, "the user was here").unwrap();
        }
    });
    assert_eq!((&ran.outcome.problems[..], ran.conflicts()), (&[][..], 1));
    pair.assert_same();
    assert_eq!(pair.one.read("a").unwrap(), "the user was here");
    assert_eq!(pair.one.displaced(), [b"newer"]);
}

/// `history`, `restore` and `undo` need no pause: what they bring back is an edit like any other.
#[test]
fn what_is_undone_while_a_sync_runs_is_an_edit_made_meanwhile() {
    let pair = Pair::new();
    pair.one.write("a", "first", 5000).write("d/b", "first of b", 5000);
    pair.sync();
    pair.one.write("a", "second", 4000).remove("d/b");
    pair.sync_deleting();
    pair.one.write("a", "third", 3000);
    let (root, first) = (pair.two.root.clone(), AtomicBool::new(true));
    let ran = pair.sync_meddled(move |event| {
        if matches!(event, Event::Committing) && first.swap(false, Ordering::Relaxed) {
            let root = Root::open(&root).unwrap();
            let state = State::open(&root).unwrap();
            assert_eq!(history::list(&state).unwrap().len(), 2);
            let (run, now) = (Id::random().unwrap(), Clock::default().now());
            let restorer = Restorer { root: &root, state: &state, run, now };
            let undone = restorer.perform(&restorer.plan_undo(None).unwrap()).unwrap();
            assert!(undone.iter().all(|(_, result)| result.is_ok()) && undone.len() == 2, "{undone:?}");
        }
    });
    assert_eq!((&ran.outcome.problems[..], ran.conflicts()), (&[][..], 1));
    pair.assert_same();
    assert_eq!(["a", "d/b"].map(|name| pair.one.read(name).unwrap()), ["first", "first of b"]);
    assert_eq!(pair.one.displaced(), [b"third"]);
    assert!(pair.two.displaced().contains(&b"second".to_vec()));
}
