//! The names under which `--conflict keep-both` keeps a loser beside the winner.

use super::digest::Digest;
use super::path::{MAX_NAME, Name};
use super::version::Content;

const MARK: &[u8] = b".conflict-";
/// How many hexadecimal digits a kept name shows: the first that is free, or taken by the same content.
pub(crate) const DIGITS: [usize; 4] = [8, 16, 32, 64];
/// A longer extension counts as part of the stem, so that the mark always fits into a name.
const MAX_EXTENSION: usize = 64;

/// `STEM.conflict-<digits of hash>.EXT` for `name`, the stem cut so that the whole fits into 255 bytes (never
/// inside a UTF-8 character). A leading dot does not begin an extension.
pub(crate) fn kept_name(name: &Name, hash: &Digest, digits: usize) -> Option<Name> {
    let bytes = name.as_bytes();
    let dot =
        bytes.iter().rposition(|&b| b == b'.').filter(|&at| at > 0 && bytes.len() - at <= MAX_EXTENSION);
    let (stem, extension) = bytes.split_at(dot.unwrap_or(bytes.len()));
    let hash = hash.to_string();
    let hash = &hash.as_bytes()[..digits.min(hash.len())];
    let room = MAX_NAME - MARK.len() - hash.len() - extension.len();
    let mut cut = stem.len().min(room);
    while cut > 0 && cut < stem.len() && stem[cut] & 0xc0 == 0x80 {
        cut -= 1;
    }
    Name::parse(&[&stem[..cut], MARK, hash, extension].concat()).ok()
}

/// Whether a name has the form of a kept loser. Such members stay in a [`Fork`](super::merge::Fork) even when they
/// are settled: a new conflict beside them must see whether its loser is kept already.
pub(crate) fn looks_kept(name: &Name) -> bool {
    let bytes = name.as_bytes();
    bytes
        .windows(MARK.len())
        .rposition(|window| window == MARK)
        .is_some_and(|at| bytes[at + MARK.len()..].iter().take_while(|b| b.is_ascii_hexdigit()).count() >= 8)
}

/// What a kept name shows: the SHA-256 of a file's bytes or of a link's target; `None` for folders and while a
/// file's hash is not known.
pub(crate) fn hash_of(content: &Content) -> Option<Digest> {
    match content {
        Content::File { size: 0, .. } => Some(Digest::of(b"")),
        Content::File { sha256, .. } => *sha256,
        Content::Link { target } => Some(Digest::of(target)),
        Content::Folder => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(name: &[u8]) -> Vec<u8> {
        let name = kept_name(&Name::parse(name).unwrap(), &Digest([0xab; 32]), 8).unwrap();
        assert!(looks_kept(&name));
        name.as_bytes().to_vec()
    }

    #[test]
    fn a_kept_name_goes_before_the_extension() {
        assert_eq!(kept(b"notes.txt"), b"notes.conflict-abababab.txt");
        assert_eq!(kept(b"a.tar.gz"), b"a.tar.conflict-abababab.gz");
        assert_eq!(kept(b".profile"), b".profile.conflict-abababab");
        assert_eq!(kept(b"Makefile"), b"Makefile.conflict-abababab");
        assert!(!looks_kept(&Name::parse(b"a.conflict-xyz").unwrap()));
    }

    #[test]
    fn a_kept_name_is_cut_to_255_bytes_between_characters() {
        let long = [&b"x".repeat(251)[..], b".txt"].concat();
        assert_eq!(kept(&long).len(), 255);
        assert!(kept(&long).ends_with(b".conflict-abababab.txt"));
        let umlauts = "ü".repeat(127);
        let cut = kept(umlauts.as_bytes());
        assert!(cut.len() >= 254 && std::str::from_utf8(&cut).is_ok());
        assert!(kept(&[&b"a."[..], &b"x".repeat(253)].concat()).len() == 255);
        let widest = kept_name(&Name::parse(&long).unwrap(), &Digest([0; 32]), 64).unwrap();
        assert_eq!(widest.as_bytes().len(), 255);
    }
}
