//! Keys and key files as OpenSSH's own tools make them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use russh::keys::{PublicKey, load_public_key};
use syncfiles::ssh::authorized_keys::AuthorizedKeys;
use syncfiles::ssh::host_key::{fingerprint, load_or_create};
use syncfiles::ssh::identity::{self, IdentityError};
use syncfiles::ssh::known_hosts::{Offered, Verdict, check, remember};
use tempfile::TempDir;

/// A folder in which ssh-keygen works.
struct Bench {
    home: TempDir,
}

impl Bench {
    /// Nothing where ssh-keygen is not installed; that fails on CI.
    fn new() -> Option<Self> {
        let there = Command::new("ssh-keygen").arg("-?").stdin(Stdio::null()).output().is_ok();
        if !there {
            assert!(std::env::var_os("CI").is_none(), "ssh-keygen is missing on CI");
            eprintln!("skipped: ssh-keygen is not installed");
            return None;
        }
        Some(Self { home: tempfile::tempdir().unwrap() })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// What ssh-keygen prints.
    fn keygen(&self, args: &[&str]) -> String {
        let run = Command::new("ssh-keygen")
            .args(args)
            .current_dir(&self.home)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(run.status.success(), "ssh-keygen {args:?}: {}", String::from_utf8_lossy(&run.stderr));
        String::from_utf8(run.stdout).unwrap()
    }

    /// A key pair NAME and NAME.pub.
    fn make(&self, name: &str, kind: &[&str], passphrase: &str) -> (PathBuf, PublicKey) {
        // One round of bcrypt: the tests need no slow unlocking.
        let mut args = vec!["-q", "-a", "1", "-f", name, "-N", passphrase, "-t"];
        args.extend(kind);
        self.keygen(&args);
        (self.path(name), load_public_key(self.path(&format!("{name}.pub"))).unwrap())
    }
}

/// Types and formats, in ssh-keygen's words.
const KINDS: [&[&str]; 10] = [
    &["ed25519"],
    &["ecdsa", "-b", "256"],
    &["ecdsa", "-b", "384"],
    &["ecdsa", "-b", "521"],
    &["rsa", "-b", "2048"],
    &["ecdsa", "-m", "PEM"],
    &["ecdsa", "-m", "PKCS8"],
    &["rsa", "-b", "2048", "-m", "PEM"],
    &["rsa", "-b", "2048", "-m", "PKCS8"],
    &["ed25519", "-m", "PKCS8"],
];

#[test]
fn keys_of_every_type_and_format_are_read() {
    let Some(bench) = Bench::new() else { return };
    for (number, kind) in KINDS.iter().enumerate() {
        let (path, public) = bench.make(&format!("plain{number}"), kind, "");
        let key = identity::load(&path, None).unwrap_or_else(|e| panic!("{kind:?}: {e}"));
        assert_eq!(key.public_key().key_data(), public.key_data(), "{kind:?}");
        let printed = bench.keygen(&["-l", "-f", path.to_str().unwrap()]);
        assert!(printed.contains(&fingerprint(&public)), "{kind:?}: {printed}");
    }
}

#[test]
fn encrypted_keys_of_every_type_and_format_open_with_their_passphrase() {
    let Some(bench) = Bench::new() else { return };
    for (number, kind) in KINDS.iter().enumerate() {
        let (path, public) = bench.make(&format!("sealed{number}"), kind, "open sesame");
        let opened = identity::load(&path, Some(&mut |_: &Path| Ok("open sesame".into())));
        match opened {
            Ok(key) => assert_eq!(key.public_key().key_data(), public.key_data(), "{kind:?}"),
            // PEM's old encryption of ECDSA keys is told apart, with the remedy.
            Err(IdentityError::Format { .. }) if *kind == ["ecdsa", "-m", "PEM"] => continue,
            Err(error) => panic!("{kind:?}: {error}"),
        }
        assert!(matches!(identity::load(&path, None), Err(IdentityError::Encrypted { .. })), "{kind:?}");
        let wrong = identity::load(&path, Some(&mut |_: &Path| Ok("wrong".into())));
        assert!(matches!(wrong, Err(IdentityError::Passphrase { .. })), "{kind:?}");
    }
}

#[test]
fn a_short_rsa_key_is_refused() {
    let Some(bench) = Bench::new() else { return };
    let (path, _) = bench.make("short", &["rsa", "-b", "1024"], "");
    assert!(identity::load(&path, None).unwrap_err().to_string().contains("too short"));
}

#[test]
fn ssh_keygen_reads_the_host_key_made_here() {
    let Some(bench) = Bench::new() else { return };
    let (key, _) = load_or_create(&bench.path("host_key")).unwrap();
    let printed: PublicKey = bench.keygen(&["-y", "-f", "host_key"]).parse().unwrap();
    assert_eq!(printed.key_data(), key.public_key().key_data());
}

#[test]
fn a_file_hashed_by_ssh_keygen_still_knows_its_hosts() {
    let Some(bench) = Bench::new() else { return };
    let (_, key) = bench.make("a", &["ed25519"], "");
    let (_, other) = bench.make("b", &["ed25519"], "");
    let file = bench.path("known_hosts");
    let hosts = [("host.example", 22), ("host.example", 2222), ("192.0.2.1", 2222), ("2001:db8::1", 22)];
    for (host, port) in hosts {
        remember(&file, &Offered { host, port, key: &key }).unwrap();
    }
    bench.keygen(&["-H", "-f", "known_hosts"]);
    assert!(!fs::read_to_string(&file).unwrap().contains("example"), "the names are hashed");
    let files = [file];
    for (host, port) in hosts {
        assert_eq!(
            check(&files, &Offered { host, port, key: &key }).unwrap(),
            Verdict::Known,
            "{host} {port}"
        );
        let changed = check(&files, &Offered { host, port, key: &other }).unwrap();
        assert!(matches!(changed, Verdict::Changed(_)), "{host} {port}");
    }
    let elsewhere = Offered { host: "host.example", port: 2022, key: &key };
    assert!(matches!(check(&files, &elsewhere).unwrap(), Verdict::Unknown { .. }));
}

#[test]
fn ssh_keygen_finds_the_hosts_remembered_here() {
    let Some(bench) = Bench::new() else { return };
    let (_, key) = bench.make("a", &["ecdsa"], "");
    remember(&bench.path("known_hosts"), &Offered { host: "Host.example", port: 2222, key: &key }).unwrap();
    let found = bench.keygen(&["-F", "[host.example]:2222", "-f", "known_hosts"]);
    assert!(found.contains("line 1"), "{found}");
}

#[test]
fn public_keys_made_by_ssh_keygen_are_authorized() {
    let Some(bench) = Bench::new() else { return };
    let kinds = &KINDS[..5];
    let keys: Vec<_> =
        kinds.iter().enumerate().map(|(n, kind)| bench.make(&format!("k{n}"), kind, "").1).collect();
    let text: Vec<_> =
        (0..kinds.len()).map(|n| fs::read_to_string(bench.path(&format!("k{n}.pub"))).unwrap()).collect();
    let (authorized, notes) = AuthorizedKeys::parse(text.concat().as_bytes());
    assert_eq!((authorized.len(), notes), (kinds.len(), vec![]));
    for key in &keys {
        assert!(authorized.authorize(key, None, SystemTime::now()).is_ok());
    }
}
