//! Logging in with certificates that OpenSSH's own programs made and keep.

use std::fs;
use std::path::Path;

use crate::support::openssh::{Agent, make_key};
use crate::support::process::{Ended, Running, Server, World, has};

/// A server that trusts an authority, and a client whose key is certified by it.
struct Site {
    world: World,
    server: Server,
}

impl Site {
    /// With what stands before the authority's key in authorized_keys. Nothing where OpenSSH is not installed.
    fn new(options: &str) -> Option<Site> {
        if !has("ssh-keygen") {
            return None;
        }
        let world = World::new();
        world.folder1().write("a", "1", 10);
        fs::create_dir(world.one.path("other")).unwrap();
        fs::write(world.one.path("other/b"), "2").unwrap();
        let authority = make_key(&world.two, "authority", "ed25519", "");
        fs::remove_file(world.two.path(".ssh/id_ed25519")).unwrap();
        make_key(&world.two, ".ssh/id_ed25519", "ed25519", "");
        world.authorize(&format!("{options} {authority}"));
        let server = world.serve();
        Some(Site { world, server })
    }

    /// `ssh-keygen -s`: the certificate is beside the key.
    fn sign(&self, authority: &str, options: &[&str]) {
        let args =
            [&["-q", "-s", authority, "-I", "ann's laptop"], options, &[".ssh/id_ed25519.pub"]].concat();
        Running::start(self.world.two.command("ssh-keygen", &args)).end().expect(0);
    }

    fn sync(&self, options: &[&str]) -> Ended {
        self.world.sync(&self.server, options)
    }

    /// The login is refused for this reason, which only the log tells.
    fn refuses(&self, because: &str) {
        let ended = self.sync(&[]).expect(5);
        assert!(!ended.err.contains(because), "{ended:?}");
        self.server.wait_for(because);
    }
}

#[test]
fn a_certificate_beside_the_key_logs_in_and_the_log_says_who_certified_whom() {
    let Some(site) = Site::new("cert-authority") else { return };
    site.refuses("the key is not among the authorized keys");
    site.sign("authority", &["-n", "alice,root", "-z", "7", "-V", "-1m:+1h"]);
    site.sync(&[]).expect(0);
    site.world.assert_same();
    let line = site.server.wait_for("logged in");
    assert!(line.contains("certified as ann's laptop (serial 7) by SHA256:"), "{line}");
}

#[test]
fn what_a_certificate_lacks_refuses_it_whatever_else_it_has() {
    let Some(site) = Site::new("cert-authority") else { return };
    make_key(&site.world.two, "stranger", "ed25519", "");
    for (authority, options, because) in [
        ("stranger", &["-n", "alice"][..], "authority is not among"),
        ("authority", &["-n", "bob"], "none of its principals"),
        ("authority", &[], "names no principals"),
        ("authority", &["-h", "-n", "alice"], "the key is not among"),
        (
            "authority",
            &["-n", "alice", "-O", "critical:new-rule=1"],
            "its critical option \\\"new-rule\\\" is not supported",
        ),
        ("authority", &["-n", "alice", "-O", "verify-required"], "verify-required\\\" is not supported"),
        ("authority", &["-n", "alice", "-O", "force-command=/bin/sh"], "the command \\\"/bin/sh\\\" is not"),
        ("authority", &["-n", "alice", "-O", "source-address=192.0.2.0/24"], "source-address does not admit"),
    ] {
        site.sign(authority, options);
        site.refuses(because);
    }
    site.sign("authority", &["-n", "alice", "-O", "source-address=127.0.0.0/8", "-O", "clear"]);
    site.sync(&[]).expect(0);
}

