//! What several topics share.

pub mod pair;
