//! `--watch`: both folders are kept the same until it is interrupted, whatever happens meanwhile.

use std::fs;

use rustix::process::Signal;

use crate::support::dice::{self, Dice, rounds, seeds};
use crate::support::pair::Side;
use crate::support::process::{Server, World};
use crate::support::relay::Relay;
use crate::support::terminal::Terminal;
use crate::support::watching::Watch;

/// The same server again, on the port that it had.
fn serve_again(world: &World, port: u16) -> Server {
    let listen = format!("127.0.0.1:{port}");
    world.serve_at(&["serve", "--listen", &listen, "folder1"])
}

#[test]
fn an_edit_on_either_side_is_on_the_other_and_an_interruption_says_what_was_done() {
    let world = World::new();
    let (one, two) = (world.folder1(), world.folder2());
    one.write("there", "1", 100);
    two.write("here", "2", 100);
    let server = world.serve();
    let mut watch = Watch::over(&world, server.port, &[]);
    world.assert_same();
    two.write("here", "edited", 0);
    watch.until_read(&one, "here", "edited");
    one.write("there", "edited too", 0);
    watch.until_read(&two, "there", "edited too");
    two.folder("new/deep").write("new/deep/file", "x", 0).link("link", "here");
    watch.until_same(&world);
    one.chmod("here", 0o600);
    watch.until_same(&world);
    let summary = watch.interrupt();
    assert!(summary.contains(r#""exit_code":20"#) && summary.contains(r#""changed":true"#), "{summary}");
    assert!(summary.contains(r#""files_sent":3,"#), "{summary}");
    world.assert_same();
}

#[test]
fn two_folders_of_one_system_are_watched_in_one_process() {
    let world = World::new();
    let (one, two) = (world.folder1(), world.folder2());
    one.write("a/b", "1", 100);
    let mut watch = Watch::beside(&world, &["--delete", "--max-delete", "100%"]);
    one.write("a/b", "2", 0);
    watch.until_read(&two, "a/b", "2");
    two.write("c", "3", 0).remove("a");
    watch.until(|_| one.read("c").is_some() && one.read("a/b").is_none());
    watch.until_same(&world);
    watch.interrupt();
}

#[test]
fn deletions_travel_if_they_may_and_are_undone_if_not() {
    let world = World::new();
    for n in 0..10 {
        world.folder1().write(&format!("d/{n}"), "x", 100);
    }
    let server = world.serve();
    let mut watch = Watch::over(&world, server.port, &["--delete"]);
    world.folder1().remove("d/3");
    watch.until(|_| world.folder2().read("d/3").is_none());
    world.folder2().remove("d/4");
    watch.until(|_| world.folder1().read("d/4").is_none());
    watch.until_quiet();
    watch.interrupt();
    let mut watch = Watch::over(&world, server.port, &[]);
    world.folder2().remove("d/5");
    watch.until(|_| world.folder2().read("d/5").is_some());
    watch.until_quiet();
    // What a guard objects to ends a watch like any other run.
    watch.interrupt();
    let mut watch = Watch::over(&world, server.port, &["--delete", "--max-delete", "1"]);
    world.folder2().remove("d/6").remove("d/7");
    let summary = watch.end(25);
    assert!(summary.contains("--max-delete"), "{summary}");
}

#[test]
fn a_burst_of_files_and_a_folder_that_is_renamed_arrive_and_then_there_is_rest() {
    let world = World::new();
    let (one, two) = (world.folder1(), world.folder2());
    let server = world.serve();
    let mut watch = Watch::over(&world, server.port, &["--delete"]);
    for n in 0..2000 {
        two.write(&format!("burst/{}/{n}", n % 20), n.to_string(), 0);
    }
    watch.until(|_| one.tree_now().is_ok_and(|tree| tree.len() == 2021));
    watch.until_same(&world);
    one.rename("burst/7", "seven");
    watch.until_same(&world);
    one.write("seven/7", "edited", 0);
    watch.until_read(&two, "seven/7", "edited");
    two.rename("burst", "all");
    two.write("all/3/3", "edited as well", 0);
    watch.until_read(&one, "all/3/3", "edited as well");
    watch.until_same(&world);
    watch.until_quiet();
    watch.interrupt();
    world.assert_same();
}

/// What is edited may be gone by then, as the watch works at the same time.
fn edit(side: &Side, dice: &mut Dice) {
    let mut name = || format!("{}/{}", dice.below(4), dice.below(8));
    let (from, to) = (side.path(&name()), side.path(&name()));
    let content = dice.throw().to_string();
    let _ = match dice.below(4) {
        0 => fs::remove_file(from),
        1 => fs::rename(from, to),
        _ => fs::write(to, content),
    };
}

#[test]
fn whatever_both_sides_do_at_once_they_come_to_rest_with_the_same() {
    for seed in seeds(rounds(3)) {
        let _way = dice::Way(seed);
        let mut dice = Dice::new(seed);
        let world = World::new();
        for n in 0..4 {
            world.folder1().folder(&n.to_string());
        }
        let mut watch = Watch::beside(&world, &["--delete", "--max-delete", "100%"]);
        for n in 0..400 {
            let side = if dice.below(2) == 0 { world.folder1() } else { world.folder2() };
            edit(&side, &mut dice);
            if n % 40 == 0 {
                let rounds = watch.rounds();
                edit(&side, &mut dice);
                side.write("always", n.to_string(), 0);
                watch.until(|watch| watch.rounds() > rounds);
            }
        }
        watch.until_same(&world);
        watch.until_quiet();
        world.assert_same();
        watch.interrupt();
    }
}

#[test]
fn an_edit_while_a_round_is_under_way_is_not_lost() {
    let world = World::new();
    let (one, two) = (world.folder1(), world.folder2());
    one.write("a", "1", 100);
    let server = world.serve();
    let relay = Relay::to(server.port);
    let mut watch = Watch::over(&world, relay.port, &["--compress=never"]);
    watch.until_quiet();
    relay.hold_after(1 << 20);
    two.write("large", vec![7; 4 << 20], 0);
    relay.wait_until_held();
    two.write("b", "here, meanwhile", 0);
    one.write("a", "there, meanwhile", 0);
    relay.release();
    watch.until_read(&one, "b", "here, meanwhile");
    watch.until_read(&two, "a", "there, meanwhile");
    watch.until_same(&world);
    watch.interrupt();
}

#[test]
fn a_server_that_was_killed_is_taken_up_again_with_what_happened_meanwhile() {
    let world = World::new();
    let (one, two) = (world.folder1(), world.folder2());
    one.write("a", "1", 100);
    let server = world.serve();
    let port = server.port;
    let mut watch = Watch::over(&world, port, &[]);
    drop(server);
    watch.until(|watch| watch.said.iter().any(|line| line.contains("trying again until it is back")));
    one.write("there", "meanwhile", 0);
    two.write("here", "meanwhile", 0);
    let server = serve_again(&world, port);
    watch.until_same(&world);
    two.write("here", "afterwards", 0);
    watch.until_read(&one, "here", "afterwards");
    // One that is asked to stop does not wait for a client that has nothing to do.
    watch.until_quiet();
    assert!(server.stop().success());
    let _server = serve_again(&world, port);
    one.write("there", "after a stop", 0);
    watch.until_read(&two, "there", "after a stop");
    watch.interrupt();
}

#[test]
fn what_may_not_travel_and_what_is_left_undecided_is_told_once_and_makes_no_rounds() {
    let world = World::new();
    let (one, two) = (world.folder1(), world.folder2());
    one.write("both", "1", 100).write("other", "1", 100);
    let server = world.serve();
    let port = server.port;
    let mut watch = Watch::over(&world, port, &["--conflict", "skip"]);
    watch.until_quiet();
    drop(server);
    watch.until(|watch| watch.count("notice") > 0);
    one.write("both", "there", 5);
    two.write("both", "here", 5);
    let server = serve_again(&world, port);
    watch.until(|watch| watch.count("conflict") > 0);
    watch.until_quiet();
    two.write("other", "2", 0);
    watch.until_read(&one, "other", "2");
    watch.until_quiet();
    assert_eq!(watch.count("conflict"), 1, "{:?}", watch.said);
    assert_eq!((one.read("both"), two.read("both")), (Some("there".into()), Some("here".into())));
    watch.interrupt();
    drop(server);
    let server = world.serve_with(&["--read-only"]);
    let mut watch = Watch::over(&world, server.port, &[]);
    two.write("mine", "stays here", 0);
    one.write("other", "3", 0);
    watch.until_read(&two, "other", "3");
    watch.until_quiet();
    assert_eq!(one.read("mine"), None);
    watch.interrupt();
}

#[test]
fn what_fails_is_told_once_and_not_tried_again_at_once() {
    let world = World::new();
    let (one, two) = (world.folder1(), world.folder2());
    one.write("a", "1", 100).write("b", "1", 100);
    let server = world.serve();
    let mut watch = Watch::over(&world, server.port, &["--keep-history", "1d,0%"]);
    one.write("a", "there is no room for what this displaces", 0);
    watch.until(|watch| watch.count("problem") > 0);
    watch.until_quiet();
    two.write("b", "2", 0);
    watch.until_read(&one, "b", "2");
    watch.until_quiet();
    assert_eq!((watch.count("problem"), two.read("a").as_deref()), (1, Some("1")), "{:?}", watch.said);
    watch.interrupt();
}

#[test]
fn a_root_that_goes_away_ends_the_watch_and_a_host_that_is_not_there_never_begins_it() {
    let world = World::new();
    world.folder2().write("a", "1", 100);
    let server = world.serve();
    let mut watch = Watch::over(&world, server.port, &["--delete"]);
    fs::rename(world.folder2().root, world.two.path("elsewhere")).unwrap();
    let summary = watch.end(27);
    assert!(summary.contains("is not the folder any more"), "{summary}");
    assert_eq!(world.folder1().read("a").as_deref(), Some("1"));
    fs::rename(world.two.path("elsewhere"), world.folder2().root).unwrap();
    let port = server.port;
    drop(server);
    let nobody = world.begin_sync(port, &["--watch"]).end().expect(10);
    nobody.says(&["cannot connect"]);
}

#[test]
fn between_rounds_another_run_has_the_folder() {
    let world = World::new();
    world.folder1().write("a", "1", 100);
    let server = world.serve();
    let mut watch = Watch::over(&world, server.port, &[]);
    watch.until_quiet();
    world.folder2().remove("a");
    watch.until(|_| world.folder2().read("a").is_some());
    watch.until_quiet();
    world.sync(&server, &["--timeout", "60"]).expect(0);
    world.folder2().write("a", "2", 0);
    watch.until_read(&world.folder1(), "a", "2");
    watch.interrupt();
}

#[test]
fn on_a_terminal_there_is_one_quiet_line_and_elsewhere_a_line_when_something_happened() {
    let world = World::new();
    world.folder1().write("a", "1", 100);
    let server = world.serve();
    let port = server.port.to_string();
    let args = ["alice@127.0.0.1:folder1", "folder2", "--watch", "--accept-new", "--port", &port];
    let program = env!("CARGO_BIN_EXE_syncfiles");
    let mut command = world.two.on_terminal(program, &args);
    command.env("TERM", "xterm");
    let mut terminal = Terminal::run(command);
    terminal.wait_for("in sync: received 1 file");
    terminal.wait_for("watching · 1 file");
    world.folder1().write("b", "22", 0);
    terminal.wait_for("received 1 file (2 B)");
    terminal.wait_for("watching · 2 files");
    terminal.types("\x03");
    terminal.wait_for("stopped watching: received 2 files (3 B)");
    assert_eq!(terminal.end(), Some(20));
    let mut watch = Watch::start(world.two.syncfiles(&args));
    watch.until(|watch| watch.said == ["in sync, watching"]);
    world.folder1().write("c", "333", 0);
    watch.until(|watch| watch.said.len() == 2);
    assert_eq!(watch.said[1], "received 1 file (3 B)");
    watch.until_quiet();
    assert_eq!(watch.said.len(), 2);
    watch.signal(Signal::TERM);
    watch.until(|watch| watch.said.len() == 3);
    assert!(watch.said[2].starts_with("stopped watching: received 1 file (3 B); "), "{:?}", watch.said);
}
