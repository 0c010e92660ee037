//! The carrier: SSH client and server, keys, credits. Knows no sync message.

pub mod authorized_keys;
pub mod host_key;
pub mod identity;
pub mod known_hosts;

mod key_file;
mod key_text;
mod pattern;
