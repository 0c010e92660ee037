//! The client's end: connecting and logging in.

use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use russh::client::{self, AuthResult};
use russh::keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey};

use super::SUBSYSTEM;
use super::connection::Connection;
use super::error::{CarrierError, ConnectError};
use super::flow::{Flow, PACKET, algorithms};
use super::frame::{LINK, preface};
use super::link::{CutOnDrop, Link};
use super::port::{Port, write_link};
use super::socket::{Socket, Stream};
use super::trunk::Trunk;
use super::visitor::{Verdict, Visitor};

/// A future that a trait object can return.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Opens the byte stream below a connection: TCP (with nodelay set), memory, a child's stdin and stdout. Called once for each
/// SSH connection of a sync; where that is impossible, [`Flow::recycle_channels`] must be `None`.
pub trait Dial: Send + Sync + 'static {
    /// A fresh stream to the same server.
    fn dial(&self) -> Later<io::Result<Box<dyn Stream>>>;
}

impl<F, T> Dial for F
where
    F: Fn() -> T + Send + Sync + 'static,
    T: Future<Output = io::Result<Box<dyn Stream>>> + Send + 'static,
{
    fn dial(&self) -> Later<io::Result<Box<dyn Stream>>> {
        Box::pin(self())
    }
}

/// Decides whether a server's host key is the right one. Every error on the way must be a refusal.
pub trait HostCheck: Send + Sync + 'static {
    /// `Err` refuses, with the line that the user is shown. May ask a person: the deadline waits meanwhile.
    fn check(&self, key: PublicKey) -> Later<Result<(), String>>;
}

impl<F: Fn(&PublicKey) -> Result<(), String> + Send + Sync + 'static> HostCheck for F {
    fn check(&self, key: PublicKey) -> Later<Result<(), String>> {
        let verdict = self(&key);
        Box::pin(std::future::ready(verdict))
    }
}

/// How to log in.
#[derive(Clone)]
pub enum Login {
    /// With the first of these keys that the server accepts.
    Keys(Vec<Arc<PrivateKey>>),
    /// Not at all: whoever made the stream has authenticated both ends.
    None,
}

/// What a client needs to know.
#[derive(Clone)]
pub struct ClientConfig {
    /// The name to log in with.
    pub user: String,
    /// How to log in.
    pub login: Login,
    /// Judges the host key.
    pub host_check: Arc<dyn HostCheck>,
    /// Windows, caps, recycling.
    pub flow: Flow,
    /// Prefer ChaCha20 to AES: for machines without AES instructions.
    pub chacha_first: bool,
    /// The most that connecting and logging in may take, apart from a person's answer about the host key.
    pub deadline: Duration,
}

/// Connects, logs in and waits until the server serves us.
///
/// # Errors
/// See [`ConnectError`]; nothing is left behind.
pub async fn connect(config: ClientConfig, dial: impl Dial) -> Result<Connection, ConnectError> {
    let dialer = Dialer { config, dial: Box::new(dial), host_key: OnceLock::new() };
    let trunk = dialer.set_up(dialer.config.login.clone()).await?;
    Ok(Connection::new(trunk, Some(Arc::new(dialer))))
}

/// What it takes to make an SSH connection of this sync, the first or a successor.
pub(super) struct Dialer {
    config: ClientConfig,
    dial: Box<dyn Dial>,
    /// The host key that was accepted: a successor must show the same, and nobody is asked again.
    host_key: OnceLock<PublicKey>,
}

impl Dialer {
    pub(super) fn flow(&self) -> &Flow {
        &self.config.flow
    }

    /// Makes an SSH connection within the deadline, which stands still while a person is asked.
    pub(super) async fn set_up(&self, login: Login) -> Result<Trunk, ConnectError> {
        let link = Link::new(&self.config.flow);
        let verdict = Arc::new(Verdict::new(self.host_key.get().cloned()));
        let abandoned = CutOnDrop::new(&link);
        let made = {
            let mut making = pin!(self.make(&link, &verdict, login));
            loop {
                tokio::select! {
                    made = &mut making => break made,
                    () = tokio::time::sleep(self.config.deadline) => {
                        if !verdict.asking.load(Ordering::SeqCst) {
                            return Err(ConnectError::TimedOut(self.config.deadline.as_secs()));
                        }
                    }
                }
            }
        };
        let handle = made?;
        if let Some(key) = verdict.key.get() {
            let _ = self.host_key.set(key.clone());
        }
        abandoned.keep();
        Ok(Trunk { link, handle: Some(handle) })
    }

