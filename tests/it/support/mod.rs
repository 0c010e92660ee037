//! What several topics share.

pub mod dice;
pub mod hub;
pub mod model;
pub mod pair;
pub mod process;
pub mod processes;
pub mod random;
pub mod relay;
pub mod trees;
pub mod wander;
