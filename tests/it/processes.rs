//! The binary as two systems run it: separate processes, a real TCP connection, homes of their own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileTypeExt;
use std::process::Command;

use rustix::process::Signal;

use crate::support::process::{Running, World};
use crate::support::relay::Relay;

/// More than two systems keep in flight between them.
const LARGE: usize = 32 << 20;

fn large(fill: u8) -> Vec<u8> {
    (0..LARGE).map(|at| (at / 4096) as u8 ^ (at % 251) as u8 ^ fill).collect()
}

#[test]
fn the_first_sync_of_two_systems_gives_both_all_four_files_and_the_newer_helloworld() {
    let world = World::new();
    let (one, two) = (world.folder1(), world.folder2());
    one.write("helloworld.py", "print('folder1')", 60).write("post_to_irc.sh", "irc", 86_400);
    one.write("tcpserver.py", "server", 7200);
    two.write("helloworld.py", "print('folder2')", 3600).write("tcpclient.py", "client", 7200);
    let server = world.serve();
    let ran = world.sync(&server, &[]).expect(0);
    assert!(ran.out.starts_with("in sync: sent 1 file"), "{ran:?}");
    ran.mentions(&["first meeting of two non-empty folders (2 entries here, 3 entries there)"]);
    world.assert_same();
    let names: Vec<_> = one.tree().into_keys().collect();
    assert_eq!(
        names.iter().map(|name| name.to_str().unwrap()).collect::<Vec<_>>(),
        ["helloworld.py", "post_to_irc.sh", "tcpclient.py", "tcpserver.py"]
    );
    assert_eq!(two.read("helloworld.py").unwrap(), "print('folder1')");
    assert_eq!(two.displaced(), [b"print('folder2')"]);
    let history = world.two.run(&["history", "folder2"]).expect(0);
    assert!(history.out.ends_with("\n1 displaced version, 16 B on disk\n"), "{history:?}");
    // One file received, three sent: 6 bytes, and 16 + 3 + 6.
    let log = server.wait_for("served");
    assert!(log.contains("root=folder1 files=4 bytes=31 failed=0"), "{log}");
    let again = world.sync(&server, &[]).expect(0);
    assert!(again.out.starts_with("in sync: nothing to do (4 entries"), "{again:?}");
    assert!(server.stop().success());
}

#[test]
fn a_run_that_only_looked_was_served_and_did_not_end_early() {
    let world = World::new();
    world.folder1().write("a", "1", 10);
    let server = world.serve();
    let port = server.port.to_string();
    for args in [&["verify"][..], &["-n"], &[], &[]] {
        let roots = ["alice@127.0.0.1:folder1", "folder2", "--port", &port, "--accept-new"];
        world.two.run(&[args, &roots].concat());
        let log = server.wait_for("syncfiles: served");
        assert!(log.contains("user=alice"), "{args:?}: {log}");
    }
}

#[test]
fn the_command_that_serve_prints_is_the_one_that_works() {
    let world = World::new();
    world.folder1().write("a", "1", 10);
    let server = world.serve();
    let line = server.wait_for("on_the_other_system=");
    let command = line.split("on_the_other_system=\"syncfiles ").nth(1).unwrap().trim_end_matches('"');
    let args: Vec<&str> = command.split(' ').chain(["--accept-new"]).collect();
    world.two.run(&args).expect(0);
    assert_eq!(std::fs::read_to_string(world.two.path("folder1/a")).unwrap(), "1");
}

#[test]
fn the_command_that_serve_prints_works_in_a_shell_whatever_the_export_is_called() {
    let world = World::new();
    world.folder1().write("a", "1", 10);
    let server = world.serve_at(&["serve", "--listen", "127.0.0.1:0", "my pics=folder1"]);
    let line = server.wait_for("on_the_other_system=");
    let command = line.split("on_the_other_system=\"syncfiles ").nth(1).unwrap().trim_end_matches('"');
    let script = format!("exec \"$0\" --accept-new {command}");
    let typed = world.two.command("sh", &["-c", &script, env!("CARGO_BIN_EXE_syncfiles")]);
    Running::start(typed).end().expect(0);
    assert_eq!(std::fs::read_to_string(world.two.path("my pics/a")).unwrap(), "1");
}

