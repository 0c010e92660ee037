//! Where a run can be killed: every step that changes a file passes here first. In tests a thread can be told to
//! die at its nth step, or to live on a file system that cannot exchange; elsewhere this compiles to nothing.

/// A step that changes something is about to be taken. Once "killed", a thread changes nothing more.
#[cfg(not(test))]
#[inline(always)]
pub(crate) fn step() -> std::io::Result<()> {
    Ok(())
}

/// Whether the file system is to be treated as one without `RENAME_EXCHANGE` and `RENAME_NOREPLACE`.
#[cfg(not(test))]
#[inline(always)]
pub(crate) fn plain_renames() -> bool {
    false
}

#[cfg(test)]
pub(crate) use testing::*;

#[cfg(test)]
mod testing {
    use std::cell::{Cell, RefCell};
    use std::io;

    type Hook = Box<dyn FnOnce()>;

    thread_local! {
        static LEFT: Cell<Option<u64>> = const { Cell::new(None) };
        static FULL: Cell<bool> = const { Cell::new(false) };
        static PLAIN: Cell<bool> = const { Cell::new(false) };
        static HOOK: RefCell<Option<(u64, Hook)>> = const { RefCell::new(None) };
    }

    pub(crate) fn step() -> io::Result<()> {
        meddle();
        if FULL.get() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        match LEFT.get() {
            None => Ok(()),
            Some(0) => Err(io::Error::other("killed here")),
            Some(left) => {
                LEFT.set(Some(left - 1));
                Ok(())
            }
        }
    }

    fn meddle() {
        let due = HOOK.with_borrow_mut(|hook| match hook {
            Some((0, _)) => hook.take().map(|(_, act)| act),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        });
        if let Some(act) = due {
            act();
        }
    }

    pub(crate) fn plain_renames() -> bool {
        PLAIN.get()
    }

    /// Runs `body` on a file system without any room.
    pub(crate) fn full<T>(body: impl FnOnce() -> T) -> T {
        FULL.set(true);
        let result = body();
        FULL.set(false);
        result
    }

    /// Runs `body` and kills it before its step `at`, counted from 0. Says whether it came that far.
    pub(crate) fn killed_at<T>(at: u64, body: impl FnOnce() -> T) -> (T, bool) {
        LEFT.set(Some(at));
        let result = body();
        let died = LEFT.replace(None) == Some(0);
        (result, died)
    }

    /// Runs `body`; just before its step `at` somebody else does `act`.
    pub(crate) fn meddled_at<T>(at: u64, act: impl FnOnce() + 'static, body: impl FnOnce() -> T) -> T {
        HOOK.set(Some((at, Box::new(act))));
        let result = body();
        HOOK.set(None);
        result
    }

    /// Runs `body` on a file system that knows plain renames only.
    pub(crate) fn without_exchange<T>(body: impl FnOnce() -> T) -> T {
        PLAIN.set(true);
        let result = body();
        PLAIN.set(false);
        result
    }
}
