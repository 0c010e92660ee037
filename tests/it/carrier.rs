//! The carrier under load, under attack, and while it is renewed.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use russh::keys::{PrivateKey, PublicKey};
use syncfiles::ssh::{
    CarrierError, Channel, ClientConfig, ConnectError, Connection, Flow, Host, Login, Peer, Server,
    ServerConfig, Stream, connect, enter,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::support::STUCK;

/// Guards against hangs; nothing is measured by it.
pub(crate) async fn in_time<T>(doing: impl Future<Output = T>) -> T {
    tokio::time::timeout(STUCK, doing).await.expect("the test hangs")
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
        deadline: STUCK,
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
pub(crate) struct Site {
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

    pub(crate) async fn stop(mut self) {
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
pub(crate) async fn tcp_pair(flow: &Flow) -> (Connection, Connection, Site) {
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
pub(crate) async fn memory_pair(flow: &Flow) -> (Connection, Connection) {
    memory_pair_through(flow, |stream| stream).await
}

/// Both ends of a carrier over memory, the client's streams changed by `through`.
async fn memory_pair_through(
    flow: &Flow,
    through: impl Fn(DuplexStream) -> DuplexStream + Clone + Send + Sync + 'static,
) -> (Connection, Connection) {
    let host = Host::new(server_config(&key(), flow));
    let (seen, mut arriving) = mpsc::unbounded_channel();
    let dial = move || {
        let (host, seen, through) = (host.clone(), seen.clone(), through.clone());
        async move {
            let (here, there) = tokio::io::duplex(64 * 1024);
            let here = through(here);
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
pub(crate) fn pattern(length: usize, salt: u64) -> Bytes {
    let block: Vec<u8> = (0..8191u64).map(|i| (i.wrapping_mul(31).wrapping_add(salt) >> 3) as u8).collect();
    let mut all = block.repeat(length / block.len() + 1);
    all.truncate(length);
    all.into()
}

pub(crate) async fn read_all(channel: &mut Channel) -> Result<Vec<u8>, CarrierError> {
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
        bulk(&client, &server, 24, 2 << 20).await;
        let (sent, received) = client.traffic();
        assert!(sent > 48 << 20 && received > 48 << 20);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_runs_both_ways_on_many_channels_over_tcp() {
    in_time(async {
        let flow = Flow::default();
        let (client, server, site) = tcp_pair(&flow).await;
        bulk(&client, &server, 24, 2 << 20).await;
        client.close();
        assert_eq!(server.ended().await, CarrierError::Closed);
        site.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_keeps_pace_with_opening_when_many_channels_are_in_flight() {
    in_time(async {
        // The default cap has the same distance to the most that a client has in flight.
        let flow = Flow { channels: 288, ..Flow::default() };
        let (client, server, site) = tcp_pair(&flow).await;
        tokio::spawn(async move {
            while let Some(mut channel) = server.accept().await {
                tokio::spawn(async move {
                    while let Ok(Some(_)) = channel.reader.next().await {}
                    let _ = channel.writer.finish().await;
                });
            }
        });
        let mut workers = JoinSet::new();
        for _ in 0..128 {
            let client = client.clone();
            workers.spawn(async move {
                for _ in 0..30 {
                    let mut channel = client.open().await.unwrap();
                    channel.writer.send(Bytes::from_static(b"small")).await.unwrap();
                    channel.writer.finish().await.unwrap();
                    assert!(channel.reader.next().await.unwrap().is_none());
                }
            });
        }
        workers.join_all().await;
        drop(client);
        site.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn full_packets_stay_full_behind_an_opening() {
    in_time(async {
        let (client, server) = memory_pair(&Flow::default()).await;
        let (mut here, mut there) = open_one(&client, &server).await;
        let blocks = [pattern(16 * 61_440, 1), pattern(16 * 61_440, 2)];
        let sending = async {
            for block in &blocks {
                here.writer.send(block.clone()).await.unwrap();
            }
            here.writer.finish().await.unwrap();
        };
        let receiving = async {
            while let Some(packet) = there.reader.next().await.unwrap() {
                assert_eq!(packet.len(), 61_440);
            }
        };
        tokio::join!(sending, receiving);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_with_the_request_arrives_first_and_needs_no_credit() {
    in_time(async {
        let (client, server) =
            memory_pair(&Flow { window: 4096, channel_window: 4096, ..Flow::default() }).await;
        assert!(client.ask(&[0; 65]).is_err());
        let mut channels = Vec::new();
        for number in 0..100 {
            let here = client.ask(&[number; 64]).unwrap().wait().await.unwrap();
            let mut there = server.accept().await.unwrap();
            assert_eq!(there.reader.next().await.unwrap().unwrap()[..], [number; 64]);
            channels.push((here, there));
        }
        // All of the window is still there for what is sent after it.
        let (mut here, mut there) = channels.swap_remove(50);
        let sending = async {
            here.writer.send(pattern(64 * 1024, 3)).await.unwrap();
            here.writer.finish().await.unwrap();
        };
        let receiving = async {
            let mut bytes = 0;
            while let Some(packet) = there.reader.next().await.unwrap() {
                bytes += packet.len();
            }
            assert_eq!(bytes, 64 * 1024);
        };
        tokio::join!(sending, receiving);
    })
    .await;
}

/// A slow line: everything arrives, late and in pieces of odd sizes.
fn delayed(stream: DuplexStream) -> DuplexStream {
    async fn pump(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin) {
        let mut piece = vec![0; 40_961];
        while let Ok(n @ 1..) = from.read(&mut piece).await {
            tokio::time::sleep(Duration::from_millis(2)).await;
            if to.write_all(&piece[..n]).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
    }
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (from_near, to_near) = tokio::io::split(far);
    let (from_far, to_far) = tokio::io::split(stream);
    tokio::spawn(pump(from_near, to_far));
    tokio::spawn(pump(from_far, to_near));
    near
}

/// A channel seen from both ends; the first bytes are on their way.
async fn open_one(client: &Connection, server: &Connection) -> (Channel, Channel) {
    let mut here = client.open().await.unwrap();
    here.writer.send(Bytes::from_static(b"hello")).await.unwrap();
    let mut there = server.accept().await.unwrap();
    assert_eq!(&there.reader.next().await.unwrap().unwrap()[..], b"hello");
    (here, there)
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_exchanged_anew_under_bulk_both_ways_on_a_slow_line() {
    in_time(async {
        let flow = Flow { rekey_bytes: 1 << 20, window: 4 << 20, channel_window: 1 << 20, ..Flow::default() };
        let (client, server) = memory_pair_through(&flow, delayed).await;
        bulk(&client, &server, 8, 1 << 20).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stalls_stops_neither_other_channels_nor_messages() {
    in_time(async {
        let flow = Flow { window: 1 << 20, channel_window: 128 << 10, ..Flow::default() };
        let (client, server) = memory_pair(&flow).await;
        let mut writers = JoinSet::new();
        let mut stalled = Vec::new();
        for _ in 0..4 {
            let (mut here, there) = open_one(&client, &server).await;
            stalled.push(there);
            writers.spawn(async move {
                here.writer.send(pattern(1 << 20, 1)).await.unwrap();
                here.writer.finish().await.unwrap();
                assert!(here.reader.next().await.unwrap().is_none());
            });
        }
        bulk(&client, &server, 4, 1 << 20).await;
        client.send(Bytes::from_static(b"still here")).await.unwrap();
        assert_eq!(server.receive().await.unwrap().unwrap(), "still here");
        assert!(
            server.unconsumed() >= 4 * (120 << 10) && server.unconsumed() <= 1 << 20,
            "{}",
            server.unconsumed()
        );
        for mut channel in stalled {
            assert!(read_all(&mut channel).await.unwrap() == pattern(1 << 20, 1));
            channel.writer.finish().await.unwrap();
        }
        while let Some(done) = writers.join_next().await {
            done.unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unconsumed_bytes_never_exceed_the_window() {
    in_time(async {
        let flow = Flow { window: 256 << 10, channel_window: 64 << 10, ..Flow::default() };
        let (client, server) = memory_pair(&flow).await;
        let mut writers = JoinSet::new();
        // Read from the start: unread channels together may hold the whole window, and then no other moves.
        let mut readers = JoinSet::new();
        for _ in 0..8 {
            let (mut here, mut channel) = open_one(&client, &server).await;
            let server = server.clone();
            readers.spawn(async move {
                let (mut most, mut length) = (0, 0);
                while let Some(chunk) = channel.reader.next().await.unwrap() {
                    tokio::task::yield_now().await;
                    most = most.max(server.unconsumed());
                    length += chunk.len();
                }
                assert_eq!(length, 400_000);
                most
            });
            writers.spawn(async move {
                for _ in 0..400 {
                    here.writer.send(pattern(1000, 5)).await.unwrap();
                }
                here.writer.finish().await.unwrap();
                let _ = here.reader.next().await;
            });
        }
        let most = readers.join_all().await.into_iter().max().unwrap();
        assert!(most > 0 && most <= 256 << 10, "{most}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_waits_for_credit_learns_that_the_reader_has_gone() {
    in_time(async {
        let flow = Flow { window: 256 << 10, channel_window: 64 << 10, ..Flow::default() };
        let (client, server) = memory_pair(&flow).await;
        for _ in 0..20 {
            let (mut here, there) = open_one(&client, &server).await;
            let sending = here.writer.send(pattern(1 << 20, 1));
            let (sent, ()) = tokio::join!(sending, async { drop(there) });
            assert_eq!(sent, Err(CarrierError::Abandoned));
            assert_eq!(here.reader.next().await.unwrap_err(), CarrierError::Abandoned);
        }
        for _ in 0..20 {
            let (here, mut there) = open_one(&client, &server).await;
            let sending = there.writer.send(pattern(1 << 20, 1));
            let (sent, ()) = tokio::join!(sending, async { drop(here) });
            assert_eq!(sent, Err(CarrierError::Abandoned));
            assert_eq!(there.reader.next().await.unwrap_err(), CarrierError::Abandoned);
        }
        // All credit has come back.
        bulk(&client, &server, 4, 1 << 20).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_waits_ends_when_the_connection_is_cut() {
    in_time(async {
        let flow = Flow { window: 2 << 20, channel_window: 64 << 10, ..Flow::default() };
        let (cut, cutting) = tokio::sync::watch::channel(false);
        let through = move |stream: DuplexStream| {
            let (near, far) = tokio::io::duplex(64 * 1024);
            let mut cutting = cutting.clone();
            tokio::spawn(async move {
                let (mut stream, mut far) = (stream, far);
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut stream, &mut far) => {}
                    _ = cutting.wait_for(|cut| *cut) => {}
                }
            });
            near
        };
        let (client, server) = memory_pair_through(&flow, through).await;
        let mut waiting = JoinSet::new();
        for _ in 0..8 {
            let (mut here, mut there) = open_one(&client, &server).await;
            waiting.spawn(async move { here.writer.send(pattern(1 << 20, 1)).await.unwrap_err() });
            waiting.spawn(async move { there.writer.send(pattern(1 << 20, 1)).await.unwrap_err() });
            let (mut here, mut there) = open_one(&client, &server).await;
            waiting.spawn(async move { here.reader.next().await.unwrap_err() });
            waiting.spawn(async move { there.reader.next().await.unwrap_err() });
        }
        for end in [client.clone(), server.clone()] {
            waiting.spawn({
                let end = end.clone();
                async move { end.receive().await.unwrap_err() }
            });
            waiting.spawn({
                let end = end.clone();
                async move {
                    loop {
                        if let Err(error) = end.send(pattern(1 << 20, 1)).await {
                            break error;
                        }
                    }
                }
            });
            waiting.spawn(async move { end.ended().await });
        }
        cut.send(true).unwrap();
        while let Some(cause) = waiting.join_next().await {
            let cause = cause.unwrap();
            assert!(matches!(cause, CarrierError::Lost(_)), "{cause:?}");
        }
        assert!(client.open().await.is_err());
        assert!(server.accept().await.is_none());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_send_corrupts_nothing() {
    in_time(async {
        let flow = Flow { window: 256 << 10, channel_window: 16 << 10, ..Flow::default() };
        let (client, server) = memory_pair(&flow).await;
        let (mut here, mut there) = open_one(&client, &server).await;
        let packet = 4 << 10;
        let reading = tokio::spawn(async move { read_all(&mut there).await.unwrap() });
        let mut sent = 0;
        for _ in 0..200 {
            tokio::select! {
                biased;
                done = here.writer.send(pattern(packet, 1)) => {
                    done.unwrap();
                    sent += 1;
                }
                () = tokio::task::yield_now() => {}
            }
        }
        here.writer.finish().await.unwrap();
        let got = reading.await.unwrap();
        assert_eq!(got.len(), sent * packet);
        assert!(got.chunks(packet).all(|piece| piece == pattern(packet, 1)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_open_leaves_no_channel_behind() {
    in_time(async {
        let flow = Flow { channels: 4, ..Flow::default() };
        let (client, server) = memory_pair(&flow).await;
        for _ in 0..100 {
            tokio::select! {
                biased;
                opened = client.open() => drop(opened),
                () = tokio::task::yield_now() => {}
            }
        }
        // A place comes free once the last of them is closed.
        loop {
            match client.open().await {
                Ok(_) => break,
                Err(CarrierError::Refused(_)) => tokio::task::yield_now().await,
                Err(other) => panic!("{other}"),
            }
        }
        loop {
            let several: Vec<_> = [client.open().await, client.open().await, client.open().await].into();
            if several.iter().all(Result::is_ok) {
                break;
            }
        }
        drop(server);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_refuses_more_channels_than_it_allows() {
    in_time(async {
        let flow = Flow { channels: 3, ..Flow::default() };
        let (client, _server) = memory_pair(&flow).await;
        let held = [client.open().await.unwrap(), client.open().await.unwrap(), client.open().await.unwrap()];
        assert_eq!(client.open().await.unwrap_err(), CarrierError::Refused("resource shortage".into()));
        drop(held);
    })
    .await;
}

/// Small channels both ways with messages in between, over connections that are replaced every few channels.
async fn recycled(client: &Connection, server: &Connection, channels: u32) -> usize {
    let most_links = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let answering = tokio::spawn({
        let server = server.clone();
        async move {
            let mut tasks = JoinSet::new();
            for _ in 0..channels {
                let mut channel = server.accept().await.unwrap();
                tasks.spawn(async move {
                    let got = read_all(&mut channel).await.unwrap();
                    channel.writer.send(got.into()).await.unwrap();
                    channel.writer.finish().await.unwrap();
                });
            }
            while let Some(done) = tasks.join_next().await {
                done.unwrap();
            }
        }
    });
    let mut messages = JoinSet::new();
    for (from, to) in [(client.clone(), server.clone()), (server.clone(), client.clone())] {
        messages.spawn(async move {
            for i in 0..channels {
                from.send(Bytes::copy_from_slice(&i.to_be_bytes())).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        messages.spawn(async move {
            for i in 0..channels {
                assert_eq!(to.receive().await.unwrap().unwrap()[..], i.to_be_bytes());
            }
        });
    }
    let places = Arc::new(tokio::sync::Semaphore::new(16));
    let mut tasks = JoinSet::new();
    for i in 0..channels {
        let place = places.clone().acquire_owned().await.unwrap();
        let (client, most_links) = (client.clone(), most_links.clone());
        tasks.spawn(async move {
            let mut channel = client.open().await.unwrap();
            let data = pattern(1000 + i as usize * 13, u64::from(i));
            channel.writer.send(data.clone()).await.unwrap();
            channel.writer.finish().await.unwrap();
            assert!(read_all(&mut channel).await.unwrap() == data);
            most_links.fetch_max(client.links(), std::sync::atomic::Ordering::Relaxed);
            drop(place);
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    while let Some(done) = messages.join_next().await {
        done.unwrap();
    }
    answering.await.unwrap();
    most_links.load(std::sync::atomic::Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread")]
async fn recycling_every_few_channels_loses_and_reorders_nothing_over_tcp() {
    in_time(async {
        let flow = Flow { recycle_channels: Some(20), ..Flow::default() };
        let (client, server, site) = tcp_pair(&flow).await;
        assert!(recycled(&client, &server, 400).await > 1);
        drop((client, server));
        site.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recycling_by_bytes_works_in_memory_too() {
    in_time(async {
        let flow = Flow { recycle_bytes: 300_000, ..Flow::default() };
        let (client, server) = memory_pair(&flow).await;
        assert!(recycled(&client, &server, 300).await > 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_and_no_key_are_told_apart_from_other_failures() {
    in_time(async {
        let flow = Flow::default();
        let site = Site::serving(&flow, |_| {}, |_, _| async {}).await;
        let other = Arc::new(key());
        let fingerprint = other.fingerprint(russh::keys::HashAlg::Sha256).to_string();
        let tries = [
            (Login::Keys(vec![other]), fingerprint.as_str()),
            (Login::Keys(vec![]), "none"),
            (Login::None, "none"),
        ];
        for (login, expected) in tries {
            match connect(client_config(login, &flow), tcp(site.address)).await.unwrap_err() {
                ConnectError::NoKey { user, tried } => {
                    assert_eq!((user.as_str(), tried.as_str()), ("alice", expected))
                }
                other => panic!("{other}"),
            }
        }
        let both = Login::Keys(vec![Arc::new(key()), site.key.clone()]);
        assert!(connect(client_config(both, &flow), tcp(site.address)).await.is_ok());
        let mut refusing = client_config(Login::Keys(vec![site.key.clone()]), &flow);
        refusing.host_check = Arc::new(|_: &PublicKey| Err("this is not the server it was".to_owned()));
        let refused = connect(refusing, tcp(site.address)).await.unwrap_err();
        assert_eq!(refused, ConnectError::HostKey("this is not the server it was".into()));
        site.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_too_many_is_told_so_and_a_panic_ends_one_connection_only() {
    in_time(async {
        let flow = Flow::default();
        let handler = |connection: Connection, peer: Peer| async move {
            assert_eq!((peer.user.as_str(), peer.grant.downcast_ref()), ("alice", Some(&"granted")));
            let word = connection.receive().await.unwrap().unwrap();
            assert_ne!(word, "panic");
            connection.send(word).await.unwrap();
            let _ = connection.receive().await;
        };
        let site = Site::serving(&flow, |config| config.max_clients = 2, handler).await;
        let (one, two) = (site.client(&flow).await.unwrap(), site.client(&flow).await.unwrap());
        assert!(matches!(site.client(&flow).await.unwrap_err(), ConnectError::Refused(_)));
        one.send(Bytes::from_static(b"panic")).await.unwrap();
        assert!(one.receive().await.unwrap().is_none());
        two.send(Bytes::from_static(b"echo")).await.unwrap();
        assert_eq!(two.receive().await.unwrap().unwrap(), "echo");
        // The place of the one that panicked is free again.
        while site.client(&flow).await.is_err() {
            tokio::task::yield_now().await;
        }
        drop((one, two));
        site.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_enters_may_speak_at_once_and_is_told_later_whether_it_is_served() {
    in_time(async {
        let flow = Flow::default();
        let handler = |connection: Connection, _: Peer| async move {
            let word = connection.receive().await.unwrap().unwrap();
            connection.send(word).await.unwrap();
            let _ = connection.receive().await;
        };
        let site = Site::serving(&flow, |config| config.max_clients = 1, handler).await;
        let early = || enter(client_config(Login::Keys(vec![site.key.clone()]), &flow), tcp(site.address));
        let one = early().await.unwrap();
        one.send(Bytes::from_static(b"echo")).await.unwrap();
        assert_eq!(one.receive().await.unwrap().unwrap(), "echo");
        assert_eq!(one.served().await, Ok(()));
        let two = early().await.unwrap();
        let _ = two.send(Bytes::from_static(b"echo")).await;
        assert!(matches!(two.served().await, Err(ConnectError::Refused(_))));
        drop((one, two));
        site.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_lets_the_running_sync_end() {
    in_time(async {
        let flow = Flow::default();
        let (client, server, mut site) = tcp_pair(&flow).await;
        drop(site.stop.take());
        bulk(&client, &server, 4, 1 << 16).await;
        drop((client, server));
        site.stop().await;
    })
    .await;
}

mod refusals {
    //! What a stranger's or a guest's own SSH client may ask for, other than the subsystem.

    use russh::client::{self, Msg};
    use russh::keys::PrivateKeyWithHashAlg;
    use russh::{Channel, ChannelMsg};

    use super::*;

    struct Curious;

    impl client::Handler for Curious {
        type Error = russh::Error;
        async fn check_server_key(
            &mut self,
            _: &russh::keys::PublicKeyOrCertificate,
        ) -> Result<bool, russh::Error> {
            Ok(true)
        }
    }

    async fn curious(site: &Site) -> client::Handle<Curious> {
        let mut handle = client::connect(Arc::default(), site.address, Curious).await.unwrap();
        let key = PrivateKeyWithHashAlg::new(site.key.clone(), None);
        assert!(handle.authenticate_publickey("alice", key).await.unwrap().success());
        handle
    }

    /// The answers on a channel until it is closed, or until the first.
    async fn answer(channel: &mut Channel<Msg>, to_the_end: bool) -> Vec<&'static str> {
        let mut answers = Vec::new();
        while let Some(message) = channel.wait().await {
            answers.push(match message {
                ChannelMsg::Success => "success",
                ChannelMsg::Failure => "failure",
                ChannelMsg::Close => "close",
                _ => continue,
            });
            if !to_the_end {
                break;
            }
        }
        answers
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_request_but_the_subsystem_is_refused() {
        in_time(async {
            let site = Site::serving(&Flow::default(), |_| {}, |_, _| async {}).await;
            let handle = curious(&site).await;
            let mut channel = handle.channel_open_session().await.unwrap();
            channel.request_shell(true).await.unwrap();
            assert_eq!(answer(&mut channel, true).await, ["failure", "close"]);
            let mut channel = handle.channel_open_session().await.unwrap();
            channel.exec(true, "id").await.unwrap();
            assert_eq!(answer(&mut channel, true).await, ["failure", "close"]);
            let mut channel = handle.channel_open_session().await.unwrap();
            channel.request_subsystem(true, "sftp").await.unwrap();
            assert_eq!(answer(&mut channel, true).await, ["failure", "close"]);

            let mut channel = handle.channel_open_session().await.unwrap();
            channel.request_pty(true, "xterm", 80, 24, 0, 0, &[]).await.unwrap();
            assert_eq!(answer(&mut channel, false).await, ["failure"]);
            channel.set_env(true, "LD_PRELOAD", "x").await.unwrap();
            assert_eq!(answer(&mut channel, false).await, ["failure"]);
            channel.request_x11(true, false, "MIT", "00", 0).await.unwrap();
            assert_eq!(answer(&mut channel, false).await, ["failure"]);
            channel.agent_forward(true).await.unwrap();
            assert_eq!(answer(&mut channel, false).await, ["failure"]);
            channel.request_subsystem(true, "syncfiles").await.unwrap();
            assert_eq!(answer(&mut channel, false).await, ["success"]);
            channel.request_subsystem(true, "syncfiles").await.unwrap();
            assert_eq!(answer(&mut channel, false).await, ["failure"]);

            assert!(handle.channel_open_direct_tcpip("127.0.0.1", 22, "127.0.0.1", 1).await.is_err());
            assert!(handle.channel_open_direct_streamlocal("/run/x").await.is_err());
            assert!(handle.channel_open_x11("127.0.0.1", 1).await.is_err());
            assert!(handle.tcpip_forward("127.0.0.1", 0).await.is_err());
            assert!(handle.streamlocal_forward("/run/y").await.is_err());
            site.stop().await;
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_file_s_channel_is_open_to_whoever_has_greeted_and_to_no_other_name() {
        in_time(async {
            let serve = |connection: Connection, _| async move { drop(connection.ended().await) };
            let site = Site::serving(&Flow::default(), |_| {}, serve).await;
            let handle = curious(&site).await;
            assert!(handle.channel_open_direct_streamlocal("syncfiles:00000001").await.is_err());
            let mut link = handle.channel_open_session().await.unwrap();
            link.request_subsystem(true, "syncfiles").await.unwrap();
            assert_eq!(answer(&mut link, false).await, ["success"]);
            let hello = b"L\0\0\0\0\x01\0\0\0\x09\x01\0\x10\0\0\0\x10\0\0";
            link.data_bytes(&hello[..]).await.unwrap();
            while !matches!(link.wait().await.unwrap(), ChannelMsg::Data { .. }) {}

            let too_much = format!("syncfiles:00000001{}", "00".repeat(65));
            let others = [
                "",
                "/run/x",
                "syncfiles:",
                "syncfiles:0000000",
                "syncfiles:000000010",
                "syncfiles:0000000A",
            ];
            for name in others.into_iter().chain([&*too_much, "syncfiles:+0000001", "SYNCFILES:00000001"]) {
                assert!(handle.channel_open_direct_streamlocal(name).await.is_err(), "{name}");
            }
            let most = format!("syncfiles:00000001{}", "00".repeat(64));
            let _first = handle.channel_open_direct_streamlocal(most).await.unwrap();
            let _second = handle.channel_open_direct_streamlocal("syncfiles:00000002").await.unwrap();
            // A number that is taken ends the connection.
            assert!(handle.channel_open_direct_streamlocal("syncfiles:00000001ff").await.is_err());
            while !handle.is_closed() {
                tokio::task::yield_now().await;
            }
            site.stop().await;
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_endless_asker_is_hung_up_on() {
        in_time(async {
            let site = Site::serving(&Flow::default(), |_| {}, |_, _| async {}).await;
            let handle = curious(&site).await;
            let channel = handle.channel_open_session().await.unwrap();
            while !handle.is_closed() {
                let _ = channel.set_env(true, "A", "B").await;
                tokio::task::yield_now().await;
            }
            site.stop().await;
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_password_and_no_credential_do_not_log_in() {
        in_time(async {
            let site = Site::serving(&Flow::default(), |_| {}, |_, _| async {}).await;
            let mut handle = client::connect(Arc::default(), site.address, Curious).await.unwrap();
            assert!(!handle.authenticate_none("alice").await.unwrap().success());
            assert!(!handle.authenticate_password("alice", "secret").await.unwrap().success());
            let key = PrivateKeyWithHashAlg::new(site.key.clone(), None);
            assert!(!handle.authenticate_publickey("mallory", key).await.unwrap().success());
            drop(handle);
            site.stop().await;
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn data_without_a_preface_or_a_hello_ends_the_connection() {
        in_time(async {
            let site = Site::serving(&Flow::default(), |_| {}, |_, _| async {}).await;
            for data in [&b"x"[..], b"F\0\0\0\x01data", b"L\0\0\0\0\xff\xff\xff\xff\xff", b"?\0\0\0\0"] {
                let handle = curious(&site).await;
                let channel = handle.channel_open_session().await.unwrap();
                channel.request_subsystem(false, "syncfiles").await.unwrap();
                channel.data_bytes(data).await.unwrap();
                while !handle.is_closed() {
                    tokio::task::yield_now().await;
                }
            }
            site.stop().await;
        })
        .await;
    }
}

mod figures {
    //! Not checks but measurements:
    //! `cargo test --release --test it figures -- --ignored --nocapture --test-threads 1`.
    #![allow(clippy::print_stderr)]

    use std::time::Instant;

    use super::*;

    /// Resident memory, MiB.
    fn resident() -> usize {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4 / 1024
    }

    /// A channel, 4 KiB up, an end mark back, closed.
    async fn channels(flow: Flow, total: usize, in_flight: usize) {
        let (client, server, site) = tcp_pair(&flow).await;
        tokio::spawn(async move {
            while let Some(mut channel) = server.accept().await {
                tokio::spawn(async move {
                    while let Ok(Some(_)) = channel.reader.next().await {}
                    let _ = channel.writer.finish().await;
                });
            }
        });
        let data = pattern(4096, 1);
        let (started, before) = (Instant::now(), resident());
        let mut workers = JoinSet::new();
        for _ in 0..in_flight {
            let (client, data) = (client.clone(), data.clone());
            workers.spawn(async move {
                for _ in 0..total / in_flight {
                    let mut channel = client.open().await.unwrap();
                    channel.writer.send(data.clone()).await.unwrap();
                    channel.writer.finish().await.unwrap();
                    assert!(channel.reader.next().await.unwrap().is_none());
                }
            });
        }
        workers.join_all().await;
        let rate = total as f64 / started.elapsed().as_secs_f64();
        eprintln!(
            "{total} channels, {in_flight} in flight: {rate:.0}/s, {before} -> {} MiB resident",
            resident()
        );
        drop(client);
        site.stop().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "measures"]
    async fn two_hundred_thousand_channels() {
        for in_flight in [1, 16, 64, 256] {
            channels(Flow::default(), if in_flight == 1 { 5_000 } else { 200_000 }, in_flight).await;
        }
        channels(Flow { recycle_channels: None, channels_ever: u64::MAX, ..Flow::default() }, 200_000, 64)
            .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "measures"]
    async fn one_channel_of_bulk() {
        let (client, server, site) = tcp_pair(&Flow::default()).await;
        let (mut here, mut there) = open_one(&client, &server).await;
        let (block, total) = (pattern(1 << 20, 1), 4 << 30);
        let started = Instant::now();
        let reading = tokio::spawn(async move {
            let mut length = 0;
            while let Some(chunk) = there.reader.next().await.unwrap() {
                length += chunk.len();
            }
            length
        });
        for _ in 0..total / block.len() {
            here.writer.send(block.clone()).await.unwrap();
        }
        here.writer.finish().await.unwrap();
        assert_eq!(reading.await.unwrap(), total);
        let rate = (total >> 20) as f64 / started.elapsed().as_secs_f64();
        eprintln!("one channel: {rate:.0} MiB/s");
        drop((here, client));
        site.stop().await;
    }
}