#[test]
fn a_server_without_any_file_of_keys_says_where_one_belongs() {
    let world = World::new();
    std::fs::remove_file(world.one.path(".config/syncfiles/authorized_keys")).unwrap();
    let stopped = world.one.run(&["serve", "--listen", "127.0.0.1:0", "folder1"]).expect(5);
    stopped.says(&["neither", ".config/syncfiles/authorized_keys nor", ".ssh/authorized_keys is there"]);
}

#[test]
fn what_hangs_up_before_the_login_may_be_no_server_of_ours() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // All that the client says first is read, or closing would be a reset.
        let mut said = [0; 1];
        while stream.read(&mut said).unwrap() == 1 && said != *b"\n" {}
    });
    let ended = world.begin_sync(port, &[]).end().expect(10);
    thread.join().unwrap();
    ended.says(&["it hung up before the login; does a syncfiles server listen there?"]);
}

#[test]
fn an_unknown_host_key_is_refused_in_a_script_then_accepted_then_known_and_a_changed_one_never_is() {
    let world = World::new();
    let server = world.serve();
    let port = server.port.to_string();
    let plain = ["alice@127.0.0.1:folder1", "folder2", "--port", &port];
    let unknown = world.two.run(&plain).expect(5);
    unknown.says(&[&server.host_key, "--accept-new"]);
    assert!(!world.two.path(".ssh/known_hosts").exists());
    world.two.run(&[&plain[..], &["--accept-new"]].concat()).expect(0);
    world.two.run(&plain).expect(0);
    assert!(server.stop().success());

    let moved = ["serve", "--listen", &format!("127.0.0.1:{port}"), "folder1"];
    std::fs::remove_file(world.one.path(".config/syncfiles/host_key")).unwrap();
    let server = world.serve_at(&moved);
    for options in [&plain[..], &[&plain[..], &["--accept-new"]].concat()] {
        world.two.run(options).expect(5).says(&["changed", &server.host_key, "known_hosts"]);
    }
}

#[test]
fn a_key_that_is_not_authorized_and_no_key_at_all_end_with_one_line_each() {
    let world = World::new();
    world.authorize(&another_key(&world));
    let server = world.serve();
    let refused = world.sync(&server, &[]).expect(5);
    refused.says(&["cannot log in as alice", "SHA256:", "authorized_keys"]);
    let logged = server.wait_for("refused a login");
    assert!(logged.contains("user=alice") && logged.contains("key=SHA256:"), "{logged}");
    std::fs::remove_file(world.two.path(".ssh/id_ed25519")).unwrap();
    world.sync(&server, &[]).expect(5).says(&["there is no key", "ssh-keygen"]);
    world.sync(&server, &["--identity", "nowhere"]).expect(5).says(&["nowhere"]);
}

fn another_key(world: &World) -> String {
    let (key, _) = syncfiles::ssh::host_key::load_or_create(&world.two.path("another")).unwrap();
    key.public_key().to_openssh().unwrap()
}

#[test]
fn another_user_name_is_refused_even_with_the_right_key() {
    let world = World::new();
    let server = world.serve();
    let port = server.port.to_string();
    let refused =
        world.two.run(&["mallory@127.0.0.1:folder1", "folder2", "--port", &port, "--accept-new"]).expect(5);
    refused.says(&["cannot log in as mallory"]);
    assert!(server.wait_for("refused a login").contains("the user name is another"));
}

#[test]
fn an_export_that_is_not_there_is_refused_with_those_that_are() {
    let world = World::new();
    let server = world.serve();
    let port = server.port.to_string();
    let refused = world.two.run(&["alice@127.0.0.1:other", "folder2", "--port", &port, "--accept-new"]);
    refused.expect(5).says(&["other", "folder1"]);
}

#[test]
fn a_port_where_nothing_listens_and_one_that_never_answers_have_codes_of_their_own() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    world.begin_sync(port, &["--timeout", "1"]).end().expect(35).says(&["no answer within 1 second"]);
    drop(listener);
    let refused = world.begin_sync(port, &[]).end().expect(10);
    refused.says(&["127.0.0.1", &port.to_string(), "refused"]);
}

#[test]
fn roots_that_cannot_be_used_end_with_11_on_either_side() {
    let world = World::new();
    let server = world.serve();
    let port = server.port.to_string();
    let to = |target: &str| {
        world.two.run(&["alice@127.0.0.1:folder1", target, "--port", &port, "--accept-new"]).expect(11)
    };
    to("no/parent").says(&["no/parent"]);
    world.folder2().write("file", "", 10);
    to("folder2/file").says(&["folder2/file", "folder"]);
    world.one.run(&["serve", "--listen", "127.0.0.1:0", "gone"]).expect(11).says(&["gone"]);
    std::fs::remove_dir(world.folder1().root).unwrap();
    to("fresh").says(&["folder1"]);
}

