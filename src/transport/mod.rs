//! Byte streams: TCP and memory. Knows no SSH.

pub mod memory;
pub mod tcp;
