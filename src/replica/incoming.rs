//! A file on its way into staging: written piece by piece, hashed as it comes, checked at its end.

use std::fs::File;
use std::io::{self, Seek, Write};

use bytes::Bytes;
use rustix::fs::FlockOperation;

use super::blocks::Old;
use super::expected::{Entry, read_through};
use super::fault;
use super::hashing::{Hashing, Piece};
use super::root::{Kind, Root, Stat, stat_of};
use super::source::{SourceError, is_gone};
use super::stage::{
    Promise, RESUMABLE, Stage, StageError, Staged, Waits, failed, make_staged, open_staged, times,
};
use super::system;
use crate::core::digest::{Digest, Hasher};
use crate::core::path::RelPath;
use crate::core::version::Bits;

/// A file that is being staged. Dropped half-way it stays as it is: a later run resumes or clears it.
#[derive(Debug)]
pub struct Incoming {
    file: File,
    name: String,
    promise: Promise,
    hashing: Hashing,
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
        if let Some(incoming) = self.resume(promise, &name).map_err(failed("resume it"))? {
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
        let refused = failed("copy it");
        let changed = || StageError::Changed;
        let opened = root.open_file(path);
        let (source, before) = opened.map_err(|e| if is_gone(&e) { changed() } else { refused(e) })?;
        if !saw.admits(&before) {
            return Err(changed());
        }
        let mut copy = self.begin(promise, self.fresh_name(promise))?;
        let mut clone = source.try_clone().map_err(&refused)?;
        if system::clone_content(&copy.file, &source).is_ok() {
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
            StageError::WrongContent => changed(),
            other => other,
        })
    }

    pub(crate) fn begin(&self, promise: &Promise, name: String) -> Result<Incoming, StageError> {
        let refused = failed("stage it");
        // What may be resumed must stay open to its owner until it is whole.
        let resumable = promise.size >= RESUMABLE;
        let bits = if resumable { Bits::of_mode(0o600) } else { promise.bits };
        let file = make_staged(self, name.as_bytes(), bits).map_err(&refused)?;
        if resumable {
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
                .map_err(|errno| refused(errno.into()))?;
        }
        Ok(Incoming::new(file, name, promise))
    }

    fn resume(&self, promise: &Promise, name: &str) -> io::Result<Option<Incoming>> {
        // Absent, or not to be opened (complete, with its final bits): then a fresh file takes its part.
        let Ok(file) = open_staged(self, name) else { return Ok(None) };
        let Stat { kind, size, links, .. } = stat_of(&file)?;
        let ours = kind == Kind::File && links == 1 && size <= promise.size;
        if !ours || rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(None);
        }
        let mut incoming = Incoming::new(file, name.into(), promise);
        incoming.read_back()?;
        Ok(Some(incoming))
    }
}

impl Incoming {
    pub(super) fn new(file: File, name: String, promise: &Promise) -> Incoming {
        Incoming { file, name, promise: promise.clone(), hashing: Hashing::of(promise.size), written: 0 }
    }

    /// How many bytes are there already; the next ones are written behind them.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Appends `length` bytes of `old` from `offset` on.
    pub fn copy<E>(&mut self, old: &Old, offset: u64, length: u64) -> Result<(), E>
    where
        E: From<SourceError> + From<StageError>,
    {
        let mut range = old.range(offset, length)?;
        while !range.is_empty() {
            let piece = old.take(&mut range, self.hashing.spare())?;
            self.append(Piece::Lent(piece))?;
        }
        Ok(())
    }

    /// Appends a piece of content as it was received. More than was promised is refused and not written.
    pub fn receive(&mut self, bytes: Bytes) -> Result<(), StageError> {
        self.append(Piece::Shared(bytes))
    }

    fn append(&mut self, piece: Piece) -> Result<(), StageError> {
        self.store(&piece)?;
        self.hashing.piece(piece);
        Ok(())
    }

