//! The client's end: connecting, logging in, and what russh's session calls back.

use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use russh::client::{self, AuthResult, DisconnectReason, Session};
use russh::keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{Channel, ChannelId, ChannelOpenFailure, Names};

use super::SUBSYSTEM;
use super::connection::{Connection, Trunk};
use super::error::{CarrierError, ConnectError};
use super::flow::{Flow, algorithms};
use super::frame::{LINK, preface};
use super::lane::Lane;
use super::link::{CutOnDrop, Link};
use super::port::{Port, write_link};
use super::socket::{Socket, Stream};

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
        let verdict = Arc::new(Verdict { accepted: self.host_key.get().cloned(), ..Verdict::default() });
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
            Ok(_) => Ok(()),
            Err(Ok(refusal)) => Err(ConnectError::Refused(refusal)),
            Err(Err(CarrierError::Abandoned)) => {
                Err(ConnectError::Refused("it does not serve syncfiles".into()))
            }
            Err(Err(cause)) => Err(failed(&cause)),
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
            maximum_packet_size: super::flow::PACKET as u32,
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
            Ok(AuthResult::Failure { .. }) => {}
            // Servers hang up after too many keys.
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

/// What became of the host key, told past russh.
#[derive(Default)]
struct Verdict {
    accepted: Option<PublicKey>,
    key: OnceLock<PublicKey>,
    refusal: Mutex<Option<String>>,
    asking: AtomicBool,
}

impl Verdict {
    fn explain(&self, stop: &Stop) -> ConnectError {
        let refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner).take();
        refusal.map_or_else(|| ConnectError::Protocol(stop.to_string()), ConnectError::HostKey)
    }

    fn refuse(&self, why: String) -> bool {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        false
    }
}

/// Why a session was stopped: by russh or by us.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    #[error("{0}")]
    Ssh(#[from] russh::Error),
    #[error("{0}")]
    Carrier(#[from] CarrierError),
}

/// What russh's client session calls back. Never waits, but for the host-key check.
pub(super) struct Visitor {
    link: Arc<Link>,
    check: Arc<dyn HostCheck>,
    verdict: Arc<Verdict>,
    /// This end's number of the link channel: the first one opened.
    link_number: Option<u32>,
}

impl Drop for Visitor {
    /// The session has ended, for whatever reason.
    fn drop(&mut self) {
        let cause = match self.link.farewell() {
            true => CarrierError::Closed,
            false => CarrierError::lost("the server hung up"),
        };
        self.link.fail(cause);
    }
}

impl Visitor {
    /// A broken protocol ends the connection with its own cause.
    fn judge(&self, result: Result<(), CarrierError>) -> Result<(), Stop> {
        result.inspect_err(|cause| self.link.fail(cause.clone())).map_err(Stop::from)
    }
}

/// Every channel that a server tries to open is refused.
macro_rules! server_opens_nothing {
    ($($name:ident($($what:ty),*);)*) => {$(
        async fn $name(
            &mut self,
            _: Channel<client::Msg>,
            $(_: $what,)*
            reply: client::ChannelOpenHandle,
            _: &mut Session,
        ) -> Result<(), Stop> {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            Ok(())
        }
    )*};
}

impl client::Handler for Visitor {
    type Error = Stop;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Stop> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = key else {
            return Ok(self.verdict.refuse("the server showed a certificate that was not asked for".into()));
        };
        if let Some(accepted) = &self.verdict.accepted {
            let same = accepted.key_data() == key.key_data();
            return Ok(same || self.verdict.refuse("the server's host key changed during the sync".into()));
        }
        self.verdict.asking.store(true, Ordering::SeqCst);
        let answer = self.check.check(key.clone()).await;
        self.verdict.asking.store(false, Ordering::SeqCst);
        let _ = self.verdict.key.set(key.clone());
        Ok(answer.map_or_else(|why| self.verdict.refuse(why), |()| true))
    }

    /// Against Terrapin. russh tells only the client, so the client insists for both ends.
    async fn kex_done(&mut self, _: Option<&[u8]>, names: &Names, _: &mut Session) -> Result<(), Stop> {
        match names.strict_kex() {
            true => Ok(()),
            false => Err(CarrierError::Protocol("no strict key exchange").into()),
        }
    }

    async fn channel_open_confirmation(
        &mut self,
        id: ChannelId,
        _: u32,
        _: u32,
        _: &mut Session,
    ) -> Result<(), Stop> {
        if self.link_number.is_none() {
            self.link_number = Some(id.number());
            return Ok(());
        }
        let lane = Lane::new(id.number(), self.link.clone(), false);
        self.link.enter(id.number(), &lane);
        self.judge(self.link.enter_sender(&lane))
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], _: &mut Session) -> Result<(), Stop> {
        if self.link_number == Some(id.number()) {
            return match self.link.arrive(data) {
                Ok(rest) if rest.is_empty() => Ok(()),
                Ok(_) => self.judge(Err(CarrierError::Protocol("a frame that only clients send"))),
                Err(cause) => self.judge(Err(cause)),
            };
        }
        match self.link.lane(id.number()) {
            Some(lane) => self.judge(lane.arrive(data, super::flow::charge(data.len()))),
            None => Ok(()),
        }
    }

    async fn channel_eof(&mut self, id: ChannelId, _: &mut Session) -> Result<(), Stop> {
        if let Some(lane) = self.link.lane(id.number()) {
            lane.arrive_eof();
        }
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut Session) -> Result<(), Stop> {
        if self.link_number == Some(id.number()) {
            let cause = if self.link.farewell() { CarrierError::Closed } else { CarrierError::Abandoned };
            return self.judge(Err(cause));
        }
        self.link.peer_closed(id.number());
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Stop>) -> Result<(), Stop> {
        let cause = match &reason {
            _ if self.link.farewell() => CarrierError::Closed,
            DisconnectReason::Error(Stop::Carrier(cause)) => cause.clone(),
            DisconnectReason::Error(Stop::Ssh(error)) => CarrierError::lost(error),
            DisconnectReason::ReceivedDisconnect(_) => CarrierError::lost("the server hung up"),
        };
        self.link.fail(cause);
        Ok(())
    }

    server_opens_nothing! {
        server_channel_open_session();
        server_channel_open_agent_forward();
        server_channel_open_x11(&str, u32);
        server_channel_open_direct_streamlocal(&str);
        server_channel_open_forwarded_streamlocal(&str);
        server_channel_open_direct_tcpip(&str, u32, &str, u32);
        server_channel_open_forwarded_tcpip(&str, u32, &str, u32);
    }
}
