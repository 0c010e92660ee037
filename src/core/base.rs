//! The last state on which both sides agreed.

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::path::{Name, RelPath};
use super::version::{Bits, Content, target};

/// What both sides last agreed on for one path.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct BaseEntry {
    /// The agreed content.
    pub content: BaseContent,
    /// The agreed permission bits.
    pub bits: Bits,
}

/// Content of a base row; unlike [`Content`] a file's hash is always known.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum BaseContent {
    /// A regular file.
    File {
        /// Length in bytes.
        size: u64,
        /// SHA-256 of the bytes.
        sha256: Digest,
    },
    /// A symbolic link.
    Link {
        /// Its target.
        #[serde(deserialize_with = "target")]
        target: Box<[u8]>,
    },
    /// A folder.
    Folder {
        /// Both agreed that it goes, but one side still holds it for members that a sync may not touch: it
        /// counts as absent until it has a visible member again.
        gone: bool,
    },
}

impl BaseEntry {
    /// The row for content whose hash is known; `None` while it is not.
    pub fn of(content: &Content, bits: Bits) -> Option<BaseEntry> {
        let content = match content {
            Content::File { size, sha256 } => BaseContent::File {
                size: *size,
                sha256: if *size == 0 { Digest::of(b"") } else { (*sha256)? },
            },
            Content::Link { target } => BaseContent::Link { target: target.clone() },
            Content::Folder => BaseContent::Folder { gone: false },
        };
        Some(BaseEntry { content, bits })
    }

    /// The agreed content as a [`Content`].
    pub fn as_content(&self) -> Content {
        match &self.content {
            BaseContent::File { size, sha256 } => Content::File { size: *size, sha256: Some(*sha256) },
            BaseContent::Link { target } => Content::Link { target: target.clone() },
            BaseContent::Folder { .. } => Content::Folder,
        }
    }
}

/// The base of one pair of roots: rows in path order. Empty for a first meeting.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Base(Vec<(RelPath, BaseEntry)>);

impl Base {
    /// From rows in any order; of two rows for one path the later stays.
    pub fn from_rows(mut rows: Vec<(RelPath, BaseEntry)>) -> Base {
        if !rows.is_sorted_by(|a, b| a.0 < b.0) {
            rows.reverse();
            rows.sort_by(|a, b| a.0.cmp(&b.0));
            rows.dedup_by(|later, first| later.0 == first.0);
        }
        Base(rows)
    }

    /// With `changes`, of which `None` takes a row away; of two for one path the later counts. Costs a pass over all rows.
    pub fn with(self, mut changes: Vec<(RelPath, Option<BaseEntry>)>) -> Base {
        changes.reverse();
        changes.sort_by(|a, b| a.0.cmp(&b.0));
        changes.dedup_by(|earlier, later| earlier.0 == later.0);
        let mut rows = Vec::with_capacity(self.0.len() + changes.len());
        let mut old = self.0.into_iter().peekable();
        for (path, entry) in changes {
            while let Some(row) = old.next_if(|(other, _)| *other < path) {
                rows.push(row);
            }
            let _ = old.next_if(|(other, _)| *other == path);
            rows.extend(entry.map(|entry| (path, entry)));
        }
        rows.extend(old);
        Base(rows)
    }

    /// All rows, in path order.
    pub fn rows(&self) -> &[(RelPath, BaseEntry)] {
        &self.0
    }

    /// The row of `path`.
    pub fn at(&self, path: &RelPath) -> Option<&BaseEntry> {
        let at = self.0.binary_search_by(|row| row.0.cmp(path)).ok()?;
        Some(&self.0[at].1)
    }

    /// The rows of `folder` itself and everything below it.
    pub fn within(&self, folder: &RelPath) -> &[(RelPath, BaseEntry)] {
        let start = self.0.partition_point(|row| row.0 < *folder);
        let rest = &self.0[start..];
        &rest[..leading(rest, |row| row.0.is_within(folder))]
    }
}

/// One name directly below a folder of the base.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BaseMember<'a> {
    /// The name.
    pub name: Name,
    /// Its own row; a folder may have rows below it and none of its own.
    pub entry: Option<&'a BaseEntry>,
    /// The rows below it.
    pub below: &'a [(RelPath, BaseEntry)],
}

/// The names directly below a folder that is `depth` components deep, from the `rows` of the folder and below it.
pub fn members_of(rows: &[(RelPath, BaseEntry)], depth: usize) -> impl Iterator<Item = BaseMember<'_>> {
    let own = rows.first().is_some_and(|(path, _)| path.depth() <= depth);
    let mut rest = &rows[usize::from(own)..];
    std::iter::from_fn(move || {
        let (first, _) = rest.first()?;
        let component = first.components().nth(depth)?;
        let name = Name::parse(component).ok()?;
        let head = first.head(depth + 1);
        let (group, others) = rest.split_at(leading(rest, |(path, _)| path.has_head(head)));
        rest = others;
        let (entry, below) = match group.split_first() {
            Some(((path, entry), below)) if path.depth() == depth + 1 => (Some(entry), below),
            _ => (None, group),
        };
        Some(BaseMember { name, entry, below })
    })
}

/// How many rows at the front `are`, and none behind them: looked for in steps that double, as most often there is one
/// (a file).
fn leading<T>(rows: &[T], are: impl Fn(&T) -> bool) -> usize {
    let mut step = 1;
    while rows.get(step).is_some_and(&are) {
        step *= 2;
    }
    let (passed, end) = (step / 2, step.min(rows.len()));
    passed + rows[passed..end].partition_point(are)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_replace_add_and_take_away_rows_and_the_later_of_two_counts() {
        let path = |text: &str| RelPath::parse(text.as_bytes()).unwrap();
        let row =
            |bits| BaseEntry { content: BaseContent::Folder { gone: false }, bits: Bits::of_mode(bits) };
        let base = Base::from_rows(vec![(path("a"), row(1)), (path("b"), row(1)), (path("b/c"), row(1))]);
        let changed = base.with(vec![
            (path("z"), Some(row(3))),
            (path("b"), Some(row(2))),
            (path("a"), Some(row(9))),
            (path("a"), None),
            (path("b/a"), Some(row(4))),
            (path("nothing"), None),
        ]);
        let rows: Vec<_> = changed.rows().iter().map(|(path, row)| (path.to_string(), row.bits)).collect();
        let bits =
            [("b", 2), ("b/a", 4), ("b/c", 1), ("z", 3)].map(|(p, b)| (p.to_owned(), Bits::of_mode(b)));
        assert_eq!(rows, bits);
    }

    #[test]
    fn as_many_lead_as_there_are() {
        for all in 0..40 {
            let rows: Vec<usize> = (0..all).collect();
            (0..=all).for_each(|count| assert_eq!(leading(&rows, |&row| row < count), count));
        }
    }
}