#[test]
fn a_dry_run_names_what_it_would_do_and_changes_nothing() {
    let world = World::new();
    world.folder1().write("from one", "1", 10);
    world.folder2().write("from two", "22", 10);
    let server = world.serve();
    let ran = world.sync(&server, &["-n", "-i"]).expect(0);
    assert!(ran.out.contains(">f+++++++++ from one\n"), "{ran:?}");
    assert!(ran.out.contains("<f+++++++++ from two\n"), "{ran:?}");
    assert!(ran.out.contains("dry run, nothing was changed"), "{ran:?}");
    assert!(!world.folder1().path(".syncfiles").exists() && !world.folder2().path(".syncfiles").exists());
    assert_eq!((world.folder1().tree().len(), world.folder2().tree().len()), (1, 1));
}

#[test]
fn with_json_there_is_nothing_but_objects_on_stdout_and_the_last_is_the_summary() {
    let world = World::new();
    world.folder1().write("a\x1b[31m", "1", 10).write("b", "from one", 10);
    world.folder2().write("b", "from two", 1000);
    let server = world.serve();
    let ran = world.sync(&server, &["--json", "-v"]).expect(0);
    let lines: Vec<serde_json::Value> =
        ran.out.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert_eq!(lines.first().unwrap()["type"], "start", "{ran:?}");
    let last = lines.last().unwrap();
    assert_eq!((&last["type"], &last["exit_code"]), (&"summary".into(), &0.into()), "{ran:?}");
    assert_eq!(lines.iter().filter(|line| line["type"] == "item").count(), 2, "{ran:?}");
    let stopped =
        world.two.run(&["alice@127.0.0.1:x", "folder2", "--json", "--port", &server.port.to_string()]);
    let stopped = stopped.expect(5);
    let last: serde_json::Value = serde_json::from_str(stopped.out.lines().last().unwrap()).unwrap();
    assert_eq!(last["exit_code"], 5, "{stopped:?}");
}

#[test]
fn quiet_says_nothing_verbose_names_and_stats_count() {
    let world = World::new();
    world.folder1().write("a", "12345", 10);
    let server = world.serve();
    let stats = world.sync(&server, &["--stats", "-v"]).expect(0);
    assert!(stats.out.starts_with("receive a\n"), "{stats:?}");
    assert!(stats.out.contains("Files received: 1, 5 B (5 bytes)"), "{stats:?}");
    world.folder2().write("b", "1", 10);
    let quiet = world.sync(&server, &["-q"]).expect(0);
    assert_eq!((quiet.out.as_str(), quiet.err.as_str()), ("", ""));
    world.assert_same();
}

#[test]
fn what_a_name_says_to_a_terminal_is_escaped_on_every_way_out() {
    let world = World::new();
    let evil = "evil\x1b]0;owned\x07\r\nsyncfiles: all is well\u{202e}\u{9b}2J";
    world.folder1().write(evil, "1", 10);
    world.folder1().write(&format!("clash{evil}"), "older", 900);
    world.folder2().write(&format!("clash{evil}"), "younger", 10);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        world.folder1().path(&format!("fifo{evil}")),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    let server = world.serve();
    for options in
        [&["-n", "-v"][..], &["-n", "-i"], &["-n", "--json"], &["-v", "--stats"], &["--delete", "-v"]]
    {
        let ran = world.sync(&server, options).expect(0);
        for text in [&ran.out, &ran.err] {
            let acts = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
            assert!(!text.contains(acts), "{options:?}: {text:?}");
            assert!(!text.contains("\nsyncfiles: all is well"), "{text:?}");
        }
    }
    let history = world.one.run(&["history", "folder1"]).expect(0);
    assert!(history.out.contains("clash") && !history.out.contains(['\x1b', '\r']), "{history:?}");
}

