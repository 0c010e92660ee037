//! Threads of a connection's own.
//!
//! One task moves all bytes of an SSH connection, and the tasks of its channels only ever wait for that one: several threads
//! would hand them to each other more than work on them side by side (two threads: a fifth more processor time for many small
//! files). So the tasks of each connection of a server have one thread, and connections do not share theirs: what keeps one
//! of them busy, or a disk that hangs, holds up no other client. Only the successors of a worn connection have other threads
//! than the sync that they carry on with.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

/// The most threads that wait for disks at once for one connection: those of its large files, and some.
const DISK_THREADS: usize = 512;

/// Runs what `begin` makes, on a thread of its own with a second one for its tasks, to its end. If this is dropped before, that is
/// dropped too. Where the system gives no threads nothing is run.
pub(super) async fn apart<F>(begin: impl FnOnce() -> F + Send + 'static)
where
    F: Future<Output = ()>,
{
    // Dropped at this end when nobody waits any more, at the other when all is done.
    let (wanted, unwanted) = oneshot::channel::<()>();
    let (done, ended) = oneshot::channel::<()>();
    let run = move || {
        let _done = done;
        let Ok(runtime) = runtime() else { return };
        let to_its_end = || {
            runtime.block_on(async {
                tokio::select! {
                    () = begin() => {}
                    _ = unwanted => {}
                }
            })
        };
        // A panic is an end like any other. And the runtime is not waited for: one of its threads may wait for a disk that hangs.
        let _ = catch_unwind(AssertUnwindSafe(to_its_end));
        runtime.shutdown_background();
    };
    if std::thread::Builder::new().name("connection".into()).spawn(run).is_ok() {
        let _ = ended.await;
    }
    drop(wanted);
}

fn runtime() -> std::io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).max_blocking_threads(DISK_THREADS).thread_name("carrier").enable_all().build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use std::thread;

    #[tokio::test]
    async fn what_runs_apart_has_threads_of_its_own_for_itself_and_for_its_tasks() {
        let here = thread::current().id();
        let (tell, told) = oneshot::channel();
        let look = async || tokio::spawn(async { thread::current().id() }).await.unwrap();
        let both = move || async move { tell.send((thread::current().id(), look().await)).unwrap() };
        apart(both).await;
        let (own, tasks) = told.await.unwrap();
        assert!(own != here && tasks != here && tasks != own);
    }

    #[tokio::test]
    async fn a_panic_of_what_runs_apart_is_its_end_though_a_disk_hangs() {
        let (hang, hung) = std::sync::mpsc::channel::<()>();
        let panics = move || async move {
            let (begun, running) = oneshot::channel();
            tokio::task::spawn_blocking(move || {
                let _ = begun.send(());
                hung.recv()
            });
            let _ = running.await;
            std::panic::resume_unwind(Box::new("on purpose"))
        };
        apart(panics).await;
        drop(hang);
    }

    #[tokio::test]
    async fn what_runs_apart_is_dropped_with_whoever_waits_for_it() {
        let (begun, running) = oneshot::channel();
        let (held, dropped) = oneshot::channel::<()>();
        let waiting = tokio::spawn(apart(move || async move {
            let _held = held;
            let _ = begun.send(());
            pending().await
        }));
        running.await.unwrap();
        waiting.abort();
        // Resolves when the other end is gone.
        assert!(dropped.await.is_err());
    }
}
