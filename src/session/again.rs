//! A sync that was disturbed goes on: what a race or a lost connection took from one run, the next one settles.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::client::{Remote, sync_once};
use super::error::SessionError;
use super::local::Local;
use super::options::Options;
use super::progress::{Event, Outcome, ProblemKind, Progress, Totals};
use super::retry::Attempts;
use crate::core::path::RelPath;
use crate::core::plan::Why;
use crate::ssh::Connection;

/// How often a sync looks again before it reports what goes on changing.
const AGAIN: usize = 2;

/// Syncs `local` with `remote`: one run, and up to two more while paths changed during the last. A run that loses its
/// connection is begun again as often as the options say, and takes over what travelled before.
///
/// An error ends it before anything is changed; once the first run has ended, one is only told, and the outcome is that
/// of the runs before. What could not be done for single paths is in the outcome.
pub async fn sync(
    connect: impl AsyncFn() -> Result<Connection, SessionError>,
    local: Arc<Local>,
    remote: &Remote,
    options: &Options,
    progress: Arc<dyn Progress>,
) -> Result<Outcome, SessionError> {
    let once = Arc::new(Once { progress, told: Mutex::default() });
    let mut attempts = Attempts::new(options.retries);
    let mut outcome = sync_in_the_end(&connect, &local, remote, options, &once, &mut attempts).await?;
    for _ in 0..AGAIN {
        if outcome.raced.is_empty() || options.dry {
            break;
        }
        let notice = match outcome.raced.len() {
            1 => "1 path changed during the run: looking again".to_owned(),
            many => format!("{many} paths changed during the run: looking again"),
        };
        once.event(&Event::Notice(notice));
        match sync_in_the_end(&connect, &local, remote, options, &once, &mut attempts).await {
            Ok(next) => outcome = outcome.then(next),
            Err(error) => {
                once.event(&Event::Notice(format!("could not look again: {error}")));
                break;
            }
        }
    }
    // A path that met a conflict in each of the runs is one conflict.
    outcome.conflicts = once.told().conflicts;
    outcome.problems.iter().for_each(|problem| once.event(&Event::Problem(problem.clone())));
    Ok(outcome)
}

/// One run that comes to its end, after as many as `attempts` has left that did not.
async fn sync_in_the_end(
    connect: &impl AsyncFn() -> Result<Connection, SessionError>,
    local: &Arc<Local>,
    remote: &Remote,
    options: &Options,
    once: &Arc<Once>,
    attempts: &mut Attempts,
) -> Result<Outcome, SessionError> {
    let reached = AtomicBool::new(false);
    loop {
        let connecting = async {
            let connection = connect().await?;
            reached.store(true, Ordering::Relaxed);
            Ok(connection)
        };
        let error = match sync_once(connecting, local.clone(), remote, options, once.clone()).await {
            Err(error) => error,
            done => {
                once.done();
                return done;
            }
        };
        let next = attempts.next(&error, reached.load(Ordering::Relaxed), &remote.name);
        let Some((wait, text)) = next else { return Err(error) };
        once.begin_again();
        once.event(&Event::Notice(text));
        tokio::time::sleep(wait).await;
    }
}

impl Outcome {
    /// This run and `next`, which looked again, as one.
    fn then(self, next: Outcome) -> Outcome {
        let raced: BTreeSet<RelPath> = self.raced.into_iter().collect();
        // Folders that were left for what they hold are settled as gone, and only the first run tells.
        let held = self.problems.into_iter();
        let held = held.filter(|p| p.kind == ProblemKind::Changed && !raced.contains(&p.path));
        let mut problems: Vec<_> = held.filter(|problem| !next.problems.contains(problem)).collect();
        problems.extend(next.problems.iter().cloned());
        Outcome {
            totals: self.totals.and(next.totals),
            deleted: (self.deleted.0 + next.deleted.0, self.deleted.1 + next.deleted.1),
            moved: self.moved + next.moved,
            wire: (self.wire.0 + next.wire.0, self.wire.1 + next.wire.1),
            changed: self.changed || next.changed,
            problems,
            ..next
        }
    }
}

impl Totals {
    /// Both together.
    pub(super) fn and(self, more: Totals) -> Totals {
        Totals {
            send_files: self.send_files.saturating_add(more.send_files),
            send_bytes: self.send_bytes.saturating_add(more.send_bytes),
            receive_files: self.receive_files.saturating_add(more.receive_files),
            receive_bytes: self.receive_bytes.saturating_add(more.receive_bytes),
        }
    }
}

/// Makes several runs look like one: tells everything once, and the totals of all plans so far.
struct Once {
    progress: Arc<dyn Progress>,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    lines: BTreeSet<String>,
    conflicts: u64,
    /// Of all plans, and of those that were carried out.
    totals: Totals,
    done: Totals,
}

impl Once {
    /// What was planned has been carried out.
    fn done(&self) {
        let mut told = self.told();
        told.done = told.totals;
    }

    /// What the last run planned and did not come to the end of is planned again, less what has travelled.
    fn begin_again(&self) {
        let mut told = self.told();
        told.totals = told.done;
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Once {
    fn event(&self, event: &Event) {
        let new = match event {
            Event::Planned(totals) => {
                let all = self.told().totals.and(*totals);
                self.told().totals = all;
                return self.progress.event(&Event::Planned(all));
            }
            Event::Notice(text) => self.told().lines.insert(format!("notice {text}")),
            Event::Problem(problem) => {
                let line = format!("problem {:?} {}: {}", problem.side, problem.path, problem.text);
                self.told().lines.insert(line)
            }
            Event::Conflict { path, why } => {
                let mut told = self.told();
                let new = told.lines.insert(format!("conflict {path}"));
                told.conflicts += u64::from(new && !matches!(why, Why::Conflict(None) | Why::Clash(None)));
                new
            }
            _ => true,
        };
        if new {
            self.progress.event(event);
        }
    }
}
