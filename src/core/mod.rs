//! The pure heart: paths, versions, snapshots, and the decision what a sync does.
//!
//! Nothing here is async or touches a file, a clock, a network or a terminal; time is an argument.

pub mod age;
pub mod base;
pub mod block;
mod contest;
mod decision;
pub mod digest;
mod folder_moves;
pub mod guard;
mod keeping;
pub(crate) mod kept;
pub mod merge;
pub mod moves;
pub mod path;
pub mod plan;
pub mod policy;
pub mod question;
pub mod reconcile;
pub mod roll;
pub mod settled;
pub mod shown;
pub mod side;
pub mod signature;
pub mod snapshot;
pub mod span;
pub mod version;
