//! One side's root and the state that belongs to it, opened for one sync.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::error::SessionError;
use super::place::place_of;
use super::progress::{Event, Progress, Silent};
use crate::core::age::Timestamp;
use crate::core::base::Base;
use crate::core::path::RelPath;
use crate::core::shown::Shown;
use crate::replica::base_store::{self, Change};
use crate::replica::identity::{self, Id, Identity};
use crate::replica::lock::RunLock;
use crate::replica::pairs::{self, Agreed};
use crate::replica::places::{Met, Places, Standing};
use crate::replica::root::{Root, RootError};
use crate::replica::stage::Stage;
use crate::replica::state::{State, StateError};

/// How a root is opened.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Create and change nothing in the root: a dry run, or verify.
    pub look: bool,
    /// Make the folder where it is absent (its parent exists, and nobody remembers the place).
    pub create: bool,
    /// Accept a root that is not the one remembered at this place.
    pub new_root: bool,
    /// Where what must live outside the roots is kept.
    pub state_home: PathBuf,
    /// One run at a time: how long to wait for another one (System 2 only).
    pub exclusive: Option<Duration>,
}

impl Opening {
    /// Where the state of a root that cannot be written lives.
    pub fn state_elsewhere(state_home: &Path, root: &Path) -> PathBuf {
        let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
        let name = crate::core::digest::Digest::of(root.as_os_str().as_encoded_bytes()).to_string();
        state_home.join("roots").join(name)
    }
}

/// One side of a sync: its root, pinned, and its state.
#[derive(Debug)]
pub struct Local {
    /// The pinned root.
    pub(crate) root: Arc<Root>,
    /// Absent where only a look is allowed and no state is there.
    state: Option<Mutex<State>>,
    id: Option<Id>,
    opening: Opening,
    /// The name under which the place of this root is remembered.
    own_place: String,
    /// Whether what `opening` says of new roots has been used.
    accepted: AtomicBool,
    /// System 1's root and state home, where they are on this system, too.
    beside: OnceLock<(PathBuf, PathBuf)>,
    notices: Vec<String>,
    lock: Mutex<Option<RunLock>>,
}

impl Local {
    /// Opens the root at `path` and below it the folder `sub`, and checks that it is the root that stood there before.
    ///
    /// Blocks for disk work, and while another run holds the root.
    pub fn open(path: &Path, sub: &RelPath, opening: Opening) -> Result<Local, SessionError> {
        Local::open_telling(path, sub, opening, &Silent)
    }

    /// As [`open`](Local::open); where it has to wait for another run, `progress` is told so.
    pub fn open_telling(
        path: &Path,
        sub: &RelPath,
        opening: Opening,
        progress: &dyn Progress,
    ) -> Result<Local, SessionError> {
        let places = Places::open(&opening.state_home).map_err(unusable)?;
        let place =
            Place { name: place_of(path, sub).map_err(unusable)?, places: &places, opening: &opening };
        let root = match Root::open(path) {
            Err(RootError::Missing(_)) if opening.create && !opening.look => {
                place.known(Standing::Nothing)?;
                make(path)?
            }
            Err(error @ RootError::Missing(_)) => {
                place.known(Standing::Nothing)?;
                return Err(unusable(error));
            }
            opened => opened.map_err(unusable)?,
        };
        let root = below(root, sub, &place)?;
        place.recognise(|| standing(&root, &opening))?;
        Local::with_state(root, &place, progress)
    }

