//! What the carrier costs: processor time a channel and a byte, at each end, over loopback TCP.
//!
//! `cargo bench --bench carrier` measures everything; `-- 64` only 64 channels in flight, `-- bulk` only the one long channel.
//! The two ends are processes of their own, as in life. Judge by processor time: wall time depends on what else runs.
//! `-- soak` sends as many GiB as `SYNCFILES_GIB` says (200) in each direction at once, in files of up to 2 GiB, and checks
//! every byte: keys are exchanged anew and connections recycled on the way, as in a long sync.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use russh::keys::{PrivateKey, PublicKey};
use syncfiles::ssh::{Channel, ClientConfig, Connection, Flow, Login, Server, ServerConfig, Stream, connect};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// As the program itself has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The word that starts this program as the server.
const SERVE: &str = "serve-carrier-bench";
/// The word that asks for the long run, and tells the server to send as well.
const SOAK: &str = "soak";
/// Bytes of a small file.
const SMALL: usize = 4096;
/// Bytes of the long channel.
const BULK: usize = 4 << 30;

#[tokio::main]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    if words.first().is_some_and(|word| word == SERVE) {
        return serve(words.get(1).is_some_and(|word| word == SOAK)).await;
    }
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| word == name);
    for (in_flight, total) in [(1, 20_000), (16, 100_000), (64, 200_000), (256, 200_000), (1024, 100_000)] {
        if wanted(&in_flight.to_string()) {
            small(in_flight, total).await;
        }
    }
    if wanted("bulk") {
        bulk().await;
    }
    if words.iter().any(|word| word == SOAK) {
        soak().await;
    }
}

/// A channel, 4 KiB and the end mark up, an end mark back, closed.
async fn small(in_flight: usize, total: usize) {
    let site = Site::start("");
    let client = site.connect().await;
    let before = Spent::both(&client).await;
    let data = Bytes::from(vec![7; SMALL]);
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
    let spent = Spent::both(&client).await.since(&before);
    let each = |time: Duration| time.as_secs_f64() * 1e6 / total as f64;
    println!(
        "{in_flight:>4} channels in flight: {:>6.0}/s, processor a channel: client {:.1} µs, server {:.1} µs; resident {} and {} MiB",
        total as f64 / spent.wall.as_secs_f64(),
        each(spent.here),
        each(spent.there),
        spent.resident.0,
        spent.resident.1
    );
}

/// One long channel from the client to the server.
async fn bulk() {
    let site = Site::start("");
    let client = site.connect().await;
    let before = Spent::both(&client).await;
    let block = Bytes::from(vec![7; 983_040]);
    let mut channel = client.open().await.unwrap();
    for _ in 0..BULK / block.len() {
        channel.writer.send(block.clone()).await.unwrap();
    }
    channel.writer.finish().await.unwrap();
    assert!(channel.reader.next().await.unwrap().is_none());
    let spent = Spent::both(&client).await.since(&before);
    let gib = (BULK / block.len() * block.len()) as f64 / f64::from(1 << 30);
    println!(
        "one long channel: {:.0} MiB/s, processor a GiB: client {:.3} s, server {:.3} s",
        gib * 1024.0 / spent.wall.as_secs_f64(),
        spent.here.as_secs_f64() / gib,
        spent.there.as_secs_f64() / gib
    );
}

/// Many files both ways at once, for a long time.
async fn soak() {
    let gib: u64 = std::env::var("SYNCFILES_GIB").map_or(200, |gib| gib.parse().unwrap());
    let site = Site::start(SOAK);
    let client = site.connect().await;
    let begun = Instant::now();
    let left = Arc::new(Mutex::new(gib << 30));
    let mut workers = JoinSet::new();
    for worker in 1..=16 {
        let (client, left) = (client.clone(), left.clone());
        workers.spawn(async move {
            loop {
                let length = {
                    let mut left = left.lock().unwrap();
                    let length = (worker << 27).min(*left);
                    *left -= length;
                    length
                };
                if length == 0 {
                    return;
                }
                let mut channel = client.open().await.unwrap();
                channel.writer.send(Bytes::copy_from_slice(&length.to_be_bytes())).await.unwrap();
                both_ways(channel, length, Vec::new()).await;
            }
        });
    }
    workers.join_all().await;
    let seconds = begun.elapsed().as_secs_f64();
    let resident = Spent::both(&client).await.resident;
    println!(
        "{gib} GiB in each direction, all as sent: {seconds:.0} s, {:.0} MiB/s both together; resident {} and {} MiB",
        gib as f64 * 2048.0 / seconds,
        resident.0,
        resident.1
    );
}

