//! Random edits of a real folder, each content unlike all others; and the ledger that finds them again.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use super::dice::Dice;
use super::pair::{Entry, Side};

/// So few that edits meet; some of them awkward.
const NAMES: [&[u8]; 8] = [b"a", b"b", b"A", "ü ñ".as_bytes(), b"new\nline", b"\xff\xfe", b"-rf *", b" lead"];
const FILE_MODES: [u32; 4] = [0o644, 0o600, 0o755, 0o640];
const FOLDER_MODES: [u32; 3] = [0o755, 0o700, 0o750];

/// Edits folders.
pub struct Hand {
    pub dice: Dice,
    written: usize,
    /// When edits are dated: far apart and in no order, or all the same.
    ties: bool,
    used: BTreeSet<u64>,
    epoch: SystemTime,
    /// Dates edits in their true order instead, one after the other.
    orderly: Option<u64>,
}

impl Hand {
    pub fn new(dice: Dice, ties: bool) -> Hand {
        let epoch = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
        Hand { dice, written: 0, ties, used: BTreeSet::new(), epoch, orderly: None }
    }

    /// As [`Hand::new`], but later edits are younger: further apart than a greeting takes on a slow machine, and all
    /// of the last hours.
    pub fn orderly(dice: Dice) -> Hand {
        let epoch = SystemTime::now() - Duration::from_secs(3 * 3600);
        Hand { orderly: Some(0), epoch, ..Hand::new(dice, false) }
    }

    fn date(&mut self) -> SystemTime {
        if self.ties {
            return self.epoch;
        }
        if let Some(count) = &mut self.orderly {
            *count += 1;
            return self.epoch + Duration::from_secs(30 * *count);
        }
        loop {
            let at = self.dice.throw() % 5_000_000;
            if self.used.insert(at) {
                return self.epoch + Duration::from_secs(20 * at);
            }
        }
    }

    /// Content that nobody has written before.
    pub fn content(&mut self) -> Vec<u8> {
        self.written += 1;
        let length = match self.dice.below(400) {
            0 => 140_000,
            1..=8 => return Vec::new(),
            n => n / 8,
        };
        let mut content = format!("{}:", self.written).into_bytes();
        content.resize(content.len() + length, b'.');
        content
    }

    /// One edit somewhere below `side`, dated `ahead` of true time by what that system's clock is.
    pub fn edit(&mut self, side: &Side, ahead: i64) {
        let there: Vec<PathBuf> = side.tree().into_keys().collect();
        let path = self.somewhere(&there);
        let full = side.root.join(&path);
        match self.dice.below(16) {
            0..=5 => self.write(&full, ahead),
            6..=7 => remove(&full),
            8..=10 => self.rename(side, &there, &full),
            11 => self.chmod(&full),
            12 => {
                let target = format!("to/{}", self.dice.below(4));
                remove(&full);
                if make_room(side, &full) {
                    symlink(target, &full).unwrap();
                    date(&full, shifted(self.date(), ahead));
                }
            }
            13 => {
                remove(&full);
                if make_room(side, &full) {
                    fs::create_dir(&full).unwrap();
                }
            }
            14 => {
                // A folder with something in it takes the place of whatever was there.
                remove(&full);
                if make_room(side, &full) && fs::create_dir(&full).is_ok() {
                    for name in ["a", "b"] {
                        self.write(&full.join(name), ahead);
                    }
                }
            }
            _ => {
                // A copy keeps its time, as `cp -p` does.
                let from = side.root.join(self.somewhere(&there));
                let free = is_file(&full) || fs::symlink_metadata(&full).is_err();
                if is_file(&from) && free && make_room(side, &full) {
                    let modified = fs::metadata(&from).unwrap().modified().unwrap();
                    fs::copy(&from, &full).unwrap();
                    date(&full, modified);
                }
            }
        }
    }

    /// A path that is there, or one that may be.
    fn somewhere(&mut self, there: &[PathBuf]) -> PathBuf {
        if !there.is_empty() && self.dice.chance(60) {
            return self.dice.pick(there).clone();
        }
        let depth = 1 + self.dice.below(3);
        (0..depth).map(|_| OsStr::from_bytes(NAMES[self.dice.below(NAMES.len())])).collect()
    }

