//! The only room that touches synchronised files.

pub mod base_store;
pub mod commit;
pub mod expected;
mod fault;
pub mod history;
pub mod identity;
pub mod incoming;
pub mod lock;
mod order;
pub mod pairs;
pub mod perform;
pub mod places;
pub mod prune;
mod rename;
pub mod restore;
pub mod root;
pub mod stage;
pub mod state;
pub mod step;
#[cfg(test)]
mod testing;
