//! The only room that touches synchronised files.

pub mod base_store;
pub mod identity;
pub mod lock;
pub mod pairs;
pub mod places;
pub mod root;
pub mod state;
