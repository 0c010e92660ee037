//! Tells what happens round after round of a watch, and what merely goes on only once.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::progress::{Event, Outcome, Problem, ProblemKind, Progress};
use crate::core::plan::Why;

/// No more notices are remembered than this; then all may be told again.
const NOTICES: usize = 1000;

/// Passes events on but for those that were told already and still hold.
pub(super) struct News {
    progress: Arc<dyn Progress>,
    lines: Mutex<Lines>,
}

#[derive(Default)]
struct Lines {
    notices: BTreeSet<String>,
    /// Problems and conflicts left, of the round before and of this one.
    before: BTreeSet<String>,
    now: BTreeSet<String>,
}

impl News {
    pub(super) fn new(progress: Arc<dyn Progress>) -> News {
        News { progress, lines: Mutex::default() }
    }

    /// A round has ended: `outcome` with those of its problems that are new. What a race left is not told, as the next round
    /// settles it.
    pub(super) fn round(&self, mut outcome: Outcome) {
        outcome.problems.retain(|problem| problem.kind == ProblemKind::Failed);
        let all = outcome.problems.clone();
        outcome.problems = all.into_iter().filter(|problem| self.lines().is_new(line(problem))).collect();
        outcome.problems.iter().for_each(|problem| self.progress.event(&Event::Problem(problem.clone())));
        self.lines().next();
        self.progress.event(&Event::Round(Arc::new(outcome)));
    }

    /// There is no connection.
    pub(super) fn away(&self, text: String) {
        self.progress.event(&Event::Away(text));
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn line(problem: &Problem) -> String {
    format!("problem {:?} {}: {}", problem.side, problem.path, problem.text)
}

impl Lines {
    fn is_new(&mut self, line: String) -> bool {
        let new = !self.before.contains(&line);
        self.now.insert(line) && new
    }

    fn next(&mut self) {
        self.before = std::mem::take(&mut self.now);
        if self.notices.len() > NOTICES {
            self.notices.clear();
        }
    }
}

impl Progress for News {
    fn event(&self, event: &Event) {
        let new = match event {
            Event::Notice(text) => self.lines().notices.insert(text.clone()),
            // Told with the round that they are of.
            Event::Problem(_) => false,
            // What is left as it is meets again in every round.
            Event::Conflict { path, why: Why::Conflict(None) | Why::Clash(None) } => {
                self.lines().is_new(format!("conflict {path}"))
            }
            _ => true,
        };
        if new {
            self.progress.event(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::path::RelPath;
    use crate::core::side::Side;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Progress for Heard {
        fn event(&self, event: &Event) {
            let text = match event {
                Event::Round(outcome) => format!("round, {} new", outcome.problems.len()),
                Event::Notice(text) => text.clone(),
                Event::Problem(problem) => problem.text.clone(),
                Event::Conflict { path, .. } => format!("conflict {path}"),
                other => format!("{other:?}"),
            };
            self.0.lock().unwrap().push(text);
        }
    }

    #[test]
    fn what_goes_on_is_told_once_and_again_only_after_it_had_ended() {
        let heard = Arc::new(Heard::default());
        let told = News::new(heard.clone());
        let path = RelPath::parse(b"f").unwrap();
        let problem = |kind| Problem { side: Side::One, path: path.clone(), text: "broken".into(), kind };
        let round = |broken: bool| {
            told.event(&Event::Notice("note".into()));
            told.event(&Event::Conflict { path: path.clone(), why: Why::Conflict(Some(Side::One)) });
            if broken {
                told.event(&Event::Conflict { path: path.clone(), why: Why::Conflict(None) });
                told.event(&Event::Problem(problem(ProblemKind::Failed)));
            }
            let kinds =
                if broken { [ProblemKind::Failed, ProblemKind::Changed].to_vec() } else { Vec::new() };
            told.round(Outcome { problems: kinds.into_iter().map(problem).collect(), ..Outcome::default() });
            std::mem::take(&mut *heard.0.lock().unwrap())
        };
        assert_eq!(round(true), ["note", "conflict f", "conflict f", "broken", "round, 1 new"]);
        assert_eq!(
            round(true),
            ["conflict f", "round, 0 new"],
            "a conflict that is decided happens each time"
        );
        assert_eq!(round(false), ["conflict f", "round, 0 new"]);
        assert_eq!(round(true), ["conflict f", "conflict f", "broken", "round, 1 new"]);
    }
}
