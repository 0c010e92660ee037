//! Waiting for something that is announced by a bell, and locks without poison.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Locks. A panic elsewhere leaves nothing half-done here: every section is a few assignments.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until `check` finds something, looking again after every ring of the bell.
pub(super) async fn until<T>(bell: &Notify, mut check: impl FnMut() -> Option<T>) -> T {
    loop {
        let mut ring = std::pin::pin!(bell.notified());
        ring.as_mut().enable();
        if let Some(found) = check() {
            return found;
        }
        ring.await;
    }
}
