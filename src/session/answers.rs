//! What System 1 answers to the plan, and how its half went: all of it held to the plan.

use super::budget::Budget;
use super::client::Run;
use super::error::SessionError;
use super::perform::Results;
use super::work::Work;
use crate::protocol::message::{MAX_PATHS, Message, Need};

impl Run<'_> {
    /// What System 1 says to the plan, after whatever it has to ask for its own half. Where this end's
    /// guard has `stopped` the run already, nothing follows.
    pub(super) async fn agreement(&self, work: &mut Work, stopped: bool) -> Result<Agreement, SessionError> {
        let mut agreement = Agreement { guard: Ok(()), needs: Vec::new() };
        loop {
            match self.control.receive().await? {
                Message::AskHashes(paths) if paths.len() <= MAX_PATHS => {
                    let hashes = work.tell(&paths).await?;
                    self.control.send(&Message::Hashes(hashes)).await?;
                }
                Message::Agreed { guard } => {
                    agreement.guard = guard.map_or(Ok(()), |refusal| Err(SessionError::by_peer(&refusal)));
                    if agreement.guard.is_err() || stopped {
                        return Ok(agreement);
                    }
                }
                Message::Needs(more) => {
                    let new = agreement.needs.len().saturating_sub(1);
                    agreement.needs.extend(more);
                    let new = &agreement.needs[new..];
                    let planned = new.iter().all(|need| work.sends(need.item));
                    if !planned || !new.is_sorted_by(|a, b| a.item < b.item) {
                        return Err(SessionError::broke("it asked for a file that the plan does not send"));
                    }
                }
                Message::Remembers(items) => work.remembers_there(items)?,
                Message::NeedsEnd => return Ok(agreement),
                _ => return Err(SessionError::broke("it sent a message that has no place after the plan")),
            }
        }
    }

    /// How System 1's half of a plan of so many items went.
    pub(super) async fn results(&self, items: usize) -> Result<Results, SessionError> {
        let (mut results, mut budget) = (Results::default(), Budget::new());
        let planned = |at: u32| usize::try_from(at).is_ok_and(|at| at < items);
        loop {
            match self.control.receive().await? {
                Message::Failed(failed) if failed.iter().all(|(at, _)| planned(*at)) => {
                    budget.take(&failed)?;
                    results
                        .failed
                        .extend(failed.into_iter().map(|(at, failure)| (at as usize, failure.escaped())));
                }
                Message::Learned(learned) if learned.iter().all(|(at, _)| planned(*at)) => {
                    results.learned.extend(learned.into_iter().map(|(at, digest)| (at as usize, digest)));
                }
                // Told before it was known that every file is here.
                Message::Primer(_) => {}
                Message::Committed { moved, deleted } => {
                    (results.moved, results.deleted) = (moved, deleted);
                    return Ok(results);
                }
                _ => {
                    return Err(SessionError::broke(
                        "it sent a message that has no place after the transfers",
                    ));
                }
            }
        }
    }
}

/// What System 1 answered to the plan.
pub(super) struct Agreement {
    pub(super) guard: Result<(), SessionError>,
    pub(super) needs: Vec<Need>,
}
