//! The integration tests: one binary, one module a topic.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod decisions;
mod moves;
mod questions;
mod reconcile;
#[allow(unreachable_pub)]
mod support;
