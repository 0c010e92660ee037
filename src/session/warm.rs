//! One side's memory of its root between the rounds of a watch: the snapshot stays, and only what changed is looked at again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::blocking;
use super::error::SessionError;
use super::local::{Local, unusable};
use super::progress::Progress;
use super::scanned::{Round, Scanned};
use crate::core::path::RelPath;
use crate::core::shown::Shown;
use crate::replica::filter::Rules;
use crate::replica::refresh::Refresh;
use crate::replica::root::Root;
use crate::replica::watch::{Dirty, Room, Watcher};

/// A burst of changes has ended once nothing was heard for this long.
const QUIET: Duration = Duration::from_millis(50);
/// A burst that does not end is not waited for any longer.
const LONGEST: Duration = Duration::from_millis(250);
/// How often everything is looked at where not every folder can be watched.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// A scan of everything is followed by a rest of so many times what it took: if changes come faster than they can be
/// heard of, this must not be all that the machine does.
const REST: u32 = 4;
/// For how long a deletion counts among those that `--max-delete` allows.
const LATELY: Duration = Duration::from_secs(600);

/// See the module.
pub(crate) struct Warm {
    local: Arc<Local>,
    watcher: Arc<Watcher>,
    heard: Arc<Notify>,
    /// By which rules the last scan was made.
    rules: Vec<Rules>,
    /// What it saw, if no round has it at the moment.
    kept: Option<Scanned>,
    /// What the next round is to look at again, whatever is heard of it. It is no reason for a round.
    doubted: BTreeSet<RelPath>,
    /// When rounds deleted how many entries here.
    deleted: Vec<(Instant, u64)>,
    /// Until when no scan of everything is to begin by itself.
    rest: Instant,
    /// How many scans looked at everything.
    pub(crate) scans: u64,
}

impl Warm {
    /// Begins to watch the root of `local`.
    pub(crate) fn new(local: Arc<Local>) -> Result<Warm, SessionError> {
        Warm::with_room(local, Room::default())
    }

    /// As above, with room for so much.
    pub(crate) fn with_room(local: Arc<Local>, room: Room) -> Result<Warm, SessionError> {
        let heard = Arc::new(Notify::new());
        let listener = heard.clone();
        let watcher = Watcher::new(&local.root, room, Box::new(move || listener.notify_one()));
        let watcher = Arc::new(watcher.map_err(unusable)?);
        let rest = Instant::now();
        let (rules, kept, doubted, deleted) = Default::default();
        Ok(Warm { local, watcher, heard, rules, kept, doubted, deleted, rest, scans: 0 })
    }

    /// As [`Local::scan`], at the cost of what has changed since the last round where that is known.
    pub(crate) async fn scan(
        &mut self,
        rules: Vec<Rules>,
        distrust: bool,
        progress: Arc<dyn Progress>,
    ) -> Result<Scanned, SessionError> {
        let mut scanned = self.look_or_scan(rules, distrust, progress).await?;
        self.deleted.retain(|(at, _)| at.elapsed() < LATELY);
        scanned.round.lately = self.deleted.iter().map(|(_, count)| count).sum();
        Ok(scanned)
    }

    async fn look_or_scan(
        &mut self,
        rules: Vec<Rules>,
        distrust: bool,
        progress: Arc<dyn Progress>,
    ) -> Result<Scanned, SessionError> {
        self.still_there()?;
        let same = std::mem::replace(&mut self.rules, rules) == self.rules;
        let kept = self.kept.take().filter(|_| same && self.watcher.blind().is_none());
        let doubted = std::mem::take(&mut self.doubted);
        if let (Dirty::Paths(mut paths), Some(kept)) = (self.watcher.take(), kept) {
            paths.extend(doubted.into_iter().map(|path| (path, true)));
            let (local, watcher) = (self.local.clone(), self.watcher.clone());
            let looked = blocking(move || look(&local, &watcher, kept, &paths)).await?;
            if let Some(scanned) = looked {
                return Ok(scanned);
            }
        }
        self.scan_all(distrust, progress).await
    }

    async fn scan_all(
        &mut self,
        distrust: bool,
        progress: Arc<dyn Progress>,
    ) -> Result<Scanned, SessionError> {
        let (begun, watcher) = (Instant::now(), self.watcher.clone());
        watcher.begin_anew();
        let on_folder = move |folder: &RelPath| watcher.watch(folder);
        let mut scanned =
            self.local.scan_telling(self.rules.clone(), distrust, progress, on_folder).done().await?;
        self.scans += 1;
        self.rest = Instant::now() + begun.elapsed() * REST;
        if let Some(why) = self.watcher.blind() {
            let seconds = LOOK_EVERY.as_secs();
            scanned.notices.push(format!(
                "not every folder here can be watched: {why}; all are looked at every {seconds} s"
            ));
        }
        Ok(scanned)
    }

    /// Whether the last round went by these rules.
    pub(crate) fn goes_by(&self, rules: &[Rules]) -> bool {
        self.rules == rules
    }

