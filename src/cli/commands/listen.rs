//! Where `serve` listens: on sockets that a service manager opened and passed, else on one of its own.

use std::net::TcpListener;

use listenfd::ListenFd;

use super::Stop;
use crate::cli::exit::ExitCode;
use crate::cli::serve_args::ServeArgs;

/// Clients that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// The sockets to accept clients from, at least one.
pub(super) fn listeners(args: &ServeArgs) -> Result<Vec<TcpListener>, Stop> {
    let passed = passed(args)?;
    let listeners = if passed.is_empty() { vec![own(args)?] } else { passed };
    for listener in &listeners {
        listener.set_nonblocking(true).map_err(|error| unusable(&error))?;
    }
    Ok(listeners)
}

/// As in sd_listen_fds(3): LISTEN_PID names this process, LISTEN_FDS how many there are.
fn passed(args: &ServeArgs) -> Result<Vec<TcpListener>, Stop> {
    let mut passed = ListenFd::from_env();
    if passed.len() > 0 && args.listen.is_some() {
        return Err(Stop::new(
            ExitCode::Usage,
            "the service manager passed a socket to listen on, and --listen names another: leave one of them out",
        ));
    }
    let mut listeners = Vec::new();
    for number in 0..passed.len() {
        let listener = passed.take_tcp_listener(number).and_then(|listener| {
            listener.as_ref().map_or(Ok(()), listens)?;
            Ok(listener)
        });
        listeners.extend(listener.map_err(|error| unusable(&error))?);
    }
    Ok(listeners)
}

/// Accept=yes passes a client instead, from which nobody can be accepted.
#[cfg(not(target_vendor = "apple"))]
fn listens(socket: &TcpListener) -> std::io::Result<()> {
    match rustix::net::sockopt::socket_acceptconn(socket)? {
        true => Ok(()),
        false => Err(std::io::Error::other("it is connected, or does not listen")),
    }
}

/// There the system does not tell.
#[cfg(target_vendor = "apple")]
fn listens(_: &TcpListener) -> std::io::Result<()> {
    Ok(())
}

fn unusable(error: &std::io::Error) -> Stop {
    Stop::new(
        ExitCode::Connection,
        format_args!(
            "cannot listen on the socket that was passed: {error}; it must be a TCP socket with Accept=no"
        ),
    )
}

fn own(args: &ServeArgs) -> Result<TcpListener, Stop> {
    let address = args.address();
    let bound = TcpListener::bind(address).and_then(|listener| {
        rustix::net::listen(&listener, BACKLOG)?;
        Ok(listener)
    });
    bound.map_err(|error| {
        Stop::new(
            ExitCode::Connection,
            format_args!("cannot listen on {address}: {error}; name another with --listen ADDR:PORT"),
        )
    })
}
