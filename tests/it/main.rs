//! The integration tests, one module a topic.

// What clippy allows in a test function, their helpers may do too.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod keys;
