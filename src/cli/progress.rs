//! Shows a running sync. Events only count and queue; one thread of its own writes, so that a slow terminal or a
//! stopped pager never holds up a transfer.

use std::fmt;
use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::ProgressDrawTarget;

use super::amount::{Units, bytes, clock, digits};
use super::bars::Bars;
use super::error::printable;
use super::exit::ExitCode;
use super::json::{Line, SCHEMA};
use super::meter::{Meter, Phase, Sample};
use super::report::{Report, ReportOptions};
use super::sync_args::ProgressKind;
use crate::session::progress::{Event, Outcome, Progress};

/// How often bars are drawn.
const FRAME: Duration = Duration::from_millis(100);
/// When the first line of a progress without bars is written.
const FIRST_LINE: Duration = Duration::from_secs(1);
/// How often further plain lines follow.
const PLAIN_EVERY: Duration = Duration::from_secs(5);
/// How often further objects follow.
const JSON_EVERY: Duration = Duration::from_secs(1);

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
pub type Stream = Box<dyn Write + Send>;

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
}

/// Everything a user sees of a run.
pub struct Screen {
    began: Instant,
    meter: Arc<Meter>,
    queue: Sender<Told>,
    writer: Mutex<Option<JoinHandle<Desk>>>,
}

/// What the writing thread is told.
enum Told {
    Event(Event),
    Finished,
}

/// The writing thread's own.
struct Desk {
    voice: Voice,
    painter: Painter,
    out: Stream,
    err: Stream,
    /// The first thing that could not be written.
    lost: Option<io::Error>,
}

enum Voice {
    People(Report),
    Machine,
}

