//! What OpenSSH's client gets from `syncfiles serve`: the one subsystem, and a quick no to everything else.

use crate::support::process::{Ended, Running, Server, World, has};

/// A server, and the options with which ssh logs in to it.
struct Door {
    world: World,
    server: Server,
}

impl Door {
    /// Nothing where OpenSSH is not installed; that fails on CI.
    fn open() -> Option<Door> {
        if !has("ssh") {
            return None;
        }
        let world = World::new();
        world.folder1().write("a", "1", 10);
        let server = world.serve();
        Some(Door { world, server })
    }

    /// ssh with options before the destination and a command behind it, run to its end.
    fn ssh(&self, options: &[&str], command: &[&str]) -> Ended {
        let (port, key, known) =
            (self.server.port.to_string(), self.path(".ssh/id_ed25519"), self.path("known"));
        let known = format!("UserKnownHostsFile={known}");
        let fixed = ["-F", "none", "-p", &port, "-i", &key, "-o", "BatchMode=yes", "-o", &known];
        let trust = ["-o", "StrictHostKeyChecking=accept-new", "-o", "IdentityAgent=none"];
        let args = [&fixed[..], &trust, options, &["alice@127.0.0.1"], command].concat();
        Running::start(self.world.two.command("ssh", &args)).end()
    }

    fn path(&self, name: &str) -> String {
        self.world.two.path(name).to_str().unwrap().to_owned()
    }

    /// Checks that a sync still works.
    fn still_serves(&self) {
        self.world.sync(&self.server, &[]).expect(0);
        self.world.assert_same();
    }
}

#[test]
fn the_subsystem_is_accepted_and_whoever_does_not_speak_it_is_let_go() {
    let Some(door) = Door::open() else { return };
    let ended = door.ssh(&["-v", "-s"], &["syncfiles"]);
    ended.mentions(&["Authenticated to 127.0.0.1", "using \"publickey\"", "Sending subsystem: syncfiles"]);
    assert!(!ended.err.contains("subsystem request failed"), "{ended:?}");
    // Not by the login deadline, which would cut the connection.
    assert!(!ended.err.contains("closed by remote host"), "{ended:?}");
    door.still_serves();
}

#[test]
fn a_shell_a_command_and_every_other_subsystem_are_refused_at_once() {
    let Some(door) = Door::open() else { return };
    for (options, command, said) in [
        (&["-T"][..], &[][..], "shell request failed"),
        (&["-tt"], &[], "request failed"),
        (&["-T"], &["id"], "exec request failed"),
        (&["-tt"], &["id"], "request failed"),
        (&["-s"], &["sftp"], "subsystem request failed"),
        (&["-s"], &["syncfiles2"], "subsystem request failed"),
        (&["-s"], &[""], "request failed"),
    ] {
        let ended = door.ssh(options, command).expect(255);
        ended.mentions(&[said]);
        assert_eq!(ended.out, "", "{options:?} {command:?}: {ended:?}");
    }
    door.still_serves();
}

#[test]
fn a_terminal_variables_agents_and_x11_are_refused_and_the_subsystem_still_opens() {
    let Some(door) = Door::open() else { return };
    let asks = [
        &["-v", "-tt", "-s"][..],
        &["-v", "-o", "SetEnv=LANG=C A=B", "-s"],
        &["-v", "-A", "-s"],
        &["-v", "-o", "ForwardX11=yes", "-s"],
    ];
    for options in asks {
        let ended = door.ssh(options, &["syncfiles"]);
        ended.mentions(&["Authenticated to 127.0.0.1"]);
        assert!(!ended.err.contains("subsystem request failed"), "{options:?}: {ended:?}");
    }
    assert!(door.ssh(&["-tt", "-s"], &["syncfiles"]).err.contains("PTY allocation request failed"));
    door.still_serves();
}

#[test]
fn nothing_is_forwarded_in_any_direction() {
    let Some(door) = Door::open() else { return };
    let fails = ["-o", "ExitOnForwardFailure=yes", "-N"];
    let remote = door.ssh(&[&["-R", "127.0.0.1:0:127.0.0.1:9"][..], &fails].concat(), &[]).expect(255);
    remote.mentions(&["remote port forwarding failed"]);
    let socket = door.path("socket");
    let remote = door.ssh(&[&["-R", &format!("{socket}:127.0.0.1:9")][..], &fails].concat(), &[]).expect(255);
    remote.mentions(&["remote port forwarding failed"]);
    // -W asks for the channel that -L and -D ask for, for each of their connections.
    let local = door.ssh(&["-W", "127.0.0.1:9"], &[]).expect(255);
    local.mentions(&["open failed", "stdio forwarding failed"]);
    door.still_serves();
}