    async fn make(
        &self,
        link: &Arc<Link>,
        verdict: &Arc<Verdict>,
        login: Login,
    ) -> Result<Arc<client::Handle<Visitor>>, ConnectError> {
        let stream = self.dial.dial().await.map_err(|error| ConnectError::Dial(error.to_string()))?;
        let socket = Socket::new(stream, link.line.clone());
        let visitor = Visitor {
            link: link.clone(),
            check: self.config.host_check.clone(),
            verdict: verdict.clone(),
            link_number: None,
        };
        let connected = client::connect_stream(Arc::new(self.settings()), socket, visitor).await;
        let mut handle = connected.map_err(|stop| verdict.explain(&stop))?;
        log_in(&mut handle, &self.config.user, login).await?;
        link.trust();
        let handle = Arc::new(handle);
        self.greet(link, handle.clone()).await?;
        Ok(handle)
    }

    /// Opens the link channel and waits for the server's hello.
    async fn greet(
        &self,
        link: &Arc<Link>,
        handle: Arc<client::Handle<Visitor>>,
    ) -> Result<(), ConnectError> {
        let failed = |error: &dyn std::fmt::Display| ConnectError::Protocol(error.to_string());
        let opened = handle.channel_open_session().await.map_err(|error| match error {
            russh::Error::ChannelOpenFailure(why) => ConnectError::Refused(why.description().to_lowercase()),
            other => failed(&other),
        })?;
        let (_, half) = opened.split();
        let port = Port::Client(handle, half);
        port.subsystem(SUBSYSTEM).await.map_err(|error| failed(&error))?;
        let mut first = BytesMut::new();
        first.put_slice(&preface(LINK, port.number()));
        if let Some(hello) = link.next_packet() {
            first.put_slice(&hello);
        }
        port.data(first.freeze()).await.map_err(|error| failed(&error))?;
        tokio::spawn(write_link(link.clone(), port));
        match link.greeting().await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(refusal)) => Err(ConnectError::Refused(refusal)),
            Err(CarrierError::Abandoned) => Err(ConnectError::Refused("it does not serve syncfiles".into())),
            Err(cause) => Err(failed(&cause)),
        }
    }

    fn settings(&self) -> client::Config {
        let flow = &self.config.flow;
        client::Config {
            client_id: russh::SshId::Standard(
                concat!("SSH-2.0-syncfiles_", env!("CARGO_PKG_VERSION")).into(),
            ),
            limits: flow.rekey(),
            window_size: flow.ssh_window(),
            maximum_packet_size: PACKET as u32,
            channel_buffer_size: 16,
            preferred: algorithms(self.config.chacha_first),
            inactivity_timeout: None,
            keepalive_interval: Some(flow.keepalive),
            keepalive_max: flow.keepalive_max,
            ..client::Config::default()
        }
    }
}

/// Tries the keys one after another.
async fn log_in(handle: &mut client::Handle<Visitor>, user: &str, login: Login) -> Result<(), ConnectError> {
    let broken = |error: russh::Error| ConnectError::Protocol(error.to_string());
    let no_key = |tried: &[String]| ConnectError::NoKey { user: user.to_owned(), tried: tried.join(", ") };
    let keys = match login {
        Login::None => {
            let result = handle.authenticate_none(user).await.map_err(broken)?;
            return if result.success() { Ok(()) } else { Err(no_key(&["none".to_owned()])) };
        }
        Login::Keys(keys) if keys.is_empty() => return Err(no_key(&["none".to_owned()])),
        Login::Keys(keys) => keys,
    };
    let mut tried = Vec::new();
    for key in keys {
        tried.push(key.fingerprint(HashAlg::Sha256).to_string());
        let Some(key) = with_hash(handle, key).await.map_err(broken)? else { continue };
        match handle.authenticate_publickey(user, key).await {
            Ok(AuthResult::Success) => return Ok(()),
            // A server that is still there names the methods that remain. Servers hang up after too many keys, but
            // one is not too many: there the line was cut.
            Ok(AuthResult::Failure { remaining_methods, .. })
                if remaining_methods.is_empty() && tried.len() == 1 =>
            {
                return Err(broken(russh::Error::Disconnect));
            }
            Ok(AuthResult::Failure { .. }) => {}
            Err(error) if tried.len() == 1 => return Err(broken(error)),
            Err(_) => break,
        }
    }
    Err(no_key(&tried))
}

/// An RSA key signs with the best SHA-2 that the server knows; `None` where it knows only SHA-1.
async fn with_hash(
    handle: &client::Handle<Visitor>,
    key: Arc<PrivateKey>,
) -> Result<Option<PrivateKeyWithHashAlg>, russh::Error> {
    if !key.algorithm().is_rsa() {
        return Ok(Some(PrivateKeyWithHashAlg::new(key, None)));
    }
    let hash = match handle.best_supported_rsa_hash().await? {
        Some(None) => return Ok(None),
        Some(Some(hash)) => hash,
        None => HashAlg::Sha512,
    };
    Ok(Some(PrivateKeyWithHashAlg::new(key, Some(hash))))
}
