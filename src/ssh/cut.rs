//! Whoever makes or serves an SSH connection may be dropped half-way: then it goes, too.

use std::sync::Arc;

use super::error::CarrierError;
use super::link::Link;

/// Ends an SSH connection that is given up before it is complete, or whose owner's task is.
pub(super) struct CutOnDrop(Option<Arc<Link>>);

impl CutOnDrop {
    pub(super) fn new(link: &Arc<Link>) -> Self {
        Self(Some(link.clone()))
    }

    /// The connection is somebody else's from now on.
    pub(super) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        if let Some(link) = self.0.take() {
            link.fail(CarrierError::Closed);
        }
    }
}
