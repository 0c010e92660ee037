//! How the database of a root's state is opened, so that any number of sessions and programs may do so at once.
//!
//! SQLite makes connections wait for each other, but not at every moment of a database's life: the switch of a new
//! database to its write-ahead log reads before it writes, and who has read and would write is refused at once
//! (<https://sqlite.org/c3ref/busy_handler.html>). Nor does SQLite know what is done to its files from outside: a
//! damaged database is moved aside, and one that nobody has open is read as "immutable", which nobody may write to
//! meanwhile. Hence the [`Turn`]: a lock on the state folder itself, held alone while the database is being opened,
//! and among others while it is read as immutable.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use rustix::fs::{FlockOperation, RenameFlags};
use rustix::io::Errno;

use super::index::{self, IndexError};
use super::lock::patiently;
use super::root::{Kind, Root, Stat, stat_at};
use super::state::{LAYOUT, StateError, database, folder};
use super::system;

const DATABASE: &str = "state.db";
/// What SQLite keeps beside a database.
const COMPANIONS: [&str; 3] = ["", "-wal", "-shm"];
/// How long one waits for another. A session that settles a million files on a slow disk writes for a while, and
/// others may stand in line before this one; only a program that hangs takes so long.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);

/// The lock of a state folder, which goes with its process.
#[derive(Debug)]
pub(super) struct Turn(OwnedFd);

impl Turn {
    /// To open the database, or to make it.
    pub(super) fn alone(state: &Root) -> Result<Turn, StateError> {
        Turn::take(state, FlockOperation::NonBlockingLockExclusive)
    }

    /// To read what nobody has open; others may do the same.
    pub(super) fn shared(state: &Root) -> Result<Turn, StateError> {
        Turn::take(state, FlockOperation::NonBlockingLockShared)
    }

