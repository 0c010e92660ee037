//! The client's private keys.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::keys::{PrivateKey, PublicKey, decode_secret_key};
use thiserror::Error;

use super::key_file::{Unread, read_private, read_small, shown};
use super::key_text::{self, may_log_in};

/// How often a wrong passphrase is asked for again, as ssh does.
const ATTEMPTS: usize = 3;
/// The most bytes of a public key's file.
const PUBLIC_CAP: u64 = 64 * 1024;

/// Asks the user for the passphrase of the key in a file.
pub type Prompt<'a> = &'a mut dyn FnMut(&Path) -> io::Result<String>;

/// Why a private key cannot be used.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The file could not be read.
    #[error("cannot read key {}: {source}", shown(path))]
    Read {
        /// The key file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Group or others may read the file, so it is no secret any more.
    #[error("cannot use key {0}: mode {mode:03o} lets others read it; run: chmod 600 {0}", shown(path))]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key needs a passphrase and there is nobody to ask.
    #[error(
        "cannot use key {}: it needs a passphrase; run on a terminal, or add it to ssh-agent",
        shown(path)
    )]
    Encrypted {
        /// The key file.
        path: PathBuf,
    },
    /// The passphrase could not be asked for.
    #[error("cannot ask for the passphrase of key {}: {source}", shown(path))]
    Prompt {
        /// The key file.
        path: PathBuf,
        /// What the terminal said.
        source: io::Error,
    },
    /// No passphrase that was given opens the key.
    #[error("cannot use key {}: wrong passphrase", shown(path))]
    Passphrase {
        /// The key file.
        path: PathBuf,
    },
    /// The key is written in a way that is not read here.
    #[error("cannot use key {0}: {format}; convert it with: {remedy} {0}", shown(path))]
    Format {
        /// The key file.
        path: PathBuf,
        /// What it is.
        format: &'static str,
        /// The command that writes it anew.
        remedy: &'static str,
    },
    /// The file holds no private key, or a damaged, weak or unsupported one.
    #[error("cannot use key {}: {cause}", shown(path))]
    Unusable {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
}

/// The keys that are tried when none is named: `~/.ssh/id_ed25519`, `id_ecdsa` and `id_rsa`, whether they exist or not.
pub fn default_identities(home: &Path) -> Vec<PathBuf> {
    ["id_ed25519", "id_ecdsa", "id_rsa"].iter().map(|name| home.join(".ssh").join(name)).collect()
}

/// What a key file gives without a passphrase.
#[derive(Debug)]
pub(super) enum Half {
    /// The private key.
    Open(Arc<PrivateKey>),
    /// The private key needs a passphrase; its public half, where the file or `FILE.pub` tells it.
    Locked(Option<PublicKey>),
    /// There is only a public key: `FILE` or `FILE.pub` names a key that an agent holds.
    Public(PublicKey),
}

/// Whether there is a key of this name, or at least its public half.
pub fn find(path: &Path) -> Result<(), IdentityError> {
    look(path).map(|_| ())
}

/// Reads as much of a key as can be read without a passphrase.
pub(super) fn look(path: &Path) -> Result<Half, IdentityError> {
    let text = match read_private(path) {
        Ok(text) => text,
        Err(unread) => {
            let public = match &unread {
                Unread::Exposed(_) => public_key(path),
                Unread::Io(error) if error.kind() == io::ErrorKind::NotFound => public_beside(path),
                Unread::Io(_) => None,
            };
            return public.map(Half::Public).ok_or_else(|| refused(path, unread));
        }
    };
    if let Some(public) = public_key(path) {
        return Ok(Half::Public(public));
    }
    refuse_unread_formats(path, &text)?;
    let half = match decode(&text) {
        Ok(key) => Half::Open(Arc::new(key)),
        Err(russh::keys::Error::KeyIsEncrypted) => {
            // OpenSSH's own format tells the public half, the older ones do not.
            let within = PrivateKey::from_openssh(&text).ok().map(|key| key.public_key().clone());
            Half::Locked(within.or_else(|| public_beside(path)))
        }
        Err(error) => return Err(unusable(path, &error)),
    };
    let strong = match &half {
        Half::Open(key) => may_log_in(key.public_key().key_data()),
        Half::Locked(Some(public)) | Half::Public(public) => may_log_in(public.key_data()),
        Half::Locked(None) => Ok(()),
    };
    strong.map_err(|fault| unusable(path, &fault))?;
    Ok(half)
}

