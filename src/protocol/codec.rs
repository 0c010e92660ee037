//! Messages to bytes and back, with every limit checked before anything is allocated.
//!
//! A message arrives in a buffer that the carrier has capped at [`MAX_MESSAGE`]; postcard's sequences never
//! reserve more than a small constant ahead of the bytes that are really there, so a lying length costs nothing.

use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

use super::message::{Hello, Message, NEWEST, OLDEST, Welcome};

/// The longest control message, in bytes.
pub const MAX_MESSAGE: usize = 1 << 20;
/// The first bytes of the first message in each direction.
pub const MAGIC: &[u8; 10] = b"syncfiles\0";

/// Why bytes are not a message.
#[derive(Debug, Error)]
pub enum CodecError {
    /// The first message does not begin with [`MAGIC`].
    #[error("the other end does not speak the syncfiles protocol")]
    Magic,
    /// No protocol version is spoken by both.
    #[error(
        "the other end speaks protocol versions {oldest} to {newest}, this build {OLDEST} to {NEWEST}: update the older one"
    )]
    Version {
        /// The other end's oldest.
        oldest: u16,
        /// The other end's newest.
        newest: u16,
    },
    /// Not a message of this protocol.
    #[error("the other end sent a malformed message")]
    Malformed,
    /// A message would be longer than [`MAX_MESSAGE`].
    #[error("a message would be longer than {MAX_MESSAGE} bytes")]
    Long,
}

/// System 2's first message: magic, the versions it speaks, the hello.
pub fn encode_hello(hello: &Hello) -> Result<Vec<u8>, CodecError> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&OLDEST.to_be_bytes());
    bytes.extend_from_slice(&NEWEST.to_be_bytes());
    extend(bytes, hello)
}

/// Reads System 2's first message; the version is the newest that both ends speak.
///
/// Bytes after the known fields are ignored, so that a newer build can append to them.
pub fn decode_hello(bytes: &[u8]) -> Result<(u16, Hello), CodecError> {
    greeting(bytes)
}

/// System 1's first message: magic, its versions, then the answer.
pub fn encode_welcome(answer: &Result<Welcome, super::message::Refusal>) -> Result<Vec<u8>, CodecError> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&OLDEST.to_be_bytes());
    bytes.extend_from_slice(&NEWEST.to_be_bytes());
    extend(bytes, answer)
}

/// Reads System 1's first message.
pub fn decode_welcome(bytes: &[u8]) -> Result<(u16, Result<Welcome, super::message::Refusal>), CodecError> {
    greeting(bytes)
}

/// One control message as bytes: a byte that says how, 0 as it is or 1 compressed by zstd, then the message.
///
/// Only what is long is compressed, and only if that makes it shorter: listings are mostly names and times.
pub fn encode(message: &Message) -> Result<Vec<u8>, CodecError> {
    let plain = extend(vec![PLAIN], message)?;
    if plain.len() < WORTH_COMPRESSING {
        return Ok(plain);
    }
    let mut packed = vec![PACKED];
    packed.extend(zstd::bulk::compress(&plain[1..], 1).map_err(|_| CodecError::Malformed)?);
    Ok(if packed.len() < plain.len() { packed } else { plain })
}

/// Reads one control message; nothing may follow it. What is compressed may unpack to [`MAX_MESSAGE`] bytes, no more.
pub fn decode(bytes: &[u8]) -> Result<Message, CodecError> {
    match bytes.split_first() {
        Some((&PLAIN, plain)) => decode_plain(plain),
        Some((&PACKED, packed)) => {
            decode_plain(&zstd::bulk::decompress(packed, MAX_MESSAGE).map_err(|_| CodecError::Malformed)?)
        }
        _ => Err(CodecError::Malformed),
    }
}

const PLAIN: u8 = 0;
const PACKED: u8 = 1;
/// Below this, in bytes, compressing costs more than it saves.
const WORTH_COMPRESSING: usize = 512;

fn decode_plain(bytes: &[u8]) -> Result<Message, CodecError> {
    let (message, rest) = postcard::take_from_bytes(bytes).map_err(|_| CodecError::Malformed)?;
    if rest.is_empty() { Ok(message) } else { Err(CodecError::Malformed) }
}

fn extend<T: Serialize>(bytes: Vec<u8>, value: &T) -> Result<Vec<u8>, CodecError> {
    let bytes = postcard::to_extend(value, bytes).map_err(|_| CodecError::Malformed)?;
    if bytes.len() > MAX_MESSAGE { Err(CodecError::Long) } else { Ok(bytes) }
}

