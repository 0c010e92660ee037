//! What people read, word for word.

use super::super::itemize::tests::{file, folder, item, link, put};
use super::*;
use crate::session::progress::Totals;

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).expect("a path")
}

fn ended(report: &Report, outcome: &Outcome) -> (String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    report.summary(outcome, Duration::from_millis(1500), &mut out, &mut err).expect("written");
    (String::from_utf8(out).expect("text"), String::from_utf8(err).expect("text"))
}

fn problem(side: Side, name: &str, kind: ProblemKind) -> Problem {
    Problem { side, path: path(name), text: "cannot read: Permission denied".into(), kind }
}

#[test]
fn an_undisturbed_run_is_one_line() {
    let report = Report::new(ReportOptions::default());
    let outcome = Outcome { entries: 1234, bytes: 5_600_000, ..Outcome::default() };
    let quiet = ended(&report, &outcome);
    assert_eq!(quiet, ("in sync: nothing to do (1,234 entries, 5.6 MB); 1.5 s\n".into(), String::new()));
    let totals = Totals { send_files: 1, send_bytes: 10, receive_files: 2, receive_bytes: 2000 };
    let outcome = Outcome { totals, deleted: (0, 3), moved: 4, ..outcome };
    let text = "in sync: sent 1 file (10 B), received 2 files (2.0 kB), moved or copied in place 4, deleted 3 here; 1.5 s\n";
    assert_eq!(ended(&report, &outcome).0, text);
}

#[test]
fn what_was_left_is_named_with_what_to_do() {
    let problems =
        vec![problem(Side::One, "a", ProblemKind::Failed), problem(Side::Two, "b", ProblemKind::Changed)];
    let outcome = Outcome { problems, skipped: 1, ..Outcome::default() };
    let (out, err) = ended(&Report::new(ReportOptions::default()), &outcome);
    assert_eq!(
        err,
        "syncfiles: a on the other system: cannot read: Permission denied\n\
         syncfiles: b: cannot read: Permission denied\n\
         syncfiles: 1 path failed: put right what is named above and run again\n\
         syncfiles: 1 path changed during the run, left as found: run again\n\
         syncfiles: 1 conflict left: decide with --conflict newer, local, remote or keep-both\n"
    );
    assert_eq!(out, "not in sync yet: conflicts left: 1, 2 paths not settled; 1.5 s\n");
}

#[test]
fn conflicts_are_listed_up_to_a_screen_and_say_where_the_losers_are() {
    let mut report = Report::new(ReportOptions { history: true, ..ReportOptions::default() });
    (0..22).for_each(|n| report.conflict(&path(&format!("f{n}")), Why::Conflict(Some(Side::One))));
    tell(&mut report, &conflict(b"f0"));
    let (out, err) = ended(&report, &Outcome { conflicts: 22, ..Outcome::default() });
    assert!(
        out.starts_with("conflicts:\n  f0: changed on both systems; the version of the other one stays\n")
    );
    assert!(out.contains("  and 2 more (-v lists them all)\n  what lost is in history"), "{out}");
    assert!(out.ends_with("in sync: conflicts decided: 22; 1.5 s\n"), "{out}");
    assert_eq!(err, "");
}

/// A conflict that System 1 won: what System 2 held is replaced.
fn conflict(name: &[u8]) -> Item {
    let why = Why::Conflict(Some(Side::One));
    Item { why, ..item(name, Side::Two, Some(file("old", 0o644, 1)), put(file("new", 0o644, 2))) }
}

fn tell(report: &mut Report, item: &Item) {
    report.item(item, &mut Vec::new()).expect("written");
}

#[test]
fn no_loser_is_said_to_be_in_history_where_nothing_was_displaced() {
    let mut report = Report::new(ReportOptions { history: true, ..ReportOptions::default() });
    report.conflict(&path("left"), Why::Conflict(None));
    report.conflict(&path("suppressed"), Why::Conflict(Some(Side::Two)));
    let (out, _) = ended(&report, &Outcome { conflicts: 1, skipped: 1, suppressed: 1, ..Outcome::default() });
    assert!(out.contains("  left: ") && !out.contains("history"), "{out}");
}

