//! A root to try things on, and short words for what stands there.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::commit::CommitError;
use super::expected::{Entry, Expected};
use super::history::{self, Journal};
use super::identity::Id;
use super::perform::{Replica, StepResult, perform};
use super::prune::Limits;
use super::rename::At;
use super::root::{Kind, Root};
use super::stage::{Promise, Stage, Staged};
use super::state::State;
use super::step::Step;
use crate::core::age::Timestamp;
use crate::core::digest::Digest;
use crate::core::path::RelPath;
use crate::core::version::Bits;

/// Long after every scan in these tests, so that times alone are trusted unless a test says otherwise.
pub(crate) const LATER: Timestamp = Timestamp(i64::MAX / 2);

pub(crate) struct Field {
    temp: tempfile::TempDir,
    pub(crate) root: Root,
}

pub(crate) fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

pub(crate) fn run(number: u8) -> Id {
    Id([number; 16])
}

pub(crate) fn promise(at: &str, bytes: &[u8]) -> Promise {
    let bits = Bits::of_mode(0o640);
    let modified = Timestamp::from_parts(1_000_000, 123_456_000);
    Promise { path: path(at), size: bytes.len() as u64, modified, bits, sha256: Some(Digest::of(bytes)) }
}

impl Field {
    /// Files with `text`, links with `-> target`, folders where the text is `/`.
    pub(crate) fn new(tree: &[(&str, &str)]) -> Field {
        let temp = tempfile::tempdir().unwrap();
        let root = Root::open(temp.path()).unwrap();
        let field = Field { temp, root };
        tree.iter().for_each(|(at, text)| field.write(at, text));
        field
    }

    pub(crate) fn at(&self, at: &str) -> PathBuf {
        self.temp.path().join(at)
    }

    pub(crate) fn write(&self, at: &str, text: &str) {
        let name = self.at(at);
        fs::create_dir_all(name.parent().unwrap()).unwrap();
        match text.strip_prefix("-> ") {
            _ if text == "/" => fs::create_dir_all(name).unwrap(),
            Some(target) => std::os::unix::fs::symlink(target, name).unwrap(),
            None => fs::write(name, text).unwrap(),
        }
    }

    pub(crate) fn state(&self) -> State {
        State::open(&self.root).unwrap()
    }

    pub(crate) fn stage(&self, number: u8) -> Stage {
        Stage::open(self.state().folder(), run(number), Timestamp(0)).unwrap().0
    }

    /// The same, where these new folders and files grow.
    pub(crate) fn growing(&self, number: u8, folders: &[(&str, u32)], files: &[(&str, &str)]) -> Stage {
        let mut stage = self.stage(number);
        let folders = folders.iter().map(|(at, bits)| (path(at), Bits::of_mode(*bits))).collect();
        let mut files: Vec<_> = files.iter().map(|(at, text)| (path(at), text.len() as u64)).collect();
        files.sort();
        stage.grow(folders, files.iter().map(|(at, size)| (at, *size)));
        stage
    }

    /// What a scan sees at `at` and remembers of it.
    pub(crate) fn entry(&self, at: &str) -> Entry {
        let stat = self.root.stat(&path(at)).unwrap();
        let sha256 = match stat.kind {
            Kind::File => Some(Digest::of(&fs::read(self.at(at)).unwrap())),
            Kind::Link => Some(Digest::of(&self.root.read_link(&path(at)).unwrap())),
            _ => None,
        };
        Entry { sha256, ..Entry::standing(&stat, LATER) }
    }

    pub(crate) fn saw(&self, at: &str) -> Expected {
        if fs::symlink_metadata(self.at(at)).is_ok() {
            Expected::Entry(self.entry(at))
        } else {
            Expected::Absent
        }
    }

    pub(crate) fn put(&self, stage: &Stage, at: &str, text: &str) -> Step {
        Step::Put { staged: staged(stage, at, text), path: path(at), expected: self.saw(at) }
    }

