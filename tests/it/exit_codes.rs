//! Every exit code, by a real process: one test a code. `house.rs` holds this list and the guide's table to the codes
//! there are.

use std::fs;
use std::net::TcpListener;
use std::sync::Arc;

use bytes::Bytes;
use rustix::process::Signal;
use syncfiles::protocol::codec::{MAGIC, decode_hello};
use syncfiles::ssh::{Connection, Grant, Server, ServerConfig, host_key};
use tokio::runtime::Runtime;

use crate::support::pair::Side;
use crate::support::process::{Ended, World};
use crate::support::relay::Relay;

/// More than two systems keep in flight between them.
const LARGE: usize = 32 << 20;

#[test]
fn code_0_in_sync() {
    let world = World::new();
    world.folder1().write("a", "1", 10);
    let server = world.serve();
    let ran = world.sync(&server, &[]).expect(0);
    assert!(ran.out.starts_with("in sync: received 1 file"), "{ran:?}");
    // Different, but only where the user wants it.
    world.folder2().write("b", "2", 10);
    let pulled = world.sync(&server, &["--pull"]).expect(0);
    assert!(pulled.out.starts_with("done, the sides still differ"), "{pulled:?}");
}

#[test]
fn code_1_the_arguments_mean_nothing() {
    let world = World::new();
    world.two.run(&["--dlete", "a", "b"]).expect(1).says(&["'--delete'"]);
    world.two.run(&["--mirror", "a", "b"]).expect(1).says(&["--pull or --push"]);
    let help = world.two.run(&[]).expect(1);
    assert!(help.err.lines().count() <= 24 && help.err.contains("SOURCE TARGET"), "{help:?}");
}

#[test]
fn code_2_another_version_of_the_protocol() {
    let future = [MAGIC, &999u16.to_be_bytes()[..], &1000u16.to_be_bytes(), b"whatever it is then"].concat();
    sync_with_a_server_that_answers(future).expect(2).says(&["versions 999 to 1000", "update the older one"]);
}

#[test]
fn code_5_could_not_start() {
    let world = World::new();
    let server = world.serve();
    let port = server.port.to_string();
    let plain = ["alice@127.0.0.1:folder1", "folder2", "--port", &port];
    world.two.run(&plain).expect(5).says(&["is not known", "--accept-new"]);
    world.two.run(&["alice@127.0.0.1:x", "folder2", "--port", &port, "--accept-new"]).expect(5).says(&["x"]);
}

#[test]
fn code_10_no_connection() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    world.begin_sync(port, &[]).end().expect(10).says(&[
        "cannot connect",
        "refused",
        "is `syncfiles serve` running there",
    ]);
}

#[test]
fn code_11_a_folder_that_cannot_be_used() {
    let world = World::new();
    fs::write(world.two.path("file"), "").unwrap();
    world.two.run(&["folder2", "file"]).expect(11).says(&["file"]);
    world.two.run(&["history", "nowhere"]).expect(11).says(&["nowhere"]);
    let mistyped = world.two.run(&["histroy", "folder2"]).expect(11);
    mistyped.says(&["histroy", "(did you mean the command `history`?)"]);
}

#[test]
fn code_12_the_other_end_broke_the_protocol() {
    let nonsense = b"220 mail.example.org ESMTP".to_vec();
    sync_with_a_server_that_answers(nonsense).expect(12).says(&["does not speak the syncfiles protocol"]);
}

#[test]
fn code_20_interrupted() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let world = World::new();
        world.folder1().write("large", vec![1; LARGE], 10);
        let server = world.serve();
        let relay = Relay::to(server.port);
        relay.hold_after(6 << 20);
        let running = world.begin_sync(relay.port, &[]);
        relay.wait_until_held();
        running.signal(signal);
        running.end().expect(20).mentions(&["syncfiles: interrupted; run it again"]);
    }
}

#[test]
fn code_23_some_files_failed_and_verify_found_a_difference() {
    let world = World::new();
    // A limit on the size of files binds everybody, even root, whom no permission stops.
    world.folder1().write("large", vec![1; 5 << 20], 10).write("small", "1", 10);
    let script = "trap '' XFSZ; ulimit -f 4096; exec \"$0\" folder1 folder2";
    let limited = world.one.command("sh", &["-c", script, env!("CARGO_BIN_EXE_syncfiles")]);
    fs::create_dir(world.one.path("folder2")).unwrap();
    let ended = crate::support::process::Running::start(limited).end().expect(23);
    ended.mentions(&["syncfiles: large", "1 path failed: put right what is named above and run again"]);
    let differing = world.one.run(&["verify", "folder1", "folder2"]).expect(23);
    assert!(differing.out.contains("large"), "{differing:?}");
}