#[test]
fn a_list_of_principals_and_a_forced_command_are_honoured() {
    let Some(site) = Site::new("cert-authority,principals=\"staff,backup\"") else { return };
    site.sign("authority", &["-n", "alice"]);
    site.refuses("none of its principals");
    site.sign("authority", &["-n", "staff"]);
    site.sync(&[]).expect(0);
    let command = "force-command=syncfiles serve --stdio --read-only sub=folder1/below";
    fs::create_dir(site.world.one.path("folder1/below")).unwrap();
    fs::write(site.world.one.path("folder1/below/c"), "3").unwrap();
    site.sign("authority", &["-n", "staff", "-O", command]);
    site.sync(&[]).expect(5).says(&["cannot find the export", "offers sub"]);
    let port = site.server.port.to_string();
    let sync = || site.world.two.run(&["alice@127.0.0.1:sub", "folder3", "--accept-new", "--port", &port]);
    sync().expect(0);
    assert_eq!(fs::read_to_string(site.world.two.path("folder3/c")).unwrap(), "3");
    fs::write(site.world.two.path("folder3/mine"), "4").unwrap();
    sync();
    assert!(!site.world.one.path("folder1/below/mine").exists());
}

#[test]
fn a_certificate_that_the_configuration_names_and_one_that_an_agent_holds_log_in() {
    let Some(site) = Site::new("cert-authority") else { return };
    site.sign("authority", &["-n", "alice"]);
    let (two, ssh) = (&site.world.two, |name: &str| site.world.two.path(".ssh").join(name));
    let agent = Agent::start(two);
    agent.add(two, &["-q", ".ssh/id_ed25519"]).expect(0);
    fs::rename(ssh("id_ed25519-cert.pub"), ssh("ann-cert.pub")).unwrap();
    site.refuses("the key is not among");
    fs::write(ssh("config"), "Host *\n CertificateFile ~/.ssh/ann-cert.pub\n").unwrap();
    site.sync(&[]).expect(0);
    // The agent alone: neither key nor certificate are files any more.
    fs::remove_file(ssh("config")).unwrap();
    for name in ["id_ed25519", "id_ed25519.pub", "ann-cert.pub"] {
        fs::remove_file(ssh(name)).unwrap();
    }
    let port = site.server.port.to_string();
    let args = ["alice@127.0.0.1:folder1", "folder2", "--accept-new", "--port", &port];
    Running::start(agent.give(&mut two.syncfiles(&args))).end().expect(0);
}

#[test]
fn an_authority_of_another_kind_is_as_good_but_none_that_signs_with_sha1() {
    for (kind, how, good) in
        [("ecdsa", &[][..], true), ("rsa", &["-t", "rsa-sha2-512"], true), ("rsa", &["-t", "ssh-rsa"], false)]
    {
        let Some(site) = Site::new("cert-authority") else { return };
        let authority = make_key(&site.world.two, "another", kind, "");
        site.world.authorize(&format!("cert-authority {authority}"));
        site.server.signal(rustix::process::Signal::HUP);
        site.server.wait_for("read the authorized keys again keys=1");
        site.sign("another", &[how, &["-n", "alice"]].concat());
        let ended = site.sync(&[]);
        assert_eq!(ended.status.code(), Some(if good { 0 } else { 5 }), "{kind} {how:?}: {ended:?}");
    }
}

#[test]
fn an_authority_is_no_client_and_a_revoked_authority_lets_nobody_in() {
    let Some(site) = Site::new("cert-authority") else { return };
    site.sign("authority", &["-n", "alice"]);
    let port = site.server.port.to_string();
    let args =
        ["alice@127.0.0.1:folder1", "folder2", "--accept-new", "--port", &port, "--identity", "authority"];
    site.world.two.run(&args).expect(5);
    site.server.wait_for("the key is not among the authorized keys");
    site.sync(&[]).expect(0);
    let another = make_key(&site.world.two, "another", "ed25519", "");
    site.world.authorize(&another);
    site.server.signal(rustix::process::Signal::HUP);
    site.server.wait_for("read the authorized keys again");
    site.refuses("is not among the authorized keys");
    assert!(Path::new(&site.world.two.path(".ssh/id_ed25519-cert.pub")).exists());
}
