//! Who may log in at a server: authorized_keys, read at the start and again on SIGHUP.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use tracing::{info, warn};

use super::{Stop, places};
use crate::core::shown::Shown;
use crate::ssh::authorized_keys::AuthorizedKeys;
use crate::ssh::{Authorize, Certificate, Grant, PublicKey, describe, host_key};

/// See the module.
pub(super) struct Keys {
    file: PathBuf,
    user: String,
    keys: RwLock<AuthorizedKeys>,
}

impl Keys {
    /// Reads the file; whoever is in it may log in as `user`.
    ///
    /// # Errors
    /// It cannot be read, or lets nobody in.
    pub(super) fn load(file: PathBuf, user: String) -> Result<Keys, Stop> {
        let keys = read(&file).map_err(Stop::start)?;
        if keys.is_empty() {
            return Err(Stop::start(format_args!(
                "nobody could log in: {} holds no usable key; add the client's public key",
                Shown(file.as_os_str().as_encoded_bytes())
            )));
        }
        Ok(Keys { file, user, keys: RwLock::new(keys) })
    }

    /// Where they are read from.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// The folders that keys have instead of the server's own.
    pub(super) fn folders(&self) -> Vec<PathBuf> {
        let home = places::home().unwrap_or_default();
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.folders().map(|folder| home.join(folder)).collect()
    }

    /// Reads the file again. One that cannot be read changes nothing.
    pub(super) fn reload(&self) {
        match read(&self.file) {
            Ok(keys) => {
                info!(keys = keys.len(), "read the authorized keys again");
                *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
            }
            Err(because) => warn!(because, "kept the old authorized keys"),
        }
    }
}

fn read(file: &Path) -> Result<AuthorizedKeys, String> {
    let (keys, notes) = AuthorizedKeys::load(file).map_err(|error| error.to_string())?;
    for note in notes {
        warn!(%note, "refused a line of authorized_keys");
    }
    Ok(keys)
}

impl Authorize for Keys {
    fn authorize(&self, user: &str, key: &PublicKey, address: Option<SocketAddr>) -> Option<Grant> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let from = address.map(|address| address.ip());
        let denied = match keys.authorize(key, from, SystemTime::now()) {
            Ok(limits) if user == self.user => return Some(Arc::new(limits.clone())),
            Ok(_) => OTHER_USER.to_owned(),
            Err(denied) => denied.to_string(),
        };
        refused(user, &host_key::fingerprint(key), address, &denied);
        None
    }

    /// With authorities any key may come with a certificate, which only its signature shows.
    fn welcome(&self, user: &str, key: &PublicKey, address: Option<SocketAddr>) -> bool {
        let authorities = self.keys.read().unwrap_or_else(PoisonError::into_inner).has_authorities();
        authorities || self.authorize(user, key, address).is_some()
    }

    fn certify(&self, user: &str, certificate: &Certificate, address: Option<SocketAddr>) -> Option<Grant> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let from = address.map(|address| address.ip());
        let denied = match keys.certify(certificate, &self.user, from, SystemTime::now()) {
            Ok(limits) if user == self.user => return Some(Arc::new(limits)),
            Ok(_) => OTHER_USER.to_owned(),
            Err(denied) => denied.to_string(),
        };
        refused(user, &describe(certificate), address, &denied);
        None
    }
}

const OTHER_USER: &str = "the user name is another";

fn refused(user: &str, key: &str, address: Option<SocketAddr>, because: &str) {
    let from = address.map(|address| address.ip().to_string()).unwrap_or_default();
    warn!(user, key, from, because, "refused a login");
}
