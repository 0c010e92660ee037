//! The only room that touches synchronised files.

pub mod filter;
pub mod hash;
pub mod index;
pub mod root;
