//! How much the history may take, and what goes first.

use std::os::fd::AsFd;

use rustix::fs::FlockOperation;

use super::history::{HistoryError, existing_bin, records, refused, remove_bin, runs, slot_name, space};
use super::identity::Id;
use super::rename::At;
use super::root::{Kind, Root};
use super::state::{State, database};
use crate::core::age::Timestamp;

/// How much the history may take at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cap {
    /// This many bytes.
    Bytes(u64),
    /// This part of the file system, in percent.
    Percent(u8),
}

/// What losers may take. The default is 30 days and a tenth of the file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// How long a run's losers are kept, in nanoseconds.
    pub age: i64,
    /// How much all of them may take.
    pub cap: Cap,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { age: 30 * 86_400 * 1_000_000_000, cap: Cap::Percent(10) }
    }
}

impl Cap {
    /// In bytes, on the file system of `root`.
    pub fn bytes(self, root: &Root) -> Result<u64, HistoryError> {
        match self {
            Cap::Bytes(bytes) => Ok(bytes),
            Cap::Percent(percent) => {
                let all = rustix::fs::fstatvfs(root).map_err(|errno| refused("measure")(errno.into()))?;
                Ok((all.f_blocks.saturating_mul(all.f_frsize) / 100).saturating_mul(u64::from(percent)))
            }
        }
    }
}

/// What was cleared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pruned {
    /// Runs.
    pub runs: u64,
    /// Their versions.
    pub versions: u64,
    /// Bytes of these versions.
    pub bytes: u64,
}

/// Clears runs that are too old, then the oldest until `wanted` more bytes fit under the cap; never `this` run, and
/// none that is going on.
///
/// Works while another run displaces: a run's rows go in one transaction after its files.
pub fn prune(
    state: &State,
    limits: Limits,
    wanted: u64,
    this: Option<Id>,
    now: Timestamp,
) -> Result<Pruned, HistoryError> {
    let cap = limits.cap.bytes(state.folder())?;
    let (mut used, _) = space(state)?;
    let mut pruned = Pruned::default();
    for (run, moment) in runs(state)?.into_iter().rev() {
        let old = now.0.saturating_sub(moment.0) > limits.age;
        if Some(run) == this || !old && used.saturating_add(wanted) <= cap {
            continue;
        }
        let bin = existing_bin(state.folder(), run)?;
        let over = |bin| rustix::fs::flock(bin, FlockOperation::NonBlockingLockExclusive).is_ok();
        if !bin.as_ref().is_none_or(over) {
            continue;
        }
        let (versions, bytes) = clear(state, run, bin)?;
        used = used.saturating_sub(bytes);
        pruned.runs += 1;
        pruned.versions += versions;
        pruned.bytes += bytes;
    }
    Ok(pruned)
}

/// Clears one run: its versions, then its rows, then its folder unless somebody else keeps something there.
fn clear(state: &State, run: Id, bin: Option<Root>) -> Result<(u64, u64), HistoryError> {
    let (mut versions, mut bytes) = (0, 0);
    for (number, record) in records(state, run)? {
        let Some(old) = record.old.filter(|old| old.kind != Kind::Folder) else { continue };
        let (Some(bin), slot) = (&bin, slot_name(number, &record.path)) else { continue };
        let at = At { folder: bin.as_fd(), name: &slot };
        if at.stat().map_err(refused("prune"))?.is_some_and(|stat| stat.kind != Kind::Folder) {
            at.unlink().map_err(refused("prune"))?;
            versions += 1;
            bytes += old.size;
        }
    }
    let act = "prune the history of";
    let writing = state.write(act)?;
    writing
        .execute("DELETE FROM history WHERE run = (SELECT number FROM runs WHERE id = ?1)", [run.0])
        .and_then(|_| writing.execute("DELETE FROM runs WHERE id = ?1", [run.0]))
        .and_then(|_| writing.commit())
        .map_err(database(act))?;
    remove_bin(state.folder(), run).map_err(refused("prune"))?;
    Ok((versions, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::history::Journal;
    use crate::replica::testing::*;

    #[test]
    fn what_is_too_old_goes_then_the_oldest_and_never_this_run() {
        let field = Field::new(&[("a", "aaaa"), ("b", "bbbb"), ("c", "cccc"), ("d", "dddd")]);
        let stage = field.stage(1);
        for (number, at) in (1..).zip(["a", "b", "c", "d"]) {
            field.perform(&stage, number, &[field.remove(at)]);
        }
        let state = field.state();
        let prune = |age, bytes| {
            let limits = Limits { age, cap: Cap::Bytes(bytes) };
            super::prune(&state, limits, 0, Some(run(3)), Timestamp(10)).unwrap()
        };
        let names = || field.kept().into_iter().map(|(path, _)| path).collect::<String>();
        assert_eq!(prune(100, 16), Pruned::default());
        assert_eq!(prune(8, 16), Pruned { runs: 1, versions: 1, bytes: 4 });
        assert_eq!(names(), "dcb");
        assert_eq!(prune(100, 9), Pruned { runs: 1, versions: 1, bytes: 4 });
        assert_eq!((names(), space(&state).unwrap()), ("dc".into(), (8, 2)));
        assert_eq!(prune(0, 0).runs, 1);
        assert_eq!(names(), "c");
        assert!(!field.at(&format!(".syncfiles/history/{}", run(4))).exists());
    }

    #[test]
    fn a_run_that_is_going_on_is_not_pruned_by_another() {
        let field = Field::new(&[("a", "aaaa")]);
        let stage = field.stage(1);
        field.perform(&stage, 1, &[field.remove("a")]);
        let state = field.state();
        let none = Limits { age: 0, cap: Cap::Bytes(0) };
        let living = Journal::open(&state, run(1), Timestamp(1)).unwrap();
        assert_eq!(prune(&state, none, 0, None, Timestamp(10)).unwrap(), Pruned::default());
        living.close().unwrap();
        assert_eq!(prune(&state, none, 0, None, Timestamp(10)).unwrap().versions, 1);
    }

    #[test]
    fn a_percentage_is_of_the_whole_file_system() {
        let field = Field::new(&[]);
        let all = Cap::Percent(100).bytes(&field.root).unwrap();
        assert!(all > 0 && Cap::Percent(10).bytes(&field.root).unwrap() <= all / 10 + 10);
    }
}
