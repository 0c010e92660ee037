//! Bars on a terminal: one for the whole run, one for each of the few files shown in flight.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::amount::{Units, bytes};
use super::meter::{Flight, Phase, SHOWN_FLIGHTS, Sample};
use super::progress::{describe, describe_phase};
use crate::core::shown::Shown;
use crate::session::progress::Direction;

/// How finely a bar is divided.
const STEPS: u64 = 1000;
/// Templates for the whole run and for one file.
const COLOURED: (&str, &str) =
    ("[{wide_bar:.cyan/blue}] {msg}", "  [{bar:20.green/blue}] {percent:>3}% {prefix:>7} {wide_msg}");
/// The same without colours.
const PLAIN: (&str, &str) = ("[{wide_bar}] {msg}", "  [{bar:20}] {percent:>3}% {prefix:>7} {wide_msg}");

/// The bars and what they show.
pub(super) struct Bars {
    multi: MultiProgress,
    whole: ProgressBar,
    /// The files shown, in the order of their bars.
    slots: Vec<(u64, ProgressBar)>,
    file_style: ProgressStyle,
    units: Units,
}

impl Bars {
    /// Bars on `target`, drawn when [`Bars::draw`] says so; coloured unless `NO_COLOR` is set.
    pub(super) fn new(target: ProgressDrawTarget, colour: bool, units: Units) -> Bars {
        let (whole, file) = if colour { COLOURED } else { PLAIN };
        let multi = MultiProgress::with_draw_target(target);
        let whole = multi.add(ProgressBar::new(STEPS).with_style(style(whole)));
        let file_style = style(file);
        Bars { multi, whole, slots: Vec::new(), file_style, units }
    }

    /// The files shown now, for [`super::meter::Meter::in_flight`].
    pub(super) fn shown(&self) -> Vec<u64> {
        self.slots.iter().map(|(id, _)| *id).collect()
    }

    /// Draws everything once.
    pub(super) fn draw(&mut self, sample: &Sample, flights: &[Flight]) {
        let flights = &flights[..flights.len().min(SHOWN_FLIGHTS)];
        self.slots.retain(|(id, bar)| {
            let stays = flights.iter().any(|flight| flight.id == *id);
            if !stays {
                bar.finish_and_clear();
                self.multi.remove(bar);
            }
            stays
        });
        for flight in flights {
            let bar = self.slot(flight);
            bar.set_prefix(bytes(flight.size, self.units));
            bar.set_position(share(flight.done, flight.size));
        }
        match sample.phase {
            Phase::Transfer => self.whole.set_message(describe(sample, self.units)),
            _ => self.whole.set_message(describe_phase(sample)),
        }
        self.whole
            .set_position(share(sample.bytes.0, sample.bytes.1).min(share(sample.files.0, sample.files.1)));
        self.whole.tick();
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

    fn slot(&mut self, flight: &Flight) -> ProgressBar {
        if let Some((_, bar)) = self.slots.iter().find(|(id, _)| *id == flight.id) {
            return bar.clone();
        }
        let bar = self.multi.add(ProgressBar::new(STEPS).with_style(self.file_style.clone()));
        let arrow = if flight.direction == Direction::Sent { '<' } else { '>' };
        bar.set_message(format!("{arrow} {}", Shown(flight.path.as_bytes())));
        self.slots.push((flight.id, bar.clone()));
        bar
    }
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
        for template in [COLOURED.0, COLOURED.1, PLAIN.0, PLAIN.1] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