#[test]
fn sigterm_lets_the_running_sync_finish_and_then_the_server_ends_with_0() {
    let world = World::new();
    world.folder1().write("large", large(0), 10);
    let server = world.serve();
    let relay = Relay::to(server.port);
    relay.hold_after(4 << 20);
    let running = world.begin_sync(relay.port, &[]);
    relay.wait_until_held();
    server.signal(Signal::TERM);
    server.wait_for("stopping");
    let late = ["alice@127.0.0.1:folder1", "folder3", "--port", &server.port.to_string()];
    world.two.run(&late).expect(10).says(&["refused"]);
    relay.release();
    running.end().expect(0);
    server.wait_for("served");
    world.assert_same();
    assert!(server.stop_expected().success());
}

#[test]
fn sigint_ends_the_client_with_20_and_the_next_run_heals() {
    let world = World::new();
    world.folder1().write("large", large(0), 10).write("small", "1", 10);
    world.folder2().write("large", "older", 5000).write("mine", large(1), 10);
    let server = world.serve();
    let relay = Relay::to(server.port);
    for options in [&[][..], &["--json"]] {
        relay.hold_after(6 << 20);
        let running = world.begin_sync(relay.port, options);
        relay.wait_until_held();
        running.signal(Signal::INT);
        let ended = running.end().expect(20);
        ended.mentions(&["syncfiles: interrupted; run it again"]);
        relay.release();
        assert_eq!(world.folder2().read("large").unwrap(), "older", "old or new, never a part");
    }
    world.begin_sync(relay.port, &[]).end().expect(0);
    world.assert_same();
    assert_eq!(std::fs::read(world.folder2().path("large")).unwrap(), large(0));
    assert!(server.stop().success());
}

#[test]
fn a_server_that_dies_in_the_middle_is_a_lost_connection_and_the_next_run_heals() {
    let world = World::new();
    world.folder1().write("large", large(0), 10);
    let server = world.serve();
    let relay = Relay::to(server.port);
    relay.hold_after(6 << 20);
    let running = world.begin_sync(relay.port, &["--retries", "0"]);
    relay.wait_until_held();
    drop(server);
    relay.release();
    running.end().expect(10).mentions(&["the connection was lost", "run the sync again"]);
    let server = world.serve();
    world.sync(&server, &[]).expect(0);
    world.assert_same();
}

#[test]
fn a_file_that_changes_while_it_travels_is_taken_by_a_second_look() {
    let world = World::new();
    world.folder1().write("large", large(0), 100).write("other", "1", 10);
    world.folder2().write("large", "older", 5000);
    let server = world.serve();
    let relay = Relay::to(server.port);
    relay.hold_after(6 << 20);
    let running = world.begin_sync(relay.port, &[]);
    relay.wait_until_held();
    world.folder1().write("large", large(7), 5);
    relay.release();
    running.end().expect(0).mentions(&["looking again"]);
    assert_eq!(world.folder2().read("other").unwrap(), "1", "the rest still syncs");
    assert_eq!(std::fs::read(world.folder2().path("large")).unwrap(), large(7));
    world.assert_same();
}

#[test]
fn a_file_that_is_edited_here_while_its_successor_travels_is_never_overwritten() {
    let world = World::new();
    world.folder1().write("large", large(0), 100);
    world.folder2().write("large", "older", 5000);
    let server = world.serve();
    let relay = Relay::to(server.port);
    relay.hold_after(6 << 20);
    let running = world.begin_sync(relay.port, &[]);
    relay.wait_until_held();
    world.folder2().write("large", "edited meanwhile", 1);
    relay.release();
    running.end().expect(0).mentions(&["looking again"]);
    assert_eq!(world.folder2().read("large").unwrap(), "edited meanwhile");
    world.assert_same();
    assert_eq!(world.folder1().read("large").unwrap(), "edited meanwhile");
}

#[test]
fn a_file_that_cannot_be_written_fails_alone_with_23_on_either_side() {
    // A limit on the size of files binds everybody, even root, whom no permission stops.
    let world = World::new();
    world.folder1().write("large", large(0), 10).write("small", "1", 10);
    let server = world.serve();
    let limited = |args: &[&str]| {
        let script = "trap '' XFSZ; ulimit -f 8192; exec \"$0\" \"$@\"";
        let args = [&["-c", script, env!("CARGO_BIN_EXE_syncfiles")], args].concat();
        world.two.command("sh", &args)
    };
    let port = server.port.to_string();
    let args = ["alice@127.0.0.1:folder1", "folder2", "--accept-new", "--port", &port];
    let ended = Running::start(limited(&args)).end().expect(23);
    ended.mentions(&["syncfiles: large", "too large"]);
    assert_eq!(world.folder2().read("small").unwrap(), "1", "the rest still syncs");
    assert!(!world.folder2().path("large").exists());
    drop(server);

    // The other way round: the server may not write so much.
    world.folder1().remove("large");
    world.folder2().write("large", large(0), 10);
    let server = world.serve_limited("trap '' XFSZ; ulimit -f 8192; exec \"$0\" \"$@\"");
    let ended = world.sync(&server, &[]).expect(23);
    ended.mentions(&["large on the other system", "too large"]);
    assert!(!world.folder1().path("large").exists());
    assert!(server.wait_for("served").contains("failed=1"));
}

