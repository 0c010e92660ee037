//! What crosses the wire: messages and their codec. No I/O: bytes in, messages out.
//!
//! [`message`] has the control messages in the order in which a sync sends them, [`codec`] turns them into
//! bytes and back, [`extension`] reads what greetings have beyond their fields, [`listed`] carries one folder, [`rows`] a merged tree, [`frame`] and [`packed`] the bytes of one file on its own channel.
//! `docs/protocol.md` has the same byte by byte.

pub mod codec;
pub mod extension;
pub mod frame;
pub mod listed;
pub mod message;
pub mod packed;
pub mod primer;
pub mod rows;