    /// Writes unheard-of content to a file, unless something else is in the way; dated as in [`Hand::edit`].
    pub fn write(&mut self, full: &Path, ahead: i64) {
        let parents = full.ancestors().skip(1).all(|p| !fs::symlink_metadata(p).is_ok_and(|m| !m.is_dir()));
        if is_folder(full) || !parents {
            return;
        }
        fs::create_dir_all(full.parent().unwrap()).unwrap();
        let content = self.content();
        let in_place = is_file(full) && self.dice.chance(50);
        let target = if in_place { full.to_owned() } else { full.with_file_name("\x01new") };
        fs::write(&target, content).unwrap();
        date(&target, shifted(self.date(), ahead));
        if !in_place {
            fs::rename(&target, full).unwrap();
        }
    }

    fn rename(&mut self, side: &Side, there: &[PathBuf], from: &Path) {
        let to = side.root.join(self.somewhere(there));
        let within = to.starts_with(from) || from.starts_with(&to);
        if within || fs::symlink_metadata(from).is_err() || !make_room(side, &to) {
            return;
        }
        let over = fs::symlink_metadata(&to).is_ok();
        if over && self.dice.chance(50) {
            // They change places.
            let aside = from.with_file_name("\x01aside");
            fs::rename(from, &aside).unwrap();
            fs::rename(&to, from).unwrap();
            fs::rename(&aside, &to).unwrap();
        } else {
            remove(&to);
            fs::rename(from, &to).unwrap();
        }
    }

    fn chmod(&mut self, full: &Path) {
        let mode = if is_folder(full) {
            *self.dice.pick(&FOLDER_MODES)
        } else if is_file(full) {
            *self.dice.pick(&FILE_MODES)
        } else {
            return;
        };
        fs::set_permissions(full, fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// Makes the folders above `full`; false where something else is in the way.
fn make_room(side: &Side, full: &Path) -> bool {
    let above = full.parent().unwrap();
    let mut way = above.ancestors().take_while(|p| p.starts_with(&side.root));
    way.all(|p| !fs::symlink_metadata(p).is_ok_and(|m| !m.is_dir())) && fs::create_dir_all(above).is_ok()
}

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.is_dir())
}

fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.is_file())
}

fn remove(path: &Path) {
    let _ = if is_folder(path) { fs::remove_dir_all(path) } else { fs::remove_file(path) };
}

fn shifted(time: SystemTime, ahead: i64) -> SystemTime {
    let by = Duration::from_secs(ahead.unsigned_abs());
    if ahead < 0 { time - by } else { time + by }
}

/// Sets the modification time of a file or link.
pub fn date(path: &Path, time: SystemTime) {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let time = Timespec { tv_sec: since.as_secs() as i64, tv_nsec: since.subsec_nanos().into() };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Whole contents of files and links.
pub type Contents = BTreeSet<Vec<u8>>;

/// Every content that a side shows: files as they are, links by their target. Nothing is no content.
pub fn live(side: &Side) -> Contents {
    let content = |entry| match entry {
        Entry::File(_, content) => content,
        Entry::Link(target) => link_content(&target),
        Entry::Folder(_) => Vec::new(),
    };
    side.tree().into_values().map(content).filter(|content| !content.is_empty()).collect()
}

fn link_content(target: &Path) -> Vec<u8> {
    [b"-> ", target.as_os_str().as_bytes()].concat()
}

/// Every content that a side's history keeps.
pub fn kept(side: &Side) -> Contents {
    let history = Side { root: side.root.join(".syncfiles/history") };
    if history.root.exists() { live(&history) } else { BTreeSet::new() }
}

/// The ledger: what each side held and kept before something happened.
pub struct Ledger<'a> {
    before: Vec<(&'a Side, Contents, Contents)>,
}

impl<'a> Ledger<'a> {
    pub fn open(sides: impl IntoIterator<Item = &'a Side>) -> Ledger<'a> {
        Ledger { before: sides.into_iter().map(|side| (side, live(side), kept(side))).collect() }
    }

    /// Whatever a side showed, it shows or keeps; whatever it kept, it keeps or shows.
    pub fn close(&self) {
        for (side, showed, had) in &self.before {
            let (shows, keeps) = (live(side), kept(side));
            for content in showed.union(had) {
                let found = shows.contains(content) || keeps.contains(content);
                let root = side.root.display();
                assert!(found, "{root} lost {}", String::from_utf8_lossy(&content[..content.len().min(60)]));
            }
        }
    }
}
