//! Where small files are staged: on a thread beside the connection's, while the next files arrive.
//!
//! To wake a thread for each file, and to be woken by it, costs as much as to write one into memory. So one thread takes
//! one file after the other for as long as there are any, and nobody waits for it before the last. But where the disk is what
//! takes long, many at once are faster: there each file gets a thread of its own.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

use super::brief::Gauge;
use super::work::Work;
use crate::protocol::message::Failure;
use crate::replica::stage::Staged;

/// Files that may wait for their turn.
const QUEUE: usize = 256;

/// See the module.
pub(crate) struct Stager {
    desk: Arc<Desk>,
    places: Arc<Semaphore>,
}

impl Default for Stager {
    fn default() -> Stager {
        Stager { desk: Arc::default(), places: Arc::new(Semaphore::new(QUEUE)) }
    }
}

/// What the thread works on. It does not hold the work, which is its owner's again as soon as nothing is left to do.
#[derive(Default)]
struct Desk {
    /// How long a file takes.
    gauge: Gauge,
    queue: Mutex<Queue>,
    /// Rung when nothing is left to do.
    idle: Notify,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Whether a thread takes from the queue.
    busy: bool,
}

/// A file to be staged.
struct Job {
    work: Arc<Work>,
    item: u32,
    stage: Box<dyn FnOnce() -> Result<Staged, Failure> + Send>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Job {
    /// Stages it and notes what became of it.
    fn run(self, gauge: &Gauge) {
        let Job { work, item, stage, .. } = self;
        let staged = gauge.time(|| catch_unwind(AssertUnwindSafe(stage)));
        match staged.unwrap_or_else(|_| Err(Failure::Failed("staging it failed; please report this".into())))
        {
            Ok(staged) => work.staged(item, staged),
            Err(failure) => work.failed(item, failure),
        }
    }
}

impl Stager {
    /// Has an item of `work` staged by `stage`, soon, and what became of it noted in the work.
    pub(crate) async fn stage(
        &self,
        work: &Arc<Work>,
        item: u32,
        stage: impl FnOnce() -> Result<Staged, Failure> + Send + 'static,
    ) {
        let _place = self.places.clone().acquire_owned().await.ok();
        let (job, desk) =
            (Job { work: work.clone(), item, stage: Box::new(stage), _place }, self.desk.clone());
        if !desk.gauge.is_brief() {
            // What it ends with is noted in the work.
            let _ = spawn_blocking(move || job.run(&desk.gauge)).await;
        } else if self.desk.put(job) {
            spawn_blocking(move || desk.clear());
        }
    }

    /// Resolves when everything that was handed over has been staged or has failed.
    pub(crate) async fn finish(&self) {
        let mut idle = std::pin::pin!(self.desk.idle.notified());
        loop {
            idle.as_mut().enable();
            if !self.desk.queue().busy {
                return;
            }
            idle.as_mut().await;
            idle.set(self.desk.idle.notified());
        }
    }
}

impl Desk {
    /// Takes a job in. True if somebody has to be sent to do it.
    fn put(&self, job: Job) -> bool {
        let mut queue = self.queue();
        queue.jobs.push_back(job);
        !std::mem::replace(&mut queue.busy, true)
    }

    /// Does what there is to do.
    fn clear(&self) {
        while let Some(job) = self.next() {
            job.run(&self.gauge);
        }
        self.idle.notify_waiters();
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.queue();
        let job = queue.jobs.pop_front();
        queue.busy = job.is_some();
        job
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
