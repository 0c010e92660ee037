//! Each line exactly as it is written.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

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
        Line::round(&outcome),
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

/// Every object that can be written, with every field that can be in it, and the type of its value. A field may be
/// added here; to take one away, to rename it or to give it another type breaks readers, and raises [`SCHEMA`].
const PINNED: &str = "\
schema 1
conflict path:string path_bytes:string? type:string why:string winner:null|string
item here:act|null path:string path_bytes:string? suppressed:array? there:act|null type:string why:string
item.act act:string from:string? itemize:string kind:string? mode:number? sha256:string? size:number?
notice text:string type:string
problem kind:string path:string path_bytes:string? side:string text:string type:string
progress bytes:number bytes_per_second:number bytes_total:number entries:number files:number files_total:number \
phase:string seconds:number seconds_left:null|number type:string
round bytes:number bytes_received:number bytes_sent:number changed:bool conflicts:number deleted_here:number \
deleted_there:number entries:number files_received:number files_sent:number moved:number problems:number \
skipped:number suppressed:number type:string wire_received:number wire_sent:number
start dry_run:bool here:string schema:number there:string type:string version:string
summary bytes:number? bytes_received:number? bytes_sent:number? changed:bool? conflicts:number? deleted_here:number? \
deleted_there:number? entries:number? error:string? exit_code:number files_received:number? files_sent:number? \
in_sync:bool moved:number? problems:number? seconds:number skipped:number? suppressed:number? type:string \
wire_received:number? wire_sent:number?
";

#[test]
fn the_schema_is_pinned() {
    let (plain, odd) = (RelPath::parse(b"p").expect("a path"), RelPath::parse(b"\xff").expect("a path"));
    let problem = |path: &RelPath| Problem {
        side: Side::One,
        path: path.clone(),
        text: String::new(),
        kind: ProblemKind::Failed,
    };
    let (one, two) = (problem(&plain), problem(&odd));
    let mut received = item(b"\xff", Side::Two, None, put(file("x", 0o644, 1)));
    received.suppressed.one = true;
    let removed = item(b"a", Side::One, Some(file("x", 0o644, 1)), Act::Remove);
    let bits = item(b"a", Side::Two, Some(file("x", 0o644, 1)), Act::SetBits(Bits::of_mode(0o600)));
    let underway = Sample {
        phase: Phase::Transfer,
        elapsed: Duration::from_secs(10),
        bytes: (1, 2),
        files: (1, 2),
        ..Sample::default()
    };
    let lines = [
        Line::Start { schema: SCHEMA, version: "", there: "", here: "", dry_run: false },
        Line::item(&received),
        Line::item(&removed),
        Line::item(&bits),
        Line::conflict(&plain, Why::Tie(Side::One)),
        Line::conflict(&odd, Why::Conflict(None)),
        Line::problem(&one),
        Line::problem(&two),
        Line::Notice { text: "" },
        Line::progress(&Sample::default()),
        Line::progress(&underway),
        Line::round(&Outcome::default()),
        Line::summary(&Outcome::default(), ExitCode::InSync, Duration::ZERO),
        Line::stopped("", ExitCode::Root, Duration::ZERO),
    ];
    assert_eq!(schema(&lines), PINNED);
}

/// What objects hold, a line a type: `field:type`, `?` where it may be missing, `|` between types it may have.
fn schema(lines: &[Line<'_>]) -> String {
    let mut objects: BTreeMap<String, Vec<serde_json::Map<String, Value>>> = BTreeMap::new();
    for line in lines {
        let Ok(Value::Object(object)) = serde_json::from_str(&text(line)) else { panic!("an object") };
        let kind = object["type"].as_str().expect("a type").to_owned();
        for act in object.values().filter_map(Value::as_object) {
            objects.entry(format!("{kind}.act")).or_default().push(act.clone());
        }
        objects.entry(kind).or_default().push(object);
    }
    let mut shown = format!("schema {SCHEMA}\n");
    for (kind, seen) in objects {
        let mut fields: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (name, value) in seen.iter().flatten() {
            fields.entry(name).or_default().insert(type_of(value));
        }
        let fields = fields.into_iter().map(|(name, types)| {
            let types: Vec<&str> = types.into_iter().collect();
            let missing = if seen.iter().all(|object| object.contains_key(name)) { "" } else { "?" };
            format!(" {name}:{}{missing}", types.join("|"))
        });
        shown.push_str(&format!("{kind}{}\n", fields.collect::<String>()));
    }
    shown
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "act",
    }
}
