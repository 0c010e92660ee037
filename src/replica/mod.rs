//! The only room that touches synchronised files.

pub mod filter;
pub mod hash;
pub mod index;
mod list;
mod pool;
pub mod root;
pub mod scan;