enum Painter {
    Bars(Bars),
    Lines { next: Duration, every: Duration, json: bool, units: Units },
    Nothing,
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
        let desk = Desk { voice, painter, out, err, lost: None };
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
            // At most one for each item of the plan.
            Event::Done(_) | Event::Conflict { .. } | Event::Problem(_) | Event::Notice(_) => {
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

impl Desk {
    /// The thread: writes what comes, draws when it is time. An output that is gone ends no run.
    fn write_until_finished(mut self, told: &Receiver<Told>, meter: &Meter, began: Instant) -> Desk {
        let mut drawn = Duration::ZERO;
        loop {
            let wait = FRAME.saturating_sub(began.elapsed().saturating_sub(drawn));
            let first = match told.recv_timeout(wait) {
                Ok(first) => Some(first),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return self,
            };
            let batch: Vec<Told> = first.into_iter().chain(told.try_iter().take(1000)).collect();
            let finished = batch.iter().any(|one| matches!(one, Told::Finished));
            if !batch.is_empty() {
                let told = self.tell(batch);
                self.note(told);
            }
            if finished {
                return self;
            }
            let elapsed = began.elapsed();
            if elapsed.saturating_sub(drawn) >= FRAME {
                drawn = elapsed;
                let painted = self.paint(meter, elapsed);
                self.note(painted);
            }
        }
    }

    /// Keeps the first failure for the end, where somebody hears of it.
    fn note(&mut self, written: io::Result<()>) {
        if let Err(error) = written {
            self.lost.get_or_insert(error);
        }
    }

    fn tell(&mut self, batch: Vec<Told>) -> io::Result<()> {
        let Desk { voice, painter, out, err, .. } = self;
        let write = || {
            for told in batch {
                if let Told::Event(event) = told {
                    voice.tell(&event, out, err)?;
                }
            }
            out.flush()
        };
        if let Painter::Bars(bars) = painter { bars.suspend(write) } else { write() }
    }

    fn paint(&mut self, meter: &Meter, elapsed: Duration) -> io::Result<()> {
        match &mut self.painter {
            Painter::Bars(bars) => {
                let flights = meter.in_flight(&bars.shown());
                bars.draw(&meter.sample(elapsed), &flights);
                Ok(())
            }
            Painter::Lines { next, every, json, units } if elapsed >= *next => {
                *next = elapsed + *every;
                let out = if *json { &mut self.out } else { &mut self.err };
                line(&meter.sample(elapsed), *json, *units, out)
            }
            Painter::Lines { .. } | Painter::Nothing => Ok(()),
        }
    }

    /// The last lines, with nothing moving on the terminal any more.
    fn end(&mut self, sample: &Sample, end: End<'_>, elapsed: Duration) -> io::Result<()> {
        match std::mem::replace(&mut self.painter, Painter::Nothing) {
            Painter::Bars(bars) => bars.clear(),
            Painter::Lines { json: true, units, .. } => line(sample, true, units, &mut self.out)?,
            Painter::Lines { units, .. } if sample.files.1 > 0 => {
                writeln!(self.err, "{}", describe(sample, units))?;
            }
            Painter::Lines { .. } | Painter::Nothing => {}
        }
        match (&self.voice, end) {
            (Voice::People(report), End::Outcome(outcome)) => {
                report.summary(outcome, elapsed, &mut self.out, &mut self.err)?;
            }
            (Voice::Machine, End::Outcome(outcome)) => {
                Line::summary(outcome, ExitCode::of(outcome), elapsed).write(&mut self.out)?;
            }
            (Voice::People(_), End::Stopped(text, _)) => {
                writeln!(self.err, "syncfiles: {}", printable(text))?
            }
            (Voice::Machine, End::Stopped(text, code)) => {
                writeln!(self.err, "syncfiles: {}", printable(text))?;
                Line::stopped(text, code, elapsed).write(&mut self.out)?;
            }
        }
        self.out.flush()?;
        self.err.flush()
    }
}

impl Voice {
    fn tell(&mut self, event: &Event, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<()> {
        match (self, event) {
            (Voice::People(report), Event::Done(item)) => report.item(item, out),
            (Voice::People(report), Event::Notice(text)) => report.notice(text, err),
            (Voice::People(report), Event::Conflict { path, why }) => {
                report.conflict(path, *why);
                Ok(())
            }
            (Voice::Machine, Event::Done(item)) => Line::item(item).write(out),
            (Voice::Machine, Event::Conflict { path, why }) => Line::conflict(path, *why).write(out),
            (Voice::Machine, Event::Problem(problem)) => Line::problem(problem).write(out),
            (Voice::Machine, Event::Notice(text)) => Line::Notice { text }.write(out),
            // People find problems in the outcome, at the end.
            _ => Ok(()),
        }
    }
}

/// One line of a progress without bars.
fn line(sample: &Sample, json: bool, units: Units, out: &mut dyn Write) -> io::Result<()> {
    match sample.phase {
        _ if json => Line::progress(sample).write(out)?,
        Phase::Transfer => writeln!(out, "{}", describe(sample, units))?,
        Phase::Scan | Phase::Commit => writeln!(out, "{}", describe_phase(sample))?,
    }
    out.flush()
}

/// How far the files are: ` 45%  450/1,000 files  1.2 GB of 2.7 GB  85 MB/s  0:17 left`.
pub(super) fn describe(sample: &Sample, units: Units) -> String {
    let (files, size) = (sample.files, sample.bytes);
    let left = sample.left().map_or(String::new(), |left| format!("  {} left", clock(left)));
    format!(
        "{:3}%  {}/{} files  {} of {}  {}/s{left}",
        sample.percent(),
        digits(files.0),
        digits(files.1),
        bytes(size.0, units),
        bytes(size.1, units),
        bytes(sample.rate(), units),
    )
}

/// What happens when no files travel.
pub(super) fn describe_phase(sample: &Sample) -> String {
    match sample.phase {
        Phase::Scan => format!("comparing: {} entries here", digits(sample.entries)),
        Phase::Transfer | Phase::Commit => "putting files in place".to_owned(),
    }
}

#[cfg(test)]
#[path = "progress_tests.rs"]
mod tests;
