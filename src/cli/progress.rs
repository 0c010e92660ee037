//! Shows a running sync. Events only count and queue; one thread of its own writes, so that a slow terminal or a
//! stopped pager never holds up a transfer.

use std::fmt;
use std::io;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::ProgressDrawTarget;

use super::bars::Bars;
use super::desk::{Desk, FIRST_LINE, JSON_EVERY, PLAIN_EVERY, Painter, Told, Voice};
use super::exit::ExitCode;
use super::json::{Line, SCHEMA};
use super::meter::Meter;
use super::options::ProgressKind;
use super::report::{Report, ReportOptions};
use crate::session::progress::{Event, Outcome, Progress};

/// A way to show how far a run is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Bars on stderr.
    Bars {
        /// With colours.
        colour: bool,
    },
    /// Lines at intervals on stderr.
    Plain,
    /// Objects at intervals on stdout.
    Json,
    /// Not at all.
    Nothing,
}

/// Where output goes.
pub type Stream = Box<dyn io::Write + Send>;

/// What a screen shows, and how.
#[derive(Debug)]
pub struct Setup<'a> {
    /// How progress is shown.
    pub mode: Mode,
    /// What people read.
    pub options: ReportOptions,
    /// To a machine instead of to people.
    pub json: bool,
    /// System 1's root, as the user would type it.
    pub there: &'a str,
    /// System 2's.
    pub here: &'a str,
}

/// How a run ended, for the last lines.
#[derive(Debug)]
pub enum End<'a> {
    /// It came to its end.
    Outcome(&'a Outcome),
    /// It was stopped: one line, and the code to end with.
    Stopped(&'a str, ExitCode),
    /// A watch was interrupted: everything that it did.
    Watched(&'a Outcome),
}

/// Everything a user sees of a run.
pub struct Screen {
    began: Instant,
    meter: Arc<Meter>,
    queue: Sender<Told>,
    writer: Mutex<Option<JoinHandle<Desk>>>,
}

impl Mode {
    /// What an option means here. Without `-P`: bars on a terminal, nothing elsewhere, objects with `--json`.
    pub fn choose(
        asked: Option<ProgressKind>,
        terminal: bool,
        json: bool,
        quiet: bool,
        colour: bool,
    ) -> Mode {
        match (asked, json) {
            (Some(ProgressKind::None), _) => Mode::Nothing,
            (Some(ProgressKind::Bar), _) => Mode::Bars { colour },
            (Some(ProgressKind::Plain), _) => Mode::Plain,
            (Some(ProgressKind::Json), _) | (Some(ProgressKind::Auto) | None, true) => Mode::Json,
            (Some(ProgressKind::Auto), false) if terminal => Mode::Bars { colour },
            (Some(ProgressKind::Auto), false) => Mode::Plain,
            (None, false) if terminal && !quiet => Mode::Bars { colour },
            (None, false) => Mode::Nothing,
        }
    }
}

impl Screen {
    /// Begins to show a run; a machine is told at once what will run. Fails if there can be no thread.
    pub fn start(setup: Setup<'_>, mut out: Stream, err: Stream) -> io::Result<Screen> {
        let Setup { mode, options, json, there, here } = setup;
        let units = options.units;
        let lines = |every, json| Painter::Lines { next: FIRST_LINE, every, json, units };
        let painter = match mode {
            Mode::Bars { colour } => Painter::Bars(Bars::new(ProgressDrawTarget::stderr(), colour, units)),
            Mode::Plain => lines(PLAIN_EVERY, false),
            Mode::Json => lines(JSON_EVERY, true),
            Mode::Nothing => Painter::Nothing,
        };
        if json {
            let version = env!("CARGO_PKG_VERSION");
            Line::Start { schema: SCHEMA, version, there, here, dry_run: options.dry_run }.write(&mut out)?;
        }
        let voice = if json { Voice::Machine } else { Voice::People(Report::new(options)) };
        let desk = Desk { voice, painter, out, err, lost: None, quiet: None };
        let (queue, told) = mpsc::channel();
        let (began, meter) = (Instant::now(), Arc::new(Meter::default()));
        let counters = Arc::clone(&meter);
        let writer = std::thread::Builder::new()
            .name("screen".to_owned())
            .spawn(move || desk.write_until_finished(&told, &counters, began))?;
        Ok(Screen { began, meter, queue, writer: Mutex::new(Some(writer)) })
    }

    /// Takes the bars away and says how it ended. Only the first call does anything. Fails if something of all
    /// this could not be written, a reader that went away excepted.
    pub fn finish(&self, end: End<'_>) -> io::Result<()> {
        // Should the thread be gone already, joining it says so.
        let _ = self.queue.send(Told::Finished);
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Ok(mut desk)) = writer.map(JoinHandle::join) else { return Ok(()) };
        let elapsed = self.began.elapsed();
        let ended = desk.end(&self.meter.sample(elapsed), end, elapsed);
        desk.note(ended);
        // A reader that has seen enough (`| head`) is no failure.
        desk.lost.filter(|error| error.kind() != io::ErrorKind::BrokenPipe).map_or(Ok(()), Err)
    }
}

impl Progress for Screen {
    fn event(&self, event: &Event) {
        match event {
            // The many: counted, never queued.
            Event::Planned(_) => self.meter.count(event, self.began.elapsed()),
            Event::Started { .. } | Event::Advanced { .. } | Event::Finished { .. } => {
                self.meter.count(event, Duration::ZERO);
            }
            Event::Connected { .. } | Event::Scanned { .. } | Event::Committing => {
                self.meter.count(event, Duration::ZERO);
            }
            Event::Round(_) => {
                self.meter.rest();
                let _ = self.queue.send(Told::Event(event.clone()));
            }
            // At most one for each item of the plan.
            Event::Done(..)
            | Event::Conflict { .. }
            | Event::Problem(_)
            | Event::Notice(_)
            | Event::Away(_) => {
                // The thread ends only after `finish`; what comes later has nobody to read it.
                let _ = self.queue.send(Told::Event(event.clone()));
            }
        }
    }
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Screen").field("meter", &self.meter).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "progress_tests.rs"]
mod tests;
