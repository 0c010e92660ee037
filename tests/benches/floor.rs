//! The least that carrying one large file costs on a machine: what must be done and nothing else, for `peers.py --floor`.
//!
//! `floor serve PORT FILE [AT:LENGTH ...]` and `floor fetch PORT FILE` move FILE over loopback TCP: each end makes its SHA-256, each
//! byte on the line is sealed with AES-128-GCM in packets of the carrier's size, and what arrives is made durable before and after
//! it takes its place. Where the parts that differ from the version over there are named, only these go over the line, and the
//! other end copies what stays.
//!
//! There is no SSH, no login, no scan, no plan, no index, no credit and nothing to find: the parts are known. Each end has two
//! threads, enough to keep two cores busy. So on two cores a program that keeps the same promises can hardly be faster than this.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::fs::{self, File};
use std::io::{IoSlice, Read, Seek, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use sha2::{Digest, Sha256};

/// As the program itself has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes of a packet on the line, its tag not counted.
const PACKET: usize = 61_440;
/// Bytes that are read from a file at once.
const PIECE: usize = PACKET;
/// Pieces between two threads.
const AHEAD: usize = 32;
const TAG: usize = 16;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["serve", port, file, ref new @ ..] => serve(port.parse().unwrap(), Path::new(file), new),
        ["fetch", port, file] => fetch(port.parse().unwrap(), Path::new(file)),
        _ => println!("usage: floor serve PORT FILE [AT:LENGTH ...] | floor fetch PORT FILE"),
    }
}

/// What the two ends tell each other in clear: size and modification time, then the parts that are new.
struct Head {
    size: u64,
    modified: u64,
    new: Vec<Range<u64>>,
}

// ---------------------------------------------------------------- the end that has the file

fn serve(port: u16, path: &Path, new: &[&str]) {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    for line in listener.incoming() {
        let mut line = line.unwrap();
        // Whoever only looks whether anybody listens says nothing.
        if line.read(&mut [0]).unwrap() == 1 {
            send(line, path, new);
        }
    }
}

fn send(mut line: TcpStream, path: &Path, new: &[&str]) {
    let file = File::open(path).unwrap();
    let about = file.metadata().unwrap();
    let modified =
        about.modified().unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let parts = new.iter().map(|part| {
        let (at, length) = part.split_once(':').unwrap();
        let at: u64 = at.parse().unwrap();
        at..at + length.parse::<u64>().unwrap()
    });
    let all = new.is_empty().then_some(0..about.len());
    let parts: Vec<Range<u64>> = parts.chain(all).collect();
    line.set_nodelay(true).unwrap();
    let count = [about.len(), modified, parts.len() as u64];
    for number in count.into_iter().chain(parts.iter().flat_map(|part| [part.start, part.end])) {
        line.write_all(&number.to_be_bytes()).unwrap();
    }
    let (pieces, unsent) = sync_channel(AHEAD);
    let (pool, back) = Pool::new();
    thread::scope(|scope| {
        let hashed = scope.spawn(move || hash_and_hand_on(&file, &parts, pieces, &pool));
        let mut sealer = Sealer::new();
        for mut piece in unsent {
            sealer.send(&mut line, &mut piece);
            let _ = back.send(piece);
        }
        line.write_all(&hashed.join().unwrap()).unwrap();
    });
}

/// Reads all of the file once, hashes it, and hands on what is to be sent.
fn hash_and_hand_on(file: &File, parts: &[Range<u64>], pieces: SyncSender<Vec<u8>>, pool: &Pool) -> [u8; 32] {
    let (mut hasher, mut at, mut spare) = (Sha256::new(), 0, Vec::new());
    loop {
        let mut piece = pool.take(file, PIECE, spare);
        if piece.is_empty() {
            return hasher.finalize().into();
        }
        hasher.update(&piece);
        let within = at..at + piece.len() as u64;
        at = within.end;
        for part in parts {
            let (start, end) = (part.start.max(within.start), part.end.min(within.end));
            if (start, end) == (within.start, within.end) {
                pieces.send(std::mem::take(&mut piece)).unwrap();
            } else if start < end {
                pieces
                    .send(piece[(start - within.start) as usize..(end - within.start) as usize].to_vec())
                    .unwrap();
            }
        }
        spare = piece;
    }
}

// ---------------------------------------------------------------- the end that wants it