    /// Appends `bytes`, hashing them before it returns. More than was promised is refused and not written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StageError> {
        self.store(bytes)?;
        self.hashing.bytes(bytes);
        Ok(())
    }

    /// Ends the file: checks its size, and its SHA-256 against the promised one and the one `sent` at the end
    /// (of the whole file, resumed bytes included); then sets its modification time and permission bits.
    ///
    /// A file with the wrong content is emptied, so that it is not resumed.
    pub fn finish(self, sent: Option<Digest>) -> Result<Staged, StageError> {
        if self.written != self.promise.size {
            return Err(wrong_size(&self.promise, self.written));
        }
        let Incoming { file, name, promise, mut hashing, .. } = self;
        let refused = failed("stage it");
        let sha256 = hashing.digest();
        if [promise.sha256, sent].into_iter().flatten().any(|told| told != sha256) {
            file.set_len(0).map_err(&refused)?;
            return Err(StageError::WrongContent);
        }
        let stat = seal(&file, &promise).map_err(&refused)?;
        Ok(Staged { waits: Waits::Staging(name.into_bytes().into()), stat, sha256: Some(sha256) })
    }

    /// Whether what is there has this SHA-256.
    pub fn is(&mut self, sha256: &Digest) -> bool {
        self.hashing.digest() == *sha256
    }

    /// Forgets what was written: the content comes anew, from its beginning.
    pub fn restart(&mut self) -> Result<(), StageError> {
        let emptied = fault::step().and_then(|()| self.file.set_len(0)).and_then(|()| self.file.rewind());
        emptied.map_err(failed("write it anew"))?;
        (self.hashing, self.written) = (Hashing::of(self.promise.size), 0);
        Ok(())
    }

    /// Hashes what the file holds and goes on behind it.
    fn read_back(&mut self) -> io::Result<()> {
        let mut reading = self.file.try_clone()?;
        reading.rewind()?;
        let mut count = 0;
        read_through(reading, |bytes| {
            self.hashing.bytes(bytes);
            count += bytes.len() as u64;
            Ok(())
        })?;
        self.written = count;
        Ok(())
    }

    /// Writes `bytes` behind what there is.
    fn store(&mut self, bytes: &[u8]) -> Result<(), StageError> {
        let got = self.written.saturating_add(bytes.len() as u64);
        if got > self.promise.size {
            return Err(wrong_size(&self.promise, got));
        }
        let stored = fault::step().and_then(|()| self.file.write_all(bytes));
        if stored.as_ref().is_err_and(is_full) {
            // Kept to be resumed, it would leave no room for the state, nor for any other run.
            let _ = self.file.set_len(0);
        }
        stored.map_err(failed("write what was received"))?;
        self.written = got;
        Ok(())
    }
}