#[test]
fn code_24_some_files_went_on_changing() {
    let world = World::new();
    world.folder1().write("large", vec![0; LARGE], 1000).write("other", "1", 10);
    let server = world.serve();
    let relay = Relay::to(server.port);
    relay.hold_each_after(6 << 20);
    let running = world.begin_sync(relay.port, &[]);
    // The first look and both that follow find another edit of the same file; only then it is left.
    for edit in 1..=3 {
        relay.wait_until_held();
        world.folder1().write("large", vec![edit; LARGE], 500 - u64::from(edit));
        relay.release();
    }
    let ended = running.end().expect(24);
    ended.mentions(&["large", "1 path changed during the run, left as found: run again"]);
    assert_eq!(world.folder2().read("other").unwrap(), "1", "the rest still syncs");
}

#[test]
fn code_25_max_delete() {
    // Whichever side would lose too much says so, also where the other one would let it pass.
    for emptied in ["folder1", "folder2"] {
        let world = World::new();
        filled_twice(&world);
        let side = Side { root: world.two.path(emptied) };
        (0..8).for_each(|n| {
            side.remove(&n.to_string());
        });
        let stopped = world.two.run(&["--delete", "folder1", "folder2"]).expect(25);
        stopped.says(&["stopped before deleting 8 of 10 entries", "--max-delete"]);
    }
}

#[test]
fn code_26_conflicts_were_left() {
    let world = World::new();
    let two = filled_twice(&world);
    two.write("0", "younger", 10);
    Side { root: world.two.path("folder1") }.write("0", "older", 50);
    let left = world.two.run(&["--conflict", "skip", "folder1", "folder2"]).expect(26);
    left.says(&["1 conflict left: decide with --conflict newer, local, remote or keep-both"]);
}

#[test]
fn code_27_a_folder_was_emptied_or_is_another() {
    let world = World::new();
    let two = filled_twice(&world);
    (0..10).for_each(|n| {
        two.remove(&n.to_string());
    });
    world.two.run(&["--delete", "folder1", "folder2"]).expect(27).says(&["--max-delete 100%"]);
    fs::rename(&two.root, world.two.path("away")).unwrap();
    world.two.run(&["folder1", "folder2"]).expect(27).says(&["--new-root"]);
}

#[test]
fn code_30_the_other_end_fell_silent() {
    let world = World::new();
    world.folder1().write("large", vec![1; LARGE], 10);
    let server = world.serve();
    let relay = Relay::to(server.port);
    relay.hold_after(6 << 20);
    let args = ["--timeout", "1", "--retries", "0"];
    world.begin_sync(relay.port, &args).end().expect(30).mentions(&["127.0.0.1", "1 s"]);
}

#[test]
fn code_35_the_other_end_never_answered() {
    let world = World::new();
    // It listens, and nobody accepts.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    world.begin_sync(port, &["--timeout", "1"]).end().expect(35).says(&["no answer within 1 second"]);
}

/// folder1 and folder2 of one system, in sync, with ten files.
fn filled_twice(world: &World) -> Side {
    fs::create_dir(world.two.path("folder1")).unwrap();
    (0..10).for_each(|n| {
        world.folder2().write(&n.to_string(), n.to_string(), 100);
    });
    world.two.run(&["folder1", "folder2"]).expect(0);
    world.folder2()
}

/// The real client with a real SSH server that lets everybody in and speaks another protocol.
fn sync_with_a_server_that_answers(answer: Vec<u8>) -> Ended {
    let world = World::new();
    let runtime = Runtime::new().unwrap();
    let everybody = Arc::new(|_: &str, _: &_, _| Some(Arc::new(()) as Grant));
    let config = ServerConfig::new(vec![host_key::ephemeral()], everybody);
    let server = runtime.block_on(Server::bind(config, ("127.0.0.1", 0))).unwrap();
    let port = server.local_addr().unwrap().port();
    let handler = move |connection: Connection, _| {
        let answer = Bytes::from(answer.clone());
        async move {
            decode_hello(&connection.receive().await.unwrap().unwrap()).unwrap();
            connection.send(answer).await.unwrap();
            // Until the client has had enough.
            while let Ok(Some(_)) = connection.receive().await {}
        }
    };
    runtime.spawn(server.run(handler, std::future::pending()));
    world.begin_sync(port, &[]).end()
}
