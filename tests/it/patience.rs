//! How long the program waits: for a silent other end, for another run, for nothing at all.

use crate::support::process::World;
use crate::support::relay::Relay;

/// More than two systems keep in flight between them.
const LARGE: usize = 32 << 20;

#[test]
fn a_line_that_falls_silent_is_given_up_with_30_and_one_line() {
    let world = World::new();
    world.folder1().write("large", vec![1; LARGE], 10);
    let server = world.serve();
    let relay = Relay::to(server.port);
    for before in [3000, 6 << 20] {
        relay.hold_after(before);
        let ended = world.begin_sync(relay.port, &["--timeout", "1"]).end();
        // Before it has logged in, it is the connecting that takes too long.
        let code = if before == 3000 { 35 } else { 30 };
        ended.expect(code).says(&["127.0.0.1", "1 s"]);
        relay.release();
    }
    world.sync(&server, &[]).expect(0);
    world.assert_same();
}

#[test]
fn a_second_run_says_that_it_waits_for_the_first_and_for_how_long_it_may() {
    let world = World::new();
    world.folder1().write("large", vec![1; LARGE], 10);
    let server = world.serve();
    let relay = Relay::to(server.port);
    relay.hold_after(6 << 20);
    let first = world.begin_sync(relay.port, &[]);
    relay.wait_until_held();
    let late = world.sync(&server, &["--timeout", "1"]).expect(11);
    late.mentions(&["another sync of this folder is running: this one waits", "did not end within 1s"]);
    let patient = world.begin_sync(server.port, &["--timeout", "0"]);
    relay.release();
    first.end().expect(0);
    patient.end().expect(0);
    world.assert_same();
}
