//! Who may import whom: the picture in `src/lib.rs`, enforced on the text of the sources.

mod source;

use std::fs;
use std::path::{Path, PathBuf};

use source::{Named, named};

/// Each room, and the rooms that it may name besides itself.
const ROOMS: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("cli", &["session", "replica", "protocol", "ssh", "transport", "core"]),
    ("session", &["replica", "protocol", "ssh", "transport", "core"]),
    ("replica", &["core"]),
    ("protocol", &["core"]),
    ("ssh", &["core"]),
    ("transport", &["core"]),
    ("core", &[]),
];

/// What only these rooms may use.
const KEPT: &[(&str, &[&str])] = &[
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("indicatif", &["cli"]),
    ("tracing", &["cli"]),
    ("tracing_subscriber", &["cli"]),
    ("listenfd", &["cli"]),
    ("sd_notify", &["cli"]),
    ("landlock", &["cli"]),
    ("rusqlite", &["replica"]),
    ("russh", &["ssh"]),
];

/// What the pure rooms may not use: no async, no files, no clock, no network, no terminal.
const IMPURE: &[&str] = &[
    "tokio",
    "rustix",
    "ignore",
    "getrandom",
    "std::fs",
    "std::net",
    "std::os::unix::fs",
    "std::os::unix::net",
    "std::env",
    "std::process",
    "std::thread",
    "std::time::SystemTime",
    "std::time::Instant",
];
const PURE: &[&str] = &["core", "protocol"];

/// What prints, and may only do so in `cli`. (A transport may use tokio's stdin and stdout as a byte stream.)
const PRINTS: &[&str] = &["std::io::stdout", "std::io::stderr", "std::io::Stdout", "std::io::Stderr"];
const PRINT_MACROS: &[&str] = &["print", "println", "eprint", "eprintln", "dbg"];

/// What is wrong with one source file; `module` is its place in the crate, `main` for the binary.
fn faults(text: &str, module: &[&str]) -> Vec<String> {
    let room = module.first().copied().unwrap_or("lib");
    let place: Vec<String> =
        module.iter().filter(|name| **name != "main").map(|name| (*name).into()).collect();
    let tests = module.last() == Some(&"tests");
    let mut faults: Vec<String> = named(text, &place)
        .iter()
        .filter_map(|name| Some(format!("line {}: {}", name.line, fault(name, room, tests)?)))
        .collect();
    faults.dedup();
    faults
}

fn fault(name: &Named, room: &str, tests: bool) -> Option<String> {
    let path = name.path.join("::");
    let within = |what: &str| path == what || path.starts_with(&format!("{what}::"));
    if let Some(fault) = (name.path[0] == "crate").then(|| wrong_room(&name.path, room)).flatten() {
        return Some(fault);
    }
    if let Some((what, _)) = KEPT.iter().find(|(what, rooms)| within(what) && !rooms.contains(&room)) {
        return Some(format!("{room} may not use {what}"));
    }
    if let Some(what) = IMPURE.iter().find(|what| PURE.contains(&room) && within(what)) {
        return Some(format!("{room} is pure and may not use {what}"));
    }
    if ["std", "std::*", "std::time::*", "tokio::*"].contains(&path.as_str()) && room != "lib" {
        return Some(format!("`use {path}` hides what is used"));
    }
    let prints = PRINTS.iter().any(|what| within(what))
        || name.called && name.path.last().is_some_and(|last| PRINT_MACROS.contains(&last.as_str()));
    if prints && room != "cli" && !name.test && !tests {
        return Some(format!("only cli prints, not {room}: {path}"));
    }
    None
}

/// The library's root may name every room; every other file only those in [`ROOMS`].
fn wrong_room(path: &[String], room: &str) -> Option<String> {
    let (_, below) = ROOMS.iter().find(|(name, _)| *name == room)?;
    let Some(target) = path.get(1) else { return Some("`crate` names no room".to_owned()) };
    if *target == room || below.contains(&target.as_str()) {
        return None;
    }
    if ROOMS.iter().any(|(name, _)| name == target) {
        Some(format!("{room} may not import {target}"))
    } else {
        Some(format!("`{}` names no room", path.join("::")))
    }
}

/// All sources, with their place in the crate.
fn sources(folder: &Path, module: &[String]) -> Vec<(PathBuf, Vec<String>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let own = matches!(stem.as_str(), "mod" | "lib");
        // `report_tests.rs` is attached to `report.rs` by path, as its module `tests`.
        let names = match stem.strip_suffix("_tests") {
            Some(tested) => vec![tested.to_owned(), "tests".to_owned()],
            None => vec![stem],
        };
        let names = if own { Vec::new() } else { names };
        let inner = [module, &names].concat();
        if path.is_dir() {
            found.extend(sources(&path, &inner));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((path, inner));
        }
    }
    found.sort();
    found
}

