//! What several topics share.

use std::time::Duration;

/// No step of a test takes this long, on any machine and whatever else runs there: what does is stuck. Nothing is
/// measured by it.
pub const STUCK: Duration = Duration::from_secs(600);

pub mod dice;
pub mod hub;
pub mod model;
pub mod openssh;
pub mod ordinary;
pub mod pair;
pub mod process;
pub mod processes;
pub mod random;
pub mod relay;
pub mod terminal;
pub mod trees;
pub mod wander;
pub mod watching;
