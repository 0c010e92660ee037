//! Three clients and a hub: copies travel several hops, clocks disagree by hours, and everybody ends with the same.
//!
//! `SYNCFILES_ROUNDS=10000 cargo test --release --test it hub` goes on for longer.

use std::collections::BTreeMap;

use crate::support::dice::{self, Dice, rounds, seeds};
use crate::support::hub::Hub;
use crate::support::wander::{Hand, Ledger};

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
