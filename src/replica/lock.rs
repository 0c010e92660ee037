//! One run at a time for a root of System 2.

use std::fs::{File, TryLockError};
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use thiserror::Error;

use super::root::Root;

/// How often a waiting run looks again: the kernel has no lock that waits for a limited time.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Why a run may not begin.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another run holds the root.
    #[error("cannot start: another sync of this root is running and did not end within {}s; wait for it, or raise --timeout", .0.as_secs())]
    Busy(Duration),
    /// The lock's file failed.
    #[error("cannot lock the root with .syncfiles/lock: {0}; check the owner and permissions of .syncfiles")]
    Io(#[from] io::Error),
}

/// Held while a run lasts. The kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl RunLock {
    /// Takes the lock in the state folder `state`; waits for another run at most `timeout`. `waits` is called once if
    /// there is one.
    pub fn take(state: &Root, timeout: Duration, waits: &dyn Fn()) -> Result<RunLock, LockError> {
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(state, c"lock", flags, Mode::RUSR | Mode::WUSR);
        let file = File::from(file.map_err(io::Error::from)?);
        let taken = patiently(timeout, waits, || match file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        });
        if taken? { Ok(RunLock { _file: file }) } else { Err(LockError::Busy(timeout)) }
    }
}

/// Makes an `attempt` until it succeeds, for at most `patience`, and says once that it `waits`. Whether it succeeded.
pub(super) fn patiently(
    patience: Duration,
    waits: &dyn Fn(),
    mut attempt: impl FnMut() -> io::Result<bool>,
) -> io::Result<bool> {
    let begun = Instant::now();
    let mut told = false;
    loop {
        if attempt()? {
            return Ok(true);
        }
        if begun.elapsed() >= patience {
            return Ok(false);
        }
        if !std::mem::replace(&mut told, true) {
            waits();
        }
        thread::sleep(LOOK_AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_second_run_says_that_it_waits_and_gets_the_root_when_the_first_ends_or_gives_up() {
        let temp = tempfile::tempdir().unwrap();
        let root = Root::open(temp.path()).unwrap();
        let first =
            Mutex::new(Some(RunLock::take(&root, Duration::ZERO, &|| panic!("nobody is there")).unwrap()));
        let waited = AtomicUsize::new(0);
        let count = || {
            waited.fetch_add(1, Ordering::SeqCst);
        };
        assert!(matches!(RunLock::take(&root, Duration::ZERO, &count), Err(LockError::Busy(_))));
        assert_eq!(waited.load(Ordering::SeqCst), 0, "there was nothing to wait for");
        let end_first = || drop(first.lock().unwrap().take());
        assert!(
            RunLock::take(&root, Duration::MAX, &|| {
                count();
                end_first()
            })
            .is_ok()
        );
        assert_eq!(waited.load(Ordering::SeqCst), 1);
    }
}
