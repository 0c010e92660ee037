//! The desk of the one thread that writes: what is said to whom, and what is drawn when.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::amount::{Units, bytes, clock, digits};
use super::bars::Bars;
use super::error::printable;
use super::exit::ExitCode;
use super::json::Line;
use super::meter::{Meter, Phase, Sample};
use super::progress::{End, Stream};
use super::quiet::Quiet;
use super::report::Report;
use crate::session::progress::Event;

/// How often bars are drawn.
const FRAME: Duration = Duration::from_millis(100);
/// When the first line of a progress without bars is written.
pub(super) const FIRST_LINE: Duration = Duration::from_secs(1);
/// How often further plain lines follow.
pub(super) const PLAIN_EVERY: Duration = Duration::from_secs(5);
/// How often further objects follow.
pub(super) const JSON_EVERY: Duration = Duration::from_secs(1);

/// What the writing thread is told.
pub(super) enum Told {
    Event(Event),
    Finished,
}

/// The writing thread's own.
pub(super) struct Desk {
    pub(super) voice: Voice,
    pub(super) painter: Painter,
    pub(super) out: Stream,
    pub(super) err: Stream,
    /// The first thing that could not be written.
    pub(super) lost: Option<io::Error>,
    /// What a watch says while it waits, once it does.
    pub(super) quiet: Option<Quiet>,
}

pub(super) enum Voice {
    People(Report),
    Machine,
}

pub(super) enum Painter {
    Bars(Bars),
    Lines { next: Duration, every: Duration, json: bool, units: Units },
    Nothing,
}

impl Desk {
    /// The thread: writes what comes, draws when it is time. An output that is gone ends no run.
    pub(super) fn write_until_finished(
        mut self,
        told: &Receiver<Told>,
        meter: &Meter,
        began: Instant,
    ) -> Desk {
        let mut drawn = Duration::ZERO;
        loop {
            let wait = FRAME.saturating_sub(began.elapsed().saturating_sub(drawn));
            let first = match told.recv_timeout(wait) {
                Ok(first) => Some(first),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return self,
            };
            let mut batch: Vec<Told> = first.into_iter().chain(told.try_iter().take(1000)).collect();
            let finished = batch.iter().any(|one| matches!(one, Told::Finished));
            if !batch.is_empty() {
                self.calm(&mut batch, began.elapsed());
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
    pub(super) fn note(&mut self, written: io::Result<()>) {
        if let Err(error) = written {
            self.lost.get_or_insert(error);
        }
    }

    /// Takes in what the quiet line of a watch says.
    fn calm(&mut self, batch: &mut [Told], now: Duration) {
        for told in batch {
            match told {
                Told::Event(Event::Round(outcome)) => self.quiet.get_or_insert_default().round(outcome, now),
                Told::Event(Event::Away(_)) => self.quiet.get_or_insert_default().away = true,
                _ => {}
            }
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

    pub(super) fn paint(&mut self, meter: &Meter, elapsed: Duration) -> io::Result<()> {
        match &mut self.painter {
            // Until then a passphrase or a host key may be asked for on the same terminal.
            Painter::Bars(_) if meter.sample(elapsed).phase == Phase::Connect => Ok(()),
            Painter::Bars(bars) if self.quiet.is_some() => {
                let units = bars.units();
                let line =
                    self.quiet.as_ref().map(|quiet| quiet.line(&meter.sample(elapsed), elapsed, units));
                bars.rest(&line.unwrap_or_default());
                Ok(())
            }
            // Between rounds there is nothing to say.
            Painter::Lines { .. } if self.quiet.is_some() && meter.sample(elapsed).files.1 == 0 => Ok(()),
            Painter::Bars(bars) => {
                let flights = meter.in_flight(&bars.shown());
                bars.fit(columns());
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
    pub(super) fn end(&mut self, sample: &Sample, end: End<'_>, elapsed: Duration) -> io::Result<()> {
        match std::mem::replace(&mut self.painter, Painter::Nothing) {
            Painter::Bars(bars) => bars.clear(),
            Painter::Lines { .. } if matches!(end, End::Watched(_)) => {}
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
            (Voice::People(report), End::Watched(outcome)) => {
                report.watched(outcome, elapsed, &mut self.out)?
            }
            (Voice::Machine, End::Watched(outcome)) => {
                Line::summary(outcome, ExitCode::Interrupted, elapsed).write(&mut self.out)?;
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
            (Voice::People(report), Event::Done(plan, at)) => {
                plan.items.get(*at).map_or(Ok(()), |item| report.item(item, out))
            }
            (Voice::People(report), Event::Notice(text)) => report.notice(text, err),
            (Voice::People(report), Event::Conflict { path, why }) => {
                report.conflict(path, *why);
                Ok(())
            }
            (Voice::Machine, Event::Done(plan, at)) => {
                plan.items.get(*at).map_or(Ok(()), |item| Line::item(item).write(out))
            }
            (Voice::Machine, Event::Conflict { path, why }) => Line::conflict(path, *why).write(out),
            (Voice::Machine, Event::Problem(problem)) => Line::problem(problem).write(out),
            (Voice::People(report), Event::Round(outcome)) => report.round(outcome, out, err),
            (Voice::People(report), Event::Away(text)) => report.notice(text, err),
            (Voice::Machine, Event::Notice(text) | Event::Away(text)) => Line::Notice { text }.write(out),
            (Voice::Machine, Event::Round(outcome)) => Line::round(outcome).write(out),
            // People find problems in the outcome, at the end.
            _ => Ok(()),
        }
    }
}

/// How wide the terminal is on which bars are drawn.
fn columns() -> Option<u16> {
    rustix::termios::tcgetwinsize(io::stderr()).ok().map(|size| size.ws_col).filter(|columns| *columns > 0)
}

/// One line of a progress without bars.
fn line(sample: &Sample, json: bool, units: Units, out: &mut dyn Write) -> io::Result<()> {
    match sample.phase {
        _ if json => Line::progress(sample).write(out)?,
        Phase::Transfer => writeln!(out, "{}", describe(sample, units))?,
        Phase::Connect | Phase::Scan | Phase::Commit => writeln!(out, "{}", describe_phase(sample))?,
    }
    out.flush()
}

/// How far the files are: ` 45%  450/1,000 files  1.2 GB of 2.7 GB  85 MB/s  0:17 left`.
pub(super) fn describe(sample: &Sample, units: Units) -> String {
    let (files, size) = (sample.files, sample.bytes);
    let left = sample.left().filter(|left| !left.is_zero());
    let left = left.map_or(String::new(), |left| format!("  {} left", clock(left)));
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
        Phase::Connect => "connecting".to_owned(),
        Phase::Scan => format!("comparing: {} entries here", digits(sample.entries)),
        Phase::Transfer | Phase::Commit => "putting files in place".to_owned(),
    }
}
