//! The only room that touches synchronised files.
//!
//! `root` is the door. Reading: `filter`, `scan`, `hash`, `index`. Writing: `stage` and `incoming` receive, `step` says
//! what to do, `order` when, `perform` does it with the hands of `commit`, and `history` keeps what it displaces, until
//! `restore` brings it back or `prune` lets go. What a root remembers is in `state`: `identity`, `pairs`, `base_store`.

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
mod list;
pub mod lock;
mod order;
pub mod pairs;
pub mod perform;
pub mod places;
mod pool;
pub mod prune;
pub mod record;
mod rename;
pub mod restore;
pub mod root;
pub mod scan;
pub mod stage;
pub mod state;
pub mod step;
#[cfg(test)]
mod testing;