fn wrong_size(promise: &Promise, got: u64) -> StageError {
    StageError::WrongSize { promised: promise.size, got }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn seal(file: &File, promise: &Promise) -> io::Result<Stat> {
    fault::step()?;
    rustix::fs::futimens(file, &times(promise.modified))?;
    let stat = stat_of(file)?;
    if stat.bits == promise.bits {
        return Ok(stat);
    }
    rustix::fs::fchmod(file, system::mode(promise.bits))?;
    stat_of(file)
}

/// Names the promise: the same file of the same sender gets the same name in the next run.
pub(crate) fn resumable_name(promise: &Promise) -> String {
    let mut hasher = Hasher::new();
    hasher.update(promise.path.as_bytes());
    hasher.update(&[0]);
    hasher.update(&promise.modified.0.to_le_bytes());
    hasher.update(promise.sha256.as_ref().map_or(&[], |digest| &digest.0[..]));
    format!("r{:.32}-{:x}", hasher.finish().to_string(), promise.size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::age::Timestamp;
    use crate::replica::blocks::tests::file_at;
    use crate::replica::expected::Expected;
    use crate::replica::hashing::WORTH_A_THREAD;
    use crate::replica::testing::*;
    use std::fs;

    fn big() -> Vec<u8> {
        (0..RESUMABLE * 2).map(|at| (at / 1000) as u8).collect()
    }

    #[test]
    fn a_transfer_that_was_cut_goes_on_where_it_stopped_in_the_next_run() {
        let (field, bytes) = (Field::new(&[]), big());
        let promise = promise("d/big", &bytes);
        let first = field.stage(1);
        let mut cut = first.incoming(&promise).unwrap();
        cut.write(&bytes[..1_500_000]).unwrap();
        drop((cut, first));
        let second = field.stage(2);
        let other = Promise { modified: Timestamp(0), ..promise.clone() };
        assert_eq!(second.incoming(&other).unwrap().written(), 0);
        let mut rest = second.incoming(&promise).unwrap();
        assert_eq!(rest.written(), 1_500_000);
        rest.write(&bytes[1_500_000..]).unwrap();
        let staged = rest.finish(Some(Digest::of(&bytes))).unwrap();
        assert_eq!((staged.sha256, staged.stat.modified), (promise.sha256, promise.modified));
        assert_eq!((staged.stat.size, staged.stat.bits), (promise.size, promise.bits));
        drop(second);
        let (late, left) = Stage::open(field.state().folder(), run(3), LATER).unwrap();
        assert_eq!((late.incoming(&promise).unwrap().written(), left), (0, vec![]), "nobody went on with it");
    }

    #[test]
    fn what_is_copied_is_hashed_as_what_is_written_is() {
        let (field, old) = (Field::new(&[]), big());
        fs::write(field.at("old"), &old).unwrap();
        let source = Old::open(&field.root, &path("old"), &file_at(&field, "old")).unwrap();
        let stage = field.stage(1);
        let long = WORTH_A_THREAD as usize + 300_000;
        let bytes = [&old[7..7 + long], b"new", &old[3..3 + 5000], &old[..long]].concat();
        let promised = promise("f", &bytes);
        let mut incoming = stage.incoming(&promised).unwrap();
        let copy = |incoming: &mut Incoming, offset, length: usize| {
            incoming.copy::<Either>(&source, offset, length as u64)
        };
        copy(&mut incoming, 7, long).unwrap();
        incoming.write(b"new").unwrap();
        copy(&mut incoming, 3, 5000).unwrap();
        let beyond = copy(&mut incoming, old.len() as u64 - 5000, long);
        assert!(matches!(beyond, Err(Either::Source(SourceError::Changed))), "not of that version");
        copy(&mut incoming, 0, long).unwrap();
        let more = copy(&mut incoming, 0, long);
        assert!(matches!(more, Err(Either::Stage(StageError::WrongSize { .. }))), "more than was promised");
        let staged = incoming.finish(None).unwrap();
        assert_eq!(staged.sha256, promised.sha256);
        let at = field.at(".syncfiles/stage").join(run(1).to_string());
        let Waits::Staging(name) = staged.waits else { panic!("{staged:?}") };
        assert!(fs::read(at.join(std::str::from_utf8(&name).unwrap())).unwrap() == bytes);
        let mut short = stage.incoming(&promise("g", &old)).unwrap();
        let full = fault::full(|| copy(&mut short, 0, long).unwrap_err());
        assert!(matches!(full, Either::Stage(StageError::Io { .. })), "{full:?}");
    }

    #[derive(Debug)]
    enum Either {
        Source(SourceError),
        Stage(StageError),
    }

    impl From<SourceError> for Either {
        fn from(error: SourceError) -> Either {
            Either::Source(error)
        }
    }

    impl From<StageError> for Either {
        fn from(error: StageError) -> Either {
            Either::Stage(error)
        }
    }

    #[test]
    fn two_writers_of_one_promise_do_not_meet() {
        let (field, bytes) = (Field::new(&[]), big());
        let stage = field.stage(1);
        let mut one = stage.incoming(&promise("f", &bytes)).unwrap();
        let mut other = stage.incoming(&promise("f", &bytes)).unwrap();
        one.write(&bytes).unwrap();
        other.write(&bytes).unwrap();
        assert_ne!(one.finish(None).unwrap().waits, other.finish(None).unwrap().waits);
    }

    #[test]
    fn bytes_that_were_not_promised_are_refused_and_wrong_ones_not_resumed() {
        let (field, bytes) = (Field::new(&[]), big());
        let stage = field.stage(1);
        let promise = promise("f", &bytes);
        let mut short = stage.incoming(&promise).unwrap();
        short.write(&bytes[1..]).unwrap();
        assert!(matches!(short.write(b"xy"), Err(StageError::WrongSize { .. })));
        assert!(matches!(short.finish(None), Err(StageError::WrongSize { .. })));
        let mut wrong = stage.incoming(&promise).unwrap();
        wrong.write(b"?").unwrap();
        assert!(matches!(wrong.finish(None), Err(StageError::WrongContent)));
        assert_eq!(stage.incoming(&promise).unwrap().written(), 0);
        let unpromised = Promise { sha256: None, size: 1, ..promise };
        let mut told = stage.incoming(&unpromised).unwrap();
        told.write(b"x").unwrap();
        assert!(matches!(told.finish(Some(Digest::of(b"y"))), Err(StageError::WrongContent)));
    }

    /// Most of it is hashed on a thread of its own: whoever asks how far it is waits for that, and what comes anew goes on from
    /// the beginning.
    #[test]
    fn what_is_received_in_pieces_is_held_to_its_hash_at_every_moment() {
        let (field, bytes) = (Field::new(&[]), big());
        let promised = Promise { sha256: None, ..promise("f", &bytes) };
        let stage = field.stage(1);
        let mut incoming = stage.incoming(&promised).unwrap();
        let receive = |incoming: &mut Incoming, bytes: &[u8]| {
            bytes.chunks(60_000).try_for_each(|piece| incoming.receive(Bytes::copy_from_slice(piece)))
        };
        receive(&mut incoming, &bytes[1..]).unwrap();
        assert!(incoming.is(&Digest::of(&bytes[1..])) && !incoming.is(&Digest::of(&bytes)));
        assert!(matches!(receive(&mut incoming, b"xy"), Err(StageError::WrongSize { .. })));
        incoming.restart().unwrap();
        receive(&mut incoming, &bytes).unwrap();
        assert_eq!(incoming.finish(Some(Digest::of(&bytes))).unwrap().sha256, Some(Digest::of(&bytes)));
        let mut wrong = stage.incoming(&Promise { path: path("g"), ..promised }).unwrap();
        receive(&mut wrong, &bytes[1..]).unwrap();
        receive(&mut wrong, b"?").unwrap();
        assert!(matches!(wrong.finish(Some(Digest::of(&bytes))), Err(StageError::WrongContent)));
    }

    #[test]
    fn a_copy_is_made_of_what_the_plan_saw_only() {
        let field = Field::new(&[("from", "content")]);
        let stage = field.stage(1);
        let Expected::Entry(saw) = field.saw("from") else { panic!("it stands there") };
        let promise = Promise { bits: Bits::of_mode(0o7555), ..promise("to", b"content") };
        let staged = stage.copy(&field.root, &path("from"), &saw, &promise).unwrap();
        assert_eq!((staged.sha256, staged.stat.bits.mode()), (promise.sha256, 0o555));
        let time = fs::metadata(field.at("from")).unwrap().modified().unwrap();
        fs::write(field.at("from"), "CONTENT").unwrap();
        fs::File::options().write(true).open(field.at("from")).unwrap().set_modified(time).unwrap();
        let changed = stage.copy(&field.root, &path("from"), &saw, &promise);
        assert!(matches!(changed, Err(StageError::Changed | StageError::WrongContent)));
    }

    /// What was left of it used to fill the disk for ever: no run had room for its state.
    #[test]
    fn a_large_file_for_which_there_is_no_room_takes_none() {
        let (field, bytes) = (Field::new(&[]), big());
        let promise = promise("d/big", &bytes);
        let stage = field.stage(1);
        let mut incoming = stage.incoming(&promise).unwrap();
        incoming.write(&bytes[..1_500_000]).unwrap();
        let full = fault::full(|| incoming.write(&bytes[1_500_000..]).unwrap_err());
        assert!(matches!(full, StageError::Io { source, .. } if is_full(&source)));
        drop((incoming, stage));
        assert_eq!(field.stage(2).incoming(&promise).unwrap().written(), 0);
    }

    #[test]
    fn clearing_a_dead_run_leaves_what_no_run_staged() {
        let field = Field::new(&[]);
        let dead = field.stage(1);
        staged(&dead, "f", "small");
        staged(&dead, "l", "-> target");
        dead.empty_folder(Bits::of_mode(0o755)).unwrap();
        drop(dead);
        let folder = field.at(&format!(".syncfiles/stage/{}", run(1)));
        fs::write(folder.join("mine"), "mine").unwrap();
        fs::write(folder.join("s7-3"), "longer than it says").unwrap();
        fs::write(field.at(".syncfiles/stage/file"), "mine").unwrap();
        let state = field.state();
        let (stage, mut left) = Stage::open(state.folder(), run(2), LATER).unwrap();
        left.sort();
        let shown = |name: &str| format!(".syncfiles/stage/{name}");
        let run = run(1);
        assert_eq!(left, [shown(&format!("{run}/mine")), shown(&format!("{run}/s7-3")), shown("file")]);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
        stage.close().unwrap();
    }

    #[test]
    fn the_staging_of_a_run_that_lives_is_not_touched() {
        let (field, bytes) = (Field::new(&[]), big());
        let living = field.stage(1);
        let mut incoming = living.incoming(&promise("f", &bytes)).unwrap();
        let other = field.stage(2);
        assert_eq!(other.incoming(&promise("f", &bytes)).unwrap().written(), 0);
        incoming.write(&bytes).unwrap();
        other.close().unwrap();
        assert!(incoming.finish(None).is_ok());
    }
}