    /// Keeps what a round saw, for the next one.
    pub(crate) fn keep(&mut self, mut scanned: Scanned) {
        let Round { acted, deleted, .. } = std::mem::take(&mut scanned.round);
        // What was done is not in the snapshot, and a hint of it may come late: what stands there must not count as absent.
        self.doubt(&acted);
        let failed: Vec<_> = scanned.problems.iter().map(|(path, _)| path.clone()).collect();
        self.doubt(&failed);
        self.deleted.extend((deleted > 0).then(|| (Instant::now(), deleted)));
        scanned.recall();
        scanned.notices.clear();
        self.kept = Some(scanned);
    }

    /// Has these paths looked at again in the next round, whatever is heard of them.
    pub(crate) fn doubt(&mut self, paths: &[RelPath]) {
        self.doubted.extend(paths.iter().filter(|path| !path.is_root()).cloned());
    }

    /// Resolves once something may have changed, and a burst of changes is over. May be dropped while it waits.
    pub(crate) async fn changed(&self) {
        let blind = self.watcher.blind().is_some();
        let look_again = sleep(LOOK_EVERY);
        tokio::pin!(look_again);
        while self.watcher.is_clean() {
            tokio::select! {
                () = self.heard.notified() => {}
                () = &mut look_again, if blind => self.watcher.distrust_all(),
            }
        }
        let begun = Instant::now();
        while begun.elapsed() < LONGEST && timeout(QUIET, self.heard.notified()).await.is_ok() {}
        if self.watcher.is_everything() {
            tokio::time::sleep_until(self.rest).await;
        }
    }

    /// The root must be the folder that it was: nobody hears of a disk that was unmounted, or of a folder put in its place.
    fn still_there(&self) -> Result<(), SessionError> {
        let path = self.local.root.path();
        let inode = |root: &Root| root.stat_self().ok().map(|stat| (stat.device, stat.seen.inode));
        match Root::open(path) {
            Ok(now) if inode(&now) == inode(&self.local.root) => Ok(()),
            _ => Err(SessionError::Guard {
                code: 27,
                text: format!(
                    "stopped watching: {} is not the folder any more that it was when the watch began; put that back, or begin again",
                    Shown(path.as_os_str().as_encoded_bytes())
                ),
            }),
        }
    }
}

