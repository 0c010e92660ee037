//! The members of one folder as three parties know them: System 1's list, System 2's snapshot and the base, joined by name.

use crate::core::base::{BaseEntry, BaseMember, members_of};
use crate::core::path::{Name, RelPath};
use crate::core::snapshot::{Folder, Node};
use crate::protocol::listed::Listed;

/// One name in a folder, on System 1, on System 2 and in the base.
pub(crate) struct Trio<'a> {
    pub(crate) name: Name,
    pub(crate) listed: Option<Listed>,
    pub(crate) own: Option<&'a Node>,
    pub(crate) base: Option<BaseMember<'a>>,
}

impl<'a> Trio<'a> {
    /// The base's rows below this name.
    pub(crate) fn below(&self) -> &'a [(RelPath, BaseEntry)] {
        self.base.as_ref().map_or(&[], |member| member.below)
    }
}

/// Joins three lists by name. `base` has the rows of the folder, which is `depth` deep, and below it.
pub(crate) fn trios<'a>(
    listed: Vec<(Name, Listed)>,
    own: Option<&'a Folder>,
    base: &'a [(RelPath, BaseEntry)],
    depth: usize,
) -> Vec<Trio<'a>> {
    let mut listed = listed.into_iter().peekable();
    let mut own = own.map_or(&[][..], |folder| &folder.members[..]).iter().peekable();
    let mut base = members_of(base, depth).peekable();
    let mut trios = Vec::new();
    loop {
        let names = [
            listed.peek().map(|(name, _)| name),
            own.peek().map(|(name, _)| name),
            base.peek().map(|member| &member.name),
        ];
        let Some(name) = names.into_iter().flatten().min().cloned() else { return trios };
        trios.push(Trio {
            listed: listed.next_if(|(other, _)| *other == name).map(|(_, listed)| listed),
            own: own.next_if(|(other, _)| *other == name).map(|(_, node)| node),
            base: base.next_if(|member| member.name == name),
            name,
        });
    }
}
