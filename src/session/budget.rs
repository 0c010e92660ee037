//! How much a peer may send that is kept, before and after the plan.

use super::error::SessionError;
use crate::core::base::{BaseContent, BaseEntry};
use crate::core::path::Name;
use crate::core::span::Span;
use crate::core::version::{Content, Standing};
use crate::protocol::listed::Listed;
use crate::protocol::message::Failure;
use crate::protocol::rows::Row;

/// What the decoded versions or results of one peer may take in one run, in bytes: some four million paths that differ, or
/// ten million that are listed. The tree and the plan that are made of paths that differ take four times as much again. An
/// honest tree beyond that is synchronised folder by folder.
const MOST: usize = 1 << 30;

/// What is left of it.
pub(crate) struct Budget(usize);

impl Budget {
    pub(crate) fn new() -> Budget {
        Budget(MOST)
    }

    /// Takes room for values that came from the peer and stay.
    pub(crate) fn take<T: Weight>(&mut self, values: &[T]) -> Result<(), SessionError> {
        let weight =
            values.iter().map(|value| size_of::<T>() + value.beyond()).fold(0, usize::saturating_add);
        self.0 = self.0.checked_sub(weight).ok_or_else(|| {
            SessionError::broke(
                "it sent more than 1 GiB of versions; sync a tree that large folder by folder",
            )
        })?;
        Ok(())
    }
}

/// The memory of a decoded value.
pub(crate) trait Weight {
    /// Bytes beyond the value's own: what it points to.
    fn beyond(&self) -> usize;
}

impl Weight for Row {
    fn beyond(&self) -> usize {
        let two = match &self.two {
            Standing::Holds(version) => match &version.content {
                Content::Link { target } => target.len(),
                Content::File { .. } | Content::Folder => 0,
            },
            Standing::Absent | Standing::Unknown => 0,
        };
        let base = match &self.base {
            Some(BaseEntry { content: BaseContent::Link { target }, .. }) => target.len(),
            _ => 0,
        };
        self.name.as_bytes().len() + two + base
    }
}

impl Weight for (Name, Listed) {
    fn beyond(&self) -> usize {
        let target = if let Listed::Link { target, .. } = &self.1 { target.len() } else { 0 };
        self.0.as_bytes().len() + target
    }
}

impl Weight for Span {
    fn beyond(&self) -> usize {
        self.last.as_bytes().len()
    }
}

impl Weight for (u32, Failure) {
    fn beyond(&self) -> usize {
        match &self.1 {
            Failure::Changed(text) | Failure::Failed(text) => text.len(),
            Failure::Held => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_sends_rows_for_ever_is_stopped_within_the_budget() {
        let name = Name::parse(&[b'x'; 255]).unwrap();
        let batch = vec![Row { depth: 1, name, two: Standing::Absent, base: None }; 4000];
        let mut budget = Budget::new();
        let taken = (0..10_000).take_while(|_| budget.take(&batch).is_ok()).count();
        let each = size_of::<Row>() + 255;
        assert_eq!(taken, MOST / (each * batch.len()));
        assert!(budget.take(&batch).unwrap_err().to_string().contains("1 GiB"));
    }

    #[test]
    fn four_million_rows_and_ten_million_entries_with_usual_names_fit() {
        assert!((size_of::<Row>() + 32) * 4_000_000 <= MOST, "{}", size_of::<Row>());
        assert!((size_of::<(Name, Listed)>() + 16) * 10_000_000 <= MOST, "{}", size_of::<(Name, Listed)>());
    }
}
