//! The frames of a link channel, the first channel of every SSH connection.
//!
//! A frame is a kind (1 byte), the length of its body (4 bytes, big endian, at most [`MAX_BODY`]) and the body. The link
//! carries what must never wait for file data: acknowledgements of consumed bytes, control messages (in parts, so that
//! acknowledgements pass between them), and the handing over of a connection to its successor.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::error::CarrierError;
use super::flow::{PACKET, Windows};

/// The largest control message, bytes.
pub const MAX_MESSAGE: usize = 1 << 20;
/// Version of everything in this file and of the preface of a channel.
pub(super) const VERSION: u8 = 1;
/// Bytes before a body.
pub(super) const HEADER: usize = 5;
/// The largest body: a frame fits into one packet.
pub(super) const MAX_BODY: usize = PACKET - HEADER;

/// The first bytes of a link channel, from the client: its kind, then the number the client knows it by.
pub(super) const PREFACE: usize = 5;
/// The preface's kind of the link channel.
pub(super) const LINK: u8 = b'L';

/// The preface of a link channel.
pub(super) fn preface(id: u32) -> [u8; PREFACE] {
    let [a, b, c, d] = id.to_be_bytes();
    [LINK, a, b, c, d]
}

/// What the name in the request for a file's channel begins with.
const CALL: &str = "syncfiles:";
/// The most that can be said along with the request for a channel, bytes.
pub(super) const MAX_FIRST: usize = 64;

/// The name in the request for a file's channel: the number both ends will know it by, and the first bytes sent on it, in
/// hexadecimal digits.
pub(super) fn call(id: u32, first: &[u8]) -> String {
    let mut name = format!("{CALL}{id:08x}");
    for byte in first {
        let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or('0');
        name.extend([digit(byte >> 4), digit(byte & 15)]);
    }
    name
}

/// The number and the first bytes in such a name; `None` for any other.
pub(super) fn parse_call(name: &str) -> Option<(u32, Vec<u8>)> {
    let digits = name.strip_prefix(CALL)?.as_bytes();
    if digits.len() > 2 * (4 + MAX_FIRST) {
        return None;
    }
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    let half = |digit: u8| char::from(digit).to_digit(16).filter(|_| !digit.is_ascii_uppercase());
    let byte = |[high, low]: &[u8; 2]| Some((half(*high)? << 4 | half(*low)?) as u8);
    let bytes: Vec<u8> = pairs.iter().map(byte).collect::<Option<_>>()?;
    let (id, first) = bytes.split_first_chunk::<4>()?;
    // The first channel of all is the link: 0 is no file's.
    Some((u32::from_be_bytes(*id), first.to_vec())).filter(|(id, _)| *id > 0)
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// The first frame of either end: its windows.
    Hello(Windows),
    /// Instead of a hello: the server will not serve, and why.
    Refusal(String),
    /// Bytes consumed since the last acknowledgement, by channel.
    Consumed(Vec<(u32, u32)>),
    /// The server wants nothing more of this channel; the client closes it.
    Abandon(u32),
    /// A piece of a control message; `true`: its last one.
    Part(Bytes, bool),
    /// Bytes of control messages that were taken.
    Taken(u32),
    /// Control messages of this end continue on the successor.
    Moved,
    /// The client's public key (SSH wire form) for the next SSH connection of this sync.
    Successor(Bytes),
    /// The server will let that key in, once.
    Expected,
    /// Nothing more comes: an orderly end.
    Bye,
}

