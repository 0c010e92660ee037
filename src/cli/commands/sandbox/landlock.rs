//! Landlock, Linux' way for a process to give up rights. `man 7 landlock`.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use super::{Enforced, Needs};

/// Restricts this thread to its needs.
pub(super) fn restrict(needs: &Needs) -> Result<Enforced, String> {
    let status = enforce(needs).map_err(|error| error.to_string())?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) => Err("this kernel has no Landlock".into()),
        (_, LandlockStatus::Available { effective_abi, .. }) => Ok(Enforced {
            landlock: effective_abi as i32,
            network: effective_abi >= ABI::V4,
            signals: effective_abi >= ABI::V6,
        }),
        _ => Err("this kernel does not say whether it has Landlock".into()),
    }
}

fn enforce(needs: &Needs) -> Result<RestrictionStatus, RulesetError> {
    let all = AccessFs::from_all(ABI::V9);
    let mut rules = Ruleset::default()
        // Without it no file could be moved to another folder.
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::Refer)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        .handle_access(AccessNet::from_all(ABI::V4))?
        .scope(scope(needs))?
        .create()?;
    let mut allow = |path: &Path, access: BitFlags<AccessFs>| match PathFd::new(path) {
        Ok(file) => (&mut rules).add_rule(PathBeneath::new(file, access)).map(|_| ()),
        // What is not there cannot be reached either.
        Err(_) => Ok(()),
    };
    for folder in &needs.folders {
        allow(folder, all & !never())?;
    }
    for path in &needs.read {
        let folder = if path.is_dir() { AccessFs::ReadDir.into() } else { BitFlags::EMPTY };
        allow(path, folder | AccessFs::ReadFile)?;
    }
    if let Some(folder) = &needs.append {
        allow(folder, AccessFs::MakeReg | AccessFs::WriteFile)?;
    }
    if let Some(socket) = &needs.socket {
        allow(socket, AccessFs::ResolveUnix.into())?;
    }
    rules.restrict_self()
}

/// What of other processes cannot be reached. A service manager that listens without a place among files is one of them.
fn scope(needs: &Needs) -> BitFlags<Scope> {
    let abstract_manager =
        needs.socket.as_ref().is_some_and(|socket| socket.as_os_str().as_bytes().starts_with(b"@"));
    if abstract_manager { Scope::Signal.into() } else { Scope::from_all(ABI::V6) }
}

/// What no sync does.
fn never() -> BitFlags<AccessFs> {
    use AccessFs::{Execute, IoctlDev, MakeBlock, MakeChar, MakeFifo, MakeSock, ResolveUnix};
    Execute | IoctlDev | MakeBlock | MakeChar | MakeFifo | MakeSock | ResolveUnix
}

#[cfg(test)]
mod tests {
    use super::super::rename_between_folders;
    use super::*;
    use std::fs;
    use std::io::ErrorKind::PermissionDenied;

    /// What became of an act in a thread with these needs; nothing without Landlock.
    fn confined<T: Send>(needs: &Needs, act: impl FnOnce() -> T + Send) -> Option<T> {
        let ended = std::thread::scope(|scope| {
            let thread = scope.spawn(|| restrict(needs).map(|_| act()));
            thread.join().unwrap()
        });
        if let Err(why) = &ended {
            eprintln!("skipped: {why}");
        }
        ended.ok()
    }

    #[test]
    fn a_confined_thread_does_what_a_sync_does_in_its_folders_and_nothing_elsewhere() {
        let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (keys, logs) = (other.path().join("keys"), tempfile::tempdir().unwrap());
        fs::write(&keys, "key").unwrap();
        fs::write(other.path().join("secret"), "secret").unwrap();
        let needs = Needs {
            folders: vec![own.path().to_owned()],
            read: vec![keys.clone(), "/no/such/file".into()],
            append: Some(logs.path().to_owned()),
            socket: Some("/no/such/place".into()),
            own: own.path().to_owned(),
        };
        let inside = own.path().join("inside");
        let append = |name| fs::File::options().append(true).create(true).open(logs.path().join(name));
        let acts = || {
            fs::write(&inside, "a")?;
            rename_between_folders(own.path())?;
            fs::remove_file(&inside)?;
            append("log")?;
            append("log")?;
            fs::read_to_string(&keys)
        };
        let Some(done) = confined(&needs, acts) else { return };
        assert_eq!(done.unwrap(), "key");
        fs::write(&inside, "a").unwrap();
        let denied = confined(&needs, || {
            let acts = [
                fs::read(other.path().join("secret")).map(drop),
                fs::write(other.path().join("new"), "x"),
                fs::write(&keys, "my key"),
                fs::read_dir(other.path()).map(drop),
                fs::remove_file(other.path().join("secret")),
                fs::read(logs.path().join("log")).map(drop),
                fs::remove_file(logs.path().join("log")),
                fs::rename(&inside, other.path().join("out")),
                std::process::Command::new("/bin/true").status().map(drop),
            ];
            acts.map(|act| act.unwrap_err().kind() == PermissionDenied)
        });
        assert_eq!(denied.unwrap(), [true; 9]);
        assert_eq!(fs::read_to_string(&keys).unwrap(), "key");
    }

    #[test]
    fn a_confined_thread_connects_nowhere_where_the_kernel_says_so() {
        let here = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = here.local_addr().unwrap();
        let trial = std::thread::spawn(move || {
            let enforced = restrict(&Needs::default())?;
            let acts = [
                std::net::TcpStream::connect(address).map(drop),
                std::net::TcpListener::bind("127.0.0.1:0").map(drop),
            ];
            let denied = acts.map(|act| act.is_err_and(|error| error.kind() == PermissionDenied));
            assert_eq!(denied, [enforced.network; 2]);
            Ok::<_, String>(())
        });
        if let Err(why) = trial.join().unwrap() {
            eprintln!("skipped: {why}");
        }
    }
}