#[test]
fn a_loser_that_is_kept_beside_the_winner_is_named() {
    let mut report = Report::new(ReportOptions { history: true, ..ReportOptions::default() });
    report.conflict(&path("doc.txt"), Why::Conflict(Some(Side::One)));
    tell(&mut report, &conflict(b"doc.txt"));
    let beside = Act::Put { version: file("old", 0o644, 1), from: Source::Own(path("doc.txt")) };
    tell(&mut report, &Item { why: Why::Kept, ..item(b"doc.conflict-1.txt", Side::Two, None, beside) });
    let (out, _) = ended(&report, &Outcome { conflicts: 1, ..Outcome::default() });
    let line = "  doc.txt: changed on both systems; the version of the other one stays, what lost is kept as doc.conflict-1.txt\n";
    assert!(out.contains(line) && !out.contains("history"), "{out}");
}

#[test]
fn folders_links_and_permissions_are_counted_by_their_names() {
    let mut report = Report::new(ReportOptions::default());
    tell(&mut report, &item(b"d", Side::Two, None, put(folder())));
    tell(&mut report, &item(b"e", Side::One, None, put(folder())));
    tell(&mut report, &item(b"l", Side::Two, None, put(link("t"))));
    let bits = Act::SetBits(file("x", 0o600, 1).bits);
    tell(&mut report, &item(b"f", Side::Two, Some(file("x", 0o644, 1)), bits));
    let (out, _) = ended(&report, &Outcome::default());
    assert_eq!(out, "in sync: 2 folders, 1 link, 1 change of permissions; 1.5 s\n");
}

#[test]
fn suppressed_changes_are_not_called_in_sync_and_a_dry_run_says_so() {
    let report = Report::new(ReportOptions::default());
    let outcome = Outcome { suppressed: 2, ..Outcome::default() };
    let text =
        "done, the sides still differ: left out 2 (by --pull, --push or what the server allows); 1.5 s\n";
    assert_eq!(ended(&report, &outcome).0, text);
    let dry = Report::new(ReportOptions { dry_run: true, ..ReportOptions::default() });
    let totals = Totals { send_files: 1, send_bytes: 5, ..Totals::default() };
    let would = ended(&dry, &Outcome { totals, ..outcome }).0;
    assert!(would.starts_with("dry run, nothing was changed: to send 1 file (5 B), left out 2"), "{would}");
}

#[test]
fn quiet_prints_errors_only_and_stats_print_totals() {
    let quiet = Report::new(ReportOptions { quiet: true, stats: true, ..ReportOptions::default() });
    let outcome = Outcome { skipped: 1, wire: (1_234_567, 0), ..Outcome::default() };
    let (out, err) = ended(&quiet, &outcome);
    assert_eq!((out.as_str(), err.lines().count()), ("", 1));
    let stats = Report::new(ReportOptions { stats: true, ..ReportOptions::default() });
    let (out, _) = ended(&stats, &outcome);
    assert!(out.contains("Sent on the wire: 1.2 MB (1,234,567 bytes)\n"), "{out}");
    assert!(out.contains("Conflicts left: 1\n"), "{out}");
}

#[test]
fn names_and_itemized_changes_are_a_line_a_side() {
    let items = [
        item(b"d", Side::Two, None, put(folder())),
        item(b"d/new", Side::One, None, put(file("x", 0o644, 1))),
        item(b"l\x1b", Side::Two, None, put(link("t\n"))),
        item(b"old", Side::Two, Some(file("x", 0o644, 1)), Act::Remove),
        item(b"same", Side::Two, Some(file("x", 0o644, 1)), Act::Nothing),
    ];
    let told = |options| {
        let mut report = Report::new(options);
        let mut out = Vec::new();
        items.iter().for_each(|item| report.item(item, &mut out).expect("written"));
        String::from_utf8(out).expect("text")
    };
    let marks = told(ReportOptions { itemize: true, names: true, ..ReportOptions::default() });
    assert_eq!(marks, "cd+++++++++ d/\n<f+++++++++ d/new\ncL+++++++++ l\\x1b -> t\\n\n*deleting   old\n");
    let names = told(ReportOptions { names: true, ..ReportOptions::default() });
    assert_eq!(names, "receive d/\nsend d/new\nreceive l\\x1b -> t\\n\ndelete here old\n");
    assert_eq!(told(ReportOptions::default()), "");
}
