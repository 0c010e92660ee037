//! `serve` as a service: the lines of authorized_keys as each key's limits, signals, the log, sockets and the sandbox.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::process::{Running, Server, World, has};
use crate::support::relay::Relay;

/// The public key that logs in from System 2.
fn key(world: &World) -> String {
    let (key, _) = syncfiles::ssh::host_key::load_or_create(&world.two.path(".ssh/id_ed25519")).unwrap();
    key.public_key().to_openssh().unwrap()
}

#[test]
fn a_relative_folder_of_a_forced_command_starts_at_the_home_folder_as_under_an_sshd() {
    let world = World::new();
    let line = format!("restrict,command=\"syncfiles serve --stdio photos=own\" {}", key(&world));
    world.authorize(&line);
    for (folder, content) in [("own", "mine"), ("elsewhere/own", "another's"), ("elsewhere/folder1", "")] {
        fs::create_dir_all(world.one.path(folder)).unwrap();
        fs::write(world.one.path(folder).join("a"), content).unwrap();
    }
    let server = world.serve_limited("cd elsewhere && exec \"$0\" \"$@\"");
    let port = server.port.to_string();
    let sync = |root: &str| world.two.run(&[root, "folder2", "--accept-new", "--port", &port]);
    sync("alice@127.0.0.1:photos").expect(0);
    assert_eq!(world.folder2().read("a").unwrap(), "mine");
    // What the server itself exports is not this key's.
    sync("alice@127.0.0.1:folder1").expect(5).says(&["cannot find the export", "offers photos"]);
}

#[test]
fn keys_are_read_again_on_sighup_and_a_file_that_cannot_be_used_changes_nothing() {
    let world = World::new();
    world.folder1().write("a", "1", 10);
    let own = key(&world);
    world.authorize(&format!("expiry-time=\"199901010000Z\" {own}"));
    let server = world.serve();
    world.sync(&server, &[]).expect(5).says(&["cannot log in"]);
    // As an editor does: another file takes its name.
    let file = world.one.path(".config/syncfiles/authorized_keys");
    fs::write(file.with_extension("new"), format!("garbage\n{own}\n")).unwrap();
    fs::rename(file.with_extension("new"), &file).unwrap();
    server.signal(Signal::HUP);
    server.wait_for("refused a line of authorized_keys note=\"line 1");
    server.wait_for("read the authorized keys again keys=1");
    world.sync(&server, &[]).expect(0);
    fs::remove_file(&file).unwrap();
    server.signal(Signal::HUP);
    server.wait_for("kept the old authorized keys");
    world.sync(&server, &[]).expect(0);
    assert!(server.stop().success());
}

#[test]
fn a_log_for_machines_says_of_each_connection_and_each_run_who_what_and_how_it_ended() {
    let world = World::new();
    world.folder1().write("a", "12345", 10);
    let log = world.one.path("log");
    let options = ["--log-file", log.to_str().unwrap(), "--log-format", "json", "--listen", "127.0.0.1:0"];
    let service = Service::start(&world, &[&["serve", "folder1"], &options[..]].concat());
    let port = &port_of(&log).to_string();
    let sync = |root: &str| world.two.run(&[root, "folder2", "--accept-new", "--port", port]);
    sync("alice@127.0.0.1:folder1").expect(0);
    sync("alice@127.0.0.1:nowhere").expect(5);
    sync("e\u{301}ve@127.0.0.1:folder1").expect(5);
    service.stop();
    let lines = objects(&log);
    let of = |event: &str| {
        let found = lines.iter().find(|line| line["event"] == event);
        found.unwrap_or_else(|| panic!("no {event} in {lines:?}")).clone()
    };
    let served = of("served");
    assert_eq!((served["user"].as_str(), served["root"].as_str()), (Some("alice"), Some("folder1")));
    assert_eq!((served["files"].as_u64(), served["bytes"].as_u64()), (Some(1), Some(5)));
    assert_eq!((served["outcome"].as_str(), served["level"].as_str()), (Some("done"), Some("info")));
    assert!(served["key"].as_str().unwrap().starts_with("SHA256:"), "{served}");
    assert!(served["from"].as_str().unwrap().starts_with("127.0.0.1:"), "{served}");
    assert!(served["seconds"].as_f64().unwrap() > 0.0, "{served}");
    let came = of("logged in");
    assert_eq!((&came["client"], &came["key"]), (&served["client"], &served["key"]));
    let early = of("ended a client's run early");
    assert_eq!((early["outcome"].as_str(), early["code"].as_u64()), (Some("stopped"), Some(5)));
    assert_eq!((early["root"].as_str(), early["files"].as_u64()), (Some("nowhere"), Some(0)));
    assert!(early["because"].as_str().unwrap().contains("nowhere") && early["client"] != served["client"]);
    assert_eq!(of("refused a login")["user"], "e\u{301}ve");
    assert_eq!(lines.last().unwrap()["event"], "stopped");
    let secret = fs::read_to_string(world.one.path(".config/syncfiles/host_key")).unwrap();
    let text = fs::read_to_string(&log).unwrap();
    assert!(
        secret
            .lines()
            .filter(|line| line.len() > 20 && !line.contains("---"))
            .all(|line| !text.contains(line))
    );
}