/// The ed25519, ECDSA or RSA key in a file of OpenSSH's or PEM format (PKCS#1, PKCS#8, SEC 1).
///
/// An encrypted key calls `passphrase`, up to three times; an empty answer gives up. Unlocking is slow on
/// purpose (tenths of a second), so call this off the async threads.
pub fn load(path: &Path, mut passphrase: Option<Prompt<'_>>) -> Result<PrivateKey, IdentityError> {
    let text = read_private(path).map_err(|unread| refused(path, unread))?;
    refuse_unread_formats(path, &text)?;
    let key = match decode(&text) {
        Err(russh::keys::Error::KeyIsEncrypted) => unlock(path, &text, passphrase.as_mut())?,
        Err(e) => return Err(unusable(path, &e)),
        Ok(key) => key,
    };
    may_log_in(key.public_key().key_data()).map_err(|fault| unusable(path, &fault))?;
    Ok(key)
}

fn refused(path: &Path, unread: Unread) -> IdentityError {
    match unread {
        Unread::Exposed(mode) => IdentityError::Exposed { path: path.to_owned(), mode },
        Unread::Io(source) => IdentityError::Read { path: path.to_owned(), source },
    }
}

/// The public key in `FILE.pub`.
fn public_beside(path: &Path) -> Option<PublicKey> {
    public_key(&beside(path, ".pub"))
}

/// The file whose name is this one's and then some.
pub(super) fn beside(path: &Path, more: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(more);
    name.into()
}

/// The public key that a file of one line holds.
fn public_key(path: &Path) -> Option<PublicKey> {
    let (text, _) = read_small(path, PUBLIC_CAP, |_| true).ok()?;
    let text = text?;
    let mut words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    key_text::parse(words.next()?, words.next()?).ok()
}

/// Decodes without a passphrase. russh tries an encrypted PKCS#8 key as a plain one, so that one is told
/// apart here.
fn decode(text: &str) -> Result<PrivateKey, russh::keys::Error> {
    if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") {
        return Err(russh::keys::Error::KeyIsEncrypted);
    }
    decode_secret_key(text, None)
}

fn unlock(path: &Path, text: &str, prompt: Option<&mut Prompt<'_>>) -> Result<PrivateKey, IdentityError> {
    let encrypted = || IdentityError::Encrypted { path: path.to_owned() };
    let prompt = prompt.ok_or_else(encrypted)?;
    for _ in 0..ATTEMPTS {
        let passphrase =
            prompt(path).map_err(|source| IdentityError::Prompt { path: path.to_owned(), source })?;
        if passphrase.is_empty() {
            return Err(encrypted());
        }
        if let Ok(key) = decode_secret_key(text, Some(&passphrase)) {
            return Ok(key);
        }
    }
    Err(IdentityError::Passphrase { path: path.to_owned() })
}

/// Formats that would fail later with a misleading error, or that nobody has asked for.
fn refuse_unread_formats(path: &Path, text: &str) -> Result<(), IdentityError> {
    let refuse = |format, remedy| Err(IdentityError::Format { path: path.to_owned(), format, remedy });
    let old_encryption = text.contains("Proc-Type: 4,ENCRYPTED");
    if text.trim_start().starts_with("PuTTY-User-Key-File-") {
        return refuse("it is in PuTTY's format", "puttygen -O private-openssh -o NEWFILE");
    }
    if old_encryption && !(text.contains("DEK-Info: AES-128-CBC,") && text.contains("BEGIN RSA PRIVATE")) {
        return refuse("it is encrypted in an old way", "ssh-keygen -p -f");
    }
    Ok(())
}

