//! What the transfers of one side have brought so far, and what they are still to bring.

use std::collections::{BTreeMap, HashMap};

use super::versions::Deltas;
use crate::core::digest::Digest;
use crate::protocol::message::Failure;
use crate::replica::stage::Staged;

/// See the module. Items are the plan's, by their number.
#[derive(Default)]
pub(super) struct Gathered {
    /// What this side needs, by item.
    needs: Vec<Needed>,
    /// How many of those are still to come.
    missing: usize,
    failed: BTreeMap<usize, Failure>,
    /// Hashes of this side's files that nobody knew before they were sent.
    pub(super) sent: HashMap<u32, Digest>,
    /// What is kept of files of which only what differs is, or will be, sent.
    pub(super) deltas: Deltas,
}

/// A file that this side needs.
struct Needed {
    item: usize,
    /// Bytes of it that an earlier run left.
    have: u64,
    /// Whether a channel has claimed it.
    begun: bool,
    /// Whether it is no longer to come: all of it is here, or it was given up.
    ended: bool,
    staged: Option<Staged>,
}

impl Gathered {
    /// These items are to come; of each so many bytes are here already.
    pub(super) fn expect(&mut self, needs: impl Iterator<Item = (usize, u64)>) {
        self.needs = needs
            .map(|(item, have)| Needed { item, have, begun: false, ended: false, staged: None })
            .collect();
        self.needs.sort_unstable_by_key(|need| need.item);
        self.missing = self.needs.len();
    }

    fn need(&mut self, item: u32) -> Option<&mut Needed> {
        let at = self.needs.binary_search_by_key(&(item as usize), |need| need.item).ok()?;
        self.needs.get_mut(at)
    }

    /// Claims a needed item for one channel, from `offset` on. False if it is not needed, not from there, or claimed already.
    pub(super) fn claim(&mut self, item: u32, offset: u64) -> bool {
        match self.need(item) {
            Some(need) if !need.begun && need.have == offset => {
                need.begun = true;
                true
            }
            _ => false,
        }
    }

    /// How many bytes of an item an earlier run left.
    pub(super) fn have(&mut self, item: u32) -> u64 {
        self.need(item).map_or(0, |need| need.have)
    }

    /// Whether anything is still to come.
    pub(super) fn is_waiting(&self) -> bool {
        self.missing > 0
    }

    /// Whether all of an item is here.
    pub(super) fn has_arrived(&mut self, item: u32) -> bool {
        self.need(item).is_some_and(|need| need.staged.is_some())
    }

    /// An item is no longer to come.
    fn ended(&mut self, item: u32) {
        if self.need(item).is_some_and(|need| !std::mem::replace(&mut need.ended, true)) {
            self.missing -= 1;
        }
    }

    /// All of an item is here and staged.
    pub(super) fn staged(&mut self, item: u32, staged: Staged) {
        if let Some(need) = self.need(item) {
            need.staged = Some(staged);
        }
        self.ended(item);
    }

    /// An item will not come.
    pub(super) fn failed(&mut self, item: u32, failure: Failure) {
        self.failed.insert(item as usize, failure);
        self.ended(item);
    }

    /// What is staged, by item, and what failed.
    pub(super) fn take(&mut self) -> (Vec<(usize, Staged)>, BTreeMap<usize, Failure>) {
        let needs = std::mem::take(&mut self.needs).into_iter();
        let staged = needs.filter_map(|need| Some((need.item, need.staged?))).collect();
        (staged, std::mem::take(&mut self.failed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_claimed_once_and_only_from_where_an_earlier_run_left_it() {
        let mut gathered = Gathered::default();
        gathered.expect([(7, 100), (3, 0)].into_iter());
        assert!(!gathered.claim(7, 0) && !gathered.claim(5, 0));
        assert!(gathered.claim(7, 100) && gathered.claim(3, 0));
        assert!(!gathered.claim(7, 100) && !gathered.claim(3, 0));
    }

    #[test]
    fn everything_has_ended_once_each_item_has_come_or_failed_however_often_that_is_said() {
        let mut gathered = Gathered::default();
        gathered.expect([(1, 0), (2, 0)].into_iter());
        let failure = || Failure::Failed("gone".into());
        gathered.ended(1);
        gathered.failed(1, failure());
        gathered.ended(1);
        // Nobody waits for this one.
        gathered.failed(9, failure());
        assert!(gathered.is_waiting());
        gathered.ended(2);
        assert!(!gathered.is_waiting());
        let (staged, failed) = gathered.take();
        assert!(staged.is_empty() && failed.into_keys().eq([1, 9]));
    }
}
