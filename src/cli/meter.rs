//! How far a run is: counted from events of many tasks at once, sampled by whoever draws.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::core::path::RelPath;
use crate::session::progress::{Direction, Event};

/// How many files in flight are shown one by one.
pub const SHOWN_FLIGHTS: usize = 4;
/// A file smaller than this is on its way for too short a time to be shown, and is only counted.
const WORTH_SHOWING: u64 = 128 * 1024;

/// Where a run is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Phase {
    /// Not connected yet; questions may be asked on the terminal.
    #[default]
    Connect,
    /// Scanning and comparing.
    Scan,
    /// Files travel.
    Transfer,
    /// Files are put in place.
    Commit,
}

/// A file on its way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flight {
    /// As in the events.
    pub id: u64,
    /// Which file.
    pub path: RelPath,
    /// Which way.
    pub direction: Direction,
    /// Bytes it has.
    pub size: u64,
    /// Bytes that have travelled.
    pub done: u64,
}

/// The counters at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sample {
    /// Where the run is.
    pub phase: Phase,
    /// Since it began.
    pub elapsed: Duration,
    /// When the first file could travel, counted as `elapsed` is.
    pub planned: Duration,
    /// Entries seen by the scan.
    pub entries: u64,
    /// Files that arrived or were given up, and how many there are.
    pub files: (u64, u64),
    /// Bytes that travelled, and how many there are. Never more than there are, though a file that is sent
    /// again counts twice.
    pub bytes: (u64, u64),
}

impl Sample {
    /// How much is done, of a hundred; rounded down, so that 100 means all of it.
    pub fn percent(&self) -> u64 {
        let share = |(done, all): (u64, u64)| {
            (u128::from(done) * 100).checked_div(u128::from(all)).map_or(100, |percent| percent as u64)
        };
        share(self.bytes).min(share(self.files))
    }

    /// Bytes a second since files began to travel.
    pub fn rate(&self) -> u64 {
        let seconds = self.elapsed.saturating_sub(self.planned).as_secs_f64();
        if seconds > 0.0 { (self.bytes.0 as f64 / seconds) as u64 } else { 0 }
    }

    /// How long the rest takes at the pace so far: the longer of what its bytes and its files need. None before
    /// there is a pace: in the first second, and before the first byte.
    pub fn left(&self) -> Option<Duration> {
        let spent = self.elapsed.saturating_sub(self.planned).as_secs_f64();
        let need = |(done, all): (u64, u64)| match (done, all.saturating_sub(done)) {
            (_, 0) => Some(0.0),
            (0, _) => None,
            (done, rest) => Some(spent * rest as f64 / done as f64),
        };
        let files = need(self.files).unwrap_or(0.0);
        Duration::try_from_secs_f64(need(self.bytes)?.max(files)).ok().filter(|_| spent >= 1.0)
    }
}

/// Counts events. Every method may be called by many tasks at once; none waits for more than a map's update.
#[derive(Debug, Default)]
pub struct Meter {
    phase: AtomicU8,
    planned: AtomicU64,
    entries: AtomicU64,
    total_files: AtomicU64,
    total_bytes: AtomicU64,
    files: AtomicU64,
    bytes: AtomicU64,
    /// How many flights the map holds, so that small files never touch its lock while no large one travels.
    large: AtomicUsize,
    flights: Mutex<BTreeMap<u64, Flight>>,
}

impl Meter {
    /// Counts what `event` says; `elapsed` is the time since the run began.
    pub fn count(&self, event: &Event, elapsed: Duration) {
        match event {
            Event::Connected { .. } => self.reach(Phase::Scan),
            // Scanning begins while a person may still be asked about the host key: it begins no phase.
            Event::Scanned { entries } => {
                self.entries.fetch_max(*entries, Relaxed);
            }
            Event::Planned(totals) => {
                self.total_files.store(totals.send_files.saturating_add(totals.receive_files), Relaxed);
                self.total_bytes.store(totals.send_bytes.saturating_add(totals.receive_bytes), Relaxed);
                self.planned.store(elapsed.as_nanos() as u64, Relaxed);
                self.reach(Phase::Transfer);
            }
            Event::Started { id, path, direction, size } if *size >= WORTH_SHOWING => {
                let flight =
                    Flight { id: *id, path: path.clone(), direction: *direction, size: *size, done: 0 };
                let mut flights = self.flights();
                flights.insert(*id, flight);
                self.large.store(flights.len(), Relaxed);
            }
            Event::Advanced { id, bytes } => {
                self.bytes.fetch_add(*bytes, Relaxed);
                if self.large.load(Relaxed) > 0
                    && let Some(flight) = self.flights().get_mut(id)
                {
                    flight.done = flight.done.saturating_add(*bytes);
                }
            }
            Event::Finished { id, .. } => {
                self.files.fetch_add(1, Relaxed);
                if self.large.load(Relaxed) > 0 {
                    let mut flights = self.flights();
                    flights.remove(id);
                    self.large.store(flights.len(), Relaxed);
                }
            }
            Event::Committing => self.reach(Phase::Commit),
            _ => {}
        }
    }

