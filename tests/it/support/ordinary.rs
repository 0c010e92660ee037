//! Permissions that count for root as they do for everybody else.

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

/// Runs `body` without what root may do to files in spite of their permissions. Threads that it starts may not either.
pub fn as_ordinary_user<T>(body: impl FnOnce() -> T) -> T {
    struct Restore(CapabilitySets);
    impl Drop for Restore {
        fn drop(&mut self) {
            set_capabilities(None, self.0).unwrap();
        }
    }
    let all = capabilities(None).unwrap();
    let over_files = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
    let _restore = Restore(all);
    set_capabilities(None, CapabilitySets { effective: all.effective - over_files, ..all }).unwrap();
    body()
}