impl Frame {
    fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => 1,
            Self::Refusal(_) => 2,
            Self::Consumed(_) => 3,
            Self::Abandon(_) => 4,
            Self::Part(_, false) => 5,
            Self::Part(_, true) => 6,
            Self::Taken(_) => 7,
            Self::Moved => 8,
            Self::Successor(_) => 9,
            Self::Expected => 10,
            Self::Bye => 11,
        }
    }

    /// Appends the frame. Bodies are bounded by who makes them: parts and lists are cut to [`MAX_BODY`].
    pub(super) fn put(&self, out: &mut BytesMut) {
        out.put_u8(self.kind());
        let length_at = out.len();
        out.put_u32(0);
        match self {
            Self::Hello(windows) => {
                out.put_u8(VERSION);
                out.put_u32(windows.all);
                out.put_u32(windows.channel);
            }
            Self::Refusal(text) => out.put_slice(text.as_bytes().get(..1024).unwrap_or(text.as_bytes())),
            Self::Consumed(list) => list.iter().for_each(|&(id, bytes)| {
                out.put_u32(id);
                out.put_u32(bytes);
            }),
            Self::Abandon(number) | Self::Taken(number) => out.put_u32(*number),
            Self::Part(bytes, _) | Self::Successor(bytes) => out.put_slice(bytes),
            Self::Moved | Self::Expected | Self::Bye => {}
        }
        let length = u32::try_from(out.len() - length_at - 4).unwrap_or(u32::MAX);
        out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
    }

    fn take(kind: u8, mut body: Bytes) -> Result<Self, CarrierError> {
        const BAD: CarrierError = CarrierError::Protocol("a malformed frame");
        let frame = match (kind, body.len()) {
            (1, 9) if body[0] != VERSION => {
                return Err(CarrierError::Protocol("another version of the carrier"));
            }
            (1, 9) => {
                body.advance(1);
                let (all, channel) = (body.get_u32(), body.get_u32());
                if channel < Windows::LEAST || channel > all || all > i32::MAX as u32 {
                    return Err(BAD);
                }
                Self::Hello(Windows { all, channel })
            }
            (2, _) => Self::Refusal(String::from_utf8_lossy(&body).into_owned()),
            (3, n) if n % 8 == 0 => Self::Consumed(body.chunks_exact(8).map(pair).collect()),
            (4, 4) => Self::Abandon(body.get_u32()),
            (5, _) => Self::Part(body, false),
            (6, _) => Self::Part(body, true),
            (7, 4) => Self::Taken(body.get_u32()),
            (8, 0) => Self::Moved,
            (9, _) => Self::Successor(body),
            (10, 0) => Self::Expected,
            (11, 0) => Self::Bye,
            _ => return Err(BAD),
        };
        Ok(frame)
    }
}

fn pair(eight: &[u8]) -> (u32, u32) {
    let mut bytes = eight;
    (bytes.get_u32(), bytes.get_u32())
}

/// Cuts a byte stream into frames. Holds less than one frame between calls.
#[derive(Debug, Default)]
pub(super) struct Frames {
    rest: BytesMut,
}

impl Frames {
    /// Adds bytes as they came.
    pub(super) fn feed(&mut self, data: &[u8]) {
        self.rest.extend_from_slice(data);
    }

    /// The next whole frame. The length is checked before anything is kept for it.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, CarrierError> {
        let Some((header, _)) = self.rest.split_first_chunk::<HEADER>() else { return Ok(None) };
        let [kind, a, b, c, d] = *header;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > MAX_BODY {
            return Err(CarrierError::Protocol("an oversized frame"));
        }
        if self.rest.len() < HEADER + length {
            return Ok(None);
        }
        self.rest.advance(HEADER);
        let body = self.rest.split_to(length).freeze();
        Frame::take(kind, body).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn samples() -> Vec<Frame> {
        vec![
            Frame::Hello(Windows { all: 1 << 24, channel: 1 << 22 }),
            Frame::Refusal("full".into()),
            Frame::Consumed(vec![(1, 2), (u32::MAX, 4)]),
            Frame::Abandon(7),
            Frame::Part(Bytes::from_static(b"abc"), false),
            Frame::Part(Bytes::new(), true),
            Frame::Taken(9),
            Frame::Moved,
            Frame::Successor(Bytes::from_static(b"key")),
            Frame::Expected,
            Frame::Bye,
        ]
    }

    #[test]
    fn frames_survive_being_cut_at_every_byte() {
        let mut wire = BytesMut::new();
        samples().iter().for_each(|frame| frame.put(&mut wire));
        let (mut frames, mut seen) = (Frames::default(), Vec::new());
        for byte in wire {
            frames.feed(&[byte]);
            while let Some(frame) = frames.next().unwrap() {
                seen.push(frame);
            }
        }
        assert_eq!(seen, samples());
    }

    #[test]
    fn the_name_in_a_request_for_a_channel_is_the_documented_one_and_no_other() {
        assert_eq!(call(0x0102_03ff, b"\x00z"), "syncfiles:010203ff007a");
        for first in [&[][..], b"x", &[0xa5; MAX_FIRST]] {
            assert_eq!(parse_call(&call(7, first)), Some((7, first.to_vec())));
        }
        for name in [
            "",
            "/run/x",
            "syncfiles:",
            "syncfiles:000001",
            "syncfiles:0000000",
            "syncfiles:0000000A",
            "syncfiles:00000000",
        ] {
            assert_eq!(parse_call(name), None, "{name}");
        }
        assert_eq!(parse_call(&call(7, &[0; MAX_FIRST + 1])), None);
    }

    #[test]
    fn an_oversized_frame_is_refused_before_its_body_arrives() {
        let mut frames = Frames::default();
        frames.feed(&[6, 0xff, 0, 0, 0]);
        assert!(matches!(frames.next(), Err(CarrierError::Protocol(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused_without_a_panic(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut frames = Frames::default();
            frames.feed(&data);
            while let Ok(Some(_)) = frames.next() {}
        }
    }
}