/// A server that tells a service manager how it is.
struct Service {
    child: Running,
    manager: UnixDatagram,
}

impl Service {
    /// Starts `syncfiles` with these arguments, and waits until it is ready.
    fn start(world: &World, args: &[&str]) -> Service {
        let socket = world.one.path("notify");
        let _ = fs::remove_file(&socket);
        let manager = UnixDatagram::bind(&socket).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        let mut command = world.one.syncfiles(args);
        command.env("NOTIFY_SOCKET", &socket);
        let service = Service { child: Running::start(command), manager };
        service.wait_for("READY=1");
        service
    }

    fn wait_for(&self, state: &str) {
        let mut told = [0; 4096];
        loop {
            let length = self.manager.recv(&mut told).unwrap_or_else(|error| panic!("no {state}: {error}"));
            if String::from_utf8_lossy(&told[..length]).lines().any(|line| line == state) {
                return;
            }
        }
    }

    fn stop(self) {
        self.child.signal(Signal::TERM);
        self.wait_for("STOPPING=1");
        self.child.end().expect(0);
    }
}

#[test]
fn a_service_manager_is_told_when_it_is_ready_reads_again_and_stops() {
    let world = World::new();
    let service = Service::start(&world, &["serve", "--listen", "127.0.0.1:0", "folder1"]);
    service.child.signal(Signal::HUP);
    service.wait_for("RELOADING=1");
    service.wait_for("READY=1");
    service.stop();
}

/// A shell's way to give its standard input, which is a socket here, as a service manager does.
const PASS: &str = "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" \"$@\" 3<&0 </dev/null";

#[test]
fn a_socket_that_a_service_manager_passes_is_listened_on() {
    let world = World::new();
    world.folder1().write("a", "1", 10);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut command = world.serve_by(PASS, &["serve", "folder1"]);
    command.stdin(OwnedFd::from(listener));
    let server = Server::start(command);
    assert_eq!(server.port, port);
    world.sync(&server, &[]).expect(0);
    world.assert_same();
    assert!(server.stop().success());
}

