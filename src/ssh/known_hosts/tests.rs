//! Tests of the parser beside this folder.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::ssh::host_key::ephemeral;

const ECDSA: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBHwf2HMM5TRXvo2SQJjsNkiDD5KqiiNjrGVv3UUh+mMT5RHxiRtOnlqvjhQtBq0VpmpCV/PwUdhOig4vkbqAcEc=";

/// A folder with known_hosts files, and the keys of two hosts.
struct Desk {
    home: TempDir,
    key: PublicKey,
    other: PublicKey,
}

impl Desk {
    fn new() -> Self {
        let [key, other] = [ephemeral(), ephemeral()].map(|key| key.public_key().clone());
        Self { home: tempfile::tempdir().unwrap(), key, other }
    }

    /// A file of lines in which KEY and OTHER stand for the two keys.
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.home.path().join(name);
        let text = text.replace("KEY", &text_of(&self.key)).replace("OTHER", &text_of(&self.other));
        fs::write(&path, text).unwrap();
        path
    }

    fn offered(&self) -> Offered<'_> {
        Offered { host: "a.example", port: 2222, key: &self.key }
    }

    fn check(&self, text: &str) -> Verdict {
        check(&[self.file("known_hosts", text)], &self.offered()).unwrap()
    }
}

fn text_of(key: &PublicKey) -> String {
    PublicKey::from(key.key_data().clone()).to_openssh().unwrap()
}

fn unknown(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Unknown { others } if others.is_empty())
}

#[test]
fn a_key_is_known_by_its_host_and_port() {
    let desk = Desk::new();
    assert_eq!(desk.check("[a.example]:2222 KEY a comment\n"), Verdict::Known);
    assert_eq!(desk.check("# note\n\nnonsense\nb.example OTHER\n[*.example]:2222\tKEY"), Verdict::Known);
    assert!(unknown(&desk.check("a.example KEY\n")), "port 22 is another server");
    assert!(unknown(&desk.check("[a.example]:2222,!*2222 KEY\n")));
    assert!(unknown(&desk.check("")));
}

#[test]
fn host_names_are_compared_without_case() {
    let desk = Desk::new();
    let file = desk.file("known_hosts", "a.example KEY\n");
    let offered = Offered { host: "A.Example", port: 22, key: &desk.key };
    assert_eq!(check(&[file], &offered).unwrap(), Verdict::Known);
}

#[test]
fn another_key_of_the_same_type_is_a_change_and_says_where() {
    let desk = Desk::new();
    let Verdict::Changed(known) = desk.check("# one\n[a.example]:2222 OTHER\n") else { panic!() };
    assert_eq!((known.line, known.fingerprint), (2, fingerprint(&desk.other)));
}

#[test]
fn a_matching_line_counts_even_after_one_that_differs() {
    let desk = Desk::new();
    assert_eq!(desk.check("[a.example]:2222 OTHER\n[a.example]:2222 KEY\n"), Verdict::Known);
    let files = [desk.file("one", "[a.example]:2222 OTHER\n"), desk.file("two", "[a.example]:2222 KEY\n")];
    assert_eq!(check(&files, &desk.offered()).unwrap(), Verdict::Known);
}

#[test]
fn a_key_of_another_type_is_unknown_but_mentioned() {
    let desk = Desk::new();
    let Verdict::Unknown { others } = desk.check(&format!("[a.example]:2222 {ECDSA}\n")) else { panic!() };
    assert_eq!(others.len(), 1);
    assert_eq!(others[0].algorithm.as_str(), "ecdsa-sha2-nistp256");
    let file = desk.home.path().join("known_hosts");
    assert_eq!(known_algorithms(&[file], "a.example", 2222).unwrap(), [others[0].algorithm.clone()]);
}

#[test]
fn a_revoked_key_is_refused_whatever_else_is_said() {
    let desk = Desk::new();
    for revocation in ["@revoked [a.example]:2222 KEY", "@revoked * KEY", "@revoked a.example KEY"] {
        let verdict = desk.check(&format!("[a.example]:2222 KEY\n{revocation}\n"));
        assert!(matches!(&verdict, Verdict::Revoked(known) if known.line == 2), "{revocation}: {verdict:?}");
        assert!(decide(&desk.offered(), verdict, Some(&mut |_| Ok(true)), true).is_err());
    }
    assert_eq!(desk.check("[a.example]:2222 KEY\n@revoked * OTHER\n"), Verdict::Known);
}

#[test]
fn an_authority_vouches_for_no_plain_key() {
    let desk = Desk::new();
    assert!(unknown(&desk.check("@cert-authority * KEY\n")));
    assert!(unknown(&desk.check("@cert-authority * OTHER\n")));
}

#[test]
fn a_damaged_key_stops_the_check_only_for_its_own_host() {
    let desk = Desk::new();
    for line in ["[a.example]:2222 ssh-ed25519 AAAA", "@revoked a.example ssh-ed25519 AAAA"] {
        let file = desk.file("known_hosts", &format!("{line}\n"));
        let error = check(&[file], &desk.offered()).unwrap_err().to_string();
        assert!(error.contains("line 1"), "{error}");
    }
    assert_eq!(desk.check("b.example ssh-ed25519 AAAA\n[a.example]:2222 KEY\n"), Verdict::Known);
    assert_eq!(desk.check("* ssh-dss AAAA\n[a.example]:2222 KEY\n"), Verdict::Known);
}

