//! A file on its way into staging: written piece by piece, hashed as it comes, checked at its end.

use std::fs::File;
use std::io::{self, Seek, Write};

use rustix::fs::{FlockOperation, Mode};

use super::expected::{Entry, read_through};
use super::fault;
use super::root::{Kind, Root, Stat, stat_of};
use super::stage::{Promise, RESUMABLE, Stage, StageError, Staged, failed, open_staged, times};
use crate::core::digest::{Digest, Hasher};
use crate::core::path::RelPath;

/// A file that is being staged. Dropped half-way it stays as it is: a later run resumes or clears it.
#[derive(Debug)]
pub struct Incoming {
    file: File,
    name: String,
    promise: Promise,
    hasher: Hasher,
    written: u64,
}

impl Stage {
    /// Begins to stage a file. Where an earlier run got part of this very promise (path, size, time and
    /// hash), [`Incoming::written`] says how many bytes need not be sent again; they have been hashed here.
    pub fn incoming(&self, promise: &Promise) -> Result<Incoming, StageError> {
        if promise.size < RESUMABLE {
            return self.begin(promise, self.fresh_name(promise));
        }
        let name = resumable_name(promise);
        if let Some(incoming) = self.resume(promise, &name).map_err(failed("resume", &promise.path))? {
            return Ok(incoming);
        }
        match self.begin(promise, name) {
            // Somebody is writing it at this moment, or left it with more than was promised.
            Err(StageError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                self.begin(promise, self.fresh_name(promise))
            }
            begun => begun,
        }
    }

    /// Stages a copy of the file at `path` on this side, if it is still what the plan saw.
    ///
    /// A file system that can share the bytes does; they are hashed in any case, and must match the promise.
    pub fn copy(
        &self,
        root: &Root,
        path: &RelPath,
        saw: &Entry,
        promise: &Promise,
    ) -> Result<Staged, StageError> {
        let refused = failed("copy", path);
        let changed = || StageError::Changed { path: path.clone() };
        let (source, before) = root.open_file(path).map_err(&refused)?;
        if !saw.admits(&before) {
            return Err(changed());
        }
        let mut copy = self.begin(promise, self.fresh_name(promise))?;
        let mut clone = source.try_clone().map_err(&refused)?;
        if rustix::fs::ioctl_ficlone(&copy.file, &source).is_ok() {
            copy.read_back().map_err(&refused)?;
        } else {
            clone.rewind().map_err(&refused)?;
            read_through(clone, |bytes| copy.write(bytes).map_err(io::Error::other)).map_err(&refused)?;
        }
        let after = stat_of(&source).map_err(&refused)?;
        if (after.seen.changed, after.size) != (before.seen.changed, before.size) {
            return Err(changed());
        }
        copy.finish(saw.sha256).map_err(|error| match error {
            StageError::WrongContent { .. } => changed(),
            other => other,
        })
    }

    pub(crate) fn begin(&self, promise: &Promise, name: String) -> Result<Incoming, StageError> {
        let refused = failed("stage", &promise.path);
        let file = open_staged(self, &name, true).map_err(&refused)?;
        if promise.size >= RESUMABLE {
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
                .map_err(|errno| refused(errno.into()))?;
        }
        Ok(Incoming { file, name, promise: promise.clone(), hasher: Hasher::new(), written: 0 })
    }

    fn resume(&self, promise: &Promise, name: &str) -> io::Result<Option<Incoming>> {
        // Absent, or not to be opened (complete, with its final bits): then a fresh file takes its part.
        let Ok(file) = open_staged(self, name, false) else { return Ok(None) };
        let Stat { kind, size, links, .. } = stat_of(&file)?;
        let ours = kind == Kind::File && links == 1 && size <= promise.size;
        if !ours || rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(None);
        }
        let mut incoming =
            Incoming { file, name: name.into(), promise: promise.clone(), hasher: Hasher::new(), written: 0 };
        incoming.read_back()?;
        Ok(Some(incoming))
    }
}

impl Incoming {
    /// How many bytes are there already; the next ones are written behind them.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Appends `bytes`. More than was promised is refused and not written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StageError> {
        let got = self.written.saturating_add(bytes.len() as u64);
        if got > self.promise.size {
            return Err(self.wrong_size(got));
        }
        fault::step()
            .and_then(|()| self.file.write_all(bytes))
            .map_err(failed("write the received bytes of", &self.promise.path))?;
        self.hasher.update(bytes);
        self.written = got;
        Ok(())
    }

    /// Ends the file: checks its size, and its SHA-256 against the promised one and the one `sent` at the end
    /// (of the whole file, resumed bytes included); then sets its modification time and permission bits.
    ///
    /// A file with the wrong content is emptied, so that it is not resumed.
    pub fn finish(self, sent: Option<Digest>) -> Result<Staged, StageError> {
        if self.written != self.promise.size {
            return Err(self.wrong_size(self.written));
        }
        let Incoming { file, name, promise, hasher, .. } = self;
        let refused = failed("stage", &promise.path);
        let sha256 = hasher.finish();
        if [promise.sha256, sent].into_iter().flatten().any(|told| told != sha256) {
            file.set_len(0).map_err(&refused)?;
            return Err(StageError::WrongContent { path: promise.path.clone() });
        }
        let stat = seal(&file, &promise).map_err(&refused)?;
        Ok(Staged { name, stat, sha256: Some(sha256) })
    }

    /// Hashes what the file holds and goes on behind it.
    fn read_back(&mut self) -> io::Result<()> {
        let mut reading = self.file.try_clone()?;
        reading.rewind()?;
        let mut count = 0;
        read_through(reading, |bytes| {
            self.hasher.update(bytes);
            count += bytes.len() as u64;
            Ok(())
        })?;
        self.written = count;
        Ok(())
    }

    fn wrong_size(&self, got: u64) -> StageError {
        StageError::WrongSize { path: self.promise.path.clone(), promised: self.promise.size, got }
    }
}

/// Bits first: on some file systems they touch the time.
fn seal(file: &File, promise: &Promise) -> io::Result<Stat> {
    fault::step()?;
    if promise.bits.mode() != 0o600 {
        rustix::fs::fchmod(file, Mode::from_raw_mode(promise.bits.mode()))?;
    }
    rustix::fs::futimens(file, &times(promise.modified))?;
    stat_of(file)
}

/// Names the promise: the same file of the same sender gets the same name in the next run.
fn resumable_name(promise: &Promise) -> String {
    let mut hasher = Hasher::new();
    hasher.update(promise.path.as_bytes());
    hasher.update(&[0]);
    hasher.update(&promise.modified.0.to_le_bytes());
    hasher.update(promise.sha256.as_ref().map_or(&[], |digest| &digest.0[..]));
    format!("r{:.32}-{:x}", hasher.finish().to_string(), promise.size)
}
