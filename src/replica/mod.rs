//! The only room that touches synchronised files.

pub mod root;
