//! A run as people and machines see it, without waiting for any clock.

use std::io::Write;

use super::*;
use crate::cli::amount::Units;
use crate::cli::desk::describe;
use crate::cli::meter::{Phase, Sample};
use crate::core::path::RelPath;
use crate::core::plan::Why;
use crate::session::progress::{Direction, Totals};

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn screen(mode: Mode, json: bool) -> (Arc<Screen>, Shared, Shared) {
    let (out, err) = (Shared::default(), Shared::default());
    let streams: (Stream, Stream) = (Box::new(out.clone()), Box::new(err.clone()));
    let setup = Setup { mode, options: ReportOptions::default(), json, there: "h:f", here: "./f" };
    let screen = Screen::start(setup, streams.0, streams.1).unwrap();
    (Arc::new(screen), out, err)
}

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

fn totals(files: u64) -> Totals {
    Totals { send_files: files, send_bytes: files * 10, ..Totals::default() }
}

fn sample(bytes: (u64, u64), files: (u64, u64), seconds: u64) -> Sample {
    Sample {
        phase: Phase::Transfer,
        elapsed: Duration::from_secs(seconds),
        bytes,
        files,
        ..Sample::default()
    }
}

#[test]
fn many_tasks_at_once_are_all_counted() {
    let (screen, _, err) = screen(Mode::Plain, false);
    screen.event(&Event::Planned(totals(4000)));
    std::thread::scope(|scope| {
        for task in 0..4 {
            let screen = &screen;
            scope.spawn(move || {
                for id in (0..1000).map(|n| task * 1000 + n) {
                    let (path, size) = (path("f"), if id % 100 == 0 { 1 << 20 } else { 10 });
                    screen.event(&Event::Started { id, path, direction: Direction::Sent, size });
                    screen.event(&Event::Advanced { id, bytes: 10 });
                    screen.event(&Event::Finished { id, ok: true });
                }
            });
        }
    });
    screen.event(&Event::Committing);
    screen.finish(End::Outcome(&Outcome::default())).unwrap();
    let last = err.text().lines().last().unwrap_or_default().to_owned();
    assert!(last.starts_with("100%  4,000/4,000 files  40 kB of 40 kB  "), "{last}");
}

#[test]
fn a_plain_line_says_how_much_how_fast_and_how_long() {
    let line = describe(&sample((1_200_000, 2_400_000), (500, 1000), 10), Units::Decimal);
    assert_eq!(line, " 50%  500/1,000 files  1.2 MB of 2.4 MB  120 kB/s  0:10 left");
    let none_yet = describe(&sample((0, 10), (0, 1), 0), Units::Decimal);
    assert_eq!(none_yet, "  0%  0/1 files  0 B of 10 B  0 B/s");
}

#[test]
fn lines_come_at_intervals_of_the_clock_and_hold_no_control_codes() {
    let err = Shared::default();
    let painter = Painter::Lines { next: FIRST_LINE, every: PLAIN_EVERY, json: false, units: Units::Decimal };
    let voice = Voice::People(Report::new(ReportOptions::default()));
    let mut desk = Desk {
        voice,
        painter,
        out: Box::new(io::sink()),
        err: Box::new(err.clone()),
        lost: None,
        quiet: None,
    };
    let meter = Meter::default();
    meter.count(&Event::Connected { peer: "h".into() }, Duration::ZERO);
    meter.count(&Event::Scanned { entries: 1200 }, Duration::ZERO);
    for millis in (0..12_000).step_by(100) {
        desk.paint(&meter, Duration::from_millis(millis)).unwrap();
    }
    assert_eq!(err.text(), "comparing: 1,200 entries here\n".repeat(3), "at 1, 6 and 11 seconds");
}

#[test]
fn a_machine_reads_events_in_order_and_a_summary_at_the_end() {
    let (screen, out, err) = screen(Mode::Nothing, true);
    screen.event(&Event::Notice("first meeting".into()));
    screen.event(&Event::Conflict { path: path("a"), why: Why::Younger });
    screen.finish(End::Stopped("cannot go on: \x07", ExitCode::Protocol)).unwrap();
    let text = out.text();
    let kinds: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["type"].to_string())
        .collect();
    assert_eq!(kinds, ["\"start\"", "\"notice\"", "\"conflict\"", "\"summary\""]);
    let start = r#"{"type":"start","schema":1,"version":""#;
    assert!(
        text.starts_with(start) && text.contains(r#""there":"h:f","here":"./f","dry_run":false}"#),
        "{text}"
    );
    assert!(text.contains("\\u0007") && !err.text().contains('\x07'), "{text}");
}

#[test]
fn finishing_twice_says_the_end_once_and_events_after_it_are_ignored() {
    let (screen, out, _) = screen(Mode::Nothing, false);
    screen.finish(End::Outcome(&Outcome::default())).unwrap();
    screen.event(&Event::Notice("late".into()));
    screen.finish(End::Outcome(&Outcome::default())).unwrap();
    assert_eq!(out.text().matches("in sync").count(), 1);
}

#[test]
fn output_that_cannot_be_written_is_told_at_the_end_but_a_closed_pipe_is_not() {
    struct Failing(io::ErrorKind);
    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for (kind, told) in [(io::ErrorKind::StorageFull, true), (io::ErrorKind::BrokenPipe, false)] {
        let options = ReportOptions::default();
        let setup = Setup { mode: Mode::Nothing, options, json: false, there: "", here: "" };
        let screen = Screen::start(setup, Box::new(Failing(kind)), Box::new(io::sink())).unwrap();
        assert_eq!(screen.finish(End::Outcome(&Outcome::default())).is_err(), told);
    }
}

#[test]
fn every_answer_to_what_to_show() {
    use ProgressKind::{Auto, Bar, Json, None as Off, Plain};
    let bars = Mode::Bars { colour: true };
    for (asked, terminal, json, quiet, mode) in [
        (None, true, false, false, bars),
        (None, true, false, true, Mode::Nothing),
        (None, false, false, false, Mode::Nothing),
        (None, true, true, false, Mode::Json),
        (Some(Auto), true, false, true, bars),
        (Some(Auto), false, false, false, Mode::Plain),
        (Some(Auto), false, true, false, Mode::Json),
        (Some(Bar), false, true, false, bars),
        (Some(Plain), true, false, false, Mode::Plain),
        (Some(Json), true, true, false, Mode::Json),
        (Some(Off), true, true, false, Mode::Nothing),
    ] {
        assert_eq!(Mode::choose(asked, terminal, json, quiet, true), mode, "{asked:?} {terminal} {json}");
    }
}

#[test]
fn bars_follow_the_files_that_travel_and_never_show_raw_names() {
    let mut bars = Bars::new(ProgressDrawTarget::hidden(), true, Units::Decimal);
    let flight = |id| super::super::meter::Flight {
        id,
        path: path("a\x1b[2J"),
        direction: Direction::Received,
        size: 10,
        done: 5,
    };
    bars.draw(&sample((5, 10), (0, 1), 1), &[flight(1), flight(2)]);
    assert_eq!(bars.shown(), [1, 2]);
    bars.draw(&sample((5, 10), (0, 1), 1), &[flight(2), flight(3)]);
    assert_eq!(bars.shown(), [3, 2], "the bar of file 1 is taken over, that of file 2 stays where it was");
    bars.draw(&sample((5, 10), (0, 1), 1), &[flight(2)]);
    assert_eq!(bars.shown(), [2]);
    assert!(bars.texts().iter().all(|text| text.contains("a\\x1b[2J")), "{:?}", bars.texts());
    bars.clear();
}
