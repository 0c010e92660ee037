//! Several clients at once, and programs that go on writing while a sync runs: nothing is lost, and what a race took
//! from one run is settled by it looking again, or reported.
//!
//! `SYNCFILES_ROUNDS=1000 cargo test --release --test it races` races for longer.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use syncfiles::session::progress::ProblemKind;

use crate::support::dice::{self, Dice, rounds, seeds};
use crate::support::hub::Hub;
use crate::support::pair::{Pair, Ran, Side, fast_folder};
use crate::support::wander::{Hand, Ledger, kept, live};

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
fn replace(side: &Side, own: &Path, seed: u64, stop: &AtomicBool) -> BTreeSet<Vec<u8>> {
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
fn append(side: &Side, seed: u64, stop: &AtomicBool) -> BTreeSet<Vec<u8>> {
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
        let all = |threads: [thread::ScopedJoinHandle<'_, BTreeSet<Vec<u8>>>; 2]| {
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
    let found: BTreeSet<Vec<u8>> = found.into_iter().flatten().collect();
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
