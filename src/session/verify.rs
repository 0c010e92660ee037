//! Comparing two roots by SHA-256, without changing anything.

use std::sync::Arc;

use super::client::Remote;
use super::compare::{Own, compare};
use super::control::Control;
use super::error::SessionError;
use super::greeting::greet;
use super::local::Local;
use super::options::Options;
use super::progress::{Event, Progress};
use crate::core::base::Base;
use crate::core::digest::Digest;
use crate::core::merge::Fork;
use crate::core::path::RelPath;
use crate::core::side::Sides;
use crate::core::version::Standing;
use crate::protocol::message::{MAX_HAVE, Message};
use crate::replica::filter::Rules;
use crate::replica::scan::is_nested_state;
use crate::ssh::Connection;

/// What a comparison found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified {
    /// One digest a side over every name, kind, content and permission bits; none where something could not be read.
    pub digests: Sides<Option<Digest>>,
    /// Entries on each side.
    pub entries: Sides<u64>,
    /// Paths that differ, in path order.
    pub differing: Vec<RelPath>,
    /// Where one side holds what belongs to a root inside it: no sync looks at that, so it differs from nothing.
    pub reserved: Vec<RelPath>,
    /// Paths that could not be read on this side or the other, and why.
    pub unread: Vec<(RelPath, String)>,
}

impl Verified {
    /// Whether both sides hold the same. The digests may differ even so: they count the names of what is excluded or
    /// reserved.
    pub fn same(&self) -> bool {
        let whole = self.digests.one.is_some() && self.digests.two.is_some();
        whole && self.differing.is_empty() && self.unread.is_empty()
    }
}

/// Compares `local` with `remote`; both hash what their index does not know.
pub async fn verify(
    connect: impl Future<Output = Result<Connection, SessionError>>,
    local: Arc<Local>,
    remote: &Remote,
    options: &Options,
    progress: Arc<dyn Progress>,
) -> Result<Verified, SessionError> {
    let (rules, _) = local.rules(&options.rules)?;
    let connection = connect.await?;
    progress.event(&Event::Connected { peer: remote.name.clone() });
    let control = Control::new(connection, options.timeout, &remote.name);
    let verified = async {
        let met = greet(&control, &local, remote, rules.clone(), options).await?;
        let theirs = Rules::try_from(met.welcome.rules.clone())
            .map_err(|error| SessionError::Protocol(error.to_string()))?;
        let mut scanned = local.scan(vec![rules, theirs], options.checksum, progress.clone()).done().await?;
        local.hash_whole(&mut scanned).await?;
        control.send(&Message::Begin(met.begin(None))).await?;
        let Message::Top { digest, entries, problems, .. } = control.receive().await? else {
            return Err(SessionError::broke("it did not send its snapshot"));
        };
        let (mut differing, mut reserved) = (Vec::new(), Vec::new());
        if digest.is_none() || digest != scanned.snapshot.digest {
            let (base, now) = (Base::default(), met.now);
            let filter = scanned.filter.clone();
            let excluded = |path: &RelPath, folder: bool| filter.excludes(path, folder);
            let own = Own { snapshot: &scanned.snapshot, base: &base, excluded: &excluded, now };
            let tree = compare(&control, &own, MAX_HAVE, false).await?.tree;
            collect(&tree, &RelPath::root(), &excluded, &mut differing);
            (reserved, differing) = differing.into_iter().partition(is_nested_state);
        }
        control.send(&Message::Done).await?;
        let digests = Sides { one: digest, two: scanned.snapshot.digest };
        let entries = Sides { one: entries, two: scanned.snapshot.count().0 };
        Ok(Verified { digests, entries, differing, reserved, unread: [scanned.problems, problems].concat() })
    }
    .await;
    control.end(verified).await
}

/// The paths of a tree that differ themselves, and that no rule of either side excludes.
fn collect(
    fork: &Fork,
    path: &RelPath,
    excluded: &dyn Fn(&RelPath, bool) -> bool,
    differing: &mut Vec<RelPath>,
) {
    let differs = match (&fork.one, &fork.two) {
        (Standing::Holds(one), Standing::Holds(two)) => {
            one.content.same(&two.content) != Some(true) || one.bits != two.bits
        }
        (Standing::Unknown, _) | (_, Standing::Unknown) => !excluded(path, false) && !excluded(path, true),
        (one, two) => one != two,
    };
    if differs && !path.is_root() {
        differing.push(path.clone());
    }
    for (name, member) in &fork.members {
        if let Ok(path) = path.join(name) {
            collect(member, &path, excluded, differing);
        }
    }
}
