//! placeholder until the branch lands
use super::base::BaseEntry;
use super::path::Name;
use super::version::Standing;
use serde::{Deserialize, Serialize};
/// x
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Fork {
    /// x
    pub base: Option<BaseEntry>,
    /// x
    pub one: Standing,
    /// x
    pub two: Standing,
    /// x
    pub members: Vec<(Name, Fork)>,
}
