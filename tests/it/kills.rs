//! The real program, killed at any moment, on either side, or cut off: at every moment each file is whole, nothing is
//! lost, and running it again ends as if nothing had happened.
//!
//! `SYNCFILES_ROUNDS=3000 cargo test --release --test it kills` kills more.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use syncfiles::core::policy::Policy;
use syncfiles::core::side::Sides;

use crate::support::dice::{self, Dice, rounds, seeds};
use crate::support::model;
use crate::support::processes::{Running, Site, cut_after};
use crate::support::random::Case;
use crate::support::trees::Tree;
use crate::support::wander::{Hand, Ledger, live};
use crate::walks::{APART, Texts, faults};

/// Rounds until two new folders meet.
const ROUNDS: usize = 6;

/// What is done to a sync.
#[derive(Clone, Copy, Debug)]
enum Blow {
    Client,
    Server,
    Line,
}

/// Kills `victim` at a moment within `longest`, unless it ends before.
fn kill_within(longest: Duration, victim: &mut Running, dice: &mut Dice) {
    let begun = Instant::now();
    let moment = Duration::from_micros(dice.below(longest.as_micros() as usize) as u64);
    while begun.elapsed() < moment && victim.child.try_wait().unwrap().is_none() {
        thread::yield_now();
    }
    victim.child.kill().unwrap();
}

/// A sync that is struck. The server lives on where it was not the victim.
fn strike(site: &Site, blow: Blow, longest: Duration, dice: &mut Dice) -> (Running, u16) {
    let (mut server, port) = site.serve();
    match blow {
        Blow::Line => {
            let (code, said) = site.sync(cut_after(dice.below(60_000) as i64, port)).end();
            assert!(matches!(code, Some(0 | 10)), "{code:?}: {said}");
        }
        Blow::Client => kill_within(longest, &mut site.sync(port), dice),
        Blow::Server => {
            let client = site.sync(port);
            kill_within(longest, &mut server, dice);
            let (code, said) = client.end();
            assert!(matches!(code, Some(0 | 10)), "{code:?}: {said}");
            return site.serve();
        }
    }
    (server, port)
}

#[test]
fn whatever_is_killed_when_a_rerun_ends_as_an_undisturbed_run_and_nothing_is_torn_or_lost() {
    for seed in seeds(rounds(24).div_ceil(ROUNDS)) {
        let _way = dice::Way(seed);
        let mut dice = Dice::new(seed);
        let mut hand = Hand::new(Dice::new(dice.throw()), false);
        let (site, mut texts, mut base) = (Site::new(), Texts::default(), Tree::new());
        let mut longest = Duration::from_millis(300);
        for round in 0..ROUNDS {
            for _ in 0..4 + dice.below(20) {
                hand.edit(if dice.chance(50) { &site.one } else { &site.two }, 0);
            }
            if dice.chance(30) {
                // Large enough to be resumed.
                let content = format!("{seed} {round} large ").repeat(100_000);
                fs::write(site.two.path(&format!("large{round}")), content).unwrap();
            }
            let trees = Sides { one: texts.tree(&site.one), two: texts.tree(&site.two) };
            let policy = Policy { delete: true, uncertainty: APART, ..Policy::default() };
            let case = Case { base: base.clone(), trees, policy };
            let ledger = Ledger::open([&site.one, &site.two]);
            let whole = &live(&site.one) | &live(&site.two);
            let blow = *dice.pick(&[Blow::Client, Blow::Server, Blow::Line]);
            let at = format!("seed {seed}, round {round}, {blow:?}");
            let (_server, port) = strike(&site, blow, longest, &mut dice);
            for side in [&site.one, &site.two] {
                assert!(live(side).is_subset(&whole), "{at}: a file is torn");
            }
            ledger.close();
            let begun = Instant::now();
            let (code, said) = site.sync(port).end();
            longest = begun.elapsed() + Duration::from_millis(10);
            assert_eq!(code, Some(0), "{at}: {said}");
            ledger.close();
            let wanted = model::outcome(&case);
            let now = Sides { one: texts.tree(&site.one), two: texts.tree(&site.two) };
            let faults = faults(&case, &wanted.trees, &now);
            assert!(faults.is_empty(), "{at}{faults}");
            base = wanted.base;
        }
    }
}
