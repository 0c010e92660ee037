//! The carrier under load, under attack, and while it is renewed.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use russh::keys::{Algorithm, PrivateKey, PublicKey};
use syncfiles::ssh::{
    CarrierError, Channel, ClientConfig, ConnectError, Connection, Flow, Host, Login, Peer, Server, ServerConfig,
    Stream, connect,
};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// Guards against hangs; nothing is measured by it.
async fn in_time<T>(doing: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(120), doing).await.expect("the test hangs")
}

fn key() -> PrivateKey {
    let mut seed = [0u8; 32];
    getrandom::fill(&mut seed).unwrap();
    PrivateKey::from(russh::keys::ssh_key::private::Ed25519Keypair::from_seed(&seed))
}

fn client_config(login: Login, flow: &Flow) -> ClientConfig {
    ClientConfig {
        user: "alice".into(),
        login,
        host_check: Arc::new(|_: &PublicKey| Ok(())),
        flow: flow.clone(),
        chacha_first: false,
        deadline: Duration::from_secs(60),
    }
}

fn server_config(allowed: &PrivateKey, flow: &Flow) -> ServerConfig {
    let allowed = allowed.public_key().key_data().clone();
    let authorize = move |user: &str, key: &PublicKey, _: Option<SocketAddr>| {
        (user == "alice" && *key.key_data() == allowed).then(|| Arc::new("granted") as _)
    };
    let mut config = ServerConfig::new(vec![key()], Arc::new(authorize));
    config.flow = flow.clone();
    config
}

/// A running server on a port of its own.
struct Site {
    address: SocketAddr,
    key: Arc<PrivateKey>,
    stop: Option<oneshot::Sender<()>>,
    running: tokio::task::JoinHandle<()>,
}

impl Site {
    async fn serving<H, F>(flow: &Flow, adapt: impl FnOnce(&mut ServerConfig), handler: H) -> Self
    where
        H: Fn(Connection, Peer) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let key = Arc::new(key());
        let mut config = server_config(&key, flow);
        adapt(&mut config);
        let server = Server::bind(config, "127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(server.run(handler, async move { drop(stopped.await) }));
        Self { address, key, stop: Some(stop), running }
    }

    async fn client(&self, flow: &Flow) -> Result<Connection, ConnectError> {
        connect(client_config(Login::Keys(vec![self.key.clone()]), flow), tcp(self.address)).await
    }

    async fn stop(mut self) {
        drop(self.stop.take());
        self.running.await.unwrap();
    }
}

fn tcp(address: SocketAddr) -> impl syncfiles::ssh::Dial {
    move || async move {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream) as Box<dyn Stream>)
    }
}

/// Both ends of a carrier over TCP.
async fn tcp_pair(flow: &Flow) -> (Connection, Connection, Site) {
    let (seen, mut arriving) = mpsc::unbounded_channel();
    let handler = move |connection: Connection, _: Peer| {
        let seen = seen.clone();
        async move {
            let _ = seen.send(connection.clone());
            connection.ended().await;
        }
    };
    let site = Site::serving(flow, |_| {}, handler).await;
    let client = site.client(flow).await.unwrap();
    (client, arriving.recv().await.unwrap(), site)
}

/// Both ends of a carrier over memory.
async fn memory_pair(flow: &Flow) -> (Connection, Connection) {
    let host = Host::new(server_config(&key(), flow));
    let (seen, mut arriving) = mpsc::unbounded_channel();
    let dial = move || {
        let (host, seen) = (host.clone(), seen.clone());
        async move {
            let (here, there) = tokio::io::duplex(64 * 1024);
            tokio::spawn(async move {
                let handler = move |connection: Connection, _: Peer| {
                    let seen = seen.clone();
                    async move {
                        let _ = seen.send(connection.clone());
                        connection.ended().await;
                    }
                };
                host.serve_stream(there, &handler).await;
            });
            Ok(Box::new(here) as Box<dyn Stream>)
        }
    };
    let client = connect(client_config(Login::None, flow), dial).await.unwrap();
    (client, arriving.recv().await.unwrap())
}

/// Bytes that differ from place to place.
fn pattern(length: usize, salt: u64) -> Bytes {
    (0..length as u64).map(|i| (i.wrapping_mul(31).wrapping_add(salt) >> 3) as u8).collect()
}

async fn read_all(channel: &mut Channel) -> Result<Vec<u8>, CarrierError> {
    let mut all = Vec::new();
    while let Some(chunk) = channel.reader.next().await? {
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

/// Sends everything and the end mark while reading to the peer's end.
async fn exchange(mut channel: Channel, out: Bytes) -> Vec<u8> {
    let sending = async {
        channel.writer.send(out).await.unwrap();
        channel.writer.finish().await.unwrap();
    };
    let receiving = async {
        let mut all = Vec::new();
        while let Some(chunk) = channel.reader.next().await.unwrap() {
            all.extend_from_slice(&chunk);
        }
        all
    };
    tokio::join!(sending, receiving).1
}

/// `channels` channels, `length` bytes each way on each.
async fn bulk(client: &Connection, server: &Connection, channels: usize, length: usize) {
    let accepting = {
        let server = server.clone();
        tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            for _ in 0..channels {
                let channel = server.accept().await.unwrap();
                tasks.spawn(async move {
                    let got = exchange(channel, pattern(length, 7)).await;
                    assert!(got == pattern(length, 3));
                });
            }
            while let Some(done) = tasks.join_next().await {
                done.unwrap();
            }
        })
    };
    let mut tasks = JoinSet::new();
    for _ in 0..channels {
        let client = client.clone();
        tasks.spawn(async move {
            let channel = client.open().await.unwrap();
            assert!(exchange(channel, pattern(length, 3)).await == pattern(length, 7));
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    accepting.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn control_messages_arrive_whole_and_in_order_both_ways() {
    in_time(async {
        let (client, server) = memory_pair(&Flow::default()).await;
        let sizes = [0usize, 1, 100, 61_440, 1 << 20, 5, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 300_000];
        for (from, to) in [(client.clone(), server.clone()), (server, client)] {
            let sending = async {
                for (i, size) in sizes.iter().enumerate() {
                    from.send(pattern(*size, i as u64)).await.unwrap();
                }
            };
            let receiving = async {
                for (i, size) in sizes.iter().enumerate() {
                    assert!(to.receive().await.unwrap().unwrap() == pattern(*size, i as u64));
                }
            };
            tokio::join!(sending, receiving);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_runs_both_ways_on_many_channels_over_memory() {
    in_time(async {
        let (client, server) = memory_pair(&Flow::default()).await;
        bulk(&client, &server, 24, 3 << 20).await;
        let (sent, received) = client.traffic();
        assert!(sent > 72 << 20 && received > 72 << 20);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_runs_both_ways_on_many_channels_over_tcp() {
    in_time(async {
        let flow = Flow::default();
        let (client, server, site) = tcp_pair(&flow).await;
        bulk(&client, &server, 24, 3 << 20).await;
        client.close();
        assert_eq!(server.ended().await, CarrierError::Closed);
        site.stop().await;
    })
    .await;
}
