//! What System 1 tells of one folder, part by part: members by name, and others by spans, of which only those that
//! differ are asked for.

use super::budget::Budget;
use super::error::SessionError;
use crate::core::path::Name;
use crate::core::snapshot::Folder;
use crate::core::span::{Span, differing};
use crate::protocol::listed::Listed;

/// See the module.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) members: Vec<(Name, Listed)>,
    spans: Vec<Span>,
    /// The numbers of the spans that differ from this side's, once that is known.
    differing: Vec<u32>,
}

impl Told {
    /// Takes in a part. Names must come in order, within the parts and across them.
    pub(crate) fn take(
        &mut self,
        budget: &mut Budget,
        members: Vec<(Name, Listed)>,
        spans: Vec<Span>,
    ) -> Result<(), SessionError> {
        budget.take(&members)?;
        budget.take(&spans)?;
        // A folder may come in thousands of parts: only what is new is looked at.
        let new = (self.members.len().saturating_sub(1), self.spans.len().saturating_sub(1));
        self.members.extend(members);
        self.spans.extend(spans);
        let in_order = self.members[new.0..].is_sorted_by(|a, b| a.0 < b.0)
            && self.spans[new.1..].is_sorted_by(|a, b| a.last < b.last);
        if in_order { Ok(()) } else { Err(out_of_order()) }
    }

    /// Holds the spans against this side's folder, and returns the numbers of those that differ.
    pub(crate) fn compare(&mut self, own: Option<&Folder>) -> &[u32] {
        let none = Folder::default();
        self.differing = differing(own.unwrap_or(&none), &self.spans);
        &self.differing
    }

    /// Takes in the members of the spans that differ.
    pub(crate) fn complete(&mut self, members: Vec<(Name, Listed)>) -> Result<(), SessionError> {
        self.members.extend(members);
        self.members.sort_by(|a, b| a.0.cmp(&b.0));
        let once = self.members.is_sorted_by(|a, b| a.0 < b.0);
        if once { Ok(()) } else { Err(out_of_order()) }
    }

    /// Whether some of the members are told by spans.
    pub(crate) fn has_spans(&self) -> bool {
        !self.spans.is_empty()
    }

    /// Whether what a span covers under `name` is the same on both sides.
    pub(crate) fn is_equal(&self, name: &Name) -> bool {
        let number = self.spans.partition_point(|span| span.last < *name);
        number < self.spans.len() && self.differing.binary_search(&(number as u32)).is_err()
    }
}

fn out_of_order() -> SessionError {
    SessionError::broke("it lists names out of order")
}
