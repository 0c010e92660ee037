//! The integration tests: one binary, one module a topic.

mod moves;
mod reconcile;
#[allow(unreachable_pub)]
mod support;
