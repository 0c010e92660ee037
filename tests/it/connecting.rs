//! Reaching a server with the settings, keys and agents that people already have.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;

use crate::support::openssh::{Agent, Sshd, make_key, me, sshd_program};
use crate::support::process::{Ended, Running, Server, System, World, has};
use crate::support::relay::Relay;
use crate::support::terminal::Terminal;

/// A server with a file to fetch, and an ssh configuration in the client's home that names it `nas`.
struct Site {
    world: World,
    server: Server,
}

/// The lines that every configuration here begins with.
const NAS: &str = "Host nas\n HostName 127.0.0.1\n User alice\n StrictHostKeyChecking accept-new\n";

impl Site {
    fn new() -> Site {
        let world = World::new();
        world.folder1().write("a", "1", 10);
        let server = world.serve();
        let site = Site { world, server };
        site.configure("");
        site
    }

    /// [`NAS`] with the port, and then `more`; each line belongs to `nas` until another `Host`.
    fn configure(&self, more: &str) {
        let text = format!("{NAS} Port {}\n{more}\n", self.server.port);
        write(&self.two().path(".ssh/config"), &text, 0o600);
    }

    fn two(&self) -> &System {
        &self.world.two
    }

    fn path(&self, name: &str) -> String {
        self.two().path(name).to_str().unwrap().to_owned()
    }

    fn sync(&self, options: &[&str]) -> Ended {
        self.two().run(&[&["nas:folder1", "folder2"], options].concat())
    }

    fn sync_with(&self, agent: &Agent, options: &[&str]) -> Ended {
        let mut command = self.two().syncfiles(&[&["nas:folder1", "folder2"], options].concat());
        Running::start(agent.give(&mut command)).end()
    }

