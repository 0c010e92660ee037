//! A file's channel gives the same opening, frames and fault however its bytes are split.
#![no_main]

use libfuzzer_sys::fuzz_target;
use syncfiles::protocol::frame::{Frame, FrameError, FrameReader, Opening};

/// What a channel held: its opening, its content joined, the frames that are no data.
type Read = (Option<Opening>, Vec<u8>, Vec<Frame<'static>>);

fn read(stream: &[u8], size: usize) -> (Read, Result<(), FrameError>) {
    let (mut reader, mut read) = (FrameReader::default(), Read::default());
    for mut bytes in stream.chunks(size) {
        if let Err(fault) = take(&mut reader, &mut bytes, &mut read) {
            return (read, Err(fault));
        }
    }
    (read, Ok(()))
}

fn take(reader: &mut FrameReader, bytes: &mut &[u8], read: &mut Read) -> Result<(), FrameError> {
    if read.0.is_none() {
        read.0 = reader.opening(bytes)?;
    }
    if read.0.is_none() {
        return Ok(());
    }
    while let Some(frame) = reader.frame(bytes)? {
        match frame {
            Frame::Data(piece) => read.1.extend_from_slice(&piece),
            Frame::End(digest) => read.2.push(Frame::End(digest)),
            Frame::Abort { changed, text } => read.2.push(Frame::Abort { changed, text }),
            Frame::Grid(grid) => read.2.push(Frame::Grid(grid)),
            Frame::Again => read.2.push(Frame::Again),
            Frame::Blocks(blocks) => read.2.push(Frame::Blocks(blocks)),
            Frame::Primed(packed) => read.2.push(Frame::Primed(packed)),
            Frame::Copy { offset, length } => read.2.push(Frame::Copy { offset, length }),
        }
    }
    Ok(())
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&size, stream)) = bytes.split_first() else { return };
    assert_eq!(read(stream, usize::from(size) + 1), read(stream, usize::MAX));
});
