//! What several topics share.

pub mod dice;
pub mod hub;
pub mod model;
pub mod pair;
pub mod processes;
pub mod random;
pub mod trees;
pub mod wander;