#[test]
fn only_keys_are_offered_as_a_way_in() {
    let Some(door) = Door::open() else { return };
    let other = door.path("another");
    syncfiles::ssh::host_key::load_or_create(other.as_ref()).unwrap();
    let key = ["-o", "IdentityFile=none", "-o", "PubkeyAuthentication=no"];
    let words =
        ["-o", "PreferredAuthentications=none,password,keyboard-interactive,hostbased,gssapi-with-mic"];
    let ended = door.ssh(&[&key[..], &words].concat(), &[]).expect(255);
    ended.mentions(&["Permission denied (publickey)."]);
    let stranger = Running::start(door.world.two.command(
        "ssh",
        &[
            "-F",
            "none",
            "-p",
            &door.server.port.to_string(),
            "-i",
            &other,
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "IdentityAgent=none",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "BatchMode=yes",
            "alice@127.0.0.1",
        ],
    ));
    stranger.end().expect(255).mentions(&["Permission denied (publickey)."]);
    door.still_serves();
}

#[test]
fn good_ciphers_are_spoken_and_bad_algorithms_are_not() {
    let Some(door) = Door::open() else { return };
    for cipher in ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com"] {
        let ended = door.ssh(&["-v", "-c", cipher, "-s"], &["syncfiles"]);
        ended.mentions(&[&format!("cipher: {cipher}"), "Authenticated to 127.0.0.1"]);
    }
    let bad = [
        "Ciphers=aes128-cbc,3des-cbc",
        "KexAlgorithms=diffie-hellman-group14-sha1",
        "HostKeyAlgorithms=ssh-rsa",
    ];
    for refused in bad {
        // Whether ssh still reads what the server offers before the connection is closed is a race.
        let ended = door.ssh(&["-v", "-o", refused, "-s"], &["syncfiles"]).expect(255);
        assert!(!ended.err.contains("Authenticated") && !ended.err.contains("SSH2_MSG_NEWKEYS"), "{ended:?}");
    }
    door.still_serves();
}

#[test]
fn the_host_key_is_the_one_that_serve_printed() {
    let Some(door) = Door::open() else { return };
    let ended = door.ssh(&["-v", "-s"], &["syncfiles"]);
    ended.mentions(&[&format!("Server host key: ssh-ed25519 {}", door.server.host_key)]);
    if !has("ssh-keyscan") || !has("ssh-keygen") {
        return;
    }
    let port = door.server.port.to_string();
    let scanned =
        Running::start(door.world.two.command("ssh-keyscan", &["-T", "30", "-p", &port, "127.0.0.1"]));
    let scanned = scanned.end().expect(0);
    std::fs::write(door.path("scanned"), &scanned.out).unwrap();
    let shown = Running::start(door.world.two.command("ssh-keygen", &["-l", "-f", &door.path("scanned")]));
    let shown = shown.end().expect(0);
    assert!(shown.out.lines().all(|line| line.contains(&door.server.host_key)), "{shown:?}");
    assert!(!shown.out.is_empty());
    // What ssh-keyscan writes is a known_hosts file for syncfiles, too.
    let args = ["alice@127.0.0.1:folder1", "folder2", "--port", &port, "--known-hosts", "scanned"];
    door.world.two.run(&args).expect(0);
}

#[test]
fn a_file_that_ssh_keygen_hashed_and_one_that_ssh_wrote_know_the_server() {
    let Some(door) = Door::open() else { return };
    door.ssh(&["-s"], &["syncfiles"]);
    let port = door.server.port.to_string();
    let args = ["alice@127.0.0.1:folder1", "folder2", "--port", &port, "--known-hosts", "known"];
    door.world.two.run(&args).expect(0);
}

#[test]
fn garbage_on_the_subsystem_ends_that_connection_and_no_other() {
    let Some(door) = Door::open() else { return };
    let mut garbage: Vec<Vec<u8>> = vec![b"\0".to_vec(), vec![0xff; 100_000], b"SSH-2.0-x\r\n".to_vec()];
    garbage.push((0..200_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect());
    // A link channel's preface, then nonsense.
    garbage.push([&b"L\0\0\0\0"[..], &[0x80; 5000]].concat());
    garbage.push([&b"\x01\0\0\0\0"[..], &[0xff; 5000]].concat());
    for (number, bytes) in garbage.iter().enumerate() {
        let file = door.path("garbage");
        std::fs::write(&file, bytes).unwrap();
        let script = "exec \"$0\" \"$@\" < garbage";
        let port = door.server.port.to_string();
        let args = ["-F", "none", "-p", &port, "-i", ".ssh/id_ed25519", "-o", "StrictHostKeyChecking=no"];
        let rest = ["-o", "BatchMode=yes", "-o", "IdentityAgent=none", "-s", "alice@127.0.0.1", "syncfiles"];
        let args = [&["-c", script, "ssh"], &args[..], &rest].concat();
        let ended = Running::start(door.world.two.command("sh", &args)).end();
        assert_ne!(ended.status.code(), Some(0), "garbage {number}: {ended:?}");
    }
    door.still_serves();
}
