//! Byte streams: TCP, a child process, memory. Knows no SSH.

pub mod child;
pub mod memory;
pub mod mux;
pub mod preamble;
pub mod stdio;
pub mod tcp;
