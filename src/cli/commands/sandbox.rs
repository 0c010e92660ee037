//! Once keys, state and port are open, a server gives up everything else: it may touch its exports and its own state, and
//! connect nowhere.
//!
//! What an attacker could make of the process is then no more than what a client may do anyway. A restriction counts for the
//! calling thread and for those it starts, so this comes before the runtime.

#[cfg_attr(target_os = "linux", path = "sandbox/landlock.rs")]
#[cfg_attr(not(target_os = "linux"), path = "sandbox/nothing.rs")]
mod kernel;

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use tracing::{info, warn};

use self::kernel::restrict;
use super::Stop;
use crate::cli::serve_args::Sandbox;
use crate::replica::pinned::Pinned;
use crate::replica::temporary;
use crate::session::Exports;

/// What a server needs beside its exports and its state.
#[derive(Default)]
pub(super) struct Wanted<'a> {
    /// Folders that single keys have.
    pub(super) more: Vec<PathBuf>,
    /// The keys, which are read again.
    pub(super) keys: Option<&'a Path>,
    /// The log, which is opened again.
    pub(super) log: Option<&'a Path>,
}

/// Gives up every right that serving `exports` does not take, and says in the log what came of it. Must be called before
/// there are threads.
///
/// # Errors
/// It was demanded and cannot be had, or there can be no state.
pub(super) fn confined(wish: Sandbox, exports: Exports, wanted: Wanted<'_>) -> Result<Exports, Stop> {
    let own = exports.state_home.clone();
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&own);
    made.map_err(|error| Stop::root(format_args!("cannot make the folder {}: {error}", own.display())))?;
    let folders: Vec<PathBuf> =
        exports.folders.iter().map(|export| export.path.clone()).chain(wanted.more).collect();
    let needs = Needs {
        folders: folders.iter().chain([&own]).cloned().collect(),
        read: wanted
            .keys
            .into_iter()
            .flat_map(|keys| [Some(keys.to_owned()), ours(keys)])
            .flatten()
            .collect(),
        append: wanted.log.and_then(ours),
        socket: std::env::var_os("NOTIFY_SOCKET").map(PathBuf::from),
        own,
    };
    let confined = confine(wish, &needs)?;
    let pinned = folders.iter().filter_map(|folder| Pinned::of(folder).ok()).collect();
    Ok(Exports { pinned: confined.then_some(pinned), ..exports })
}

/// The folder of `file`, if its name says that there is nothing of anybody else in it. Whoever replaces a file makes a new
/// one, which only those may open who may do so to all of the folder's files: in `~/.ssh`, or a home folder, that would be
/// far too much. There it is this very file, and another one needs a restart.
fn ours(file: &Path) -> Option<PathBuf> {
    let folder = std::path::absolute(file).ok()?.parent()?.to_owned();
    (folder.file_name()? == env!("CARGO_PKG_NAME")).then_some(folder)
}

/// What the process needs from now on.
#[derive(Clone, Debug, Default)]
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "nothing can be given up there"))]
struct Needs {
    /// Folders to do anything in that a sync does.
    folders: Vec<PathBuf>,
    /// Files, and folders of files, to read.
    read: Vec<PathBuf>,
    /// A folder in which files are made and written to.
    append: Option<PathBuf>,
    /// A socket to write to; with `@` at first one without a place among files.
    socket: Option<PathBuf>,
    /// One of `folders` that is ours alone, in which a rename can be tried.
    own: PathBuf,
}

/// What the kernel denies from now on, files elsewhere apart.
struct Enforced {
    /// The version of Landlock that does it.
    landlock: i32,
    /// TCP connections, and listening on another port.
    network: bool,
    /// Signals to other processes, and sockets without a place among files.
    signals: bool,
}

fn confine(wish: Sandbox, needs: &Needs) -> Result<bool, Stop> {
    if wish == Sandbox::Never {
        return Ok(false);
    }
    let temporary = || temporary::keep_in(&needs.own).map_err(|error| format!("no temporary files: {error}"));
    match temporary().and_then(|()| tried(needs)).and_then(|()| restrict(needs)) {
        Ok(Enforced { landlock, network, signals }) => {
            info!(landlock, files = true, network, signals, "confined to the exports and the state");
            Ok(true)
        }
        Err(because) if wish == Sandbox::Always => Err(Stop::start(format_args!(
            "cannot confine the server to its exports: {because}; leave out --sandbox always to serve without"
        ))),
        Err(because) => {
            warn!(because, "not confined to the exports");
            Ok(false)
        }
    }
}

/// The same in a thread that ends: an old or unusual kernel that denies what a sync does shows it there, where it can still
/// be done without.
fn tried(needs: &Needs) -> Result<(), String> {
    let trial = || {
        restrict(needs)?;
        rename_between_folders(&needs.own).map_err(|error| format!("with it no file could be moved: {error}"))
    };
    let ended = std::thread::scope(|scope| scope.spawn(trial).join());
    ended.unwrap_or_else(|_| Err("the trial failed".into()))
}

fn rename_between_folders(own: &Path) -> std::io::Result<()> {
    let place = own.join(format!("trial-{}", std::process::id()));
    let (one, two) = (place.join("one"), place.join("two"));
    let moved = fs::create_dir_all(one.join("inner"))
        .and_then(|()| fs::create_dir(&two))
        .and_then(|()| fs::rename(one.join("inner"), two.join("inner")));
    fs::remove_dir_all(&place).and(moved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_in_a_folder_of_our_name_may_files_be_replaced() {
        for (file, folder) in [
            ("/home/ann/.config/syncfiles/authorized_keys", Some("/home/ann/.config/syncfiles")),
            ("/var/log/syncfiles/log", Some("/var/log/syncfiles")),
            ("/home/ann/.ssh/authorized_keys", None),
            ("/etc/keys", None),
            ("/syncfiles", None),
            ("/srv/syncfiles/../keys", None),
        ] {
            assert_eq!(ours(Path::new(file)), folder.map(PathBuf::from), "{file}");
        }
    }

    #[test]
    fn the_trial_leaves_the_process_free_and_nothing_behind() {
        let own = tempfile::tempdir().unwrap();
        let needs = Needs { folders: vec![own.path().into()], own: own.path().into(), ..Needs::default() };
        let _ = tried(&needs);
        assert_eq!(fs::read_dir(own.path()).unwrap().count(), 0);
        tempfile::tempdir().unwrap();
    }
}