#[test]
fn a_fifo_that_takes_the_place_of_a_target_is_left_there_and_never_opened() {
    let world = World::new();
    world.folder1().write("large", large(0), 100).write("then", large(3), 50);
    let server = world.serve();
    let relay = Relay::to(server.port);
    // In the middle of the greeting nothing is scanned for sure; in the middle of a file everything is.
    relay.hold_after(1 << 20);
    let running = world.begin_sync(relay.port, &[]);
    relay.wait_until_held();
    let path = world.folder1().path("zlast");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let large = world.folder2().path("large");
    rustix::fs::mknodat(rustix::fs::CWD, &large, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    relay.release();
    running.end().expect(0).mentions(&["large: a fifo"]);
    assert!(std::fs::symlink_metadata(large).unwrap().file_type().is_fifo());
    assert!(world.folder2().path("then").exists());
}

#[test]
fn the_guards_end_with_25_and_27_and_conflicts_left_with_26() {
    let world = World::new();
    let (one, two) = (world.folder1(), world.folder2());
    for n in 0..10 {
        one.write(&n.to_string(), n.to_string(), 100);
    }
    let server = world.serve();
    world.sync(&server, &[]).expect(0);
    one.write("0", "older edit", 50);
    two.write("0", "younger edit", 10);
    let left = world.sync(&server, &["--conflict", "skip"]).expect(26);
    left.mentions(&["1 conflict left", "--conflict"]);
    world.sync(&server, &[]).expect(0);
    for n in 1..8 {
        two.remove(&n.to_string());
    }
    let stopped = world.sync(&server, &["--delete"]).expect(25);
    stopped.mentions(&["--max-delete"]);
    assert_eq!(one.tree().len(), 10);
    for n in [0, 8, 9] {
        two.remove(&n.to_string());
    }
    let stopped = world.sync(&server, &["--delete"]).expect(27);
    stopped.mentions(&["--max-delete 100%"]);
    std::fs::rename(&two.root, world.two.path("away")).unwrap();
    world.sync(&server, &[]).expect(27).mentions(&["--new-root"]);
    assert!(!two.root.exists());
}

#[test]
fn a_server_that_is_fed_garbage_and_half_open_connections_goes_on_serving() {
    let world = World::new();
    world.folder1().write("a", "1", 10);
    let server = world.serve();
    let mut open = Vec::new();
    for garbage in [&b""[..], b"\0\xff\xfe", b"SSH-2.0-", b"SSH-2.0-x\r\n\0\0\0\x0c\x0a\x14", &[0xff; 70_000]]
    {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        let _ = stream.write_all(garbage);
        open.push(stream);
    }
    let mut http = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    http.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = http.read_to_end(&mut answer);
    assert!(answer.starts_with(b"SSH-2.0-"), "{answer:?}");
    world.sync(&server, &[]).expect(0);
    world.assert_same();
    drop(open);
    assert!(server.stop().success());
}

#[test]
fn strangers_of_one_address_keep_no_other_out() {
    let world = World::new();
    let server = world.serve();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], server.port));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let strangers: Vec<_> = (0..100)
        .map(|_| {
            runtime.block_on(async {
                let socket = tokio::net::TcpSocket::new_v4().unwrap();
                socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
                socket.connect(address).await.unwrap()
            })
        })
        .collect();
    world.sync(&server, &[]).expect(0);
    drop(strangers);
}