fn unusable(path: &Path, cause: &dyn std::fmt::Display) -> IdentityError {
    IdentityError::Unusable { path: path.to_owned(), cause: cause.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::host_key::{ephemeral, fingerprint};
    use russh::keys::key::safe_rng;
    use russh::keys::ssh_key::LineEnding;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use tempfile::TempDir;

    fn place(text: &str) -> (TempDir, PathBuf) {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join(".ssh")).unwrap();
        let path = home.path().join(".ssh/id_ed25519");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        (home, path)
    }

    fn plain(key: &PrivateKey) -> String {
        key.to_openssh(LineEnding::LF).unwrap().to_string()
    }

    #[test]
    fn a_plain_key_is_read_without_a_question() {
        let key = ephemeral();
        let (_home, path) = place(&plain(&key));
        let read = load(&path, Some(&mut |_| panic!("asked"))).unwrap();
        assert_eq!(fingerprint(read.public_key()), fingerprint(key.public_key()));
    }

    #[test]
    fn an_encrypted_key_asks_and_takes_the_third_answer() {
        let key = ephemeral();
        let (_home, path) = place(&plain(&key.encrypt(&mut safe_rng(), "right").unwrap()));
        let mut answers = ["wrong", "wronger", "right"].into_iter();
        let read = load(&path, Some(&mut |_| Ok(answers.next().unwrap().to_owned()))).unwrap();
        assert_eq!(fingerprint(read.public_key()), fingerprint(key.public_key()));
        assert!(!read.is_encrypted());
    }

    #[test]
    fn an_encrypted_key_without_the_passphrase_is_a_one_line_error() {
        let sealed = plain(&ephemeral().encrypt(&mut safe_rng(), "right").unwrap());
        let (_home, path) = place(&sealed);
        assert!(matches!(load(&path, None), Err(IdentityError::Encrypted { .. })));
        let given_up = load(&path, Some(&mut |_| Ok(String::new())));
        assert!(matches!(given_up, Err(IdentityError::Encrypted { .. })));
        let broken = load(&path, Some(&mut |_| Err(io::Error::other("no terminal"))));
        assert!(matches!(broken, Err(IdentityError::Prompt { .. })));
        let wrong = load(&path, Some(&mut |_| Ok("wrong".into()))).unwrap_err().to_string();
        assert!(wrong.contains("wrong passphrase") && !wrong.contains('\n'), "{wrong}");
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_the_remedy() {
        let (_home, path) = place(&plain(&ephemeral()));
        for mode in [0o644, 0o640, 0o604, 0o620] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = load(&path, None).unwrap_err().to_string();
            assert!(error.contains("chmod 600 /"), "{error}");
        }
    }

    #[test]
    fn what_is_not_read_here_is_told_apart_from_damage() {
        for (text, expected) in [
            ("PuTTY-User-Key-File-3: ssh-ed25519\n", "puttygen"),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: DES-EDE3-CBC,00\n\nAAAA\n",
                "ssh-keygen -p",
            ),
            ("hello\n", "cannot use key"),
            (
                "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
                "cannot use key",
            ),
            ("", "cannot use key"),
        ] {
            let (_home, path) = place(text);
            let error = load(&path, None).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn the_public_half_is_told_without_a_passphrase_by_the_file_or_the_one_beside_it() {
        let key = ephemeral();
        let same = |public: &PublicKey| public.key_data() == key.public_key().key_data();
        let (_home, path) = place(&plain(&key.encrypt(&mut safe_rng(), "right").unwrap()));
        assert!(matches!(look(&path).unwrap(), Half::Locked(Some(public)) if same(&public)));
        fs::write(
            &path,
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        )
        .unwrap();
        assert!(matches!(look(&path).unwrap(), Half::Locked(None)));
        let beside = path.with_file_name("id_ed25519.pub");
        fs::write(&beside, format!("{} a comment\n", key.public_key().to_openssh().unwrap())).unwrap();
        assert!(matches!(look(&path).unwrap(), Half::Locked(Some(public)) if same(&public)));
        fs::remove_file(&path).unwrap();
        assert!(matches!(look(&path).unwrap(), Half::Public(public) if same(&public)));
        fs::set_permissions(&beside, Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(look(&beside).unwrap(), Half::Public(public) if same(&public)));
        fs::remove_file(&beside).unwrap();
        assert!(matches!(look(&path), Err(IdentityError::Read { .. })));
    }

    #[test]
    fn the_usual_keys_are_named_best_first() {
        let names = default_identities(Path::new("/h"));
        assert_eq!(
            names.iter().map(|path| path.file_name().unwrap()).collect::<Vec<_>>(),
            ["id_ed25519", "id_ecdsa", "id_rsa"]
        );
    }
}