/// What both greetings begin with, and then their own fields.
fn greeting<T: DeserializeOwned>(bytes: &[u8]) -> Result<(u16, T), CodecError> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(CodecError::Magic)?;
    let (oldest, rest) = take_u16(rest)?;
    let (newest, rest) = take_u16(rest)?;
    let version = newest.min(NEWEST);
    if version < oldest.max(OLDEST) {
        return Err(CodecError::Version { oldest, newest });
    }
    Ok((version, lenient(rest)?))
}

fn lenient<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    postcard::take_from_bytes(bytes).map(|(value, _)| value).map_err(|_| CodecError::Malformed)
}

fn take_u16(bytes: &[u8]) -> Result<(u16, &[u8]), CodecError> {
    let (head, rest) = bytes.split_first_chunk::<2>().ok_or(CodecError::Malformed)?;
    Ok((u16::from_be_bytes(*head), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::path::RelPath;
    use proptest::prelude::*;

    fn hello() -> Hello {
        let wish = crate::protocol::message::Wish {
            dry: false,
            checksum: false,
            delete: true,
            conflict: crate::core::policy::ConflictPolicy::Newer,
            write_one: true,
            write_two: true,
            mirror: false,
            new_root: false,
            max_delete: "50%".into(),
            whole: false,
            keep: None,
            compress: crate::protocol::packed::Compress::Auto,
        };
        let (export, sub) = ("folder1".into(), RelPath::root());
        Hello { export, sub, root: Some([7; 16]), wish, rules: vec![], extensions: vec![] }
    }

    #[test]
    fn a_newer_build_that_appends_fields_is_understood() {
        let mut bytes = encode_hello(&hello()).unwrap();
        bytes[12..14].copy_from_slice(&9u16.to_be_bytes());
        bytes.extend_from_slice(b"what version 9 added");
        assert_eq!(decode_hello(&bytes).unwrap(), (NEWEST, hello()));
    }

    #[test]
    fn a_build_without_a_common_version_is_told_so() {
        let mut bytes = encode_hello(&hello()).unwrap();
        bytes[10..14].copy_from_slice(&[0, 8, 0, 9]);
        assert!(matches!(decode_hello(&bytes), Err(CodecError::Version { oldest: 8, newest: 9 })));
    }

    #[test]
    fn a_path_that_leaves_the_root_is_no_message() {
        let good = encode(&Message::List(vec![(RelPath::parse(b"ab").unwrap(), false)])).unwrap();
        let evil: Vec<u8> = good.iter().map(|&b| if b == b'a' || b == b'b' { b'.' } else { b }).collect();
        assert!(decode(&good).is_ok());
        assert!(matches!(decode(&evil), Err(CodecError::Malformed)));
    }

    #[test]
    fn a_link_that_no_system_can_have_is_no_message() {
        use crate::core::base::{BaseContent, BaseEntry};
        use crate::core::path::Name;
        use crate::core::version::{Bits, Content, Standing, Version};
        use crate::protocol::listed::{FolderPart, Listed};
        use crate::protocol::rows::Row;
        let decodes = |message: Message| decode(&encode(&message).unwrap()).is_ok();
        for (target, good) in
            [(&b"a"[..], true), (&[b'a'; 4095], true), (&[b'a'; 4096], false), (b"", false), (b"a\0b", false)]
        {
            let (target, name): (Box<[u8]>, _) = (target.into(), Name::parse(b"l").unwrap());
            let listed = Listed::Link { target: target.clone(), modified: Default::default(), edited: 0 };
            let members = vec![(name.clone(), listed)];
            let part = FolderPart { folder: RelPath::root(), members, spans: vec![], more: false };
            assert_eq!(decodes(Message::Listing(vec![part])), good);
            let base =
                BaseEntry { content: BaseContent::Link { target: target.clone() }, bits: Bits::default() };
            let row = Row { depth: 1, name, two: Standing::Absent, base: Some(base) };
            assert_eq!(decodes(Message::Rows(vec![row.clone()])), good);
            let (content, bits) = (Content::Link { target }, Bits::default());
            let (modified, age) = Default::default();
            let two = Standing::Holds(Version { content, bits, modified, age });
            assert_eq!(decodes(Message::Rows(vec![Row { two, base: None, ..row }])), good);
        }
    }

    #[test]
    fn a_lying_length_allocates_nothing() {
        // Variant 3 (List) with a claimed length of 2^60.
        let bytes = [0, 3, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10];
        assert!(matches!(decode(&bytes), Err(CodecError::Malformed)));
    }

    proptest! {
        #[test]
        fn decoding_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode(&bytes);
            let _ = decode_hello(&bytes);
            let _ = decode_welcome(&bytes);
            let _ = decode_hello(&[&MAGIC[..], &[0, 1, 0, 1], &bytes].concat());
        }
    }
}
