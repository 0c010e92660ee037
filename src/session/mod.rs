//! Joins the rooms: one sync seen from System 2, one from System 1.
//!
//! Reading order: `again` repeats what races and lost connections spoil (`retry`); [`client`] and [`server`] tell the story from each side;
//! both begin with a `greeting`; `early`, `compare` and `listing` find what differs; `work`, `pump`, `serving`, `transfer`, `gathered` and
//! `perform` carry the plan out (`packing` and `primer` compress what they send, `delta` and `outlet` leave out what `versions` says
//! the other side has); `local` and `scanned` are a side's own.

use tokio::runtime::{Handle, RuntimeFlavor};

mod again;
mod answers;
mod brief;
mod budget;
pub mod client;
mod clock;
mod compare;
mod control;
mod delta;
mod early;
mod error;
mod exports;
mod gathered;
mod greeting;
mod hashes;
mod have;
#[cfg(test)]
mod hostile_tests;
mod listing;
mod local;
mod news;
mod options;
mod outlet;
mod packing;
mod perform;
mod place;
mod primer;
pub mod progress;
mod pulse;
mod pump;
mod remembered;
mod report;
mod retry;
mod rounds;
mod scanned;
pub mod server;
mod serving;
mod together;
mod told;
mod traces;
mod transfer;
mod trio;
mod verify;
mod versions;
mod warm;
pub mod watch;
mod work;

pub use again::sync;
pub use client::Remote;
pub use clock::Clock;
pub use error::SessionError;
pub use exports::{Export, Exports, Stopping};
pub use local::{Local, Opening};
pub use options::{Options, Retries, Way};
pub use place::resolved;
pub use server::{Came, Served, serve};
pub use together::{Together, sync_together, watch_together};
pub use verify::{Verified, verify};
pub use watch::{Watched, watch};

/// Runs disk work where it may block.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SessionError> + Send + 'static,
) -> Result<T, SessionError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| SessionError::Root("the work on this side's folder failed; please report this".into()))?
}

/// Runs what takes the processor for long, without keeping the connection's task, which may have the same thread, from its own.
fn heavily<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}