#[test]
fn what_is_passed_but_cannot_be_listened_on_and_two_answers_to_where_end_with_one_line() {
    let world = World::new();
    let pass = |listen: &[&str], script: &str, socket: OwnedFd| {
        let mut command = world.serve_by(script, &[&["serve", "folder1"], listen].concat());
        command.stdin(socket);
        Running::start(command).end()
    };
    let tcp = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
    let datagrams = OwnedFd::from(UnixDatagram::unbound().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = OwnedFd::from(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    pass(&[], PASS, connected).expect(10).says(&["cannot listen on the socket that was passed", "Accept=no"]);
    pass(&[], PASS, datagrams).expect(10).says(&["cannot listen on the socket that was passed", "TCP"]);
    pass(&["--listen", "127.0.0.1:0"], PASS, tcp()).expect(1).says(&["--listen names another"]);
    // Sockets that are for another process are not taken: it would be a server that listens nowhere.
    let other = PASS.replace("LISTEN_PID=$$", "LISTEN_PID=1");
    pass(&["--listen", "999.1.1.1:1"], &other, tcp()).expect(1);
    let mut command = world.serve_by(&other, &["serve", "--listen", "127.0.0.1:0", "folder1"]);
    command.stdin(tcp());
    assert!(Server::start(command).stop().success());
}

/// Whether the kernel confines a server; says so where it does not.
fn can_confine(world: &World) -> bool {
    let log = world.one.path("trial");
    let options = ["--log-format", "json", "--log-file", log.to_str().unwrap(), "--listen", "127.0.0.1:0"];
    Service::start(world, &[&["serve", "folder1"], &options[..]].concat()).stop();
    let lines = objects(&log);
    let line = lines.iter().find(|line| line["event"].as_str().unwrap().contains("confined to the exports"));
    let line = line.unwrap();
    let can = line.get("landlock").is_some();
    if !can {
        eprintln!("skipped: {line}");
    }
    can
}

#[test]
fn a_confined_server_does_all_that_a_sync_does() {
    let world = World::new();
    if !can_confine(&world) {
        return;
    }
    let (one, two) = (world.folder1(), world.folder2());
    // Another file system, where there is one.
    let elsewhere = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    fs::write(elsewhere.path().join("far"), "away").unwrap();
    let log = world.one.path("log");
    let export = format!("elsewhere={}", elsewhere.path().display());
    let service = Service::start(
        &world,
        &[
            &["serve", "--listen", "127.0.0.1:0", "--sandbox", "always", "--log-format", "json"][..],
            &["--log-file", log.to_str().unwrap(), "folder1", &export],
        ]
        .concat(),
    );
    let port = &port_of(&log).to_string();
    let sync = |root: &str, target: &str| {
        let options = ["--delete", "--max-delete", "100%", "--accept-new", "--port", port];
        world.two.run(&[&[root, target][..], &options].concat()).expect(0)
    };
    one.write("a/b/c", "1", 10).write("big", vec![1; 1_000_000], 10).folder("empty").link("link", "a");
    one.write("moved", "this goes elsewhere", 10).write("gone", "this goes", 10).write(
        "twin",
        vec![7; 9000],
        9,
    );
    two.write("new/file", "2", 10);
    sync("alice@127.0.0.1:folder1", "folder2");
    world.assert_same();
    two.rename("moved", "a/b/moved").remove("gone").remove("empty").chmod("a/b/c", 0o600);
    let mut big = vec![1; 1_000_000];
    big[500_000] = 2;
    two.write("big", big, 5).remove("link").write("link/now/a/folder", "x", 3).write("a/b/d", "y", 2);
    sync("alice@127.0.0.1:folder1", "folder2");
    world.assert_same();
    assert!(one.displaced().contains(&b"this goes".to_vec()));
    sync("alice@127.0.0.1:elsewhere/", "folder3");
    assert_eq!(fs::read_to_string(world.two.path("folder3/far")).unwrap(), "away");
    fs::write(world.two.path("folder3/back"), "again").unwrap();
    sync("alice@127.0.0.1:elsewhere", "folder3");
    assert_eq!(fs::read_to_string(elsewhere.path().join("back")).unwrap(), "again");
    // An index that SQLite does not copy within its memory, for a client that only looks.
    let deep = "a long name ".repeat(16);
    let deep = vec![deep.trim(); 15].join("/");
    for number in 0..1200 {
        one.write(&format!("{deep}/{number}"), "", 10);
    }
    sync("alice@127.0.0.1:folder1", "folder2");
    let looked = ["-n", "alice@127.0.0.1:folder1", "folder2", "--port", port];
    assert!(world.two.run(&looked).expect(0).out.contains("nothing to do"));
    let keys = world.one.path(".config/syncfiles/authorized_keys");
    fs::copy(&keys, keys.with_extension("new")).unwrap();
    fs::rename(keys.with_extension("new"), &keys).unwrap();
    service.child.signal(Signal::HUP);
    service.wait_for("READY=1");
    assert!(objects(&log).iter().any(|line| line["event"] == "read the authorized keys again"));
    service.stop();
}

#[test]
fn a_log_that_was_moved_away_is_begun_anew_on_sighup_by_a_confined_server_too() {
    let world = World::new();
    for (folder, begun_anew) in [("logs/syncfiles", true), ("logs", false)] {
        let log = world.one.path(folder).join("log");
        fs::create_dir_all(log.parent().unwrap()).unwrap();
        let options =
            ["--log-file", log.to_str().unwrap(), "--log-format", "json", "--listen", "127.0.0.1:0"];
        let service = Service::start(&world, &[&["serve", "folder1"], &options[..]].concat());
        fs::rename(&log, log.with_extension("1")).unwrap();
        service.child.signal(Signal::HUP);
        service.wait_for("READY=1");
        service.stop();
        let (old, new) = (objects(&log.with_extension("1")), objects(&log));
        let is_confined = old.iter().any(|line| line.get("landlock").is_some());
        let last = if begun_anew || !is_confined { &new } else { &old };
        assert_eq!(last.last().unwrap()["event"], "stopped", "{folder}: {old:?} {new:?}");
        let kept = old.iter().any(|line| line["event"] == "kept the old log file");
        assert_eq!(kept, !begun_anew && is_confined, "{folder}: {old:?}");
    }
}

#[test]
fn a_run_that_is_cut_is_logged_with_what_it_did_until_then() {
    let world = World::new();
    world.folder1().write("a", "12345", 10).write("large", vec![7; 32 << 20], 9);
    let log = world.one.path("log");
    let options = ["--log-file", log.to_str().unwrap(), "--log-format", "json", "--listen", "127.0.0.1:0"];
    let service = Service::start(&world, &[&["serve", "folder1"], &options[..]].concat());
    let relay = Relay::to(port_of(&log));
    relay.cut_after([24 << 20]);
    world.begin_sync(relay.port, &["--retries", "0"]).end().expect(10);
    service.stop();
    let lines = objects(&log);
    let cut = lines.iter().find(|line| line["event"] == "ended a client's run early").unwrap();
    assert_eq!((cut["root"].as_str(), cut["outcome"].as_str()), (Some("folder1"), Some("stopped")));
    let travelled = (cut["files"].as_u64().unwrap(), cut["bytes"].as_u64().unwrap());
    assert!(travelled == (1, 5) || travelled == (0, 0), "{cut}");
}

#[test]
fn a_confined_server_reaches_no_other_folder_whoever_wants_it_and_says_what_to_do() {
    let world = World::new();
    if !can_confine(&world) {
        return;
    }
    world.folder1().write("a", "1", 10);
    fs::create_dir(world.one.path("secret")).unwrap();
    fs::write(world.one.path("secret/a"), "1").unwrap();
    let (own, line) = (key(&world), "command=\"syncfiles serve --stdio secret\"");
    let server = world.serve();
    let port = server.port.to_string();
    let sync = |root: &str, target: &str| world.two.run(&[root, target, "--accept-new", "--port", &port]);
    world.authorize(&format!("{line} {own}"));
    server.signal(Signal::HUP);
    server.wait_for("read the authorized keys again");
    sync("alice@127.0.0.1:secret", "folder3").expect(5).says(&["is outside of the folders", "restart"]);
    // A disk that is mounted later looks the same.
    world.authorize(&own);
    server.signal(Signal::HUP);
    server.wait_for("read the authorized keys again");
    world.sync(&server, &[]).expect(0);
    fs::rename(world.one.path("folder1"), world.one.path("old")).unwrap();
    fs::create_dir(world.one.path("folder1")).unwrap();
    world.sync(&server, &[]).expect(27).says(&["is not the folder any more", "restart"]);
    assert!(server.stop().success());
    // Unconfined it is still the guard of the root that stops the run.
    let server = world.serve_with(&["--sandbox", "never"]);
    world.sync(&server, &[]).expect(27);
    world.authorize(&format!("{line} {own}"));
    server.signal(Signal::HUP);
    server.wait_for("read the authorized keys again");
    let port = server.port.to_string();
    world.two.run(&["alice@127.0.0.1:secret", "folder3", "--accept-new", "--port", &port]).expect(0);
}

#[test]
fn the_units_are_what_systemd_understands() {
    if !has("systemd-analyze") {
        return;
    }
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/service");
    let place = tempfile::tempdir().unwrap();
    for name in ["syncfiles.service", "syncfiles.socket"] {
        let text = fs::read_to_string(units.join(name)).unwrap();
        // It looks for the program and its user.
        let text = text
            .replace("/usr/bin/syncfiles", env!("CARGO_BIN_EXE_syncfiles"))
            .replace("=syncfiles\n", "=root\n");
        fs::write(place.path().join(name), text).unwrap();
    }
    let world = World::new();
    for name in ["syncfiles.service", "syncfiles.socket"] {
        let unit = place.path().join(name).display().to_string();
        let ended =
            Running::start(world.one.command("systemd-analyze", &["verify", "--man=no", &unit])).end();
        let about_it = ended.err.lines().filter(|line| line.contains("syncfiles"));
        assert_eq!(about_it.count(), 0, "{ended:?}");
    }
}

/// Where the server listens that writes this log.
fn port_of(log: &Path) -> u16 {
    let address = objects(log).iter().find_map(|line| line["address"].as_str().map(str::to_owned)).unwrap();
    address.rsplit(':').next().unwrap().parse().unwrap()
}

/// The lines of a log for machines.
fn objects(log: &Path) -> Vec<Value> {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
