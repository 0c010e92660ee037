//! Byte streams: TCP, a child process, memory. Knows no SSH.

pub mod child;
pub mod memory;
pub mod tcp;
