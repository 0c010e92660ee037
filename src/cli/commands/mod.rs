//! The commands: each takes typed arguments, calls the library, and returns how it ended.

mod demo;
mod ear;
mod history;
mod host_check;
mod keys;
mod listen;
mod log;
mod places;
mod reach;
mod road;
mod rsh;
mod sandbox;
mod serve;
mod stdio;
mod sync;
mod verify;
mod watch;

use std::ffi::OsString;
use std::io::Write;

use super::args::{self, Invocation, Usage};
use super::error::printable;
use super::exit::ExitCode;
use super::{pages, prompt};
use crate::session::SessionError;

/// Why a command ended before its work was done: one line, and the code to end with.
#[derive(Debug)]
pub(crate) struct Stop {
    code: ExitCode,
    line: String,
}

impl Stop {
    fn new(code: ExitCode, line: impl std::fmt::Display) -> Stop {
        Stop { code, line: printable(&line.to_string()) }
    }

    /// A root, or what is remembered about it, cannot be used.
    fn root(line: impl std::fmt::Display) -> Stop {
        Stop::new(ExitCode::Root, line)
    }

    /// It could not start.
    fn start(line: impl std::fmt::Display) -> Stop {
        Stop::new(ExitCode::CouldNotStart, line)
    }
}

impl From<SessionError> for Stop {
    fn from(error: SessionError) -> Stop {
        Stop::new(ExitCode::of_session(&error), error)
    }
}

/// Runs the program with its arguments, the program's own name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let invocation = match args::parse(arguments) {
        Ok(invocation) => invocation,
        Err(Usage::Help(text)) => {
            let _ = std::io::stderr().write_all(text.as_bytes());
            return ExitCode::Usage;
        }
        Err(wrong @ Usage::Wrong(_)) => return complain(&Stop::new(ExitCode::Usage, wrong)),
    };
    let mut out = std::io::stdout();
    let ended = match invocation {
        Invocation::Sync(args) => sync::run(&args),
        Invocation::Serve(args) => serve::run(&args),
        Invocation::History(args) => history::list(&args, &mut out),
        Invocation::Restore(args) => history::restore(&args, &mut out),
        Invocation::Undo(args) => history::undo(&args, &mut out),
        Invocation::Verify(args) => verify::run(&args),
        Invocation::Demo => demo::run(),
        Invocation::Completions(shell) => printed(pages::completions(shell, &mut out)),
        Invocation::Man => printed(pages::man(&mut out)),
        Invocation::Print(text) => printed(out.write_all(text.as_bytes())),
    };
    ended.unwrap_or_else(|stop| complain(&stop))
}

/// Says on stderr why a command ended. Nothing is left to do if even that fails.
fn complain(stop: &Stop) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "syncfiles: {}", stop.line);
    stop.code
}

/// A reader that has seen enough is no failure.
fn printed(result: std::io::Result<()>) -> Result<ExitCode, Stop> {
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Stop::root(format_args!("cannot write to stdout: {error}")))
        }
        _ => Ok(ExitCode::InSync),
    }
}

/// The runtime of a command: a thread for each end of a carrier in this process, as one task moves all bytes of an end, and
/// as many for the disk as many large files can want; they are made only when they are.
fn runtime(ends: usize) -> Result<tokio::runtime::Runtime, Stop> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let built = builder.worker_threads(ends).max_blocking_threads(8192).enable_all().build();
    built.map_err(|error| {
        Stop::root(format_args!("cannot start threads: {error}; raise the limits of this user"))
    })
}

/// Ends a runtime. What blocks in a file system call is not waited for: everything that counts is durable, or is redone.
/// But tasks get the time to be dropped, as one that looks after another program must be.
fn shut_down(runtime: tokio::runtime::Runtime) {
    runtime.shutdown_timeout(std::time::Duration::from_millis(300));
}

/// Resolves when the user, or the system, asks the process to end.
async fn interrupted() {
    signalled().await;
    // A passphrase may be being asked for, by a thread that goes on waiting for it.
    prompt::restore();
}

async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut hang_up)) = (signal(SignalKind::terminate()), signal(SignalKind::hangup()))
    else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = term.recv() => {}
        _ = hang_up.recv() => {}
    }
}
