//! The server's end: accepting connections, the caps, and one handler for each client.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use russh::keys::PrivateKey;
use russh::{MethodKind, MethodSet, server};
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::JoinSet;

use super::apart::apart;
use super::connection::Connection;
use super::cut::CutOnDrop;
use super::flow::{Flow, PACKET, algorithms};
use super::guest::Guest;
use super::link::Link;
use super::login::TRIES;
use super::port::{Port, write_link};
use super::principal::{Authorize, Door, Peer, Principal};
use super::recycle::Successors;
use super::socket::{Socket, Stream};
use super::trunk::Trunk;

/// What a server needs to know.
#[derive(Clone)]
pub struct ServerConfig {
    /// The keys that prove who this server is.
    pub host_keys: Vec<PrivateKey>,
    /// Who may log in over the network.
    pub authorize: Arc<dyn Authorize>,
    /// Windows and caps of each connection.
    pub flow: Flow,
    /// Clients served at once; one more is told so.
    pub max_clients: usize,
    /// Connections at once that have not logged in; one more is dropped. Half of them may come from one address, so
    /// that nobody keeps all others out alone.
    pub max_strangers: usize,
    /// Connections at once from one address; one more is dropped.
    pub max_per_address: usize,
    /// The most that logging in may take.
    pub login_deadline: Duration,
    /// Prefer ChaCha20 to AES: for machines without AES instructions.
    pub chacha_first: bool,
}

impl ServerConfig {
    /// The usual caps.
    pub fn new(host_keys: Vec<PrivateKey>, authorize: Arc<dyn Authorize>) -> Self {
        Self {
            host_keys,
            authorize,
            flow: Flow::default(),
            max_clients: 64,
            max_strangers: 32,
            max_per_address: 64,
            login_deadline: Duration::from_secs(30),
            chacha_first: false,
        }
    }
}

/// Serves single byte streams under common caps. A [`Server`] is a host with a listener.
pub struct Host {
    config: ServerConfig,
    settings: Arc<server::Config>,
    successors: Arc<Successors>,
    clients: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    addresses: Arc<Seats>,
    /// Where the strangers come from.
    waiting: Arc<Seats>,
    /// Whether the host still takes new clients.
    stopping: watch::Sender<bool>,
}

impl Host {
    /// A host without a listener.
    pub fn new(config: ServerConfig) -> Arc<Self> {
        Arc::new(Self {
            settings: Arc::new(settings(&config)),
            successors: Arc::default(),
            clients: Arc::new(Semaphore::new(config.max_clients)),
            strangers: Arc::new(Semaphore::new(config.max_strangers)),
            addresses: Arc::default(),
            waiting: Arc::default(),
            stopping: watch::Sender::new(false),
            config,
        })
    }

    /// Serves one stream whose both ends are already authenticated (memory, stdin and stdout below an outer ssh): no key is
    /// asked for, and any host key will do. Returns when the connection has ended.
    pub async fn serve_stream<H, F>(&self, stream: impl Stream, handler: &H)
    where
        H: Fn(Connection, Peer) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        if let Some(stranger) = self.stranger(None) {
            self.serve(stream, Door::Open, stranger, handler).await;
        }
    }

    /// A place for one who has not logged in, if there is one.
    fn stranger(&self, address: Option<SocketAddr>) -> Option<Stranger> {
        let most = self.config.max_strangers.div_ceil(2);
        let seat = match address {
            Some(address) => Some(Seat::take(&self.waiting, address.ip(), most)?),
            None => None,
        };
        let place = self.strangers.clone().try_acquire_owned().ok()?;
        Some(Stranger { address, _seat: seat, _place: place })
    }

    async fn serve<H, F>(&self, stream: impl Stream, door: Door, stranger: Stranger, handler: &H)
    where
        H: Fn(Connection, Peer) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let link = Link::new(&self.config.flow);
        let _cut = CutOnDrop::new(&link);
        let Some((session, principal, port)) = self.admit(stream, door, stranger, &link).await else {
            return;
        };
        match principal {
            Principal::Successor(sync) => {
                sync.attach(Trunk { link: link.clone(), handle: None });
                drop(sync);
                // On the thread of its session, which reads.
                let mut writing = JoinSet::new();
                writing.spawn(write_link(link.clone(), port));
                let _ = writing.join_next().await;
            }
            Principal::Client(peer) => match self.clients.clone().try_acquire_owned() {
                Ok(_place) => converse(&link, port, handler, *peer).await,
                Err(_) => {
                    link.outbox.refuse("it serves as many clients as it may; try again later");
                    write_link(link.clone(), port).await;
                }
            },
        }
        let _ = session.await;
    }

    /// Runs the SSH session up to the hello on its link channel; `None` if it does not get there in time.
    async fn admit(
        &self,
        stream: impl Stream,
        door: Door,
        stranger: Stranger,
        link: &Arc<Link>,
    ) -> Option<(server::RunningSession<Guest>, Principal, Port)> {
        let (ready, greeted) = oneshot::channel();
        let flow = &self.config.flow;
        let caps = (flow.channels, flow.channels_ever);
        let guest = Guest::new(door, stranger.address, link.clone(), self.successors.clone(), caps, ready);
        let socket = Socket::new(stream, link.line.clone());
        let login = async {
            let session = server::run_stream(self.settings.clone(), socket, guest).await.ok()?;
            let (principal, port) = greeted.await.ok()?;
            Some((session, principal, port))
        };
        let mut stopping = self.stopping.subscribe();
        tokio::select! {
            admitted = tokio::time::timeout(self.config.login_deadline, login) => admitted.ok().flatten(),
            _ = stopping.wait_for(|stopping| *stopping) => None,
        }
    }
}

