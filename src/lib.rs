//! syncfiles keeps a folder on two systems the same, over an embedded SSH server that can do nothing else.
//!
//! ```text
//! main.rs → cli                 parse, call, render, exit code
//!              │
//!           session             joins the rooms: client (System 2), server (System 1)
//!    ┌─────────┼──────────┬──────────┐
//! replica   protocol     ssh      transport      (siblings never import each other)
//!    └────┬────┘
//!       core                    pure: no async, no files, no clock, no network, no terminal
//! ```
//!
//! Reading order: `core` (path, version, snapshot, merge, reconcile, plan); then `replica`, `protocol`,
//! `session`; and `ssh` on its own.
//! A test (`tests/it/architecture.rs`) fails on an import against the arrows.

pub mod cli;
pub mod core;
pub mod protocol;
pub mod replica;
pub mod session;
pub mod ssh;
pub mod transport;
