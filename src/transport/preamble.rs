//! How two programs that only have pipes between them find each other: 16 bytes that no login shell prints.
//!
//! The server says them at once; the client waits for them, passing over what a login shell printed before, and says
//! nothing until they came: whatever else may be running over there gets no bytes to make sense of. Then the client says
//! them too, and both directions are frames (see [`mux`](super::mux)).

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt};

use crate::core::shown::Shown;

/// What both ends say first; the version of what follows comes after it. Only the first byte is a NUL.
const MAGIC: [u8; 15] = *b"\0syncfiles pipe";
/// The version of what follows: frames as in [`mux`](super::mux).
const VERSION: u8 = 1;
/// The most bytes before the magic that are passed over.
const NOISE: usize = 64 * 1024;
/// How much of the noise is remembered for a message, bytes.
const REMEMBERED: usize = 120;

/// Why the other end was not found.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// The stream ended before; what it said instead, fit to be printed.
    #[error("it ended before it spoke")]
    Ended(String),
    /// It says something else, of which this is the beginning, fit to be printed.
    #[error("it does not speak as syncfiles does, but says \"{0}\"")]
    Noise(String),
    /// Its frames are others than ours.
    #[error(
        "it speaks version {0} over pipes, and this one version {VERSION}: install the same version on both systems"
    )]
    Version(u8),
    /// The stream failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What to say first.
pub fn greeting() -> [u8; 16] {
    let mut greeting = [VERSION; 16];
    greeting[..MAGIC.len()].copy_from_slice(&MAGIC);
    greeting
}

/// Waits for the greeting of a peer that may be preceded by noise. Takes not a byte more.
pub async fn find(reader: &mut (impl AsyncBufRead + Unpin)) -> Result<(), Lost> {
    let (mut matched, mut passed, mut noise) = (0, 0, Vec::new());
    while matched < MAGIC.len() {
        let bytes = reader.fill_buf().await?;
        if bytes.is_empty() {
            return Err(Lost::Ended(Shown(noise.trim_ascii()).to_string()));
        }
        let mut taken = 0;
        for &byte in bytes {
            taken += 1;
            // The magic's first byte is nowhere else in it: whatever does not go on can only begin anew.
            matched = match () {
                () if byte == MAGIC[matched] => matched + 1,
                () if byte == MAGIC[0] => 1,
                () => 0,
            };
            if matched == MAGIC.len() {
                break;
            }
        }
        noise.extend(bytes[..taken].iter().take(REMEMBERED.saturating_sub(noise.len())));
        passed += taken;
        reader.consume(taken);
        if passed > NOISE + MAGIC.len() {
            return Err(Lost::Noise(Shown(noise.trim_ascii()).to_string()));
        }
    }
    check(reader.read_u8().await?)
}

/// Takes the greeting of a peer that has nothing else to say before it.
pub async fn expect(reader: &mut (impl AsyncRead + Unpin)) -> Result<(), Lost> {
    let mut said = [0; 16];
    for at in 0..said.len() {
        said[at] = match reader.read_u8().await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(Lost::Ended(String::new()));
            }
            byte => byte?,
        };
        if at < MAGIC.len() && said[at] != MAGIC[at] {
            return Err(Lost::Noise(Shown(said[..=at].trim_ascii()).to_string()));
        }
    }
    check(said[MAGIC.len()])
}

fn check(version: u8) -> Result<(), Lost> {
    if version == VERSION { Ok(()) } else { Err(Lost::Version(version)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::BufReader;

    /// What is left after the greeting was found in what was said, in pieces of this many bytes.
    async fn left(said: &[u8], pieces: usize) -> Result<Vec<u8>, Lost> {
        let mut reader = BufReader::with_capacity(pieces, said);
        find(&mut reader).await?;
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).await?;
        Ok(rest)
    }

    #[tokio::test]
    async fn noise_is_passed_over_and_nothing_that_follows_is_taken() {
        for noise in [
            &b""[..],
            b"Welcome to nas!\r\nYou have mail.\n",
            b"\0",
            b"\0\0sync",
            b"\0syncfiles pip\0syncfiles",
            b"syncfiles pipe\x01",
            &[0xff; NOISE - 100],
        ] {
            for pieces in [1, 7, 8192] {
                let said = [noise, &greeting(), b"SSH-2.0-"].concat();
                assert_eq!(left(&said, pieces).await.unwrap(), b"SSH-2.0-", "{noise:?}");
            }
        }
    }

    #[tokio::test]
    async fn noise_without_end_is_given_up_and_quoted_harmlessly() {
        let noise = b"\x1b[2Jhello\n".repeat(10_000);
        let error = left(&noise, 8192).await.unwrap_err().to_string();
        assert!(error.contains("\\x1b[2Jhello") && error.len() < 1000, "{error}");
        let mut late = vec![b'x'; NOISE + 200];
        late.extend(greeting());
        assert!(matches!(left(&late, 1).await, Err(Lost::Noise(_))));
    }

    #[tokio::test]
    async fn an_end_and_another_version_are_told_apart() {
        let ended = left(b"This account is not available.\n", 7).await;
        assert!(matches!(ended, Err(Lost::Ended(said)) if said == "This account is not available."));
        assert!(matches!(left(&greeting()[..15], 100).await, Err(Lost::Io(_))));
        let mut other = greeting();
        other[15] = 9;
        assert!(matches!(left(&other, 100).await, Err(Lost::Version(9))));
        assert!(matches!(expect(&mut &other[..]).await, Err(Lost::Version(9))));
    }

    #[tokio::test]
    async fn a_server_expects_the_greeting_and_nothing_before_it() {
        let said = [&greeting()[..], b"rest"].concat();
        let mut reader = &said[..];
        expect(&mut reader).await.unwrap();
        assert_eq!(reader, b"rest");
        for other in [&b"hello"[..], b"\0hello", b"x"] {
            assert!(matches!(expect(&mut &other[..]).await, Err(Lost::Noise(_))), "{other:?}");
        }
        assert!(matches!(expect(&mut &greeting()[..9]).await, Err(Lost::Ended(_))));
        assert!(matches!(expect(&mut &b""[..]).await, Err(Lost::Ended(_))));
    }
}
