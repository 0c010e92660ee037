//! Three clients and a hub: copies travel several hops, clocks disagree by hours, and everybody ends with the same.
//!
//! `SYNCFILES_ROUNDS=10000 cargo test --release --test it hub` goes on for longer.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use syncfiles::session::progress::Event;

use crate::support::dice::{self, Dice, rounds, seeds};
use crate::support::hub::Hub;
use crate::support::wander::{Hand, Ledger, date};

/// Writes what was edited `age` seconds ago, dated by the clock of its system.
fn edit(hub: &Hub, system: usize, name: &str, content: &str, age: u64) {
    hub.systems[system].write(name, content, 0);
    let ahead = Duration::from_secs(hub.ahead[system].unsigned_abs());
    date(&hub.systems[system].path(name), SystemTime::now() - Duration::from_secs(age) + ahead);
}

/// Rounds between two fresh starts.
const ROUNDS: usize = 8;
/// No two clocks agree: hours ahead and behind, and seconds.
const CLOCKS: [i64; 4] = [0, 5 * 3600, -7 * 3600, 90];

fn clocks(dice: &mut Dice) -> Vec<i64> {
    let mut clocks = CLOCKS.to_vec();
    (0..4).for_each(|at| clocks.swap(at, dice.below(4)));
    clocks
}

/// Some clients sync, in any order, some twice and some not at all.
fn some_sync(hub: &Hub, dice: &mut Dice) {
    for _ in 0..dice.below(5) {
        let ledger = Ledger::open(&hub.systems);
        let ran = hub.sync(1 + dice.below(3)).unwrap();
        assert_eq!(ran.outcome.problems, []);
        ledger.close();
    }
}

#[test]
fn whatever_happens_on_a_hub_and_three_clients_ends_alike_everywhere_and_nothing_is_lost() {
    for seed in seeds(rounds(40) / ROUNDS) {
        let _way = dice::Way(seed);
        let mut dice = Dice::new(seed);
        let hub = Hub::new(&clocks(&mut dice));
        let mut hand = Hand::orderly(Dice::new(dice.throw()));
        for _ in 0..ROUNDS {
            for _ in 0..dice.below(8) {
                let system = dice.below(4);
                hand.edit(&hub.systems[system], hub.ahead[system]);
            }
            some_sync(&hub, &mut dice);
        }
        let ledger = Ledger::open(&hub.systems);
        hub.converge();
        ledger.close();
    }
}

#[test]
fn the_edit_that_was_made_last_wins_whatever_the_clocks_say() {
    for seed in seeds(rounds(40) / ROUNDS) {
        let _way = dice::Way(seed);
        let mut dice = Dice::new(seed);
        let hub = Hub::new(&clocks(&mut dice));
        let mut hand = Hand::orderly(Dice::new(dice.throw()));
        let mut last = BTreeMap::new();
        for _ in 0..ROUNDS {
            for _ in 0..dice.below(6) {
                let (system, name) = (dice.below(4), *dice.pick(&["a", "b", "c", "d/e"]));
                // Nothing at all might be what stood there before, and then it is no edit.
                while {
                    hand.write(&hub.systems[system].path(name), hub.ahead[system]);
                    hub.systems[system].read(name).is_some_and(|content| content.is_empty())
                } {}
                last.insert(name, hub.systems[system].read(name));
            }
            some_sync(&hub, &mut dice);
        }
        hub.converge();
        for (name, content) in last {
            assert_eq!(hub.systems[0].read(name), content, "{name}");
        }
    }
}

/// The hub's row about a copy, which tells its age, used to go with what an older scan had not seen there.
#[test]
fn a_copy_keeps_its_age_while_an_older_session_of_another_client_ends() {
    let hub = Arc::new(Hub::new(&[0, 0, 5 * 3600]));
    edit(&hub, 2, "f", "agreed", 5000);
    hub.sync(2).unwrap();
    hub.systems[0].remove("f");
    edit(&hub, 1, "other", "1", 5000);
    edit(&hub, 2, "f", "edited", 1000);
    // The hub has been scanned, without f, when the other client brings it.
    hub.sync_meddled(1, syncs_meanwhile(&hub, 2)).unwrap();
    assert_eq!(hub.systems[0].read("f").unwrap(), "edited");
    edit(&hub, 1, "f", "edited later", 500);
    hub.sync(1).unwrap();
    assert_eq!(hub.systems[0].read("f").unwrap(), "edited later");
}

/// The same by a row about what the older session had seen there, and hashed.
#[test]
fn a_copy_keeps_its_age_while_an_older_session_that_hashed_what_stood_there_ends() {
    let hub = Arc::new(Hub::new(&[0, 0, 5 * 3600, 0]));
    edit(&hub, 2, "f", "agreed", 5000);
    hub.sync(2).unwrap();
    edit(&hub, 0, "f", "hub's own", 4000);
    edit(&hub, 1, "f", "another's", 4500);
    edit(&hub, 2, "f", "edited", 1000);
    hub.sync_meddled(1, syncs_meanwhile(&hub, 2)).unwrap();
    assert_eq!(hub.systems[0].read("f").unwrap(), "edited");
    edit(&hub, 3, "f", "edited later", 500);
    hub.sync(3).unwrap();
    assert_eq!(hub.systems[0].read("f").unwrap(), "edited later");
}

/// Has `client` sync when the transfers of somebody else's sync have ended and nothing is in its place yet.
fn syncs_meanwhile(hub: &Arc<Hub>, client: usize) -> impl Fn(&Event) + Send + Sync + 'static {
    let (hub, first) = (hub.clone(), AtomicBool::new(true));
    move |event| {
        if matches!(event, Event::Committing) && first.swap(false, Ordering::SeqCst) {
            let hub = hub.clone();
            std::thread::spawn(move || hub.sync(client).unwrap()).join().unwrap();
        }
    }
}

/// The rows that tell the ages of copies used to be written last of all.
#[test]
fn a_copy_keeps_its_age_when_the_run_is_killed_right_after_it_took_its_place() {
    let hub = Hub::new(&[0, 5 * 3600, 0, 0]);
    edit(&hub, 1, "f", "edited", 1000);
    hub.sync(1).unwrap();
    let die = |event: &Event| assert!(!matches!(event, Event::Done(..)), "killed here");
    assert!(catch_unwind(AssertUnwindSafe(|| hub.sync_meddled(2, die))).is_err());
    assert_eq!(hub.systems[2].read("f").unwrap(), "edited");
    hub.sync(2).unwrap();
    // Somebody who has never met this copy edits the same file later.
    edit(&hub, 3, "f", "edited later", 500);
    hub.sync_with(3, 2).unwrap();
    assert_eq!(hub.systems[2].read("f").unwrap(), "edited later");
}