    /// The counters now.
    pub fn sample(&self, elapsed: Duration) -> Sample {
        let phase = match self.phase.load(Relaxed) {
            0 => Phase::Connect,
            1 => Phase::Scan,
            2 => Phase::Transfer,
            _ => Phase::Commit,
        };
        let of = |done: &AtomicU64, all: &AtomicU64| {
            let all = all.load(Relaxed);
            (done.load(Relaxed).min(all), all)
        };
        Sample {
            phase,
            elapsed,
            planned: Duration::from_nanos(self.planned.load(Relaxed)),
            entries: self.entries.load(Relaxed),
            files: of(&self.files, &self.total_files),
            bytes: of(&self.bytes, &self.total_bytes),
        }
    }

    /// A round of a watch is over: the next begins at nothing.
    pub fn rest(&self) {
        for counter in [&self.total_files, &self.total_bytes, &self.files, &self.bytes] {
            counter.store(0, Relaxed);
        }
        self.flights().clear();
        self.large.store(0, Relaxed);
        self.phase.store(Phase::Scan as u8, Relaxed);
    }

    /// The few files in flight to show: those of `shown` that still travel, in that order, then the largest.
    pub fn in_flight(&self, shown: &[u64]) -> Vec<Flight> {
        let flights = self.flights();
        let mut picked: Vec<&Flight> = shown.iter().filter_map(|id| flights.get(id)).collect();
        while picked.len() < SHOWN_FLIGHTS {
            let rest = flights.values().filter(|flight| picked.iter().all(|other| other.id != flight.id));
            let Some(largest) = rest.max_by_key(|flight| (flight.size, std::cmp::Reverse(flight.id))) else {
                break;
            };
            picked.push(largest);
        }
        picked.into_iter().cloned().collect()
    }

    /// Within a round phases only go forward: a connection that is renewed is no new run.
    fn reach(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Relaxed);
    }

    fn flights(&self) -> MutexGuard<'_, BTreeMap<u64, Flight>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::progress::Totals;

    fn second(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn meter(files: u64, bytes: u64) -> Meter {
        let meter = Meter::default();
        let totals = Totals { send_files: files, send_bytes: bytes, ..Totals::default() };
        meter.count(&Event::Planned(totals), second(2));
        meter
    }

    fn started(id: u64, size: u64) -> Event {
        let path = RelPath::parse(format!("f{id}").as_bytes()).expect("a path");
        Event::Started { id, path, direction: Direction::Sent, size }
    }

    #[test]
    fn pace_counts_from_the_plan_and_the_slower_of_files_and_bytes_decides() {
        let meter = meter(10, 1000);
        meter.count(&Event::Advanced { id: 1, bytes: 500 }, second(3));
        meter.count(&Event::Finished { id: 1, ok: true }, second(3));
        let sample = meter.sample(second(7));
        assert_eq!((sample.percent(), sample.rate(), sample.left()), (10, 100, Some(second(45))));
    }

    #[test]
    fn a_run_without_files_or_without_pace_divides_by_nothing() {
        let sample = meter(0, 0).sample(second(2));
        assert_eq!((sample.percent(), sample.rate(), sample.left()), (100, 0, None));
        assert_eq!(meter(1, 1).sample(second(9)).left(), None);
        assert_eq!(Sample::default().left(), None);
    }

    #[test]
    fn nothing_is_foretold_in_the_first_second() {
        let meter = meter(2, 1000);
        meter.count(&Event::Finished { id: 1, ok: true }, second(2));
        meter.count(&Event::Advanced { id: 1, bytes: 1 }, second(2));
        assert_eq!(meter.sample(second(2) + Duration::from_millis(999)).left(), None);
        assert_eq!(meter.sample(second(3)).left(), Some(second(999)));
    }

    #[test]
    fn a_file_sent_twice_does_not_make_more_than_all() {
        let meter = meter(1, 10);
        meter.count(&Event::Advanced { id: 1, bytes: 25 }, second(3));
        assert_eq!(meter.sample(second(4)).bytes, (10, 10));
        assert_eq!(meter.sample(second(4)).percent(), 0, "the file itself has not arrived");
    }

    #[test]
    fn phases_only_go_forward() {
        let meter = Meter::default();
        let phase = |event: &Event| {
            meter.count(event, second(1));
            meter.sample(second(1)).phase
        };
        assert_eq!(phase(&Event::Notice(String::new())), Phase::Connect);
        assert_eq!(phase(&Event::Scanned { entries: 9 }), Phase::Connect, "the host key may be asked about");
        assert_eq!(phase(&Event::Connected { peer: "h".into() }), Phase::Scan);
        assert_eq!(phase(&Event::Planned(Totals::default())), Phase::Transfer);
        assert_eq!(phase(&Event::Connected { peer: "h".into() }), Phase::Transfer);
        assert_eq!(phase(&Event::Committing), Phase::Commit);
    }

    #[test]
    fn what_is_shown_stays_until_it_lands_and_the_largest_takes_its_place() {
        let meter = meter(9, 0);
        for (id, size) in [(1, 1 << 20), (2, 100), (3, 1 << 30), (4, 1 << 21), (5, 1 << 22), (6, 1 << 23)] {
            meter.count(&started(id, size), second(3));
        }
        let ids = |shown: &[u64]| meter.in_flight(shown).iter().map(|f| f.id).collect::<Vec<_>>();
        assert_eq!(ids(&[]), [3, 6, 5, 4], "file 2 is too small to be seen");
        assert_eq!(ids(&[1, 4]), [1, 4, 3, 6]);
        meter.count(&Event::Finished { id: 4, ok: false }, second(4));
        assert_eq!(ids(&[1, 4, 3, 6]), [1, 3, 6, 5]);
    }
}
