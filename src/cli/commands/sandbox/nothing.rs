//! Where the kernel has no way for a process to give up rights.

use super::{Enforced, Needs};

/// Fails always.
pub(super) fn restrict(_: &Needs) -> Result<Enforced, String> {
    Err("only Linux can".into())
}
