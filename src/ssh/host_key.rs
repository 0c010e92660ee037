//! The server's own key: made on the first start, the same ever after.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use russh::keys::key::safe_rng;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{HashAlg, PrivateKey, PublicKey};
use thiserror::Error;

use super::key_file::{Unread, read_private, shown};
use super::key_text::may_log_in;

/// Why there is no host key to serve with.
#[derive(Debug, Error)]
pub enum HostKeyError {
    /// The file exists and could not be read.
    #[error("cannot read host key {}: {source}", shown(path))]
    Read {
        /// The key file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Group or others may read the file, so it is no secret any more.
    #[error("cannot use host key {0}: mode {mode:03o} lets others read it; run: chmod 600 {0}", shown(path))]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds no key that can be used without a passphrase.
    #[error(
        "cannot use host key {}: {cause}; it must be an ed25519, ECDSA or RSA private key without a passphrase",
        shown(path)
    )]
    Unusable {
        /// The key file.
        path: PathBuf,
        /// What is wrong with its content.
        cause: String,
    },
    /// The key of a first start could not be written.
    #[error("cannot create host key {}: {source}", shown(path))]
    Create {
        /// Where it was to be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The host key at `path`, and whether it was made just now.
///
/// A new key is ed25519, in a file of mode 0600; missing folders are made with mode 0700. It appears in one
/// step, whole and on disk: of two servers that start at once, one makes it and the other reads it.
pub fn load_or_create(path: &Path) -> Result<(PrivateKey, bool), HostKeyError> {
    match load(path) {
        Err(HostKeyError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        found => return Ok((found?, false)),
    }
    let key = ephemeral();
    match publish(path, &key) {
        Ok(()) => Ok((key, true)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok((load(path)?, false)),
        Err(source) => Err(HostKeyError::Create { path: path.to_owned(), source }),
    }
}

/// A new ed25519 key that lives as long as this process: for `--stdio`, where the outer ssh has
/// authenticated both ends, and for tests.
pub fn ephemeral() -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::random(&mut safe_rng()))
}

/// What people compare: `SHA256:` and the base64 of the key's hash, as `ssh-keygen -l` prints it.
pub fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

fn load(path: &Path) -> Result<PrivateKey, HostKeyError> {
    let text = read_private(path).map_err(|unread| match unread {
        Unread::Exposed(mode) => HostKeyError::Exposed { path: path.to_owned(), mode },
        Unread::Io(source) => HostKeyError::Read { path: path.to_owned(), source },
    })?;
    let unusable = |cause| HostKeyError::Unusable { path: path.to_owned(), cause };
    let key = russh::keys::decode_secret_key(&text, None).map_err(|e| unusable(e.to_string()))?;
    may_log_in(key.public_key().key_data()).map_err(|fault| unusable(fault.to_string()))?;
    Ok(key)
}

/// Writes the key beside `path`, then links it into place: a link, unlike a rename, fails where something
/// stands already, and nobody ever reads half a key.
fn publish(path: &Path, key: &PrivateKey) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut random = [0; 8];
    getrandom::fill(&mut random)?;
    let draft = folder.join(format!(".host-key-{:016x}.new", u64::from_ne_bytes(random)));
    let linked = write_new(&draft, key).and_then(|()| std::fs::hard_link(&draft, path));
    let removed = match std::fs::remove_file(&draft) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    };
    linked.and(removed)?;
    File::open(folder)?.sync_all()
}

fn write_new(path: &Path, key: &PrivateKey) -> io::Result<()> {
    let text = key.to_openssh(LineEnding::LF).map_err(io::Error::other)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Barrier;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_first_start_makes_the_key_and_the_second_reads_it() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("config/syncfiles/host_key");
        let (made, created) = load_or_create(&path).unwrap();
        assert!(created);
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        let (read, created) = load_or_create(&path).unwrap();
        assert!(!created);
        assert_eq!(fingerprint(made.public_key()), fingerprint(read.public_key()));
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left behind");
    }

    #[test]
    fn of_many_first_starts_one_makes_the_key_and_all_use_it() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("state/host_key");
        let gate = Barrier::new(8);
        let starts: Vec<_> = std::thread::scope(|scope| {
            let start = || {
                gate.wait();
                load_or_create(&path).unwrap()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(starts.iter().filter(|(_, created)| *created).count(), 1);
        let first = fingerprint(starts[0].0.public_key());
        assert!(starts.iter().all(|(key, _)| fingerprint(key.public_key()) == first));
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_the_remedy() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("host_key");
        load_or_create(&path).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let error = load_or_create(&path).unwrap_err().to_string();
        assert!(error.contains("mode 640") && error.contains("chmod 600 /"), "{error}");
    }

    #[test]
    fn what_is_no_key_is_refused_and_never_replaced() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("host_key");
        std::fs::write(&path, "not a key\n").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(load_or_create(&path), Err(HostKeyError::Unusable { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "not a key\n");
    }

    #[test]
    fn a_dangling_link_is_an_error_and_no_loop() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("host_key");
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        assert!(matches!(load_or_create(&path), Err(HostKeyError::Read { .. })));
    }

    #[test]
    fn a_fifo_is_refused_without_waiting_for_its_writer() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("host_key");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
        let error = load_or_create(&path).unwrap_err().to_string();
        assert!(error.contains("not a regular file"), "{error}");
    }

    #[test]
    fn two_ephemeral_keys_differ_and_debug_hides_the_secret() {
        let (one, two) = (ephemeral(), ephemeral());
        assert_ne!(fingerprint(one.public_key()), fingerprint(two.public_key()));
        let secret = one.key_data().ed25519().unwrap().private.to_bytes();
        let debug = format!("{one:?}");
        assert!(!debug.contains(&format!("{:?}", &secret[..4]).replace(['[', ']'], "")));
    }
}