    pub(crate) fn remove(&self, at: &str) -> Step {
        Step::Remove {
            path: path(at),
            expected: self.entry(at),
            cause: crate::replica::record::Cause::Deleted,
        }
    }

    pub(crate) fn shift(&self, from: &str, to: &str) -> Step {
        Step::Move { from: path(from), to: path(to), expected: self.entry(from) }
    }

    pub(crate) fn folder(&self, at: &str, bits: u32) -> Step {
        Step::MakeFolder { path: path(at), bits: Bits::of_mode(bits), expected: self.saw(at) }
    }

    /// Performs as run `number`, with a history.
    pub(crate) fn perform(&self, stage: &Stage, number: u8, steps: &[Step]) -> Vec<StepResult> {
        self.try_perform(stage, number, Some(Limits::default()), steps).unwrap()
    }

    pub(crate) fn try_perform(
        &self,
        stage: &Stage,
        number: u8,
        keep: Option<Limits>,
        steps: &[Step],
    ) -> Result<Vec<StepResult>, super::perform::PerformError> {
        let state = self.state();
        let mut journal = Journal::open(&state, run(number), Timestamp(i64::from(number)))?;
        let now = Timestamp(i64::from(number));
        perform(Replica { root: &self.root, stage, journal: &mut journal, keep, now }, steps)
    }

    /// Everything below the root but its state: contents, `-> target` or `/`.
    pub(crate) fn tree(&self) -> BTreeMap<String, String> {
        let mut tree = BTreeMap::new();
        let mut folders = vec![self.temp.path().to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
                let name = entry.path().strip_prefix(self.temp.path()).unwrap().to_str().unwrap().to_owned();
                let kind = entry.file_type().unwrap();
                if name == ".syncfiles" {
                    continue;
                }
                let text = if kind.is_dir() {
                    folders.push(entry.path());
                    "/".into()
                } else if kind.is_symlink() {
                    format!("-> {}", fs::read_link(entry.path()).unwrap().display())
                } else {
                    fs::read_to_string(entry.path()).unwrap()
                };
                tree.insert(name, text);
            }
        }
        tree
    }

    /// What the history holds: path and content, in the order of the list.
    pub(crate) fn kept(&self) -> Vec<(String, String)> {
        let state = self.state();
        let versions = history::list(&state).unwrap();
        versions
            .iter()
            .map(|version| {
                let bin = history::open_bin(state.folder(), version.run, false).unwrap();
                let slot = history::slot_name(version.number, &version.path);
                let at = At { folder: bin.as_fd(), name: &slot };
                let text = if at.stat().unwrap().unwrap().kind == Kind::Link {
                    let target = rustix::fs::readlinkat(&bin, &slot[..], Vec::new()).unwrap();
                    format!("-> {}", target.to_str().unwrap())
                } else {
                    let run = self.at(&format!(".syncfiles/history/{}", version.run));
                    fs::read_to_string(run.join(str::from_utf8(&slot).unwrap())).unwrap()
                };
                (version.path.to_string(), text)
            })
            .collect()
    }

    pub(crate) fn mode(&self, at: &str) -> u32 {
        fs::symlink_metadata(self.at(at)).unwrap().permissions().mode() & 0o7777
    }
}

pub(crate) fn staged(stage: &Stage, at: &str, text: &str) -> Staged {
    match text.strip_prefix("-> ") {
        Some(target) => stage.link(target.as_bytes(), Timestamp(5_000)).unwrap(),
        None => stage.whole(&promise(at, text.as_bytes()), text.as_bytes()).unwrap(),
    }
}

pub(crate) fn tree_of(tree: &[(&str, &str)]) -> BTreeMap<String, String> {
    tree.iter().map(|(at, text)| ((*at).to_owned(), (*text).to_owned())).collect()
}

/// The results that are failures, as `path: error`.
pub(crate) fn failures(results: &[StepResult]) -> Vec<String> {
    let failure = |(path, result): &StepResult| {
        result.as_ref().err().map(|error: &CommitError| format!("{path}: {error:?}"))
    };
    results.iter().filter_map(failure).collect()
}
