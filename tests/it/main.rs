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
mod benchmarks;
mod carrier;
mod certificates;
mod colours;
mod connecting;
mod decisions;
mod exit_codes;
mod hostile;
mod house;
mod hub;
mod keys;
mod kills;
mod listening;
mod moves;
mod odd_meetings;
mod openssh;
mod patience;
mod processes;
mod protocol;
mod questions;
mod races;
mod recipes;
mod reconcile;
mod retries;
mod rsh;
mod service;
mod ssh_config;
mod sshd;
mod stories;
mod support;
mod walks;
mod watch;
mod way_back;
mod wire;