#[test]
fn a_missing_file_is_empty_and_an_unreadable_one_an_error() {
    let desk = Desk::new();
    let missing = desk.home.path().join("missing");
    assert!(unknown(&check(&[missing], &desk.offered()).unwrap()));
    let folder = desk.home.path().to_owned();
    assert!(matches!(check(&[folder], &desk.offered()), Err(KnownHostsError::Read { .. })));
}

#[test]
fn a_name_that_could_forge_a_line_is_no_host_name() {
    let desk = Desk::new();
    let file = desk.home.path().join("known_hosts");
    for host in ["", "a b", "a\nb", "*", "a,b", "|1|x", "@revoked", "#a", "!a", "[a]"] {
        let offered = Offered { host, ..desk.offered() };
        assert!(matches!(remember(&file, &offered), Err(KnownHostsError::HostName(_))), "{host}");
        assert!(matches!(check(&[], &offered), Err(KnownHostsError::HostName(_))), "{host}");
    }
    assert!(!file.exists());
}

#[test]
fn a_remembered_key_is_known_and_nothing_else_in_the_file_changes() {
    let desk = Desk::new();
    let file = desk.file("known_hosts", "b.example OTHER\n# no newline at the end");
    let before = fs::read_to_string(&file).unwrap();
    remember(&file, &desk.offered()).unwrap();
    let after = fs::read_to_string(&file).unwrap();
    assert_eq!(after, format!("{before}\n[a.example]:2222 {}\n", text_of(&desk.key)));
    assert_eq!(check(&[file], &desk.offered()).unwrap(), Verdict::Known);
}

#[test]
fn the_first_remembered_key_makes_a_private_folder_and_file() {
    let desk = Desk::new();
    let file = desk.home.path().join(".ssh/known_hosts");
    let offered = Offered { host: "fe80::1%eth0", port: 22, key: &desk.key };
    remember(&file, &offered).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    assert_eq!(check(std::slice::from_ref(&file), &offered).unwrap(), Verdict::Known);
    assert!(fs::read_to_string(&file).unwrap().starts_with("fe80::1%eth0 ssh-ed25519 "));
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    remember(&file, &desk.offered()).unwrap();
    assert_eq!(mode(&file), 0o644, "the user's own mode stays");
}

#[test]
fn a_known_key_passes_without_a_question() {
    let desk = Desk::new();
    let decision = decide(&desk.offered(), Verdict::Known, Some(&mut |_| panic!("asked")), false);
    assert_eq!(decision.unwrap(), Decision::Trusted);
}

#[test]
fn an_unknown_key_asks_on_a_terminal_and_is_refused_in_a_script() {
    let desk = Desk::new();
    let unknown = || Verdict::Unknown { others: vec![] };
    let mut asked = String::new();
    let mut yes = |question: &str| {
        asked = question.to_owned();
        Ok(true)
    };
    assert_eq!(decide(&desk.offered(), unknown(), Some(&mut yes), false).unwrap(), Decision::TrustedNew);
    assert!(asked.contains(&fingerprint(&desk.key)) && asked.contains("[a.example]:2222"), "{asked}");

    let declined = decide(&desk.offered(), unknown(), Some(&mut |_| Ok(false)), false);
    assert!(matches!(declined, Err(HostKeyRefused::Declined { .. })));
    let broken = decide(&desk.offered(), unknown(), Some(&mut |_| Err(io::Error::other("gone"))), false);
    assert!(matches!(broken, Err(HostKeyRefused::Ask { .. })));
    let script = decide(&desk.offered(), unknown(), None, false).unwrap_err().to_string();
    assert!(script.contains("--accept-new") && script.contains("SHA256:"), "{script}");
    assert_eq!(decide(&desk.offered(), unknown(), None, true).unwrap(), Decision::TrustedNew);
}

#[test]
fn accept_new_accepts_no_second_type_of_key_for_a_known_host() {
    let desk = Desk::new();
    let verdict = desk.check(&format!("[a.example]:2222 {ECDSA}\n"));
    let refused = decide(&desk.offered(), verdict.clone(), None, true);
    assert!(matches!(refused, Err(HostKeyRefused::OtherType { .. })));
    let asked =
        decide(&desk.offered(), verdict, Some(&mut |question| Ok(question.contains("another type"))), true);
    assert_eq!(asked.unwrap(), Decision::TrustedNew);
}

#[test]
fn a_changed_key_is_refused_with_both_fingerprints_on_one_line() {
    let desk = Desk::new();
    let verdict = desk.check("[a.example]:2222 OTHER\n");
    let error = decide(&desk.offered(), verdict, Some(&mut |_| Ok(true)), true).unwrap_err().to_string();
    for part in [fingerprint(&desk.key), fingerprint(&desk.other), "line 1".to_owned()] {
        assert!(error.contains(&part), "{error}");
    }
    assert!(!error.contains('\n') && !error.contains("  "), "{error}");
}

proptest! {
    #[test]
    fn no_file_makes_the_check_panic_or_trust(text: Vec<u8>) {
        let key = ephemeral().public_key().clone();
        let offered = Offered { host: "a.example", port: 2222, key: &key };
        prop_assert_ne!(check_text(Path::new("known_hosts"), &text, &offered).ok(), Some(Verdict::Known));
    }
}
