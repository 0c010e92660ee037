//! The decisions of which a plan is made, as acts for both sides.

use super::digest::Digest;
use super::merge::Fork;
use super::plan::{Act, Settles, Source, Why};
use super::side::{Side, Sides};
use super::version::{Content, Standing, Version};

/// What is to become of one path, before suppression.
pub(crate) struct Decision {
    pub(crate) act: Sides<Act>,
    pub(crate) why: Why,
    pub(crate) settles: Settles,
}

/// Neither side holds anything that counts: a row without anything on either side goes.
pub(crate) fn nothing(fork: &Fork) -> Option<Decision> {
    let absent = fork.one == Standing::Absent && fork.two == Standing::Absent;
    (absent && fork.base.is_some()).then(|| Decision {
        act: Sides::default(),
        why: Why::Agreed,
        settles: Settles::Absent,
    })
}

/// What `side` holds is made on the other.
pub(crate) fn copy(side: Side, version: &Version, why: Why) -> Decision {
    let put = Act::Put { version: version.clone(), from: Source::Peer };
    Decision { act: on(side.other(), put), why, settles: holds(version) }
}

/// Both hold the same content: bits are set where they differ from the merged ones. Nothing if the base says so.
pub(crate) fn agree(fork: &Fork, both: Sides<&Version>, merged: &Version) -> Option<Decision> {
    let bits = |v: &Version| if v.bits == merged.bits { Act::Nothing } else { Act::SetBits(merged.bits) };
    let act = Sides { one: bits(both.one), two: bits(both.two) };
    let quiet = act == Sides::default();
    if quiet && fork.is_base(merged) == Some(true) {
        return None;
    }
    Some(Decision { act, why: if quiet { Why::Agreed } else { Why::Bits }, settles: holds(merged) })
}

/// Both sides stay as they are.
pub(crate) fn skipped(why: Why) -> Decision {
    Decision { act: Sides::default(), why, settles: Settles::Keep }
}

/// An act on `side` alone.
pub(crate) fn on(side: Side, act: Act) -> Sides<Act> {
    let mut acts = Sides::default();
    *acts.of_mut(side) = act;
    acts
}

/// Both sides hold `version` afterwards.
pub(crate) fn holds(version: &Version) -> Settles {
    let content = match version.content {
        Content::File { size: 0, .. } => Content::File { size: 0, sha256: Some(Digest::of(b"")) },
        ref other => other.clone(),
    };
    Settles::Version { content, bits: version.bits }
}
