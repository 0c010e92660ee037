//! Public keys as text: a type name and the base64 of the key, as OpenSSH's files hold them.

use russh::keys::PublicKey;
use russh::keys::ssh_encoding::base64::{Base64, Encoding};
use russh::keys::ssh_key::public::KeyData;
use thiserror::Error;

use crate::core::shown::Shown;

/// RSA keys with fewer bits are refused.
const MIN_RSA_BITS: u32 = 2048;

/// Why a key was not taken. The texts continue a sentence about a line or a file.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum KeyFault {
    #[error("a certificate is no key; write the plain key, or cert-authority and the key of its authority")]
    Certificate,
    #[error("DSA keys are too weak; use an ed25519 key")]
    Dsa,
    #[error("security keys (FIDO) are not supported; use an ed25519 key")]
    SecurityKey,
    #[error("the key type {} is not supported", Shown(.0.as_bytes()))]
    Type(String),
    #[error("the {0} key is damaged")]
    Damaged(&'static str),
    #[error("an RSA key of {0} bits is too short; at least {MIN_RSA_BITS} are needed")]
    Short(u32),
}

/// Whether `word` is how OpenSSH writes a type of key, supported here or not. No option of
/// authorized_keys looks like one.
pub(super) fn names_a_type(word: &[u8]) -> bool {
    [&b"ssh-"[..], b"ecdsa-sha2-", b"rsa-sha2-", b"sk-ssh-", b"sk-ecdsa-", b"webauthn-sk-"]
        .iter()
        .any(|prefix| word.starts_with(prefix))
}

/// The key that a type name and its base64 stand for; the name inside the base64 must be the same.
///
/// The name decides before anything is decoded: only plain keys reach the decoder, never a certificate,
/// whose signing keys may nest without bound.
pub(super) fn parse(name: &[u8], base64: &[u8]) -> Result<PublicKey, KeyFault> {
    let name = supported(name)?;
    let damaged = || KeyFault::Damaged(name);
    let text = std::str::from_utf8(base64).map_err(|_| damaged())?;
    let blob = Base64::decode_vec(text).map_err(|_| damaged())?;
    let inner = blob.split_at_checked(4).and_then(|(length, rest)| {
        let length = u32::from_be_bytes(length.try_into().ok()?);
        rest.get(..usize::try_from(length).ok()?)
    });
    if inner != Some(name.as_bytes()) {
        return Err(damaged());
    }
    PublicKey::from_bytes(&blob).map_err(|_| damaged())
}

/// Whether a key is of a kind and a strength that may log in, or be a server's own.
pub(super) fn may_log_in(key: &KeyData) -> Result<(), KeyFault> {
    match key {
        KeyData::Ed25519(_) | KeyData::Ecdsa(_) => Ok(()),
        KeyData::Rsa(rsa) if rsa.key_size() < MIN_RSA_BITS => Err(KeyFault::Short(rsa.key_size())),
        KeyData::Rsa(_) => Ok(()),
        other => Err(refusal(other.algorithm().as_str().as_bytes())),
    }
}

fn supported(name: &[u8]) -> Result<&'static str, KeyFault> {
    const NAMES: [&str; 5] =
        ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"];
    NAMES.into_iter().find(|known| known.as_bytes() == name).ok_or_else(|| refusal(name))
}

fn refusal(name: &[u8]) -> KeyFault {
    match name {
        b"ssh-dss" => KeyFault::Dsa,
        _ if name.windows(6).any(|part| part == b"-cert-") => KeyFault::Certificate,
        _ if name.starts_with(b"sk-") => KeyFault::SecurityKey,
        _ => KeyFault::Type(String::from_utf8_lossy(&name[..name.len().min(64)]).into_owned()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An ed25519 public key made by ssh-keygen, in two words.
    pub(crate) const ED25519: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    fn parse_line(line: &str) -> Result<PublicKey, KeyFault> {
        let (name, base64) = line.split_once(' ').unwrap();
        parse(name.as_bytes(), base64.as_bytes())
    }

    #[test]
    fn a_key_is_read_only_under_its_own_name() {
        assert!(parse_line(ED25519).unwrap().key_data().is_ed25519());
        let borrowed = ED25519.replace("ssh-ed25519", "ssh-rsa");
        assert_eq!(parse_line(&borrowed), Err(KeyFault::Damaged("ssh-rsa")));
    }

    #[test]
    fn a_cut_or_lengthened_key_is_damaged() {
        let damaged = Err(KeyFault::Damaged("ssh-ed25519"));
        assert_eq!(parse_line(&ED25519[..ED25519.len() - 4]), damaged);
        assert_eq!(parse_line(&format!("{ED25519}AAAA")), damaged);
        assert_eq!(parse_line("ssh-ed25519 "), damaged);
        assert_eq!(parse_line("ssh-ed25519 !!!!"), damaged);
    }

    #[test]
    fn certificates_dsa_and_security_keys_are_named_in_the_refusal() {
        for (name, fault) in [
            ("ssh-ed25519-cert-v01@openssh.com", KeyFault::Certificate),
            ("ssh-dss", KeyFault::Dsa),
            ("sk-ssh-ed25519@openssh.com", KeyFault::SecurityKey),
            ("ssh-new", KeyFault::Type("ssh-new".into())),
        ] {
            assert!(names_a_type(name.as_bytes()));
            assert_eq!(parse(name.as_bytes(), b"AAAA"), Err(fault));
        }
    }

    #[test]
    fn a_certificate_under_a_plain_name_never_reaches_the_decoder() {
        let mut blob = 32u32.to_be_bytes().to_vec();
        blob.extend(b"ssh-ed25519-cert-v01@openssh.com");
        let base64 = Base64::encode_string(&blob);
        assert_eq!(parse(b"ssh-ed25519", base64.as_bytes()), Err(KeyFault::Damaged("ssh-ed25519")));
    }
}
