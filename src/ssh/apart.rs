//! Threads of a connection's own.
//!
//! One task moves all bytes of an SSH connection, and the tasks of its channels only ever wait for that one: several threads
//! would hand them to each other more than work on them side by side (two threads: a fifth more processor time for many small
//! files). So each connection of a server has one thread for its tasks, and connections do not share theirs: what keeps one
//! of them busy, or a disk that hangs, holds up no other client.

use std::io;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

/// The most threads that wait for disks at once for one connection: those of its large files, and some.
const DISK_THREADS: usize = 512;

/// Runs what `begin` makes on threads of its own, to its end. If this is dropped before, that is dropped too.
///
/// # Errors
/// The system gives no threads; nothing was run.
pub(super) async fn apart<F>(begin: impl FnOnce() -> F + Send + 'static) -> io::Result<()>
where
    F: Future<Output = ()>,
{
    let runtime = runtime()?;
    // Dropped at this end when nobody waits any more, at the other when all is done.
    let (wanted, unwanted) = oneshot::channel::<()>();
    let (done, ended) = oneshot::channel::<()>();
    std::thread::Builder::new().name("connection".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = begin() => {}
                _ = unwanted => {}
            }
        });
        // A thread may wait for a disk that hangs.
        runtime.shutdown_background();
        drop(done);
    })?;
    let _ = ended.await;
    drop(wanted);
    Ok(())
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(DISK_THREADS)
        .thread_name("connection")
        .enable_all()
        .build()
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
        apart(both).await.unwrap();
        let (own, tasks) = told.await.unwrap();
        assert!(own != here && tasks != here && tasks != own);
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
