//! Bars on a terminal: one for the whole run, one for each of the few files shown in flight.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::amount::{Units, bytes};
use super::desk::{describe, describe_phase};
use super::meter::{Flight, Phase, SHOWN_FLIGHTS, Sample};
use crate::core::shown::Shown;
use crate::session::progress::Direction;

/// How finely a bar is divided.
const STEPS: u64 = 1000;
/// Templates for the whole run and for one file.
const COLOURED: (&str, &str) =
    ("[{wide_bar:.cyan/blue}] {msg}", "  [{bar:20.green/blue}] {percent:>3}% {prefix:>7} {wide_msg}");
/// The same without colours.
const PLAIN: (&str, &str) = ("[{wide_bar}] {msg}", "  [{bar:20}] {percent:>3}% {prefix:>7} {wide_msg}");
/// The same where a bar would leave no room for what it says; cut at the end of the line, never wrapped.
const NARROW: (&str, &str) = ("{wide_msg}", "  {percent:>3}% {wide_msg}");
/// The least columns with room for bars beside the longest line.
const WIDE: u16 = 84;

/// The bars and what they show.
pub(super) struct Bars {
    multi: MultiProgress,
    whole: ProgressBar,
    /// The files shown, in the order of their bars.
    slots: Vec<(u64, ProgressBar)>,
    templates: (&'static str, &'static str),
    narrow: bool,
    units: Units,
}

impl Bars {
    /// Bars on `target`, drawn when [`Bars::draw`] says so; coloured unless `NO_COLOR` is set.
    pub(super) fn new(target: ProgressDrawTarget, colour: bool, units: Units) -> Bars {
        let templates = if colour { COLOURED } else { PLAIN };
        let multi = MultiProgress::with_draw_target(target);
        let whole = multi.add(ProgressBar::new(STEPS).with_style(style(templates.0)));
        Bars { multi, whole, slots: Vec::new(), templates, narrow: false, units }
    }

    /// Follows the terminal's width, which may change at any moment.
    pub(super) fn fit(&mut self, columns: Option<u16>) {
        let narrow = columns.is_some_and(|columns| columns < WIDE);
        if narrow != self.narrow {
            self.narrow = narrow;
            self.whole.set_style(style(self.template().0));
            self.slots.iter().for_each(|(_, bar)| bar.set_style(style(self.template().1)));
        }
    }

    fn template(&self) -> (&'static str, &'static str) {
        if self.narrow { NARROW } else { self.templates }
    }

    /// The files shown now, for [`super::meter::Meter::in_flight`].
    pub(super) fn shown(&self) -> Vec<u64> {
        self.slots.iter().map(|(id, _)| *id).collect()
    }

    /// Draws everything once.
    pub(super) fn draw(&mut self, sample: &Sample, flights: &[Flight]) {
        let flights = &flights[..flights.len().min(SHOWN_FLIGHTS)];
        let transfer = share(sample.bytes.0, sample.bytes.1).min(share(sample.files.0, sample.files.1));
        let (position, message) = match sample.phase {
            Phase::Connect | Phase::Scan => (0, describe_phase(sample)),
            Phase::Transfer => (transfer, describe(sample, self.units)),
            Phase::Commit => (STEPS, describe_phase(sample)),
        };
        self.whole.set_position(position);
        self.whole.set_message(message);
        self.seat(flights);
        for (id, bar) in &self.slots {
            if let Some(flight) = flights.iter().find(|flight| flight.id == *id) {
                bar.set_prefix(bytes(flight.size, self.units));
                bar.set_position(share(flight.done, flight.size));
            }
        }
        self.whole.tick();
    }

    /// One line instead of bars.
    pub(super) fn rest(&mut self, line: &str) {
        self.seat(&[]);
        self.whole.set_style(style(NARROW.0));
        self.whole.set_message(line.to_owned());
        self.whole.tick();
    }

    /// In which sizes are shown.
    pub(super) fn units(&self) -> Units {
        self.units
    }

    /// Runs `write` with the bars out of the way.
    pub(super) fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        self.multi.suspend(write)
    }

    /// Takes all bars off the terminal.
    pub(super) fn clear(self) {
        for (_, bar) in &self.slots {
            bar.finish_and_clear();
        }
        self.whole.finish_and_clear();
        // A terminal that cannot be written has nothing to clear.
        let _ = self.multi.clear();
    }

    /// What the bars of files say.
    #[cfg(test)]
    pub(super) fn texts(&self) -> Vec<String> {
        self.slots.iter().map(|(_, bar)| bar.message()).collect()
    }

    /// Gives every flight a bar: its own, else that of a file that has landed, else a new one. Bars that are
    /// left over go; moving bars about would flicker.
    fn seat(&mut self, flights: &[Flight]) {
        let seated = self.shown();
        let mut waiting = flights.iter().filter(|flight| !seated.contains(&flight.id));
        self.slots.retain_mut(|(id, bar)| {
            if flights.iter().any(|flight| flight.id == *id) {
                return true;
            }
            let Some(next) = waiting.next() else {
                bar.finish_and_clear();
                self.multi.remove(bar);
                return false;
            };
            *id = next.id;
            bar.set_message(label(next));
            true
        });
        for flight in waiting {
            let bar = self.multi.add(ProgressBar::new(STEPS).with_style(style(self.template().1)));
            bar.set_message(label(flight));
            self.slots.push((flight.id, bar));
        }
    }
}

fn label(flight: &Flight) -> String {
    let arrow = if flight.direction == Direction::Sent { '<' } else { '>' };
    format!("{arrow} {}", Shown(flight.path.as_bytes()))
}

/// The templates are fixed and tested below; should one not parse, indicatif's own is better than no run.
fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}

/// `done` of `all` in steps; nothing at all is done.
fn share(done: u64, all: u64) -> u64 {
    (u128::from(done.min(all)) * u128::from(STEPS))
        .checked_div(u128::from(all))
        .map_or(STEPS, |steps| steps as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_parses() {
        for template in [COLOURED, PLAIN, NARROW].map(|(whole, file)| [whole, file]).concat() {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
