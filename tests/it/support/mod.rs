//! What several topics share.

pub mod model;
pub mod pair;
pub mod random;
pub mod trees;
