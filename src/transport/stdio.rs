//! This process's own stdin and stdout as byte streams.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;

use rustix::fs::{FileType, OFlags, fcntl_getfl, fcntl_setfl, fstat};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::unix::pipe;

/// What is read from stdin.
pub type Input = Pin<Box<dyn AsyncRead + Send>>;
/// What is written to stdout.
pub type Output = Pin<Box<dyn AsyncWrite + Send>>;

/// Both, to be taken once. Must be called inside a tokio runtime.
///
/// Pipes and sockets, which is what an sshd gives, are waited for by the runtime; anything else takes a thread.
///
/// # Errors
/// One of them is closed.
pub fn take() -> io::Result<(Input, Output)> {
    let (input, output) = (rustix::stdio::stdin(), rustix::stdio::stdout());
    let input: Input = match pollable(input)? {
        Some(input) => Box::pin(pipe::Receiver::from_owned_fd_unchecked(input)?),
        None => Box::pin(tokio::io::stdin()),
    };
    let output: Output = match pollable(output)? {
        Some(output) => Box::pin(pipe::Sender::from_owned_fd_unchecked(output)?),
        None => Box::pin(tokio::io::stdout()),
    };
    Ok((input, output))
}

/// A descriptor of its own that does not block, where the file can be waited for.
fn pollable(file: impl AsFd) -> io::Result<Option<OwnedFd>> {
    let kind = FileType::from_raw_mode(fstat(&file)?.st_mode);
    if !matches!(kind, FileType::Fifo | FileType::Socket) {
        return Ok(None);
    }
    fcntl_setfl(&file, fcntl_getfl(&file)? | OFlags::NONBLOCK)?;
    Ok(Some(file.as_fd().try_clone_to_owned()?))
}
