//! Joins the rooms: one sync seen from System 2, one from System 1.

mod clock;
mod compare;
mod control;
mod error;
mod listing;
mod options;
pub mod progress;
mod settle;
