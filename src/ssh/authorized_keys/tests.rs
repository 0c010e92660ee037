//! Tests of the parser beside this folder.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;
use crate::ssh::host_key::ephemeral;
use crate::ssh::key_text::tests::ED25519;

const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const NOW: SystemTime = UNIX_EPOCH;

fn key() -> PublicKey {
    ED25519.parse().unwrap()
}

/// What a file in which KEY stands for the key says about it.
fn authorize(text: &str) -> Result<Limits, Denied> {
    let (keys, _) = AuthorizedKeys::parse(text.replace("KEY", ED25519).as_bytes());
    keys.authorize(&key(), Some(HOME), NOW).cloned()
}

/// The only note on a file of one line.
fn note(line: &str) -> String {
    let (keys, notes) = AuthorizedKeys::parse(line.replace("KEY", ED25519).as_bytes());
    assert!(keys.is_empty(), "{line}");
    assert_eq!(notes.len(), 1, "{line}");
    notes[0].to_string()
}

#[test]
fn plain_lines_admit_their_key_however_they_are_spaced() {
    let tabbed = ED25519.replace(' ', "\t");
    for text in ["KEY", "KEY\n", "  \tKEY  ", "KEY a comment with \"quotes\" and # signs", "KEY\r\n", &tabbed]
    {
        assert_eq!(authorize(text), Ok(Limits::default()), "{text}");
    }
    assert_eq!(authorize(""), Err(Denied::Unlisted));
    assert_eq!(authorize("# KEY\n"), Err(Denied::Unlisted));
}

#[test]
fn a_comment_does_not_matter_when_keys_are_compared() {
    let (keys, _) = AuthorizedKeys::parse(format!("{ED25519} somebody@here").as_bytes());
    let mut offered = key();
    offered.set_comment("somebody else");
    assert!(keys.authorize(&offered, None, NOW).is_ok());
}

#[test]
fn another_key_is_not_admitted() {
    let (keys, _) = AuthorizedKeys::parse(ED25519.as_bytes());
    assert_eq!(keys.authorize(ephemeral().public_key(), None, NOW), Err(Denied::Unlisted));
}

#[test]
fn options_that_only_take_away_are_accepted_in_any_case() {
    for options in [
        "restrict",
        "no-pty,no-port-forwarding,no-agent-forwarding,no-X11-forwarding,no-user-rc",
        "RESTRICT,No-Pty",
    ] {
        assert_eq!(authorize(&format!("{options} KEY c")), Ok(Limits::default()), "{options}");
    }
}

#[test]
fn a_command_becomes_the_keys_limits() {
    let line = r#"restrict,command="syncfiles serve --stdio --read-only \"my music=/srv/my music\"" KEY me"#;
    let limits = authorize(line).unwrap();
    assert!(limits.read_only && !limits.no_delete);
    let [export] = &limits.exports.unwrap()[..] else { panic!() };
    assert_eq!((export.name.as_str(), export.dir.to_str().unwrap()), ("my music", "/srv/my music"));
}

#[test]
fn a_line_that_asks_for_anything_else_is_not_used_and_noted() {
    for (line, reason) in [
        ("pty KEY", "\"pty\" is not supported"),
        ("restrict,pty KEY", "\"pty\" is not supported"),
        ("cert-authority=\"x\" KEY", "not supported"),
        ("principals=\"a\" KEY", "for lines with cert-authority"),
        ("cert-authority,principals KEY", "not supported"),
        ("cert-authority,principals=\"\" KEY", "no list of names"),
        ("cert-authority,principals=\"a,\" KEY", "no list of names"),
        ("cert-authority,principals=\"a*\" KEY", "no list of names"),
        ("cert-authority,principals=\"a, b\" KEY", "no list of names"),
        ("cert-authority,principals=\"a\",principals=\"b\" KEY", "two options"),
        ("cert-authority,no-touch-required KEY", "not supported"),
        ("cert-authority", "no key"),
        ("environment=\"A=b\" KEY", "not supported"),
        ("permitopen=\"a:1\" KEY", "not supported"),
        ("no-touch-required KEY", "not supported"),
        ("restrict=\"x\" KEY", "not supported"),
        ("from KEY", "not supported"),
        ("command=\"/bin/sh\" KEY", "is not \"syncfiles serve"),
        ("from=\"a\",from=\"b\" KEY", "no address"),
        ("from=\"10.0.0.1\",from=\"*\" KEY", "two options"),
        ("from=10.0.0.1 KEY", "quotes"),
        ("from=\"10.0.0.1 KEY", "open"),
        ("from=\"10.0.0.1\"restrict KEY", "without a comma"),
        ("restrict, KEY", "empty option"),
        (",restrict KEY", "empty option"),
        ("restrict", "no key"),
        ("restrict restrict KEY", "the key type restrict is not supported"),
        ("expiry-time=\"20300101\" KEY", "with a Z"),
        ("ssh-dss AAAA", "DSA"),
        ("ssh-ed25519-cert-v01@openssh.com AAAA", "is no key"),
        ("sk-ssh-ed25519@openssh.com AAAA", "security keys"),
        ("ssh-ed25519", "damaged"),
        ("ssh-ed25519 AAAA", "damaged"),
        ("\u{1b}[2J KEY", "\\x1b"),
    ] {
        let note = note(line);
        assert!(note.starts_with("line 1 is not used: ") && note.contains(reason), "{line}: {note}");
        assert!(!note.contains('\u{1b}') && !note.contains('\n'), "{note}");
    }
}