    /// Takes the key that the server lets in out of the client's way, under this name.
    fn hide_key(&self, name: &str) {
        fs::rename(self.path(".ssh/id_ed25519"), self.path(name)).unwrap();
    }
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn an_alias_of_the_ssh_configuration_is_all_that_is_typed() {
    let site = Site::new();
    site.hide_key(".ssh/work");
    site.configure(" IdentityFile ~/.ssh/work\n UserKnownHostsFile ~/.ssh/known_%n\n HostKeyAlias the-nas");
    site.sync(&[]).expect(0);
    site.world.assert_same();
    let known = fs::read_to_string(site.path(".ssh/known_nas")).unwrap();
    assert!(known.starts_with("the-nas ssh-ed25519 "), "{known}");
    assert!(!Path::new(&site.path(".ssh/known_hosts")).exists());
}

#[test]
fn what_is_typed_wins_over_the_configuration() {
    let site = Site::new();
    site.two().run(&["bob@nas:folder1", "folder2"]).expect(5).says(&["cannot log in as bob"]);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    site.sync(&["--port", &port]).expect(10).says(&[&format!("127.0.0.1:{port}: cannot connect")]);
    let other = make_key(site.two(), "other", "ed25519", "");
    assert!(other.starts_with("ssh-ed25519 "));
    site.sync(&["--identity", "other"]).expect(5).says(&["none of the keys tried (SHA256:"]);
    site.configure(" StrictHostKeyChecking yes");
    write(
        &site.two().path("another"),
        &format!("Host nas\n HostName 127.0.0.1\n User alice\n Port {}\n", site.server.port),
        0o644,
    );
    let fresh = ["--ssh-config", "another", "--known-hosts", "fresh"];
    site.sync(&fresh).expect(5).says(&["is not known", "--accept-new"]);
    site.sync(&[&fresh[..], &["--accept-new"]].concat()).expect(0);
    let none = site.sync(&["--ssh-config", "none"]).expect(10);
    none.says(&["nas:2222: cannot connect"]);
}

#[test]
fn a_condition_that_is_not_understood_is_told() {
    let site = Site::new();
    site.configure("Match localnetwork 10.0.0.0/8\n User wrong");
    site.sync(&[]).expect(0).mentions(&[".ssh/config line 6: `Match localnetwork` is not understood"]);
}

#[test]
fn a_configuration_that_cannot_be_used_stops_the_run_with_its_line() {
    let site = Site::new();
    site.configure(" ServerAliveInterval soon");
    site.sync(&[]).expect(5).says(&[".ssh/config line 6: serveraliveinterval is not a time"]);
    fs::set_permissions(site.path(".ssh/config"), fs::Permissions::from_mode(0o666)).unwrap();
    site.sync(&[]).expect(5).says(&["mode 666 lets others write it", "chmod go-w"]);
    site.sync(&["--ssh-config", "missing"]).expect(5).says(&["cannot read the ssh configuration missing"]);
}

#[test]
fn a_host_is_refused_accepted_or_asked_about_as_the_configuration_says() {
    let site = Site::new();
    let strict = |word: &str| {
        let text = format!(
            "Host nas\n HostName 127.0.0.1\n User alice\n Port {}\n StrictHostKeyChecking {word}\n",
            site.server.port
        );
        write(&site.two().path(".ssh/config"), &text, 0o600);
        let _ = fs::remove_file(site.path(".ssh/known_hosts"));
    };
    for word in ["yes", "ask"] {
        strict(word);
        site.sync(&[]).expect(5).says(&["its key ssh-ed25519 SHA256:", "is not known"]);
    }
    strict("yes");
    site.sync(&["--accept-new"]).expect(0);
    strict("no");
    site.sync(&[]).expect(0);
    // A changed key is refused whatever is configured.
    let other = make_key(site.two(), "other", "ed25519", "");
    let known = format!("[127.0.0.1]:{} {other}\n", site.server.port);
    fs::write(site.path(".ssh/known_hosts"), known).unwrap();
    site.sync(&[]).expect(5).says(&["its key changed"]);
    // A file of the system counts, too.
    strict("no");
    site.sync(&[]).expect(0);
    fs::rename(site.path(".ssh/known_hosts"), site.path("system_hosts")).unwrap();
    strict("yes\n GlobalKnownHostsFile ~/system_hosts\n UserKnownHostsFile /dev/null");
    site.sync(&[]).expect(0);
}

#[test]
fn a_server_that_never_answers_is_given_up_in_time() {
    let site = Site::new();
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let text = format!("{NAS} Port {}\n ConnectTimeout 1\n", deaf.local_addr().unwrap().port());
    write(&site.two().path(".ssh/config"), &text, 0o600);
    site.sync(&[]).expect(35).says(&["no answer within 1 seconds"]);
    site.sync(&["--timeout", "2"]).expect(35).says(&["no answer within 2 seconds"]);
    site.configure(" ProxyCommand sleep 1000\n ConnectTimeout 1");
    site.sync(&[]).expect(35).says(&["no answer within 1 seconds"]);
}

#[test]
fn an_ipv6_literal_reaches_a_server_there() {
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: there is no IPv6 here");
        return;
    }
    let world = World::new();
    world.folder1().write("a", "1", 10);
    let server = world.serve_at(&["serve", "--listen", "[::1]:0", "folder1"]);
    let port = server.port.to_string();
    for root in ["alice@[::1]:folder1".to_owned(), format!("ssh://alice@[::1]:{port}/folder1/")] {
        world.two.run(&[&root, "folder2", "--accept-new", "--port", &port]).expect(0);
        world.assert_same();
    }
    let known = fs::read_to_string(world.two.path(".ssh/known_hosts")).unwrap();
    assert!(known.starts_with(&format!("[::1]:{port} ssh-ed25519 ")), "{known}");
    // The same under a name of the configuration.
    let config = format!("Host six\n HostName ::1\n Port {port}\n User alice\n");
    write(&world.two.path(".ssh/config"), &config, 0o600);
    world.two.run(&["six:folder1", "folder2"]).expect(0);
}

mod proxies {
    use super::*;

    /// A command of nothing but a shell that carries bytes.
    const CARRY: &str = "bash -c 'echo on my way >&2; exec 3<>/dev/tcp/%h/%p; cat <&3 & cat >&3; wait'";

    #[test]
    fn a_proxy_command_carries_the_sync() {
        if !has("bash") {
            return;
        }
        let site = Site::new();
        site.configure(&format!(" ProxyCommand {CARRY}"));
        site.sync(&[]).expect(0).mentions(&["on my way"]);
        site.world.assert_same();
    }

    #[test]
    fn the_last_words_of_a_proxy_are_in_the_one_line() {
        let site = Site::new();
        site.configure(" ProxyCommand sh -c 'echo no way to %r@%h >&2; exit 7'");
        let said = site.sync(&[]).expect(10);
        said.says(&["the proxy /bin/sh ended with status 7: no way to alice@127.0.0.1"]);
        site.configure(" ProxyCommand no-such-program");
        site.sync(&[]).expect(10).says(&["ended with status 127", "no-such-program"]);
        // One that talks something else.
        site.configure(" ProxyCommand echo hello");
        site.sync(&[]).expect(10).says(&["cannot connect to 127.0.0.1:"]);
    }