#[test]
fn no_room_imports_against_the_arrows() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let sources = sources(&src, &[]);
    assert!(sources.len() > 20, "too few sources seen below {}", src.display());
    let mut wrong = Vec::new();
    for (path, module) in sources {
        let module: Vec<&str> = module.iter().map(String::as_str).collect();
        let text = fs::read_to_string(&path).unwrap();
        let shown = path.strip_prefix(&src).unwrap().display().to_string();
        wrong.extend(faults(&text, &module).into_iter().map(|fault| format!("src/{shown}, {fault}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_room_of_the_picture_is_under_the_rules() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in fs::read_dir(src).unwrap() {
        let stem = entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(stem == "lib" || ROOMS.iter().any(|(room, _)| *room == stem), "src/{stem} has no rule");
    }
}

#[test]
fn each_forbidden_import_is_found() {
    for (module, text, fault) in [
        (&["core", "path"][..], "use crate::replica::scan;", "core may not import replica"),
        (
            &["ssh", "client"],
            "use crate::{core::side, protocol::message::Hello};",
            "ssh may not import protocol",
        ),
        (&["ssh"], "use crate::{core, protocol as wire};", "ssh may not import protocol"),
        (&["ssh", "client"], "fn f() { crate::protocol::codec::encode(m) }", "ssh may not import protocol"),
        (&["replica", "scan"], "use super::super::session::progress;", "replica may not import session"),
        (&["replica"], "mod a { fn f() { super::super::ssh::f() } }", "replica may not import ssh"),
        (&["transport"], "pub(in crate::ssh) fn f() {}", "transport may not import ssh"),
        (&["session", "client"], "use crate::cli::report;", "session may not import cli"),
        (&["main"], "use syncfiles::core::path::RelPath;", "main may not import core"),
        (&["core"], "use crate::*;", "`crate::*` names no room"),
        (&["core"], "use super::{self as all};", "`crate` names no room"),
        (&["core"], "fn f() { let t = std::time::SystemTime::now(); }", "may not use std::time::SystemTime"),
        (
            &["core"],
            "use std::time;\nfn f() { time::SystemTime::now() }",
            "may not use std::time::SystemTime",
        ),
        (&["core"], "use std::{fmt, fs::{self, File}};", "may not use std::fs"),
        (&["core"], "#[tokio::main] async fn f() {}", "may not use tokio"),
        (&["protocol"], "fn f() -> ::tokio::io::Result<()> {}", "may not use tokio"),
        (&["core"], "use std as s;", "hides what is used"),
        (&["core"], "use rustix::fs;", "may not use rustix"),
        (&["session"], "use rusqlite::Connection;", "session may not use rusqlite"),
        (&["session"], "struct A { bar: indicatif::ProgressBar }", "session may not use indicatif"),
        (&["transport"], "use russh::Channel;", "transport may not use russh"),
        (&["session"], "fn f() { println!(\"a\") }", "only cli prints"),
        (&["ssh"], "use std::io;\nfn f() { io::stderr() }", "only cli prints"),
        (&["ssh"], "#[cfg(test)]\nmod t {}\nfn f() { std::eprintln!() }", "line 3: only cli prints"),
    ] {
        let found = faults(text, module);
        assert!(found.iter().any(|f| f.contains(fault)), "{text}: expected `{fault}`, found {found:?}");
    }
}

#[test]
fn what_the_picture_allows_is_not_found_fault_with() {
    for (module, text) in [
        (&["cli"][..], "use crate::session::{self, progress::Event}; fn f() { println!(\"a\") }"),
        (&["session"], "use crate::{core::*, replica, ssh::{Channel, client}};"),
        (&["main"], "fn main() { syncfiles::cli::run() }"),
        (&["core", "path"], "use super::shown::Shown; use std::{fmt, time::Duration};"),
        (
            &["core"],
            "// use crate::cli;\n/* std::fs /* tokio::spawn */ */\n/// [`crate::ssh`]\nfn f<'a>(x: &'a str) {}",
        ),
        (
            &["core"],
            "const A: &str = \"std::fs\"; const B: &[u8] = br#\"crate::cli \" \"#; const C: char = '\"'; const D: u8 = b'\\'';",
        ),
        (&["core"], "#[cfg(test)]\n#[allow(x)]\nmod tests { use super::*; fn f() { println!() } }"),
        (&["replica", "tests"], "fn f() { eprintln!() }"),
        (&["core"], "pub(crate) fn f(a: bool) -> impl Sized + use<> { self.tokio::<u8>(a != b) }"),
        (&["transport"], "use tokio::io; fn f() { io::stdout() }"),
    ] {
        assert_eq!(faults(text, module), Vec::<String>::new(), "{text}");
    }
}
