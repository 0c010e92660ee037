//! The integration tests: one binary, one module a topic.

mod architecture;
mod carrier;
mod decisions;
mod house;
mod keys;
mod moves;
mod reconcile;
mod support;
