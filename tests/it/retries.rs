//! A line that is cut: the program connects again, and goes on where it stopped.

use crate::support::dice::{self, Dice, rounds, seeds};
use crate::support::process::World;
use crate::support::relay::Relay;

/// More than two systems keep in flight between them.
const LARGE: usize = 32 << 20;

fn noise(dice: &mut Dice, size: usize) -> Vec<u8> {
    (0..size.div_ceil(8)).flat_map(|_| dice.throw().to_le_bytes()).take(size).collect()
}

#[test]
fn wherever_a_line_is_cut_the_run_goes_on_to_its_end() {
    for seed in seeds(rounds(3)) {
        let _way = dice::Way(seed);
        let mut dice = Dice::new(seed);
        let world = World::new();
        for n in 0..60 {
            let size = dice.below(60_000);
            world.folder1().write(&format!("one/{n}"), noise(&mut dice, size), 100);
            world.folder2().write(&format!("two/{n}"), noise(&mut dice, size), 100);
        }
        world.folder1().write("large1", noise(&mut dice, 3 << 20), 100);
        world.folder2().write("large2", noise(&mut dice, 3 << 20), 100);
        let server = world.serve();
        let relay = Relay::to(server.port);
        let cuts: Vec<u64> = (0..2).map(|_| dice.below(4 << 20) as u64).collect();
        relay.cut_after(cuts.clone());
        let ended = world.begin_sync(relay.port, &["--retries", "4"]).end().expect(0);
        assert!(relay.cuts_left() < 2, "nothing was cut: {cuts:?}");
        ended.mentions(&["trying again, 1 of 4"]);
        world.assert_same();
        assert_eq!(world.folder1().tree().len(), 124);
        world.sync(&server, &[]).expect(0);
    }
}

#[test]
fn a_large_file_goes_on_where_the_line_was_cut() {
    let world = World::new();
    world.folder1().write("large", noise(&mut Dice::new(1), LARGE), 100);
    let server = world.serve();
    let relay = Relay::to(server.port);
    relay.cut_after([24 << 20]);
    let ended = world.begin_sync(relay.port, &[]).end().expect(0);
    ended.mentions(&["lost the connection to ssh://alice@127.0.0.1", "trying again, 1 of 3"]);
    world.assert_same();
    assert!(relay.passed() < (24 << 20) + LARGE as u64, "{} bytes", relay.passed());
}

#[test]
fn what_was_refused_is_not_tried_again_and_what_stays_away_is_given_up() {
    let world = World::new();
    world.folder1().write("large", vec![1; LARGE], 100);
    let server = world.serve();
    let port = server.port.to_string();
    let stranger =
        ["mallory@127.0.0.1:folder1", "folder2", "--port", &port, "--accept-new", "--retries", "9"];
    world.two.run(&stranger).expect(5).says(&["cannot log in as mallory"]);
    let relay = Relay::to(server.port);
    relay.hold_after(6 << 20);
    let running = world.begin_sync(relay.port, &["--retries", "2"]);
    relay.wait_until_held();
    drop(server);
    relay.release();
    running.end().expect(10).mentions(&["trying again, 1 of 2", "trying again, 2 of 2"]);
}
