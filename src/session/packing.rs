//! Whether and how content is compressed on its way out.

use std::sync::Arc;

use bytes::BytesMut;

use crate::protocol::frame::{HEAD, MAX_FRAME, data_head};
use crate::protocol::packed::{Compress, put_packed};
use crate::protocol::primer::{Priming, put_primed};
use crate::replica::source::{Source, SourceError};

/// What is read, and tried to be compressed, at a time: sent as it is, it fills two frames.
const BLOCK: usize = 2 * MAX_FRAME;
/// Half a round trip in nanoseconds from which on the link, and not the processor, is taken to be what limits: 2.5 ms.
const SLOW: i64 = 2_500_000;
/// Blocks that are sent as they are after the first that did not shrink; doubled each time, up to [`MOST_SKIPPED`].
const SKIPPED: u32 = 8;
const MOST_SKIPPED: u32 = 1024;

/// What a session does about compression.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Packing {
    /// Nothing.
    #[default]
    Off,
    /// Compress until content does not shrink; then look again only now and then.
    Sampled,
    /// Try every block.
    Every,
}

impl Packing {
    /// What the user's wish means on a link whose half round trip is `delay`, in nanoseconds.
    pub(crate) fn of(wish: Compress, delay: i64) -> Packing {
        match wish {
            Compress::Never => Packing::Off,
            Compress::Always => Packing::Every,
            Compress::Auto if delay >= SLOW => Packing::Sampled,
            Compress::Auto => Packing::Off,
        }
    }

    /// For one file.
    pub(crate) fn packer(self) -> Option<Packer> {
        (self != Packing::Off).then(|| Packer {
            every: self == Packing::Every,
            large: true,
            skip: 0,
            penalty: SKIPPED,
            block: Vec::new(),
            primer: None,
        })
    }
}

/// Compresses one file's content, block by block.
#[derive(Debug)]
pub(crate) struct Packer {
    every: bool,
    /// Whether a whole [`BLOCK`] shrinks enough to fit a frame; else each half is tried.
    large: bool,
    /// Blocks that are not tried.
    skip: u32,
    /// How many are not tried after the next that does not shrink.
    penalty: u32,
    block: Vec<u8>,
    primer: Option<Arc<Priming>>,
}

impl Packer {
    /// The same, with what the receiver has been told of small files.
    pub(crate) fn primed(self, primer: Option<Arc<Priming>>) -> Packer {
        Packer { primer, ..self }
    }

    fn put_smaller(&self, content: &[u8], bytes: &mut BytesMut) -> bool {
        match &self.primer {
            Some(primer) => put_primed(bytes, content, primer),
            None => put_packed(bytes, content),
        }
    }

    /// Reads the next block of a file and appends its frame, or frames; false at the end of the file.
    pub(crate) fn fill(&mut self, source: &mut Source, bytes: &mut BytesMut) -> Result<bool, SourceError> {
        let mut block = std::mem::take(&mut self.block);
        let room = BLOCK.min(usize::try_from(source.left()).unwrap_or(BLOCK));
        block.resize(room, 0);
        let filled = source.fill(&mut block)?;
        self.put(&block[..filled], bytes);
        self.block = block;
        Ok(filled > 0)
    }

    /// Appends content, compressed where it shrinks.
    pub(crate) fn put(&mut self, content: &[u8], bytes: &mut BytesMut) {
        for block in content.chunks(BLOCK) {
            if self.large && self.skip == 0 && block.len() > MAX_FRAME {
                if self.put_smaller(block, bytes) {
                    continue;
                }
                self.large = false;
            }
            for part in block.chunks(MAX_FRAME) {
                self.put_part(part, bytes);
            }
        }
    }

    fn put_part(&mut self, part: &[u8], bytes: &mut BytesMut) {
        if self.skip > 0 {
            self.skip -= 1;
        } else if self.put_smaller(part, bytes) {
            self.penalty = SKIPPED;
            return;
        } else if !self.every {
            self.skip = self.penalty;
            self.penalty = (self.penalty * 2).min(MOST_SKIPPED);
            self.large = true;
        }
        put_plain(part, bytes);
    }
}

/// Appends content as it is, as many frames as it needs.
pub(crate) fn put_plain(content: &[u8], bytes: &mut BytesMut) {
    bytes.reserve(content.len() + HEAD * (1 + content.len() / MAX_FRAME));
    for part in content.chunks(MAX_FRAME) {
        bytes.extend_from_slice(&data_head(part.len()));
        bytes.extend_from_slice(part);
    }
}