/// One who has not logged in yet, and its place among those.
struct Stranger {
    address: Option<SocketAddr>,
    _seat: Option<Seat>,
    _place: OwnedSemaphorePermit,
}

/// Lets the handler have its say with one client. A panic of the handler ends this connection only.
async fn converse<H, F>(link: &Arc<Link>, port: Port, handler: &H, peer: Peer)
where
    H: Fn(Connection, Peer) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let connection = Connection::new(Trunk { link: link.clone(), handle: None }, None);
    let mut tasks = JoinSet::new();
    tasks.spawn(write_link(link.clone(), port));
    let mut handling = JoinSet::new();
    handling.spawn(handler(connection.clone(), peer));
    let _ = handling.join_next().await;
    connection.close();
    connection.ended().await;
}

/// A [`Host`] that listens on TCP.
pub struct Server {
    host: Arc<Host>,
    /// At least one.
    listeners: Vec<TcpListener>,
}

impl Server {
    /// Listens; `run` serves.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn bind(config: ServerConfig, address: impl ToSocketAddrs) -> std::io::Result<Self> {
        Ok(Self { host: Host::new(config), listeners: vec![TcpListener::bind(address).await?] })
    }

    /// Serves on sockets that listen already and do not block, as a service manager passes them.
    ///
    /// # Errors
    /// There are none, or one cannot be waited for.
    pub fn over(config: ServerConfig, listeners: Vec<std::net::TcpListener>) -> std::io::Result<Self> {
        let listeners: Result<Vec<_>, _> = listeners.into_iter().map(TcpListener::from_std).collect();
        let listeners = listeners?;
        match listeners.is_empty() {
            true => Err(std::io::Error::other("there is no socket to listen on")),
            false => Ok(Self { host: Host::new(config), listeners }),
        }
    }

    /// Where it listens: with the port, if 0 was asked for.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listeners
            .first()
            .map_or_else(|| Err(std::io::ErrorKind::NotConnected.into()), TcpListener::local_addr)
    }

    /// Everywhere where it listens, as far as the system tells.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    async fn accept(&self) -> std::io::Result<(TcpStream, SocketAddr)> {
        std::future::poll_fn(|cx| {
            let mut accepted = self.listeners.iter().map(|listener| listener.poll_accept(cx));
            accepted.find(Poll::is_ready).unwrap_or(Poll::Pending)
        })
        .await
    }

    /// Serves until `shutdown` resolves; then takes no new clients, and returns when the running syncs have ended. `handler`
    /// gets each client once, whatever number of SSH connections carries it.
    pub async fn run<H, F>(self, handler: H, shutdown: impl Future<Output = ()>)
    where
        H: Fn(Connection, Peer) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let mut shutdown = std::pin::pin!(shutdown);
        let mut guests = JoinSet::new();
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(_) = guests.join_next() => {}
                accepted = self.accept() => match accepted {
                    Ok((stream, address)) => self.receive(&mut guests, stream, address, &handler),
                    // Out of descriptors, or the client was gone at once: neither is a reason to stop.
                    Err(_) => tokio::time::sleep(BACK_OFF).await,
                },
            }
        }
        drop(self.listeners);
        self.host.stopping.send_replace(true);
        while guests.join_next().await.is_some() {}
    }

    fn receive<H, F>(
        &self,
        guests: &mut JoinSet<()>,
        stream: TcpStream,
        address: SocketAddr,
        handler: &Arc<H>,
    ) where
        H: Fn(Connection, Peer) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(seat) = Seat::take(&self.host.addresses, address.ip(), self.host.config.max_per_address)
        else {
            return;
        };
        let (host, handler) = (self.host.clone(), handler.clone());
        // Before it gets threads; and from here on it belongs to no runtime yet.
        let (Some(stranger), Ok(stream)) = (host.stranger(Some(address)), stream.into_std()) else { return };
        guests.spawn(async move {
            let _seat = seat;
            let serving = move || async move {
                let Ok(stream) = TcpStream::from_std(stream) else { return };
                let _ = stream.set_nodelay(true);
                let door = Door::Keys(host.config.authorize.clone());
                host.serve(stream, door, stranger, &*handler).await;
            };
            // Without threads to be had the connection is dropped, as one too many is.
            apart(serving).await;
        });
    }
}

/// How long accepting rests after an error.
const BACK_OFF: Duration = Duration::from_millis(200);

/// How many connections each address has.
type Seats = Mutex<HashMap<IpAddr, usize>>;

/// A connection's place among those of its address.
struct Seat {
    addresses: Arc<Seats>,
    address: IpAddr,
}

impl Seat {
    fn take(seats: &Arc<Seats>, address: IpAddr, most: usize) -> Option<Self> {
        let mut addresses = seats.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = addresses.entry(address).or_default();
        if *taken >= most {
            return None;
        }
        *taken += 1;
        Some(Self { addresses: seats.clone(), address })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = addresses.get_mut(&self.address) {
            *taken -= 1;
            if *taken == 0 {
                addresses.remove(&self.address);
            }
        }
    }
}

fn settings(config: &ServerConfig) -> server::Config {
    let flow = &config.flow;
    server::Config {
        server_id: russh::SshId::Standard(concat!("SSH-2.0-syncfiles_", env!("CARGO_PKG_VERSION")).into()),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        auth_rejection_time: Duration::from_millis(75),
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: config.host_keys.clone(),
        limits: flow.rekey(),
        window_size: flow.ssh_window(),
        maximum_packet_size: PACKET as u32,
        channel_buffer_size: 16,
        event_buffer_size: 100,
        preferred: algorithms(config.chacha_first),
        max_auth_attempts: TRIES,
        inactivity_timeout: None,
        keepalive_interval: Some(flow.keepalive),
        keepalive_max: flow.keepalive_max,
        ..server::Config::default()
    }
}