#[test]
fn two_clients_on_one_export_at_once_both_end_and_the_next_runs_agree() {
    let world = World::new();
    for n in 0..200 {
        world.folder1().write(&format!("one/{n}"), n.to_string(), 100);
        world.folder2().write(&format!("two/{n}"), n.to_string(), 100);
    }
    let server = world.serve();
    let port = server.port.to_string();
    std::fs::create_dir(world.two.path("folder3")).unwrap();
    let third = world.two.begin(&["alice@127.0.0.1:folder1", "folder3", "--accept-new", "--port", &port]);
    let second = world.begin_sync(server.port, &[]);
    for running in [second, third] {
        let ended = running.end();
        assert!([0, 24].contains(&ended.status.code().unwrap()), "{ended:?}");
    }
    world.sync(&server, &[]).expect(0);
    world.two.run(&["alice@127.0.0.1:folder1", "folder3", "--port", &port]).expect(0);
    let third = crate::support::pair::Side { root: world.two.path("folder3") };
    world.assert_same();
    assert_eq!(third.tree(), world.folder1().tree());
    assert_eq!(third.tree().len(), 402);
}

#[test]
fn keys_of_every_type_log_in_and_an_encrypted_one_asks_where_there_is_somebody_to_ask() {
    if !crate::support::process::has("ssh-keygen") {
        return;
    }
    let world = World::new();
    std::fs::remove_file(world.two.path(".ssh/id_ed25519")).unwrap();
    let keygen = |name: &str, kind: &str, passphrase: &str| {
        let file = world.two.path(name);
        let made = Command::new("ssh-keygen")
            .args(["-q", "-a", "1", "-t", kind, "-N", passphrase, "-f"])
            .arg(&file)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        std::fs::read_to_string(file.with_extension("pub")).unwrap()
    };
    let lines = [
        keygen("key-ed25519", "ed25519", ""),
        keygen("key-ecdsa", "ecdsa", ""),
        keygen("key-rsa", "rsa", ""),
        keygen("locked", "ed25519", "secret"),
    ];
    world.authorize(&lines.concat());
    let server = world.serve();
    for name in ["key-ed25519", "key-ecdsa", "key-rsa"] {
        world.sync(&server, &["--identity", name]).expect(0);
    }
    world.sync(&server, &["--identity", "locked"]).expect(5).says(&["locked", "passphrase", "terminal"]);
}

#[test]
fn options_and_addresses_that_mean_nothing_end_with_1_and_one_line() {
    let world = World::new();
    for (args, word) in [
        (&["--delet", "a", "b"][..], "--delete"),
        (&["only-one"], "TARGET"),
        (&["h:a", "g:b"], "remote"),
        (&["--max-delete", "many", "a", "b"], "many"),
        (&["serve"], "DIR"),
        (&["-n", "--watch", "a", "b"], "--watch"),
        (&["-H", "a", "b"], "-H"),
        (&[".", "."], "one folder"),
        (&[".", "./inside"], "one is inside the other"),
        (&["a/b", "a"], "one is inside the other"),
    ] {
        world.two.run(args).expect(1).says(&[word]);
    }
    let help = world.two.run(&["--help"]).expect(0);
    assert!(help.out.contains("syncfiles [OPTIONS] SOURCE TARGET") && help.err.is_empty(), "{help:?}");
}

#[test]
fn programs_that_meet_at_a_new_root_wait_for_each_others_state() {
    let world = World::new();
    for round in 0..3 {
        let hub = format!("hub{round}");
        std::fs::create_dir(world.two.path(&hub)).unwrap();
        std::fs::write(world.two.path(format!("{hub}/a")), "1").unwrap();
        let clients: Vec<_> = (0..6).map(|client| format!("{hub}-client{client}")).collect();
        let running: Vec<_> = clients.iter().map(|client| world.two.begin(&[&hub, client])).collect();
        running.into_iter().for_each(|running| drop(running.end().expect(0)));
        for client in clients {
            assert_eq!(std::fs::read_to_string(world.two.path(client).join("a")).unwrap(), "1");
        }
    }
}

/// The place was known from then on, and what stood there was missed.
#[test]
fn a_first_run_that_fails_leaves_the_place_unknown() {
    let world = World::new();
    world.folder1().write("a", "1", 10);
    let server = world.serve();
    let port = server.port.to_string();
    let run = |export: &str| {
        let root = format!("alice@127.0.0.1:{export}");
        world.two.run(&[&root, "typo", "--accept-new", "--port", &port])
    };
    run("nope").expect(5);
    std::fs::remove_dir_all(world.two.path("typo")).unwrap();
    run("folder1").expect(0);
    std::fs::remove_dir_all(world.two.path("typo")).unwrap();
    run("folder1").expect(27);
}
