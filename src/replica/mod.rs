//! The only room that touches synchronised files.

mod arriving;
pub mod base_store;
pub mod chunks;
pub mod commit;
pub mod delta;
pub mod expected;
mod fault;
pub mod filter;
pub mod hash;
pub mod history;
pub mod identity;
pub mod incoming;
pub mod index;
mod list;
pub mod lock;
mod opening;
mod order;
pub mod pairs;
pub mod perform;
pub mod pinned;
pub mod places;
mod pool;
pub mod prune;
pub mod record;
mod rename;
pub mod restore;
pub mod root;
pub mod scan;
pub mod source;
pub mod stage;
pub mod state;
pub mod step;
mod system;
pub mod temporary;
#[cfg(test)]
mod testing;