    #[test]
    fn hosts_are_jumped_through_with_the_ssh_that_is_there() {
        let (true, Some(program)) = (has("ssh"), sshd_program()) else { return };
        let site = Site::new();
        let key = make_key(site.two(), "gate_key", "ed25519", "");
        let gate = Sshd::start(program, &site.world.one, &key, "");
        let home = site.path("");
        let hop = |name: &str| {
            format!(
                "Host {name}\n HostName 127.0.0.1\n Port {}\n User {}\n IdentityFile {home}gate_key\n IdentitiesOnly yes\n \
                 IdentityAgent none\n UserKnownHostsFile {home}gates\n StrictHostKeyChecking accept-new\n",
                gate.port,
                me()
            )
        };
        // ssh takes the home folder from the system's list of users: a configuration must be named to reach it.
        let settings = |jump: &str| {
            let nas = format!("{NAS} Port {}\n ProxyJump {jump}\n", site.server.port);
            write(&site.two().path("config"), &format!("{nas}{}{}", hop("gate"), hop("gate2")), 0o600);
        };
        let through = ["--ssh-config", "config"];
        settings("gate");
        site.sync(&through).expect(0);
        site.world.assert_same();
        assert_eq!(gate.connections.load(Ordering::SeqCst), 1);
        settings("gate2,gate");
        site.sync(&through).expect(0);
        assert_eq!(gate.connections.load(Ordering::SeqCst), 3);
        settings("no-such-user@gate");
        let said = site.sync(&through).expect(10);
        said.says(&["the proxy ssh ended with status 255", "Permission denied"]);
    }
}

mod agents {
    use super::*;

    #[test]
    fn the_right_one_of_many_keys_in_an_agent_is_found() {
        if !has("ssh-agent") {
            return;
        }
        let site = Site::new();
        let agent = Agent::start(site.two());
        for name in ["k1", "k2", "k3"] {
            make_key(site.two(), name, "ed25519", "");
            agent.add(site.two(), &[name]).expect(0);
        }
        site.hide_key("right");
        agent.add(site.two(), &["right"]).expect(0);
        fs::remove_file(site.path("right")).unwrap();
        site.sync_with(&agent, &[]).expect(0);
        site.world.assert_same();
        // Without the agent, or where the configuration forbids it, there is nothing.
        site.sync(&[]).expect(5).says(&["there is no key to try", "ssh-keygen"]);
        site.configure(" IdentityAgent none");
        site.sync_with(&agent, &[]).expect(5).says(&["there is no key to try"]);
        site.configure(" IdentityAgent ~/agent");
        site.sync(&[]).expect(0);
    }

    #[test]
    fn identities_only_leaves_the_other_keys_of_the_agent_alone() {
        if !has("ssh-agent") {
            return;
        }
        let site = Site::new();
        let agent = Agent::start(site.two());
        site.hide_key("right");
        agent.add(site.two(), &["right"]).expect(0);
        make_key(site.two(), "wrong", "ed25519", "");
        site.configure(" IdentityFile ~/wrong\n IdentitiesOnly yes");
        let refused = site.sync_with(&agent, &[]).expect(5);
        refused.says(&["none of the keys tried (SHA256:"]);
        assert_eq!(refused.err.matches("SHA256:").count(), 1, "{refused:?}");
        // A public half names the key that the agent holds.
        fs::remove_file(site.path("right")).unwrap();
        let listed = agent.add(site.two(), &["-L"]).expect(0).out;
        fs::write(site.path("right.pub"), listed).unwrap();
        for named in ["~/right", "~/right.pub"] {
            site.configure(&format!(" IdentityFile {named}\n IdentitiesOnly yes"));
            site.sync_with(&agent, &[]).expect(0);
        }
        site.configure("");
        site.sync_with(&agent, &["--identity", "right"]).expect(0);
    }

    #[test]
    fn a_key_file_has_its_turn_however_many_keys_the_agent_holds() {
        if !has("ssh-agent") {
            return;
        }
        let site = Site::new();
        let agent = Agent::start(site.two());
        for number in 0..12 {
            let name = format!("k{number}");
            make_key(site.two(), &name, "ed25519", "");
            agent.add(site.two(), &[&name]).expect(0);
        }
        site.sync_with(&agent, &[]).expect(0);
        // And where no key is right, the server is not asked more often than it likes.
        fs::remove_file(site.path(".ssh/id_ed25519")).unwrap();
        let refused = site.sync_with(&agent, &[]).expect(5);
        refused.says(&["none of the keys tried"]);
        assert_eq!(refused.err.matches("SHA256:").count(), 10, "{refused:?}");
    }

