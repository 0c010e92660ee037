//! The only room that touches synchronised files.

pub mod base_store;
pub mod commit;
pub mod expected;
mod fault;
pub mod filter;
pub mod hash;
pub mod history;
pub mod identity;
pub mod incoming;
pub mod index;
pub mod lock;
pub mod pairs;
pub mod places;
mod rename;
pub mod root;
pub mod source;
pub mod stage;
pub mod state;