    fn take(state: &Root, how: FlockOperation) -> Result<Turn, StateError> {
        let refused = folder("lock", state.path());
        let turn = state.as_fd().try_clone_to_owned().map_err(&refused)?;
        let taken = patiently(PATIENCE, &|| {}, || match rustix::fs::flock(&turn, how) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        });
        if taken.map_err(&refused)? { Ok(Turn(turn)) } else { Err(StateError::Busy { act: "open" }) }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // The folder stays open for others who share the descriptor's description, so closing is not enough.
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

/// Opens the database to read and write, in one's turn alone; makes it where it is absent. One that is damaged is moved
/// aside first: then also under which name, and why.
pub(super) fn open(state: &Root) -> Result<(Connection, Option<(String, rusqlite::Error)>), StateError> {
    match connect(state) {
        Err(StateError::Database { source, .. }) if is_damage(&source) => {
            let name = move_aside(state).map_err(folder("move aside", state.path()))?;
            Ok((connect(state)?, Some((name, source))))
        }
        opened => Ok((opened?, None)),
    }
}

/// A database open to read only.
pub(super) struct Reader {
    pub(super) db: Connection,
    /// Nobody else has it open, and nobody may before one's turn is over.
    immutable: bool,
    layout: i32,
}

/// Opens the database to read, in one's turn, and creates nothing; `None` where there is none that can be read.
pub(super) fn read(state: &Root) -> Result<Option<Reader>, StateError> {
    let size = |end: &str| stat_at(state, format!("{DATABASE}{end}")).ok().map(|it| (it.kind, it.size));
    if !matches!(size(""), Some((Kind::File, 1..))) {
        return Ok(None);
    }
    // A reader of a write-ahead log would make the log's files where they are absent. But then nobody has the
    // database open, and "immutable" reads the file alone.
    let live = size("-shm").is_some() || matches!(size("-wal"), Some((_, 1..)));
    let options = if live { "mode=ro" } else { "mode=ro&immutable=1" };
    let opened = open_by_name(state, options, OpenFlags::SQLITE_OPEN_READ_ONLY);
    match opened.and_then(|db| Ok((layout_of(&db, state)?, db))) {
        Ok((layout @ 1.., db)) => Ok(Some(Reader { db, immutable: !live, layout })),
        Ok(_) | Err(StateError::Database { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Reader {
    /// The database as it is now, to be read after one's turn is over: what is immutable, or of an older layout, is
    /// copied, in memory as far as it is small, else to a temporary file that has no name.
    pub(super) fn keep(self) -> rusqlite::Result<Connection> {
        if !self.immutable && self.layout == LAYOUT {
            return Ok(self.db);
        }
        let mut copy = Connection::open("")?;
        Backup::new(&self.db, &mut copy)?.run_to_completion(ALL_PAGES, Duration::ZERO, None)?;
        if self.layout < LAYOUT {
            bring_up_to_date(&copy, self.layout)?;
        }
        copy.pragma_update(None, "query_only", true)?;
        Ok(copy)
    }
}

/// In one step: nobody else writes to what is copied.
const ALL_PAGES: std::ffi::c_int = std::ffi::c_int::MAX;

fn connect(state: &Root) -> Result<Connection, StateError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let db = open_by_name(state, "mode=rwc", flags)?;
    let act = "open";
    let found = layout_of(&db, state)?;
    db.pragma_update(None, "journal_mode", "wal").map_err(database(act))?;
    db.pragma_update(None, "synchronous", "normal").map_err(database(act))?;
    match found {
        0 => create_tables(&db).map_err(database("make"))?,
        LAYOUT => {}
        older => bring_up_to_date(&db, older).map_err(database("bring up to date"))?,
    }
    Ok(db)
}

fn create_tables(db: &Connection) -> rusqlite::Result<()> {
    let making = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
    for table in TABLES {
        making.execute_batch(table)?;
    }
    if let Err(IndexError::Load(error) | IndexError::Store(error)) = index::create(&making) {
        return Err(error);
    }
    making.pragma_update(None, "user_version", LAYOUT)?;
    making.commit()
}

/// Brings an older layout to this one, a step at a time.
fn bring_up_to_date(db: &Connection, found: i32) -> rusqlite::Result<()> {
    let changing = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
    if found < 2 {
        // Whoever had rows of a base kept that of the newest run.
        changing.execute_batch(
            "ALTER TABLE pairs ADD COLUMN based BLOB;
             UPDATE pairs SET based = run WHERE number IN (SELECT pair FROM base);",
        )?;
    }
    if found < 3 {
        // The index did not know which session had written a row, nor what was about to arrive.
        changing.execute_batch("ALTER TABLE file ADD COLUMN written INTEGER NOT NULL DEFAULT 0;")?;
        changing.execute_batch(index::COUNTER)?;
        changing.execute_batch(super::arriving::TABLE)?;
    }
    if found < 4 {
        // Nothing was remembered of what had been sent.
        changing.execute_batch(super::signatures::TABLE)?;
    }
    changing.pragma_update(None, "user_version", LAYOUT)?;
    changing.commit()
}

const TABLES: [&str; 5] = [
    super::identity::TABLE,
    super::pairs::TABLE,
    super::base_store::TABLE,
    super::record::TABLE,
    super::signatures::TABLE,
];

fn layout_of(db: &Connection, state: &Root) -> Result<i32, StateError> {
    let found: i32 =
        db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(database("read"))?;
    match found {
        0..=LAYOUT => Ok(found),
        _ => Err(StateError::Newer { path: state.path().into(), found }),
    }
}

/// Opens the database by the name that the pinned folder has now.
///
/// SQLite knows names only, and resolves every link in one, `/proc/self/fd/N` too: a descriptor cannot be given.
/// So the folder's present name is asked from the kernel; it holds no link, and `NOFOLLOW` makes SQLite
/// refuse if it does by the time it is used (also where the database itself is a link, as a root from a foreign
/// disk may bring one). Afterwards the name must still lead to the pinned folder, else somebody swapped it
/// and the connection is dropped before anything was read or written.
fn open_by_name(state: &Root, options: &str, flags: OpenFlags) -> Result<Connection, StateError> {
    let refused = folder("open", state.path());
    let name = system::name_of(state).map_err(&refused)?;
    let name = Path::new(OsStr::from_bytes(name.as_bytes()));
    let uri = format!("file:{}?{options}", escaped(&name.join(DATABASE)));
    let flags = flags
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(uri, flags).map_err(database("open"))?;
    db.busy_timeout(PATIENCE).map_err(database("open"))?;
    let is = |stat: Stat| (stat.device, stat.seen.inode);
    let pinned = state.stat_self().map_err(&refused)?;
    let named = stat_at(rustix::fs::CWD, name).map_err(&refused)?;
    if is(named) != is(pinned) {
        return Err(refused(io::Error::other("the folder was replaced at this moment")));
    }
    Ok(db)
}

/// A path as part of a URI: everything that could mean something there is a percent escape.
fn escaped(path: &Path) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
    let each = |byte: &u8| if plain(byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") };
    path.as_os_str().as_bytes().iter().map(each).collect()
}

fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    let link =
        error.sqlite_error().is_some_and(|e| e.extended_code == rusqlite::ffi::SQLITE_CANTOPEN_SYMLINK);
    link || matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
}

/// Renames the database and its companions, so that nothing is lost that a person could still read.
fn move_aside(state: &Root) -> io::Result<String> {
    for number in 1..1000 {
        let aside = format!("{DATABASE}.damaged-{number}");
        if stat_at(state, aside.as_str()).is_ok() {
            continue;
        }
        for end in COMPANIONS.iter().rev() {
            let (from, to) = (format!("{DATABASE}{end}"), format!("{aside}{end}"));
            match rustix::fs::renameat_with(state, from, state, to, RenameFlags::NOREPLACE) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        return Ok(aside);
    }
    Err(io::Error::other("there are too many damaged databases already"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::base_store::load;
    use crate::replica::identity::{self, Id, establish};
    use crate::replica::pairs::announce;
    use crate::replica::state::State;
    use std::sync::Barrier;

    fn root() -> (tempfile::TempDir, Root) {
        // In memory, where there is such a place: many new databases in a row.
        let temp = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let root = Root::open(temp.path()).unwrap();
        (temp, root)
    }

    /// Runs `session` several times at once, each with connections of its own: to SQLite these are like as many programs.
    fn at_once<T: Send>(session: impl Fn(u8) -> T + Sync) -> Vec<T> {
        const SESSIONS: u8 = 8;
        let begin = Barrier::new(SESSIONS.into());
        std::thread::scope(|scope| {
            let begun = |number| {
                let (begin, session) = (&begin, &session);
                scope.spawn(move || {
                    begin.wait();
                    session(number)
                })
            };
            let sessions: Vec<_> = (0..SESSIONS).map(begun).collect();
            sessions.into_iter().map(|session| session.join().unwrap()).collect()
        })
    }

    /// One of them used to say "database is locked": to switch a new database to its log, SQLite waits for nobody.
    #[test]
    fn sessions_that_meet_at_a_new_root_all_open_its_state() {
        for _ in 0..150 {
            let (_temp, root) = root();
            let ids = at_once(|_| establish(&State::open(&root).unwrap()).unwrap().id());
            assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        }
    }

    #[test]
    fn sessions_that_open_look_write_and_close_at_once_wait_for_each_other() {
        let (_temp, root) = root();
        let id = establish(&State::open(&root).unwrap()).unwrap().id();
        at_once(|number| {
            for turn in 0..30 {
                // The last one that closes takes the log along, under the hands of whoever opens or looks.
                assert_eq!(State::glance(&root, identity::look).unwrap(), Some(Some(id)));
                announce(&State::open(&root).unwrap(), Id([number; 16]), None, Id([turn; 16])).unwrap();
                assert_eq!(identity::look(&State::peek(&root).unwrap().unwrap()).unwrap(), Some(id));
            }
        });
    }

    /// The second to see the damage used to move the new database aside, with what the first had written.
    #[test]
    fn sessions_that_find_a_damaged_database_move_it_aside_once() {
        for _ in 0..20 {
            let (temp, root) = root();
            std::fs::create_dir(temp.path().join(".syncfiles")).unwrap();
            std::fs::write(temp.path().join(".syncfiles/state.db"), [b'?'; 9000]).unwrap();
            let notices = at_once(|number| {
                let mut state = State::open(&root).unwrap();
                announce(&state, Id([number; 16]), None, Id([1; 16])).unwrap();
                state.take_notices().len()
            });
            assert_eq!(notices.iter().sum::<usize>(), 1);
            let state = State::open(&root).unwrap();
            let all: u32 = state.db().query_row("SELECT count(*) FROM pairs", (), |row| row.get(0)).unwrap();
            assert_eq!(all, 8);
        }
    }

    /// It used to be read as "immutable" while others wrote to it.
    #[test]
    fn what_is_looked_at_stays_as_it_was_while_others_open_and_write_it() {
        let (_temp, root) = root();
        let peer = |number: u32| Id(u128::from(number).to_be_bytes());
        let fill = |range: std::ops::Range<u32>| {
            let state = State::open(&root).unwrap();
            let writing = state.write("fill").unwrap();
            for number in range {
                let row = (peer(number).0, peer(number).0);
                writing.execute("INSERT INTO pairs (peer, run) VALUES (?1, ?2)", row).unwrap();
            }
            writing.commit().unwrap();
        };
        fill(0..2000);
        let looked = State::peek(&root).unwrap().unwrap();
        fill(2000..4000);
        let all: u32 = looked.db().query_row("SELECT count(*) FROM pairs", (), |row| row.get(0)).unwrap();
        assert_eq!(all, 2000);
    }

    #[test]
    fn a_database_of_an_older_layout_is_looked_at_as_it_is_and_brought_up_to_date_when_opened() {
        for layout in 1..LAYOUT {
            older_layout(layout);
        }
    }

    fn older_layout(layout: i32) {
        let (_temp, root) = root();
        let [peer, run, other] = [1, 2, 3].map(|n| Id([n; 16]));
        let state = State::open(&root).unwrap();
        let id = establish(&state).unwrap().id();
        let older = "INSERT INTO pairs (number, peer, run) VALUES (1, x'01010101010101010101010101010101', x'02020202020202020202020202020202'),
                                                                  (2, x'03030303030303030303030303030303', x'02020202020202020202020202020202');
                     UPDATE pairs SET based = run WHERE number = 1;
                     INSERT INTO base VALUES (1, x'61', 2, 493, NULL, NULL);
                     DROP TABLE signature";
        state.db().execute_batch(older).unwrap();
        if layout < 3 {
            let older = "ALTER TABLE file DROP COLUMN written; DROP TABLE writes; DROP TABLE arriving";
            state.db().execute_batch(older).unwrap();
        }
        if layout < 2 {
            state.db().execute_batch("ALTER TABLE pairs DROP COLUMN based").unwrap();
        }
        state.db().pragma_update(None, "user_version", layout).unwrap();
        drop(state);
        assert_eq!(State::glance(&root, identity::look).unwrap(), Some(Some(id)));
        for _ in 0..2 {
            let states = [State::peek(&root).unwrap().unwrap(), State::open(&root).unwrap()];
            for state in states {
                assert_eq!(load(&state, peer, run).unwrap().unwrap().rows().len(), 1);
                assert_eq!(load(&state, other, run).unwrap(), None);
                assert_eq!(index::load(state.db()).unwrap().written, 0);
                assert_eq!(crate::replica::signatures::kept(&state).unwrap().len(), 0);
            }
        }
    }

    #[test]
    fn a_database_that_somebody_does_not_let_go_of_is_no_reason_to_move_it_away() {
        let (_temp, root) = root();
        let (holder, other) = (State::open(&root).unwrap(), State::open(&root).unwrap());
        let _held = holder.write("hold").unwrap();
        other.db().busy_timeout(Duration::ZERO).unwrap();
        let error = other.write("write the run into").unwrap_err();
        assert!(matches!(error, StateError::Busy { .. }));
        assert!(error.to_string().contains("end the one that hangs"), "{error}");
    }
}
