//! rsync's eleven characters for a change, `YXcstpoguax`, with a meaning for two directions.
//!
//! | position | characters |
//! | --- | --- |
//! | 1 `Y` | `<` something changes on the other system; `>` a file's content arrives here; `c` a folder or link is made or changed here, or a file from a copy that this system has; `.` permission bits change here; `*` the rest is a message |
//! | 2 `X` | `f` file, `d` folder, `L` symbolic link |
//! | 3 `c` | the content differs although the size is the same; for a link, the target |
//! | 4 `s` | the size differs |
//! | 5 `t` | the modification time differs |
//! | 6 `p` | the permission bits differ |
//! | 7–11 | always `.`: owner, group, access time, ACL, extended attributes are not synchronised |
//!
//! Nine `+` in place of 3 to 11: the path was not there, or was of another kind. A deletion here is `*deleting`
//! and two spaces; on the other system `*deleting<` and one.

use crate::core::plan::{Act, Item, Source};
use crate::core::side::Side;
use crate::core::version::{Content, Version};

/// The eleven characters for what `side` does in `item`; none if it does nothing. System 2 is here.
pub fn itemize(item: &Item, side: Side) -> Option<String> {
    let before = item.saw.of(side).version();
    let here = side == Side::Two;
    match item.act.of(side) {
        Act::Nothing => None,
        Act::Remove => Some(if here { "*deleting  ".into() } else { "*deleting< ".into() }),
        Act::SetBits(bits) => {
            let before = before?;
            let p = if before.bits == *bits { '.' } else { 'p' };
            Some(format!("{}{}...{p}.....", if here { '.' } else { '<' }, kind(&before.content)))
        }
        Act::Put { version, from } => {
            let arrives = matches!(version.content, Content::File { .. }) && !matches!(from, Source::Own(_));
            let first = if !here {
                '<'
            } else if arrives {
                '>'
            } else {
                'c'
            };
            Some(format!("{first}{}{}", kind(&version.content), differences(before, version)))
        }
    }
}

fn kind(content: &Content) -> char {
    match content {
        Content::File { .. } => 'f',
        Content::Folder => 'd',
        Content::Link { .. } => 'L',
    }
}

/// Positions 3 to 11.
fn differences(before: Option<&Version>, after: &Version) -> String {
    let Some(before) = before.filter(|before| kind(&before.content) == kind(&after.content)) else {
        return "+++++++++".to_owned();
    };
    let size = before.content.size() != after.content.size();
    let content = !size && before.content.same(&after.content) == Some(false);
    let time = before.modified != after.modified && !after.content.is_folder();
    let bits = before.bits != after.bits && !matches!(after.content, Content::Link { .. });
    let mark = |set, letter| if set { letter } else { '.' };
    let marks = [mark(content, 'c'), mark(size, 's'), mark(time, 't'), mark(bits, 'p')];
    marks.into_iter().chain(".....".chars()).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::core::age::{Age, Timestamp};
    use crate::core::digest::Digest;
    use crate::core::path::RelPath;
    use crate::core::plan::{Settles, Why};
    use crate::core::side::Sides;
    use crate::core::version::{Bits, Standing};

    /// A file with this text, these bits and this time.
    pub(in crate::cli) fn file(text: &str, mode: u32, modified: i64) -> Version {
        let content = Content::File { size: text.len() as u64, sha256: Some(Digest::of(text.as_bytes())) };
        Version { content, bits: Bits::of_mode(mode), modified: Timestamp(modified), age: Age(0) }
    }

    pub(in crate::cli) fn link(target: &str) -> Version {
        Version { content: Content::Link { target: target.as_bytes().into() }, ..file("", 0o777, 0) }
    }

    pub(in crate::cli) fn folder() -> Version {
        Version { content: Content::Folder, ..file("", 0o755, 0) }
    }

    /// An item in which `side`, holding `before`, does `act`; the other side does nothing.
    pub(in crate::cli) fn item(path: &[u8], side: Side, before: Option<Version>, act: Act) -> Item {
        let mut item = Item {
            path: RelPath::parse(path).expect("a path"),
            saw: Sides::default(),
            act: Sides::default(),
            suppressed: Sides::default(),
            why: Why::Changed,
            settles: Settles::Keep,
        };
        *item.saw.of_mut(side) = before.map_or(Standing::Absent, Standing::Holds);
        *item.act.of_mut(side) = act;
        item
    }

    pub(in crate::cli) fn put(version: Version) -> Act {
        Act::Put { version, from: Source::Peer }
    }

    #[test]
    fn each_change_has_its_eleven_characters_on_either_side() {
        let old = || Some(file("old", 0o644, 1));
        let own = Act::Put { version: file("x", 0o644, 1), from: Source::Own(RelPath::default()) };
        for (before, act, here, there) in [
            (None, put(file("new", 0o644, 1)), ">f+++++++++", "<f+++++++++"),
            (None, put(folder()), "cd+++++++++", "<d+++++++++"),
            (None, put(link("a")), "cL+++++++++", "<L+++++++++"),
            (None, own, "cf+++++++++", "<f+++++++++"),
            (old(), put(file("longer", 0o644, 2)), ">f.st......", "<f.st......"),
            (old(), put(file("new", 0o644, 2)), ">fc.t......", "<fc.t......"),
            (old(), put(file("new", 0o600, 1)), ">fc..p.....", "<fc..p....."),
            (old(), put(link("a")), "cL+++++++++", "<L+++++++++"),
            (Some(link("a")), put(link("b")), "cLc........", "<Lc........"),
            (Some(link("a")), put(link("bb")), "cLc........", "<Lc........"),
            (old(), Act::SetBits(Bits::of_mode(0o600)), ".f...p.....", "<f...p....."),
            (Some(folder()), Act::SetBits(Bits::of_mode(0o700)), ".d...p.....", "<d...p....."),
            (old(), Act::Remove, "*deleting  ", "*deleting< "),
        ] {
            for (side, expected) in [(Side::Two, here), (Side::One, there)] {
                let item = item(b"a", side, before.clone(), act.clone());
                let text = itemize(&item, side).expect("a change");
                assert_eq!((text.as_str(), text.len()), (expected, 11));
                assert_eq!(itemize(&item, side.other()), None);
            }
        }
    }
}
