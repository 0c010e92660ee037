//! Listens to what an outer ssh says on stderr: questions at once, everything else among the notices of the run.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::session::progress::{Event, Progress};
use crate::transport::child::Hear;

/// The most lines that wait until the other end has answered.
const LINES: usize = 50;

/// See the module.
#[derive(Default)]
pub(crate) struct Ear(Mutex<Heard>);

#[derive(Default)]
struct Heard {
    connected: bool,
    waiting: Vec<String>,
    progress: Option<Arc<dyn Progress>>,
}

impl Ear {
    /// From now on `progress` is told.
    pub(crate) fn tell(&self, progress: Arc<dyn Progress>) {
        self.heard().progress = Some(progress);
    }

    /// What to call for each line that the command `name` says.
    pub(crate) fn hear(self: &Arc<Self>, name: &str) -> Hear {
        let (ear, name) = (self.clone(), name.to_owned());
        Arc::new(move |line: &str| ear.heard().hear(format!("{name}: {line}")))
    }

    /// The other end has answered: what waited is said now. Where it did not, all that was said is in the error.
    pub(crate) fn connected(&self) {
        let mut heard = self.heard();
        heard.connected = true;
        for line in std::mem::take(&mut heard.waiting) {
            heard.hear(line);
        }
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heard {
    fn hear(&mut self, line: String) {
        match &self.progress {
            Some(progress) if self.connected => progress.event(&Event::Notice(line)),
            // It may be what a person must do next, such as touching a key. Nothing is drawn on the terminal yet.
            _ if !self.connected && std::io::stderr().is_terminal() => {
                let _ = writeln!(std::io::stderr(), "{line}");
            }
            _ if self.waiting.len() < LINES => self.waiting.push(line),
            _ => {}
        }
    }
}
