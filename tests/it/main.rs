//! The integration tests: one binary, one module a topic.

// What clippy allows in a test function, their helpers may do too.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout
)]

mod architecture;
mod carrier;
mod decisions;
mod house;
mod keys;
mod moves;
mod protocol;
mod questions;
mod reconcile;
mod stories;
mod support;
mod wire;
