//! The command line: arguments, progress bars, reports, exit codes.
//!
//! [`args`] reads what was typed; [`progress`] and [`report`] say what happens and what happened; [`exit`] turns
//! the end into a number. Nothing here decides anything about files.

pub mod address;
pub mod amount;
pub mod args;
mod bars;
pub mod commands;
mod desk;
pub mod error;
pub mod exit;
mod habits;
mod help;
pub mod itemize;
pub mod json;
pub mod meter;
pub mod options;
pub mod pages;
pub mod progress;
pub mod prompt;
mod quiet;
pub mod report;
pub mod serve_args;
pub mod sync_args;

#[cfg(test)]
mod args_tests;
