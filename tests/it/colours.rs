//! Bars on a real terminal, with colours and without.

use std::io::Read;
use std::process::Stdio;

use crate::support::process::{World, has};
use crate::support::relay::Relay;

/// More than two systems keep in flight between them.
const LARGE: usize = 32 << 20;

/// What a terminal gets to see of a sync, from its first bar on to its end.
fn shown(no_color: bool) -> String {
    let world = World::new();
    world.folder1().write("large", vec![1; LARGE], 10);
    let server = world.serve();
    let relay = Relay::to(server.port);
    relay.hold_after(6 << 20);
    let typed = format!(
        "stty cols 100 && exec '{}' ssh://alice@127.0.0.1:{}/folder1 folder2 --accept-new --compress=never",
        env!("CARGO_BIN_EXE_syncfiles"),
        relay.port
    );
    // `script` gives it a terminal; its own input stays open, or it would end early.
    let mut command = world.two.command("script", &["-qec", &typed, "/dev/null"]);
    command.env("TERM", "xterm-256color").env("SHELL", "/bin/sh").stdin(Stdio::piped());
    if no_color {
        command.env("NO_COLOR", "1");
    }
    let mut child = command.spawn().unwrap();
    let (mut terminal, mut bytes) = (child.stdout.take().unwrap(), Vec::new());
    let mut buffer = [0; 4096];
    // The line is held, so the bar stays until it was seen.
    while !String::from_utf8_lossy(&bytes).contains("0/1 files") {
        let length = terminal.read(&mut buffer).unwrap();
        assert!(length > 0, "{}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&buffer[..length]);
    }
    relay.release();
    terminal.read_to_end(&mut bytes).unwrap();
    assert!(child.wait().unwrap().success());
    String::from_utf8(bytes).unwrap()
}

/// Whether a text sets a colour, in any of the ways there are.
fn coloured(text: &str) -> bool {
    text.split("\x1b[").skip(1).any(|rest| {
        let end = rest.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(0);
        rest[end..].starts_with('m') && rest[..end].split(';').any(|part| part.starts_with(['3', '4', '9']))
    })
}

#[test]
fn bars_are_coloured_unless_no_color_says_otherwise() {
    if !has("script") {
        return;
    }
    let with = shown(false);
    assert!(coloured(&with) && with.contains("in sync: received 1 file"), "{with:?}");
    let without = shown(true);
    assert!(!coloured(&without) && without.contains("in sync: received 1 file"), "{without:?}");
}
