//! The only room that touches synchronised files.