/// Sends so many bytes of the pattern, and reads as many, of which `first` have come already.
async fn both_ways(channel: Channel, length: u64, first: Vec<u8>) {
    let pattern = Bytes::from((0..PIECE).map(|at| (at % 8191 % 251) as u8).collect::<Vec<_>>());
    let Channel { mut reader, mut writer } = channel;
    let out = pattern.clone();
    let sending = tokio::spawn(async move {
        let mut left = length as usize;
        while left > 0 {
            let piece = out.slice(..left.min(PIECE));
            left -= piece.len();
            writer.send(piece).await.unwrap();
        }
        writer.finish().await.unwrap();
    });
    let mut at = 0;
    let mut check = |mut bytes: &[u8]| {
        while !bytes.is_empty() {
            let from = at as usize % PIECE;
            let (part, rest) = bytes.split_at(bytes.len().min(PIECE - from));
            assert!(part == &pattern[from..from + part.len()], "other bytes arrived at {at}");
            at += part.len() as u64;
            bytes = rest;
        }
    };
    check(&first);
    while let Some(chunk) = reader.next().await.unwrap() {
        check(&chunk);
    }
    assert_eq!(at, length);
    sending.await.unwrap();
}

/// Bytes of the pattern before it begins anew.
const PIECE: usize = 983_040;

/// The server's process; ends with this.
struct Site {
    process: Child,
    address: SocketAddr,
}

impl Site {
    /// `how`: [`SOAK`], or nothing.
    fn start(how: &str) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut process = Command::new(program).args([SERVE, how]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { process, address: line.trim().parse().unwrap() }
    }

    async fn connect(&self) -> Connection {
        let address = self.address;
        let config = ClientConfig {
            user: "bench".into(),
            login: Login::Keys(vec![Arc::new(key())]),
            host_check: Arc::new(|_: &PublicKey| Ok(())),
            flow: Flow::default(),
            chacha_first: false,
            deadline: Duration::from_secs(60),
        };
        let dial = move || async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        };
        connect(config, dial).await.unwrap()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Reads every channel to its end, and tells its own costs when a message asks. In a soak it sends as much as it reads.
async fn serve(soak: bool) {
    let authorize = |_: &str, _: &PublicKey, _: Option<SocketAddr>| Some(Arc::new(()) as _);
    let config = ServerConfig::new(vec![key()], Arc::new(authorize));
    let server = Server::bind(config, "127.0.0.1:0").await.unwrap();
    println!("{}", server.local_addr().unwrap());
    let handler = move |connection: Connection, _| async move {
        let asking = connection.clone();
        tokio::spawn(async move {
            while let Ok(Some(_)) = asking.receive().await {
                let answer = [cpu().as_nanos() as u64, resident()].map(u64::to_be_bytes).concat();
                let _ = asking.send(answer.into()).await;
            }
        });
        while let Some(mut channel) = connection.accept().await {
            tokio::spawn(async move {
                if soak {
                    let mut first = Vec::new();
                    while first.len() < 8 {
                        first.extend_from_slice(&channel.reader.next().await.unwrap().unwrap());
                    }
                    let rest = first.split_off(8);
                    return both_ways(channel, u64::from_be_bytes(first.try_into().unwrap()), rest).await;
                }
                while let Ok(Some(_)) = channel.reader.next().await {}
                let _ = channel.writer.finish().await;
            });
        }
    };
    server.run(handler, std::future::pending()).await;
}

/// A key that both processes make for themselves.
fn key() -> PrivateKey {
    PrivateKey::from(russh::keys::ssh_key::private::Ed25519Keypair::from_seed(&[7; 32]))
}

/// What has been spent at one moment, or between two.
struct Spent {
    at: Instant,
    wall: Duration,
    here: Duration,
    there: Duration,
    resident: (u64, u64),
}

impl Spent {
    async fn both(connection: &Connection) -> Self {
        connection.send(Bytes::new()).await.unwrap();
        let answer = connection.receive().await.unwrap().unwrap();
        let number = |at: usize| u64::from_be_bytes(answer[at..at + 8].try_into().unwrap());
        Self {
            at: Instant::now(),
            wall: Duration::ZERO,
            here: cpu(),
            there: Duration::from_nanos(number(0)),
            resident: (resident() >> 20, number(8) >> 20),
        }
    }

    fn since(self, before: &Self) -> Self {
        Self {
            wall: self.at - before.at,
            here: self.here - before.here,
            there: self.there - before.there,
            ..self
        }
    }
}

/// Processor time of this process, user and system.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Resident memory of this process, bytes.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
