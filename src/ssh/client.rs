//! The client's end: connecting and logging in.

use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use russh::client;
use russh::keys::PublicKey;

use super::SUBSYSTEM;
use super::connection::Connection;
use super::cut::CutOnDrop;
use super::error::{CarrierError, ConnectError};
use super::flow::{Flow, PACKET, algorithms};
use super::frame::preface;
use super::link::Link;
use super::login::{Login, log_in};
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
    let connection = enter(config, dial).await?;
    connection.served().await?;
    Ok(connection)
}

/// Connects and logs in, as [`connect`], but does not wait for the server's word that it serves us: control messages that are
/// sent at once arrive a round trip earlier. Whoever calls this waits for [`Connection::served`] before opening a channel.
///
/// # Errors
/// See [`ConnectError`]; nothing is left behind.
pub async fn enter(config: ClientConfig, dial: impl Dial) -> Result<Connection, ConnectError> {
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

    /// Makes an SSH connection, up to its link. Where a server lost its patience while a person was asked, it is made once more: the answer
    /// is known now.
    pub(super) async fn set_up(&self, login: Login) -> Result<Trunk, ConnectError> {
        match self.attempt(login.clone()).await {
            Err((ConnectError::Protocol(_), true)) => self.attempt(login).await.map_err(|(error, _)| error),
            made => made.map_err(|(error, _)| error),
        }
    }

    /// Makes one within the deadline, which stands still while a person is asked. An error tells whether one was.
    async fn attempt(&self, login: Login) -> Result<Trunk, (ConnectError, bool)> {
        let link = Link::new(&self.config.flow);
        let verdict = Arc::new(Verdict::new(self.host_key.get().cloned()));
        let abandoned = CutOnDrop::new(&link);
        let made = {
            let mut making = pin!(self.make(&link, &verdict, login));
            loop {
                tokio::select! {
                    made = &mut making => break made,
                    () = tokio::time::sleep(self.config.deadline) => {
                        if !verdict.asking.now() {
                            break Err(ConnectError::TimedOut(self.config.deadline.as_secs()));
                        }
                    }
                }
            }
        };
        if let Some(key) = verdict.key.get() {
            let _ = self.host_key.set(key.clone());
        }
        let handle = made.map_err(|error| (error, verdict.asking.ever()))?;
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
        log_in(&mut handle, &self.config.user, login, &verdict.asking).await?;
        link.trust();
        let handle = Arc::new(handle);
        self.open_link(link, handle.clone()).await?;
        Ok(handle)
    }

    /// Opens the link channel and says hello.
    async fn open_link(
        &self,
        link: &Arc<Link>,
        handle: Arc<client::Handle<Visitor>>,
    ) -> Result<(), ConnectError> {
        let failed = |error: &dyn std::fmt::Display| ConnectError::Protocol(error.to_string());
        let asked = Instant::now();
        let opened = handle.channel_open_session().await.map_err(|error| match error {
            russh::Error::ChannelOpenFailure(why) => ConnectError::Refused(why.description().to_lowercase()),
            other => failed(&other),
        })?;
        let _ = link.round_trip.set(asked.elapsed());
        let (_, half) = opened.split();
        let port = Port::Client(handle, half);
        port.subsystem(SUBSYSTEM).await.map_err(|error| failed(&error))?;
        let mut first = BytesMut::new();
        first.put_slice(&preface(port.number()));
        if let Some(hello) = link.next_packet() {
            first.put_slice(&hello);
        }
        port.data(first.freeze()).await.map_err(|error| failed(&error))?;
        tokio::spawn(write_link(link.clone(), port));
        Ok(())
    }

    /// Waits for the server's hello, for as long as connecting may take.
    pub(super) async fn served(&self, link: &Link) -> Result<(), ConnectError> {
        match tokio::time::timeout(self.config.deadline, link.greeting()).await {
            Ok(Ok(Ok(_))) => Ok(()),
            Ok(Ok(Err(refusal))) => Err(ConnectError::Refused(refusal)),
            Ok(Err(CarrierError::Abandoned)) => {
                Err(ConnectError::Refused("it does not serve syncfiles".into()))
            }
            Ok(Err(cause)) => Err(ConnectError::Protocol(cause.to_string())),
            Err(_) => Err(ConnectError::TimedOut(self.config.deadline.as_secs())),
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
            keepalive_interval: Some(flow.keepalive).filter(|interval| !interval.is_zero()),
            keepalive_max: flow.keepalive_max,
            ..client::Config::default()
        }
    }
}