#[test]
fn a_short_rsa_key_is_not_used() {
    let blob = {
        let mut blob = Vec::new();
        for part in [&b"ssh-rsa"[..], &[1, 0, 1], &[0x7f; 128]] {
            blob.extend((part.len() as u32).to_be_bytes());
            blob.extend(part);
        }
        blob
    };
    use russh::keys::ssh_encoding::base64::{Base64, Encoding};
    assert!(note(&format!("ssh-rsa {}", Base64::encode_string(&blob))).contains("too short"));
}

#[test]
fn a_bad_line_does_not_spoil_the_others() {
    let text = format!("nonsense\n\n# comment\npty {ED25519}\n\u{fe}\n{ED25519} good\n");
    let (keys, notes) = AuthorizedKeys::parse(text.as_bytes());
    assert_eq!(keys.len(), 1);
    assert_eq!(notes.iter().map(|note| note.line).collect::<Vec<_>>(), [1, 4, 5]);
}

#[test]
fn from_admits_by_address_and_nobody_whose_address_is_unknown() {
    assert!(authorize("from=\"10.0.0.0/8\" KEY").is_ok());
    assert_eq!(authorize("from=\"10.0.0.0/8,!10.0.0.1\" KEY"), Err(Denied::Address(1)));
    let (keys, _) = AuthorizedKeys::parse(format!("from=\"*\" {ED25519}").as_bytes());
    assert_eq!(keys.authorize(&key(), None, NOW), Err(Denied::Address(1)));
}

#[test]
fn a_key_expires_after_its_last_moment() {
    let lines = "expiry-time=\"20300101Z\",expiry-time=\"20000101Z\" KEY".replace("KEY", ED25519);
    let (keys, _) = AuthorizedKeys::parse(lines.as_bytes());
    let last = UNIX_EPOCH + Duration::from_secs(946_684_800);
    assert!(keys.authorize(&key(), None, last).is_ok());
    let late = last + Duration::from_secs(1);
    assert_eq!(keys.authorize(&key(), None, late), Err(Denied::Expired(1)), "the earliest expiry holds");
}

#[test]
fn the_first_line_that_admits_a_key_gives_its_limits() {
    let text = "from=\"192.0.2.1\" KEY\ncommand=\"syncfiles serve --stdio --read-only /a\" KEY\nKEY\n";
    assert!(authorize(text).unwrap().read_only);
}

#[test]
fn lines_and_files_that_are_too_long_are_not_read() {
    assert!(note(&format!("KEY {}", "x".repeat(LINE_CAP))).contains("longer than"));
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("authorized_keys");
    fs::write(&path, vec![b'\n'; FILE_CAP as usize + 1]).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(AuthorizedKeys::load(&path), Err(AuthorizedKeysError::Read { .. })));
    let (_, notes) = AuthorizedKeys::parse("bad\n".repeat(10_000).as_bytes());
    assert_eq!(notes.len(), NOTES_CAP + 1, "the last one says that there are more");
}

#[test]
fn a_file_that_others_may_write_is_refused_with_the_remedy() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("authorized_keys");
    fs::write(&path, ED25519).unwrap();
    for (mode, usable) in [(0o600, true), (0o644, true), (0o664, false), (0o646, false), (0o622, false)] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        match AuthorizedKeys::load(&path) {
            Ok((keys, notes)) => assert!(usable && keys.len() == 1 && notes.is_empty(), "{mode:o}"),
            Err(error) => assert!(!usable && error.to_string().contains("chmod go-w /"), "{mode:o}: {error}"),
        }
    }
}

#[test]
fn a_file_of_another_user_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("authorized_keys");
    fs::write(&path, ED25519).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    if std::os::unix::fs::chown(&path, Some(12_345), None).is_err() {
        return; // Only root can give files away.
    }
    let refused = AuthorizedKeys::load(&path);
    assert!(matches!(refused, Err(AuthorizedKeysError::Owner { owner: 12_345, .. })));
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(text: Vec<u8>) {
        let (keys, _) = AuthorizedKeys::parse(&text);
        prop_assert!(keys.authorize(&key(), Some(HOME), NOW).is_err());
    }

    #[test]
    fn no_likely_line_makes_the_parser_panic(
        options in r#"((from|command|expiry-time|cert-authority|principals|restrict|no-pty)(="?[a-z0-9./:*!, \\"'=~$-]{0,30}"?)?,?){0,3}"#,
    ) {
        let _ = AuthorizedKeys::parse(format!("{options} {ED25519}").as_bytes());
    }

    #[test]
    fn no_option_outside_the_table_is_ever_used(
        name in "[a-zA-Z0-9-]{1,20}",
        value in proptest::option::of("[a-z0-9]{0,8}"),
    ) {
        let known = [
            "restrict", "no-pty", "no-port-forwarding", "no-agent-forwarding", "no-x11-forwarding", "no-user-rc",
        ];
        prop_assume!(value.is_some() || !known.contains(&name.to_ascii_lowercase().as_str()));
        prop_assume!(!key_text::names_a_type(name.as_bytes()));
        let option = value.map_or(name.clone(), |value| format!("{name}=\"{value}\""));
        let (keys, _) = AuthorizedKeys::parse(format!("{option} {ED25519}").as_bytes());
        prop_assert!(keys.is_empty());
    }
}
