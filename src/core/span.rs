//! A folder's members in spans of their name order, each with a digest: where two large folders differ, those tell in
//! which spans, and what is equal need not be named.
//!
//! What no span covers is always named: folders, which have digests of their own; what has no hash yet or may not be
//! concluded about; and kept losers, which a conflict beside them may ask for.

use serde::{Deserialize, Serialize};

use super::digest::{Digest, Hasher};
use super::kept::looks_kept;
use super::path::Name;
use super::snapshot::{Folder, Node, digest_member};

/// Members in a span. A span costs 32 bytes and a name, a member that is named about 45: a change names 16 of them.
const MEMBERS: usize = 16;
/// Folders with fewer members that spans could cover are named whole: a question more would save next to nothing.
const WORTHWHILE: usize = 64;

/// Some members in a row. It begins behind the one before.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Span {
    /// The name of the last one.
    pub last: Name,
    /// Of names, kinds, content and bits, as in the digest of a folder.
    pub digest: Digest,
}

/// Whether spans cover a member.
pub fn covers(name: &Name, node: &Node) -> bool {
    let known = match node {
        Node::File(file) => file.size == 0 || file.sha256.is_some(),
        Node::Link(_) => true,
        Node::Folder(_) | Node::Unknown(_) => false,
    };
    known && !looks_kept(name)
}

/// The spans of a folder; none where they are not worth a question.
pub fn spans(folder: &Folder) -> Vec<Span> {
    let covered = covered(folder);
    if covered.len() < WORTHWHILE {
        return Vec::new();
    }
    let span = |members: &[&(Name, Node)]| {
        members.last().map(|(last, _)| Span { last: last.clone(), digest: digest(members) })
    };
    covered.chunks(MEMBERS).filter_map(span).collect()
}

/// The members that some of [`spans`] cover, in order; `None` for numbers that are out of order, or that no span has.
pub fn members<'a>(folder: &'a Folder, numbers: &[u32]) -> Option<Vec<&'a (Name, Node)>> {
    let covered = covered(folder);
    let chunks: Vec<_> = covered.chunks(MEMBERS).collect();
    if !numbers.is_sorted_by(|a, b| a < b) {
        return None;
    }
    let spans: Option<Vec<_>> = numbers.iter().map(|&number| chunks.get(number as usize).copied()).collect();
    Some(spans?.concat())
}

/// The numbers of those spans of the other side's folder that are not the same in this side's.
pub fn differing(folder: &Folder, theirs: &[Span]) -> Vec<u32> {
    let covered = covered(folder);
    let (mut rest, mut numbers) = (&covered[..], Vec::new());
    for (number, span) in (0..).zip(theirs) {
        let own = rest.partition_point(|(name, _)| *name <= span.last);
        if digest(&rest[..own]) != span.digest {
            numbers.push(number);
        }
        rest = &rest[own..];
    }
    numbers
}

fn covered(folder: &Folder) -> Vec<&(Name, Node)> {
    folder.members.iter().filter(|(name, node)| covers(name, node)).collect()
}

fn digest(members: &[&(Name, Node)]) -> Digest {
    let mut hasher = Hasher::new();
    for (name, node) in members {
        // All of them are known.
        let _ = digest_member(&mut hasher, name, node);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::age::Timestamp;
    use crate::core::snapshot::{File, Seen};
    use crate::core::version::Bits;

    fn folder(names: impl Iterator<Item = u32>) -> Folder {
        let member = |number: u32| {
            let file = File {
                size: 1,
                sha256: Some(Digest([number as u8; 32])),
                bits: Bits::of_mode(0o644),
                modified: Timestamp(0),
                edited: Timestamp(0),
                seen: Seen::default(),
            };
            (Name::parse(format!("f{number:05}").as_bytes()).unwrap(), Node::File(file))
        };
        Folder { members: names.map(member).collect(), ..Folder::default() }
    }

    #[test]
    fn a_change_shows_in_its_own_span_alone() {
        let theirs = folder(0..200);
        let spans = spans(&theirs);
        assert_eq!(spans.len(), 13);
        assert_eq!(differing(&theirs, &spans), [0; 0]);
        assert_eq!(differing(&folder((0..200).filter(|&n| n != 40)), &spans), [2], "deleted here");
        assert_eq!(differing(&folder(0..230), &spans), [0; 0], "what stands behind the last is no span's");
        assert_eq!(differing(&folder((1..200).map(|n| n * 2)), &spans).len(), 13);
        assert_eq!(differing(&Folder::default(), &spans).len(), 13);
    }

    #[test]
    fn the_members_of_spans_are_those_they_cover() {
        let theirs = folder(0..200);
        let some = members(&theirs, &[1, 12]).unwrap();
        let expected: Vec<_> = theirs.members[16..32].iter().chain(&theirs.members[192..]).collect();
        assert_eq!(some, expected);
        assert!([&[13][..], &[2, 1], &[1, 1]].into_iter().all(|numbers| members(&theirs, numbers).is_none()));
    }

    #[test]
    fn a_small_folder_and_what_must_be_named_have_no_spans() {
        assert_eq!(spans(&folder(0..63)), []);
        let mut mixed = folder(0..64);
        assert_eq!(spans(&mixed).len(), 4);
        if let Some((_, Node::File(file))) = mixed.members.last_mut() {
            file.sha256 = None;
        }
        assert_eq!(spans(&mixed), [], "one is not hashed yet");
        let kept = Name::parse(b"a.conflict-2d711642").unwrap();
        assert!(!covers(&kept, &folder(0..1).members[0].1));
    }
}