    #[test]
    fn an_rsa_key_in_an_agent_signs_with_sha2() {
        if !has("ssh-agent") {
            return;
        }
        let site = Site::new();
        let agent = Agent::start(site.two());
        let public = make_key(site.two(), "rsa", "rsa", "");
        site.hide_key("other");
        site.world.authorize(&public);
        let server = site.world.serve();
        let port = server.port.to_string();
        agent.add(site.two(), &["rsa"]).expect(0);
        site.sync_with(&agent, &["--port", &port]).expect(0);
        // The same key from its file.
        site.sync(&["--port", &port, "--identity", "rsa"]).expect(0);
    }

    #[test]
    fn an_agent_that_is_missing_silent_or_unwilling_leads_on_to_the_files() {
        let site = Site::new();
        let with = |socket: &str| {
            let mut command = site.two().syncfiles(&["nas:folder1", "folder2"]);
            Running::start(std::mem::replace(
                command.env("SSH_AUTH_SOCK", socket),
                std::process::Command::new("true"),
            ))
            .end()
        };
        with("/no/such/agent").expect(0);
        let silent = UnixListener::bind(site.path("silent")).unwrap();
        with(&site.path("silent")).expect(0);
        drop(silent);
        for (name, answers) in [
            // It hangs up, it talks nonsense, it refuses.
            ("closed", &b""[..]),
            ("nonsense", b"\xff\xff\xff\xff"),
            ("failure", b"\0\0\0\x01\x05\0\0\0\x01\x05"),
            ("forever", b"\0\0\0\x05\x0c\xff\xff\xff\xff"),
        ] {
            let listener = UnixListener::bind(site.path(name)).unwrap();
            let talk = thread::spawn(move || {
                use std::io::{Read, Write};
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.write_all(answers);
                if !answers.is_empty() {
                    let _ = stream.read_to_end(&mut Vec::new());
                }
            });
            with(&site.path(name)).expect(0);
            talk.join().unwrap();
        }
        // One that has the right key and does not sign with it.
        if !has("ssh-agent") {
            return;
        }
        let agent = Agent::start(site.two());
        agent.add(site.two(), &[".ssh/id_ed25519"]).expect(0);
        let listener = UnixListener::bind(site.path("unwilling")).unwrap();
        let socket = agent.socket.clone();
        let relay = thread::spawn(move || (0..2).for_each(|_| unwilling(&listener, &socket)));
        with(&site.path("unwilling")).expect(0);
        site.hide_key("away");
        let refused = with(&site.path("unwilling")).expect(5);
        refused.says(&["ssh-agent:"]);
        relay.join().unwrap();
    }

    /// Passes everything on to an agent but requests for a signature, which it refuses.
    fn unwilling(listener: &UnixListener, agent: &Path) {
        use std::io::{Read, Write};
        use std::os::unix::net::UnixStream;
        let (mut near, _) = listener.accept().unwrap();
        let mut far = UnixStream::connect(agent).unwrap();
        let message = |stream: &mut UnixStream| -> Option<Vec<u8>> {
            let mut length = [0; 4];
            stream.read_exact(&mut length).ok()?;
            let mut body = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut body).ok()?;
            Some([&length[..], &body].concat())
        };
        while let Some(asked) = message(&mut near) {
            let answer = match asked[4] {
                13 => b"\0\0\0\x01\x05".to_vec(),
                _ => {
                    far.write_all(&asked).unwrap();
                    message(&mut far).unwrap()
                }
            };
            near.write_all(&answer).unwrap();
        }
    }
}

mod passphrases {
    use super::*;

    impl Site {
        /// A site whose only key needs the passphrase `sesame`.
        fn sealed() -> Site {
            let site = Site::new();
            let change = ["-q", "-p", "-a", "1", "-P", "", "-N", "sesame", "-f", ".ssh/id_ed25519"];
            Running::start(site.two().command("ssh-keygen", &change)).end().expect(0);
            site
        }

        /// A sync on a terminal, in a shell that says how it ended.
        fn on_terminal(&self, options: &str) -> Terminal {
            let script = format!("trap : INT; \"$0\" nas:folder1 folder2 {options}; echo ended $?; read end");
            Terminal::run(self.two().on_terminal("sh", &["-c", &script, env!("CARGO_BIN_EXE_syncfiles")]))
        }
    }

