//! Each line exactly as it is written.

use super::super::itemize::tests::{file, item, put};
use super::*;
use crate::core::version::Bits;

fn text(line: &Line<'_>) -> String {
    let mut out = Vec::new();
    line.write(&mut out).expect("a line");
    String::from_utf8(out).expect("text")
}

#[test]
fn an_item_says_what_each_side_does() {
    let old = file("old", 0o644, 1);
    let mut both = item(b"a", Side::Two, Some(old.clone()), put(file("newer", 0o600, 2)));
    both.act.one = Act::SetBits(Bits::of_mode(0o600));
    both.saw.one = crate::core::version::Standing::Holds(old);
    let sha = crate::core::digest::Digest::of(b"newer");
    let expected = format!(
        r#"{{"type":"item","path":"a","why":"changed","here":{{"act":"put","itemize":">f.stp.....","kind":"file","size":5,"sha256":"{sha}","mode":384,"from":"peer"}},"there":{{"act":"bits","itemize":"<f...p.....","mode":384}}}}"#
    );
    assert_eq!(text(&Line::item(&both)), expected + "\n");
    let mut left = item(b"a", Side::One, None, Act::Nothing);
    left.suppressed.one = true;
    let expected =
        r#"{"type":"item","path":"a","why":"changed","here":null,"there":null,"suppressed":["there"]}"#;
    assert_eq!(text(&Line::item(&left)).trim_end(), expected);
}

#[test]
fn names_are_exact_if_utf8_and_bytes_if_not_and_never_act_on_a_terminal() {
    let line = |name: &[u8]| text(&Line::conflict(&RelPath::parse(name).expect("a path"), Why::Younger));
    assert!(line(b"a\xff").contains(r#""path":"a\\xff","path_bytes":"61ff""#));
    let evil = "\u{202e}\u{9b}\x1b\n\\\"\u{1f600}é";
    let shown = line(evil.as_bytes());
    assert!(shown.trim_end().bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{shown}");
    let read: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(read["path"], evil);
    assert_eq!(read.get("path_bytes"), None);
}

#[test]
fn a_summary_has_the_numbers_or_the_error() {
    let outcome = Outcome { suppressed: 1, deleted: (3, 4), ..Outcome::default() };
    let done = text(&Line::summary(&outcome, ExitCode::InSync, Duration::from_millis(1234)));
    let start =
        r#"{"type":"summary","exit_code":0,"in_sync":false,"seconds":1.234,"changed":false,"entries":0,"#;
    assert!(done.starts_with(start), "{done}");
    assert!(done.contains(r#""deleted_here":4,"deleted_there":3"#), "{done}");
    let stopped = text(&Line::stopped("cannot connect", ExitCode::Connection, Duration::ZERO));
    let all = r#"{"type":"summary","exit_code":10,"in_sync":false,"seconds":0.0,"error":"cannot connect"}"#;
    assert_eq!(stopped.trim_end(), all);
}

#[test]
fn the_schema_document_names_every_type_and_field_and_its_example_is_json() {
    let document = include_str!("../../docs/json.md");
    let outcome = Outcome::default();
    let root = RelPath::parse(b"\xff").expect("a path");
    let failed =
        Problem { side: Side::One, path: root.clone(), text: String::new(), kind: ProblemKind::Failed };
    let start = Line::Start { schema: SCHEMA, version: "", there: "", here: "", dry_run: false };
    let mut received = item(b"a", Side::Two, None, put(file("x", 0o644, 1)));
    received.suppressed.one = true;
    let lines = [
        start,
        Line::item(&received),
        Line::conflict(&root, Why::Younger),
        Line::problem(&failed),
        Line::Notice { text: "" },
        Line::progress(&Sample::default()),
        Line::summary(&outcome, ExitCode::InSync, Duration::ZERO),
        Line::stopped("", ExitCode::Root, Duration::ZERO),
    ];
    for line in lines {
        let value: serde_json::Value = serde_json::from_str(&text(&line)).expect("JSON");
        let fields = value.as_object().expect("an object");
        let inner = fields.values().filter_map(|field| field.as_object()).flatten();
        for (field, _) in fields.iter().chain(inner) {
            assert!(document.contains(&format!("`{field}`")), "{field}");
        }
        assert!(document.contains(&format!("| `{}` |", value["type"].as_str().expect("a type"))), "{value}");
    }
    for example in document.lines().filter(|line| line.starts_with('{')) {
        assert!(serde_json::from_str::<serde_json::Value>(example).is_ok(), "{example}");
    }
}

#[test]
fn conflicts_problems_and_progress() {
    let path = RelPath::parse(b"p").expect("a path");
    let conflict = Line::conflict(&path, Why::Conflict(Some(Side::One)));
    assert_eq!(
        text(&conflict).trim_end(),
        r#"{"type":"conflict","path":"p","why":"conflict","winner":"there"}"#
    );
    let problem = Problem { side: Side::Two, path, text: "cannot read".into(), kind: ProblemKind::Changed };
    let expected = r#"{"type":"problem","path":"p","side":"here","kind":"changed","text":"cannot read"}"#;
    assert_eq!(text(&Line::problem(&problem)).trim_end(), expected);
    let expected = r#"{"type":"progress","phase":"connect","entries":0,"files":0,"files_total":0,"bytes":0,"bytes_total":0,"bytes_per_second":0,"seconds":0.0,"seconds_left":null}"#;
    assert_eq!(text(&Line::progress(&Sample::default())).trim_end(), expected);
}