    fn with_state(root: Root, place: &Place<'_>, progress: &dyn Progress) -> Result<Local, SessionError> {
        let opening = place.opening.clone();
        let mut notices = Vec::new();
        let elsewhere = Opening::state_elsewhere(&opening.state_home, root.path());
        let (state, id) = if opening.look {
            let inside = State::peek(&root).map_err(unusable)?;
            let state = match inside {
                Some(state) => Some(state),
                None => State::peek_at(&elsewhere).map_err(unusable)?,
            };
            let id = state.as_ref().map(identity::look).transpose().map_err(unusable)?.flatten();
            (state, id)
        } else {
            let mut state = match State::open(&root) {
                Err(error) if error.is_read_only() => {
                    std::fs::create_dir_all(elsewhere.parent().unwrap_or(&elsewhere)).map_err(unusable)?;
                    State::open_at(&elsewhere).map_err(unusable)?
                }
                opened => opened.map_err(unusable)?,
            };
            notices.append(&mut state.take_notices());
            let identity = identity::establish(&state).map_err(unusable)?;
            if let Identity::Copy { of, .. } = identity {
                notices.push(format!("this folder is a copy of root {of}: it has a new identity, and meets every other root anew"));
            }
            // System 2 remembers its own place once it has met System 1: a first run that fails leaves no trace of it.
            if opening.exclusive.is_none() {
                place.places.remember(&place.name, identity.id()).map_err(unusable)?;
            }
            (Some(state), Some(identity.id()))
        };
        let (root, state, lock) = (Arc::new(root), state.map(Mutex::new), Mutex::default());
        let own_place = place.name.clone();
        let local = Local {
            root,
            state,
            id,
            opening,
            own_place,
            accepted: AtomicBool::new(false),
            beside: OnceLock::new(),
            notices,
            lock,
        };
        local.take(progress)?;
        Ok(local)
    }

    /// Waits until no other run has the root, if that matters, and keeps others away from it.
    pub(crate) fn take(&self, progress: &dyn Progress) -> Result<(), SessionError> {
        let (Some(state), Some(patience)) = (self.state(), self.opening.exclusive) else { return Ok(()) };
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.opening.look && lock.is_none() {
            let waits = || progress.event(&Event::Notice(WAITS.into()));
            *lock = Some(RunLock::take(state.folder(), patience, &waits).map_err(unusable)?);
        }
        Ok(())
    }

    /// From now on no other root is accepted in the place of one that is known, whatever the user said at the beginning.
    pub(crate) fn accept_no_other(&self) {
        self.accepted.store(true, Ordering::Relaxed);
    }