/// Looks at `paths` again; `None` where everything must be scanned.
fn look(
    local: &Local,
    watcher: &Watcher,
    kept: Scanned,
    paths: &BTreeMap<RelPath, bool>,
) -> Result<Option<Scanned>, SessionError> {
    let Scanned { mut snapshot, mut problems, filter, .. } = kept;
    let state = local.state();
    let refresh = Refresh {
        root: &local.root,
        filter: &filter,
        db: state.as_ref().map(|state| state.db()),
        on_folder: &|folder| watcher.watch(folder),
    };
    let found = refresh.look(&mut snapshot, &mut problems, paths).map_err(unusable)?;
    let Some(found) = found else { return Ok(None) };
    snapshot.digest_missing();
    let (started, notices) = (found.started, found.notices);
    let (changes, since) = (found.changes, found.since);
    let round = Round::default();
    Ok(Some(Scanned { snapshot, filter, started, problems, notices, changes, since, round }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::snapshot::Snapshot;
    use crate::session::local::Opening;
    use crate::session::progress::Silent;
    use std::fs;

    struct Seen {
        temp: tempfile::TempDir,
        warm: Warm,
    }

    impl Seen {
        fn new(room: Room) -> Seen {
            let temp = tempfile::tempdir().unwrap();
            let root = temp.path().join("root");
            fs::create_dir_all(root.join("a/b")).unwrap();
            fs::write(root.join("a/b/f"), "x").unwrap();
            let opening = Opening {
                look: false,
                create: false,
                new_root: false,
                state_home: temp.path().join("state"),
                exclusive: None,
            };
            let local = Local::open(&root, &RelPath::root(), opening).unwrap();
            Seen { temp, warm: Warm::with_room(Arc::new(local), room).unwrap() }
        }

        fn at(&self, name: &str) -> std::path::PathBuf {
            self.temp.path().join("root").join(name)
        }

        async fn round(&mut self, rules: &[&str]) -> Result<(), SessionError> {
            let rules = Rules::try_from(rules.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
            let scanned = self.warm.scan(vec![rules], false, Arc::new(Silent)).await?;
            self.warm.keep(scanned);
            Ok(())
        }

        fn snapshot(&self) -> &Snapshot {
            &self.warm.kept.as_ref().unwrap().snapshot
        }

        /// Rounds until the snapshot has so many entries.
        async fn until(&mut self, entries: u64) {
            let rounds = async {
                while self.snapshot().count().0 != entries {
                    self.warm.changed().await;
                    self.round(&[]).await.unwrap();
                }
            };
            timeout(Duration::from_secs(120), rounds).await.expect("nothing was heard");
        }

        async fn scanned_anew(&self) -> Snapshot {
            let rules = vec![Rules::default()];
            self.warm.local.scan(rules, false, Arc::new(Silent)).done().await.unwrap().snapshot
        }
    }

    #[tokio::test]
    async fn a_burst_of_files_in_new_folders_is_seen_whole_without_another_scan_of_everything() {
        let mut seen = Seen::new(Room::default());
        seen.round(&[]).await.unwrap();
        assert_eq!(seen.snapshot().count().0, 3);
        for folder in 0..20 {
            let deep = seen.at(&format!("new/{folder}/deep"));
            fs::create_dir_all(&deep).unwrap();
            (0..100).for_each(|n| fs::write(deep.join(n.to_string()), "x").unwrap());
        }
        seen.until(3 + 1 + 20 * 102).await;
        fs::remove_dir_all(seen.at("new/7")).unwrap();
        fs::rename(seen.at("new/1/deep/1"), seen.at("moved")).unwrap();
        seen.until(3 + 1 + 19 * 102).await;
        assert_eq!(*seen.snapshot(), seen.scanned_anew().await);
        assert_eq!(seen.warm.scans, 1);
    }

    #[tokio::test]
    async fn too_much_at_once_a_folder_that_moves_and_other_rules_have_everything_scanned() {
        let mut seen = Seen::new(Room { paths: 10, ..Room::default() });
        seen.round(&[]).await.unwrap();
        (0..50).for_each(|n| fs::write(seen.at(&n.to_string()), "x").unwrap());
        while !seen.warm.watcher.is_everything() {
            timeout(Duration::from_secs(120), seen.warm.heard.notified()).await.expect("nothing was heard");
        }
        seen.until(53).await;
        assert!(seen.warm.scans > 1);
        let scans = seen.warm.scans;
        fs::rename(seen.at("a"), seen.at("z")).unwrap();
        fs::write(seen.at("z/b/g"), "x").unwrap();
        seen.until(54).await;
        assert!(seen.warm.scans > scans);
        fs::write(seen.at("z/b/h"), "x").unwrap();
        seen.until(55).await;
        let scans = seen.warm.scans;
        seen.round(&["*b"]).await.unwrap();
        assert_eq!((seen.snapshot().count().0, seen.warm.scans), (51, scans + 1));
    }

    #[tokio::test]
    async fn what_a_round_could_not_settle_is_looked_at_again_and_is_no_reason_for_a_round() {
        let mut seen = Seen::new(Room::default());
        seen.round(&[]).await.unwrap();
        let path = RelPath::parse(b"a/b/f").unwrap();
        seen.warm.kept.as_mut().unwrap().snapshot.put(&path, None);
        seen.warm.doubt(std::slice::from_ref(&path));
        assert!(seen.warm.watcher.is_clean());
        seen.round(&[]).await.unwrap();
        assert!(seen.snapshot().find(&path).is_some() && seen.warm.scans == 1);
    }

    /// A side whose own act nobody heard of took what it had received for deleted, and deleted it on the other side.
    #[tokio::test]
    async fn what_a_round_did_is_looked_at_in_the_next_whatever_is_heard_of_it() {
        let mut seen = Seen::new(Room::default());
        seen.round(&[]).await.unwrap();
        let path = RelPath::parse(b"a/b/f").unwrap();
        let mut scanned = seen.warm.kept.take().unwrap();
        scanned.snapshot.put(&path, None);
        scanned.round = Round { acted: vec![path.clone()], deleted: 3, lately: 0 };
        seen.warm.keep(scanned);
        seen.round(&[]).await.unwrap();
        assert!(seen.snapshot().find(&path).is_some() && seen.warm.scans == 1);
        // And what it deleted counts for a while.
        let lately = async |seen: &mut Seen| {
            let scanned = seen.warm.scan(vec![Rules::default()], false, Arc::new(Silent)).await.unwrap();
            scanned.round.lately
        };
        assert_eq!(lately(&mut seen).await, 3);
        tokio::time::pause();
        tokio::time::advance(LATELY).await;
        tokio::time::resume();
        assert_eq!(lately(&mut seen).await, 0);
    }

    #[tokio::test]
    async fn a_folder_that_was_put_in_the_place_of_the_root_is_not_taken_for_it() {
        let mut seen = Seen::new(Room::default());
        seen.round(&[]).await.unwrap();
        fs::rename(seen.at(""), seen.temp.path().join("elsewhere")).unwrap();
        assert_eq!(seen.round(&[]).await.unwrap_err().exit_code(), 27);
        fs::create_dir(seen.at("")).unwrap();
        assert_eq!(seen.round(&[]).await.unwrap_err().exit_code(), 27);
    }

    #[tokio::test]
    async fn where_not_every_folder_can_be_watched_everything_is_looked_at_now_and_then() {
        let mut seen = Seen::new(Room { folders: 1, ..Room::default() });
        let scanned = seen.warm.scan(vec![Rules::default()], false, Arc::new(Silent)).await.unwrap();
        assert!(scanned.notices[0].contains("not every folder here can be watched"), "{:?}", scanned.notices);
        seen.warm.keep(scanned);
        fs::write(seen.at("a/b/unheard"), "x").unwrap();
        tokio::time::pause();
        seen.warm.changed().await;
        tokio::time::resume();
        seen.round(&[]).await.unwrap();
        assert_eq!((seen.snapshot().count().0, seen.warm.scans), (4, 2));
    }
}