fn fetch(port: u16, path: &Path) {
    let mut line = TcpStream::connect(("127.0.0.1", port)).unwrap();
    line.write_all(&[1]).unwrap();
    let head = Head::read(&mut line);
    let staged = path.with_extension("staged");
    let mut file = File::create(&staged).unwrap();
    let old = File::open(path).ok();
    let (written, unhashed) = sync_channel(AHEAD);
    let (pool, back) = Pool::new();
    let (told, made) = thread::scope(|scope| {
        let made = scope.spawn(|| hash(unhashed, back));
        let mut write = |piece: Vec<u8>| {
            file.write_all(&piece).unwrap();
            written.send(piece).unwrap();
        };
        receive(&mut line, &head, old, &mut write, &pool);
        drop(written);
        let mut told = [0; 32];
        line.read_exact(&mut told).unwrap();
        (told, made.join().unwrap())
    });
    assert_eq!(told, made, "it is not what was sent");
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_nanos(head.modified)).unwrap();
    let root = path.parent().unwrap();
    let (folder, history) = (File::open(root).unwrap(), root.join(".syncfiles"));
    rustix::fs::syncfs(&folder).unwrap();
    // What is displaced is kept: to free it would take its time as well.
    fs::create_dir_all(&history).unwrap();
    let _ = fs::rename(path, history.join(std::process::id().to_string()));
    fs::rename(&staged, path).unwrap();
    rustix::fs::syncfs(&folder).unwrap();
}

impl Head {
    fn read(line: &mut impl Read) -> Head {
        let mut number = || {
            let mut bytes = [0; 8];
            line.read_exact(&mut bytes).unwrap();
            u64::from_be_bytes(bytes)
        };
        let (size, modified, count) = (number(), number(), number());
        Head { size, modified, new: (0..count).map(|_| number()..number()).collect() }
    }
}

/// Hands on all of the new version: what is new from the line, what lies between from the old version.
fn receive(
    line: &mut impl Read,
    head: &Head,
    old: Option<File>,
    write: &mut impl FnMut(Vec<u8>),
    pool: &Pool,
) {
    let (mut opener, mut at) = (Sealer::new(), 0);
    let end = head.size..head.size;
    for part in head.new.iter().chain([&end]) {
        while at < part.start {
            let piece = pool.take(old.as_ref().unwrap(), PIECE.min((part.start - at) as usize), Vec::new());
            at += piece.len() as u64;
            write(piece);
        }
        while at < part.end {
            let piece = opener.receive(line, pool);
            at += piece.len() as u64;
            write(piece);
        }
        // In the benchmark's edit ten bytes are put in, and a larger part is overwritten in its place.
        let length = part.end - part.start;
        if length > 10
            && let Some(mut old) = old.as_ref()
        {
            old.seek_relative(length as i64).unwrap();
        }
    }
}

fn hash(unhashed: Receiver<Vec<u8>>, back: Sender<Vec<u8>>) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for piece in unhashed {
        hasher.update(&piece);
        let _ = back.send(piece);
    }
    hasher.finalize().into()
}

/// Memory for pieces, used again and again: new memory has to be cleared by the kernel first.
struct Pool {
    used: Receiver<Vec<u8>>,
}

impl Pool {
    fn new() -> (Pool, Sender<Vec<u8>>) {
        let (back, used) = channel();
        (Pool { used }, back)
    }

    /// The next bytes, as many as there are up to `most`; in `spare`, if that has any room.
    fn take(&self, mut from: impl Read, most: usize, spare: Vec<u8>) -> Vec<u8> {
        let mut bytes = if spare.capacity() > 0 { spare } else { self.used.try_recv().unwrap_or_default() };
        bytes.resize(most, 0);
        let mut filled = 0;
        while filled < most {
            match from.read(&mut bytes[filled..]).unwrap() {
                0 => break,
                count => filled += count,
            }
        }
        bytes.truncate(filled);
        bytes
    }
}

// ---------------------------------------------------------------- the line

/// Seals or opens packets, in order: two bytes of length, content, tag. The key is no secret: what it costs is what counts.
struct Sealer {
    key: LessSafeKey,
    count: u64,
}

impl Sealer {
    fn new() -> Sealer {
        let key = UnboundKey::new(&AES_128_GCM, &[7; 16]).unwrap();
        Sealer { key: LessSafeKey::new(key), count: 0 }
    }

    fn nonce(&mut self) -> Nonce {
        self.count += 1;
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.count.to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    }

    fn send(&mut self, line: &mut impl Write, piece: &mut [u8]) {
        for part in piece.chunks_mut(PACKET) {
            let nonce = self.nonce();
            let tag = self.key.seal_in_place_separate_tag(nonce, Aad::empty(), part).unwrap();
            let length = (part.len() as u16).to_be_bytes();
            let mut packet = &mut [&length[..], part, tag.as_ref()].map(IoSlice::new)[..];
            while !packet.is_empty() {
                let written = line.write_vectored(packet).unwrap();
                IoSlice::advance_slices(&mut packet, written);
            }
        }
    }

    fn receive(&mut self, line: &mut impl Read, pool: &Pool) -> Vec<u8> {
        let mut length = [0; 2];
        line.read_exact(&mut length).unwrap();
        let length = usize::from(u16::from_be_bytes(length));
        let mut packet = pool.take(line, length + TAG, Vec::new());
        let nonce = self.nonce();
        self.key.open_in_place(nonce, Aad::empty(), &mut packet).unwrap();
        packet.truncate(length);
        packet
    }
}
