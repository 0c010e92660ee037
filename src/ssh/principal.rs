//! Who is at the other end, and who decides.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;

use russh::keys::{Certificate, HashAlg, PublicKey};

use super::trunk::Inner;
use crate::core::shown::Shown;

/// What a key may do, in the terms of whoever authorised it; handed on in [`Peer`].
pub type Grant = Arc<dyn Any + Send + Sync>;

/// Decides who may log in. `address` is `None` where the stream is not a network connection.
pub trait Authorize: Send + Sync + 'static {
    /// Lets a key in whose signature was verified; `None` refuses.
    fn authorize(&self, user: &str, key: &PublicKey, address: Option<SocketAddr>) -> Option<Grant>;

    /// Whether a key that is offered without a signature may be let in once it has one. Grants nothing; but a client that
    /// hears no here need not ask its user for a passphrase or a touch in vain.
    fn welcome(&self, user: &str, key: &PublicKey, address: Option<SocketAddr>) -> bool {
        self.authorize(user, key, address).is_some()
    }

    /// Lets a certificate in whose own signature, and that of the key in it, were verified; `None` refuses.
    fn certify(&self, user: &str, certificate: &Certificate, address: Option<SocketAddr>) -> Option<Grant> {
        let _ = (user, certificate, address);
        None
    }
}

impl<F> Authorize for F
where
    F: Fn(&str, &PublicKey, Option<SocketAddr>) -> Option<Grant> + Send + Sync + 'static,
{
    fn authorize(&self, user: &str, key: &PublicKey, address: Option<SocketAddr>) -> Option<Grant> {
        self(user, key, address)
    }
}

/// Who is at the other end.
#[derive(Clone)]
pub struct Peer {
    /// The name that was logged in with. The peer's choice: escape it before it is shown.
    pub user: String,
    /// The key that was logged in with; `None` where the stream was already authenticated.
    pub key: Option<PublicKey>,
    /// That key's SHA-256 fingerprint, empty without a key; with a certificate also who certified it, as whom.
    pub fingerprint: String,
    /// Where the connection came from.
    pub address: Option<SocketAddr>,
    /// What [`Authorize`] granted; `()` where the stream was already authenticated.
    pub grant: Grant,
}

/// Whom the login made of a connection. There is exactly one a connection.
pub(super) enum Principal {
    /// A client with a sync of its own.
    Client(Box<Peer>),
    /// The next SSH connection of a sync that is already here.
    Successor(Arc<Inner>),
}

/// How clients of a stream prove who they are.
#[derive(Clone)]
pub(super) enum Door {
    /// With a key that this lets in.
    Keys(Arc<dyn Authorize>),
    /// The stream is authenticated.
    Open,
}

/// The key in a certificate, and who says so: what a log must tell apart. Anybody can sign anything: the name is cut.
pub fn describe(certificate: &Certificate) -> String {
    let name: String = certificate.key_id().chars().take(MOST_OF_A_NAME).collect();
    format!(
        "{} certified as {} (serial {}) by {}",
        certificate.public_key().fingerprint(HashAlg::Sha256),
        Shown(name.as_bytes()),
        certificate.serial(),
        certificate.signature_key().fingerprint(HashAlg::Sha256)
    )
}

const MOST_OF_A_NAME: usize = 64;
