//! How long the program waits: for a silent other end, for another run, for nothing at all.

use syncfiles::protocol::packed::Compress;

use crate::support::pair::Pair;
use crate::support::process::World;
use crate::support::relay::Relay;

/// More than two systems keep in flight between them.
const LARGE: usize = 32 << 20;

/// What was asked for ahead used to take all the credit, while a large file before it waited for its place.
#[test]
fn files_that_are_asked_for_ahead_leave_room_for_those_before_them() {
    let pair = Pair::new();
    for number in 0..100 {
        pair.one.write(&format!("f{number:03}"), vec![number as u8; 900_000], 100);
    }
    let ran = pair.try_sync(|options| {
        (options.bwlimit, options.compress) = (Some(40 << 20), Compress::Never);
    });
    assert_eq!(ran.unwrap().travelled(), 100);
    pair.assert_same();
}

#[test]
fn a_line_that_falls_silent_is_given_up_with_30_and_one_line() {
    let world = World::new();
    world.folder1().write("large", vec![1; LARGE], 10);
    let server = world.serve();
    let relay = Relay::to(server.port);
    for before in [3000, 6 << 20] {
        relay.hold_after(before);
        let ended = world.begin_sync(relay.port, &["--timeout", "1", "--retries", "0"]).end();
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

#[test]
fn a_limit_on_the_rate_holds_in_each_direction() {
    let pair = Pair::new();
    for n in 0..10 {
        pair.one.write(&format!("one/{n}"), vec![n; 64 * 1024], 10);
        pair.two.write(&format!("two/{n}"), vec![n + 100; 64 * 1024], 10);
    }
    let (outcome, took) = pair.sync_hasty(|options| {
        (options.bwlimit, options.compress) = (Some(64 * 1024), Compress::Never);
    });
    assert_eq!((outcome.totals.send_files, outcome.totals.receive_files), (10, 10));
    pair.assert_same();
    // Ten seconds of content each way, one after the other or at the same time.
    let seconds = took.as_secs_f64();
    assert!((9.5..22.0).contains(&seconds), "{seconds} s");
}