    #[test]
    fn a_passphrase_is_asked_for_three_times_and_never_shown() {
        if !has("ssh-keygen") {
            return;
        }
        let site = Site::sealed();
        let mut terminal = site.on_terminal("");
        for answer in ["wrong\n", "also wrong\n"] {
            terminal.wait_for("Passphrase of ");
            assert!(!terminal.echoes());
            terminal.types(answer);
        }
        terminal.wait_for("Passphrase of ");
        terminal.types("sesame\n");
        terminal.wait_for("ended 0");
        assert!(terminal.echoes());
        assert!(!terminal.seen.contains("sesame") && !terminal.seen.contains("wrong"), "{}", terminal.seen);
        site.world.assert_same();

        let mut terminal = site.on_terminal("");
        for _ in 0..3 {
            terminal.wait_for("Passphrase of ");
            terminal.types("wrong\n");
        }
        terminal.wait_for("wrong passphrase");
        terminal.wait_for("ended 5");
    }

    #[test]
    fn a_server_that_lost_its_patience_is_reached_again_and_nobody_is_asked_twice() {
        if !has("ssh-keygen") {
            return;
        }
        let site = Site::sealed();
        let relay = Relay::to(site.server.port);
        let mut terminal = site.on_terminal(&format!("--port {}", relay.port));
        terminal.wait_for("Passphrase of ");
        relay.cut();
        terminal.types("sesame\n");
        terminal.wait_for("ended 0");
        assert_eq!(terminal.seen.matches("Passphrase").count(), 1, "{}", terminal.seen);
        site.world.assert_same();
    }

    #[test]
    fn an_interrupted_question_leaves_the_terminal_as_it_was() {
        if !has("ssh-keygen") {
            return;
        }
        let site = Site::sealed();
        let mut terminal = site.on_terminal("");
        terminal.wait_for("Passphrase of ");
        assert!(!terminal.echoes());
        terminal.types("\x03");
        terminal.wait_for("ended 20");
        assert!(terminal.echoes());
        terminal.types("\n");
        terminal.end();
    }

    #[test]
    fn a_key_that_the_server_does_not_want_is_not_asked_for() {
        if !has("ssh-keygen") {
            return;
        }
        let site = Site::new();
        site.hide_key(".ssh/id_ecdsa");
        make_key(site.two(), ".ssh/id_ed25519", "ed25519", "sesame");
        let mut terminal = site.on_terminal("");
        terminal.wait_for("ended 0");
        assert!(!terminal.seen.contains("Passphrase"), "{}", terminal.seen);
        // An old format does not tell the public half, but the file beside it does.
        make_key(site.two(), "pem", "rsa", "");
        let convert = ["-q", "-p", "-m", "PEM", "-P", "", "-N", "sesame", "-f", "pem"];
        Running::start(site.two().command("ssh-keygen", &convert)).end().expect(0);
        site.configure(" IdentityFile ~/pem\n IdentityFile ~/.ssh/id_ecdsa");
        let mut terminal = site.on_terminal("");
        terminal.wait_for("ended 0");
        assert!(!terminal.seen.contains("Passphrase"), "{}", terminal.seen);
        fs::remove_file(site.path("pem.pub")).unwrap();
        let mut terminal = site.on_terminal("");
        terminal.wait_for("Passphrase of ");
        terminal.types("\n");
        terminal.wait_for("ended 0");
    }

    #[test]
    fn without_a_terminal_a_sealed_key_is_named_with_what_to_do() {
        if !has("ssh-keygen") {
            return;
        }
        let site = Site::sealed();
        site.sync(&[]).expect(5).says(&["id_ed25519", "passphrase", "ssh-agent"]);
        site.configure(" BatchMode yes");
        let mut terminal = site.on_terminal("");
        terminal.wait_for("it needs a passphrase");
        terminal.wait_for("ended 5");
    }

    #[test]
    fn a_host_is_asked_about_on_a_terminal_unless_the_configuration_says_otherwise() {
        let site = Site::new();
        let config = |more: &str| {
            let port = site.server.port;
            let text = format!("Host nas\n HostName 127.0.0.1\n User alice\n Port {port}\n{more}\n");
            write(&site.two().path(".ssh/config"), &text, 0o600);
        };
        config(" StrictHostKeyChecking yes");
        let mut terminal = site.on_terminal("");
        terminal.wait_for("is not known");
        terminal.wait_for("ended 5");
        config("");
        let mut terminal = site.on_terminal("");
        terminal.wait_for("(yes/no)? ");
        terminal.types("no\n");
        terminal.wait_for("ended 5");
        let mut terminal = site.on_terminal("");
        terminal.wait_for(&site.server.host_key);
        terminal.wait_for("(yes/no)? ");
        terminal.types("yes\n");
        terminal.wait_for("ended 0");
        site.sync(&[]).expect(0);
    }
}
