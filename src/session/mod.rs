//! Joins the rooms: one sync seen from System 2, one from System 1.

pub mod progress;