    /// Lets other runs have the root until it is [taken](Local::take) again.
    pub(crate) fn leave(&self) {
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The root's identity; none where only a look is allowed and it has none yet.
    pub fn id(&self) -> Option<Id> {
        self.id
    }

    /// What opening found worth telling.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Remembers, on System 2, which root answers at the place that it dials, and its own.
    pub(crate) fn meet(&self, place: &str, peer: Option<Id>) -> Result<(), SessionError> {
        if peer.is_some() && peer == self.id && !self.opening.look {
            let folder = Shown(self.root.path().as_os_str().as_encoded_bytes());
            return Err(SessionError::Root(format!(
                "cannot sync {folder} with itself: the other system shows the very same folder; name two"
            )));
        }
        let places = Places::open(&self.opening.state_home).map_err(unusable)?;
        let standing = peer.map_or(Standing::Nameless, Standing::Root);
        let new_root = self.opening.new_root && !self.accepted.load(Ordering::Relaxed);
        let opening = Opening { new_root, ..self.opening.clone() };
        let place = Place { name: place.to_owned(), places: &places, opening: &opening };
        place.known(standing)?;
        match peer {
            Some(peer) if !self.opening.look => {
                places.remember(&place.name, peer).map_err(unusable)?;
                let own = self.id.map(|id| places.remember(&self.own_place, id));
                own.unwrap_or(Ok(())).map_err(unusable)
            }
            _ => Ok(()),
        }
    }

    /// Tells where System 1's root and state home are, as both roots are on this system. Its base may be used then: the
    /// other root may have been System 2 the last time.
    pub(crate) fn stands_beside(&self, root: &Path, state_home: &Path) {
        let _ = self.beside.set((root.to_owned(), state_home.to_owned()));
    }

    /// The base that `peer`'s root, which stands beside this one, keeps of `run`, and the digest that goes with it.
    pub(crate) fn base_beside(
        &self,
        peer: Option<Id>,
        run: Id,
    ) -> Result<Option<(Base, Agreed)>, SessionError> {
        let (Some((root, home)), Some(own), Some(peer)) = (self.beside.get(), self.id, peer) else {
            return Ok(None);
        };
        let root = Root::open(root).map_err(unusable)?;
        let state = match State::peek(&root).map_err(unusable)? {
            Some(state) => Some(state),
            None => State::peek_at(&Opening::state_elsewhere(home, root.path())).map_err(unusable)?,
        };
        let Some(state) = state else { return Ok(None) };
        if identity::look(&state).map_err(unusable)? != Some(peer) {
            return Ok(None);
        }
        let agreed = pairs::agreed(&state, own).map_err(unusable)?.filter(|pair| pair.based == Some(run));
        let base = base_store::load(&state, own, run).map_err(unusable)?;
        Ok(base.zip(agreed))
    }

    /// What was agreed with `peer`.
    pub(crate) fn agreed(&self, peer: Option<Id>) -> Result<Option<Agreed>, SessionError> {
        match (self.state(), peer) {
            (Some(state), Some(peer)) => pairs::agreed(&state, peer).map_err(unusable),
            _ => Ok(None),
        }
    }

    /// The run ids that System 1 accepts from `peer`.
    pub(crate) fn runs(&self, peer: Option<Id>) -> Result<Vec<[u8; 16]>, SessionError> {
        let agreed = self.agreed(peer)?;
        Ok(agreed.iter().flat_map(Agreed::runs).map(|id| id.0).collect())
    }

    /// The base that this root keeps of `run` with `peer`.
    pub(crate) fn base(&self, peer: Option<Id>, run: Id) -> Result<Base, SessionError> {
        let base = match (self.state(), peer) {
            (Some(state), Some(peer)) => base_store::load(&state, peer, run).map_err(unusable)?,
            _ => None,
        };
        base.ok_or_else(|| unusable(StateError::Overtaken))
    }

    /// Writes what a run settled with `peer`; returns what was written.
    pub(crate) async fn commit_base(
        self: &Arc<Self>,
        peer: Option<Id>,
        change: Change,
    ) -> Result<Change, SessionError> {
        let local = self.clone();
        super::blocking(move || {
            if let (Some(state), Some(peer)) = (local.state(), peer) {
                base_store::commit(&state, peer, &change).map_err(unusable)?;
            }
            Ok(change)
        })
        .await
    }

    /// On System 1: writes the new run beside the one that System 2 holds.
    pub(crate) async fn announce(
        self: &Arc<Self>,
        peer: Id,
        held: Option<Id>,
        run: Id,
    ) -> Result<(), SessionError> {
        let local = self.clone();
        super::blocking(move || match local.state() {
            Some(state) => pairs::announce(&state, peer, held, run).map_err(unusable),
            None => Ok(()),
        })
        .await
    }

    /// On System 1: System 2 has shown that it holds `run`, the newest.
    pub(crate) async fn confirm(self: &Arc<Self>, peer: Id, run: Id) -> Result<(), SessionError> {
        let local = self.clone();
        super::blocking(move || match local.state() {
            Some(state) if !local.is_look() => pairs::confirm(&state, peer, run).map_err(unusable),
            _ => Ok(()),
        })
        .await
    }

    /// Opens the staging folder of a run; also what was found there that no run put there.
    pub(crate) fn stage(&self, run: Id, now: Timestamp) -> Result<(Stage, Vec<String>), SessionError> {
        let state = self.state().ok_or_else(|| SessionError::Root("the root has no state".into()))?;
        Stage::open(state.folder(), run, now).map_err(unusable)
    }

    /// Whether nothing may be created or changed here.
    pub(crate) fn is_look(&self) -> bool {
        self.opening.look
    }

    /// The state, for one short use at a time.
    pub(crate) fn state(&self) -> Option<MutexGuard<'_, State>> {
        self.state.as_ref().map(|state| state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a run says that finds another one at its root.
const WAITS: &str = "another sync of this folder is running: this one waits until it has ended";

/// A place where a root stands, or stood.
struct Place<'a> {
    /// How it is remembered.
    name: String,
    places: &'a Places,
    opening: &'a Opening,
}

impl Place<'_> {
    /// Holds the root against what is remembered of its place; `look` says what stands there.
    fn recognise(&self, look: impl Fn() -> Result<Standing, SessionError>) -> Result<Met, SessionError> {
        let standing = look()?;
        self.known(standing).or_else(|stranger| match look()? {
            // Another session gave the root its identity, and remembered it, in between.
            now if now != standing => self.known(now),
            _ => Err(stranger),
        })
    }

    /// Holds what stands at the place against what is remembered of it.
    fn known(&self, standing: Standing) -> Result<Met, SessionError> {
        match self.places.check(&self.name, standing).map_err(unusable)? {
            Ok(met) => Ok(met),
            Err(_) if self.opening.new_root => Ok(Met::Never),
            Err(stranger) => Err(SessionError::Guard { code: 27, text: stranger.to_string() }),
        }
    }
}

/// What stands at the place of the root, as far as it is written down in the root or in its name elsewhere.
fn standing(root: &Root, opening: &Opening) -> Result<Standing, SessionError> {
    let mut id = State::glance(root, identity::look).map_err(unusable)?.flatten();
    if id.is_none() && !root.is_writable() {
        let elsewhere = Opening::state_elsewhere(&opening.state_home, root.path());
        id = State::glance_at(&elsewhere, identity::look).map_err(unusable)?.flatten();
    }
    Ok(id.map_or(Standing::Nameless, Standing::Root))
}

fn make(path: &Path) -> Result<Root, SessionError> {
    let shown = crate::core::shown::Shown(path.as_os_str().as_encoded_bytes());
    std::fs::create_dir(path).map_err(|error| {
        SessionError::Root(format!("cannot make the folder {shown}: {error}; its parent must exist"))
    })?;
    Root::open(path).map_err(unusable)
}

/// The folder `sub` below a root, as a root of its own.
fn below(root: Root, sub: &RelPath, place: &Place<'_>) -> Result<Root, SessionError> {
    let mut folder = root;
    for component in sub.components() {
        let name = crate::core::path::Name::parse(component).map_err(unusable)?;
        let beneath = folder.beneath(&name);
        if beneath.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            place.known(Standing::Nothing)?;
        }
        folder = beneath.map_err(|error| {
            SessionError::Root(format!(
                "cannot open the folder {sub} of the export: {error}; it must exist, and lead through no link"
            ))
        })?;
    }
    Ok(folder)
}

/// A root, or what belongs to it, cannot be used (11). The errors of the replica name the act and the path.
pub(crate) fn unusable(error: impl std::fmt::Display) -> SessionError {
    SessionError::Root(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// The place used to be known by then, and the root nameless a moment ago: "is its disk mounted?"
    #[test]
    fn a_root_that_another_session_names_at_this_moment_is_no_stranger() {
        let home = tempfile::tempdir().unwrap();
        let places = Places::open(home.path()).unwrap();
        let opening = Opening {
            look: false,
            create: false,
            new_root: false,
            state_home: home.path().into(),
            exclusive: None,
        };
        let id = Id([1; 16]);
        let named = Cell::new(Standing::Nameless);
        let meets = || {
            let before = named.replace(Standing::Root(id));
            places.remember("folder:/a", id).unwrap();
            Ok(before)
        };
        let place = Place { name: "folder:/a".into(), places: &places, opening: &opening };
        assert_eq!(place.recognise(meets).unwrap(), Met::Before);
        assert!(place.recognise(|| Ok(Standing::Nameless)).is_err());
        assert!(place.recognise(|| Ok(Standing::Root(Id([2; 16])))).is_err());
    }
}
