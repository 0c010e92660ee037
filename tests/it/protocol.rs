//! The wire, byte by byte: one golden encoding of each kind of message. A change here is a change of the
//! protocol: it needs a new version, or a field that `docs/protocol.md` reserves.

use bytes::BytesMut;
use syncfiles::core::age::{Age, Timestamp};
use syncfiles::core::base::{BaseContent, BaseEntry};
use syncfiles::core::block::{Block, Grid};
use syncfiles::core::digest::Digest;
use syncfiles::core::path::{Name, RelPath};
use syncfiles::core::policy::{ConflictPolicy, May};
use syncfiles::core::span::Span;
use syncfiles::core::version::{Bits, Content, Standing, Version};
use syncfiles::protocol::codec::{
    decode, decode_hello, decode_welcome, encode, encode_hello, encode_welcome,
};
use syncfiles::protocol::frame::{
    Frame, FrameReader, How, Opening, data_head, put_abort, put_again, put_blocks, put_copy, put_end,
    put_grid,
};
use syncfiles::protocol::listed::{FolderPart, Listed};
use syncfiles::protocol::message::{
    Begin, Failure, Hello, Keep, Message, Need, Refusal, Room, Unhashed, Welcome, Wish,
};
use syncfiles::protocol::packed::{Compress, put_packed};
use syncfiles::protocol::primer::{Primer, Priming, put_primed};
use syncfiles::protocol::rows::Row;

/// Hexadecimal; blanks aside.
fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

fn name(text: &str) -> Name {
    Name::parse(text.as_bytes()).unwrap()
}

fn refusal() -> Refusal {
    Refusal { code: 27, text: "no".into() }
}

/// The hello that `docs/protocol.md` takes apart.
fn hello() -> Hello {
    let wish = Wish {
        dry: false,
        checksum: false,
        whole: false,
        delete: true,
        conflict: ConflictPolicy::Newer,
        write_one: true,
        write_two: true,
        mirror: false,
        new_root: false,
        max_delete: "50%".into(),
        keep: Some(Keep { days: 30, room: Room::Percent(10) }),
        compress: Compress::Always,
    };
    let rules = vec!["*.o".into()];
    let extensions = vec![("x".into(), vec![255])];
    Hello { export: "folder1".into(), sub: path("a/b"), root: Some([7; 16]), wish, rules, extensions }
}

const HELLO: &str = "73796e6366696c657300 0001 0001
    07 666f6c64657231  03 612f62  01 07070707070707070707070707070707
    00 00 00 01 00 01 01 00 00  03 353025  01 1e 01 0a  01
    01 03 2a2e6f  01 01 78 01 ff";

#[test]
fn the_greetings_are_these_bytes() {
    let welcome = Welcome {
        clock: Timestamp(1),
        held: 300,
        root: None,
        runs: vec![[1; 16], [2; 16]],
        rules: vec![],
        may: May { write: true, delete: false },
        extensions: vec![],
    };
    assert_eq!(hex(&encode_hello(&hello()).unwrap()), hex(&bytes(HELLO)));
    assert_eq!(decode_hello(&bytes(HELLO)).unwrap(), (1, hello()));
    for (answer, golden) in [
        (
            Ok(welcome),
            "00  02 ac02 00 02 01010101010101010101010101010101 02020202020202020202020202020202 00 01 00 00",
        ),
        (Err(refusal()), "01  1b 02 6e6f"),
    ] {
        let golden = bytes(&format!("73796e6366696c657300 0001 0001 {golden}"));
        assert_eq!(hex(&encode_welcome(&answer).unwrap()), hex(&golden));
        assert_eq!(decode_welcome(&golden).unwrap(), (1, answer));
    }
}

#[test]
fn the_document_shows_the_golden_hello() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/protocol.md")).unwrap();
    let block = text.split("```hello").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let shown: String = block.lines().filter_map(|line| line.split('|').next()).collect();
    assert_eq!(hex(&bytes(&shown)), hex(&bytes(HELLO)));
}

/// Every kind of message, in the order of their numbers, and its bytes.
fn messages() -> Vec<(Message, &'static str)> {
    let (digest, bits) = (Digest([0xab; 32]), Bits::of_mode(0o644));
    let part = FolderPart {
        folder: path("d"),
        members: vec![
            (name("s"), Listed::Unknown),
            (
                name("t"),
                Listed::File { size: 300, sha256: Some(digest), bits, modified: Timestamp(-1), edited: 2 },
            ),
            (name("u"), Listed::Link { target: (*b"to").into(), modified: Timestamp(1), edited: 0 }),
            (name("v"), Listed::Folder { bits, modified: Timestamp(0), digest: None }),
        ],
        spans: vec![Span { last: name("w"), digest }],
        more: true,
    };
    let content = Content::File { size: 5, sha256: None };
    let two = Standing::Holds(Version { content, bits, modified: Timestamp(64), age: Age(-64) });
    let rows = vec![
        Row { depth: 1, name: name("a"), two, base: None },
        Row {
            depth: 2,
            name: name("b"),
            two: Standing::Absent,
            base: Some(BaseEntry { content: BaseContent::Folder { gone: true }, bits }),
        },
        Row { depth: 1, name: name("c"), two: Standing::Unknown, base: None },
    ];
    let failures =
        vec![(1, Failure::Changed("c".into())), (128, Failure::Failed("f".into())), (2, Failure::Held)];
    vec![
        (Message::Refuse(refusal()), "00 1b 02 6e6f"),
        (
            Message::Begin(Begin { uncertainty: 1, delay: 3, clock: Timestamp(-2), base: Some([9; 16]) }),
            "01 02 06 03 01 09*16",
        ),
        (
            Message::Top {
                digest: Some(digest),
                entries: 3,
                bytes: 128,
                problems: vec![(path("p"), "q".into())],
            },
            "02 01 ab*32 03 8001 01 01 70 01 71",
        ),
        (Message::List(vec![(path(""), false), (path("d"), true)]), "03 02 00 00 01 64 01"),
        (
            Message::Listing(vec![part]),
            "04 01 01 64 04  01 73 00  01 74 01 ac02 01 ab*32 a403 01 04
             01 75 02 02 746f 02 00  01 76 03 a403 00 00  01 01 77 ab*32  01",
        ),
        (Message::AskHashes(vec![path("d/f")]), "05 01 03 642f66"),
        (
            Message::Hashes(vec![Ok(digest), Err(Unhashed::Unreadable), Err(Unhashed::Changed)]),
            "06 03 00 ab*32 01 00 01 01",
        ),
        (
            Message::Rows(rows),
            "07 03  01 01 61 02 00 05 00 a403 8001 7f 00  02 01 62 00 01 02 01 a403  01 01 63 01 00",
        ),
        (
            Message::Compared { run: [9; 16], plan: digest, entries: 3, base: 128, guard: Some(refusal()) },
            "08 09*16 ab*32 03 8001 01 1b 02 6e6f",
        ),
        (Message::Agreed { guard: None }, "09 00"),
        (Message::Needs(vec![Need { item: 300, have: 0 }]), "0a 01 ac02 00"),
        (Message::NeedsEnd, "0b"),
        (Message::Commit, "0c"),
        (Message::Failed(failures), "0d 03 01 00 01 63 8001 01 01 66 02 02"),
        (Message::Learned(vec![(1, digest)]), "0e 01 01 ab*32"),
        (Message::Committed { moved: 1, deleted: 2 }, "0f 01 02"),
        (Message::Done, "10"),
        (Message::Alive, "11"),
        (Message::Have(vec![(path("d"), [9; 16])]), "12 01 01 64 09*16"),
        (Message::ListSpans(vec![(path("d"), vec![1, 300])]), "13 01 01 64 02 01 ac02"),
        (Message::Changed, "14"),
        (Message::Remembers(vec![1, 300]), "15 02 01 ac02"),
        (Message::Primer(vec![1, 2]), "16 02 0102"),
        (Message::RowsEnd, "17"),
    ]
}

/// `ab*32` is the byte `ab`, 32 times.
fn golden(short: &str) -> Vec<u8> {
    let spread = |word: &str| match word.split_once('*') {
        Some((byte, times)) => byte.repeat(times.parse().unwrap()),
        None => word.to_owned(),
    };
    bytes(&short.split_whitespace().map(spread).collect::<String>())
}

#[test]
fn every_message_is_these_bytes() {
    for (number, (message, short)) in messages().into_iter().enumerate() {
        // Short messages are never compressed: a 0 goes before them.
        let golden = [vec![0], golden(short)].concat();
        assert_eq!(usize::from(golden[1]), number, "a kind of message has no golden bytes here");
        assert_eq!(hex(&encode(&message).unwrap()), hex(&golden), "{message:?}");
        assert_eq!(decode(&golden).unwrap(), message);
        assert!(decode(&[&golden[..], &[0]].concat()).is_err(), "bytes after {message:?}");
    }
    let next = [0, messages().len() as u8];
    assert!(decode(&next).is_err(), "message {next:?} exists and has no golden bytes here");
}

#[test]
fn the_bytes_of_a_file_s_channel_are_these() {
    assert_eq!(
        hex(&Opening { push: true, how: How::Whole, item: 300, offset: 0 }.encode()),
        "010000012c0000000000000000"
    );
    assert_eq!(
        hex(&Opening { push: false, how: How::Whole, item: 1, offset: 1 << 32 }.encode()),
        "02000000010000000100000000"
    );
    let mut stream = BytesMut::new();
    stream.extend_from_slice(&data_head(61_436));
    put_end(&mut stream, &Digest([0xab; 32]));
    put_abort(&mut stream, true, "gone");
    assert_eq!(hex(&stream), hex(&golden("0000effc 01000020 ab*32 02000005 01 676f6e65")));
}

#[test]
fn a_packed_frame_is_a_zstd_frame_that_names_its_size() {
    let packed = golden("03000013 28b52ffd 60e802 4d0000 1061 61 01 00 e32b 8005");
    let mut reader = FrameReader::default();
    let frame = reader.frame(&mut &packed[..]).unwrap();
    assert_eq!(frame, Some(Frame::Data(vec![b'a'; 1000].into())));
    let mut made = BytesMut::new();
    assert!(put_packed(&mut made, &[b'a'; 1000]));
    assert_eq!(hex(&made[..8]), hex(&packed[..8]).replace("000013", &format!("{:06x}", made.len() - 4)));
}

#[test]
fn a_primed_frame_is_a_zstd_frame_behind_the_primer() {
    let content = b"the king was in his counting house, counting out his money";
    let (priming, told) = Priming::new(content).unwrap();
    let mut made = BytesMut::new();
    assert!(put_primed(&mut made, content, &priming));
    assert_eq!(hex(&made[..8]), format!("08{:06x}28b52ffd", made.len() - 4));
    let Ok(Some(Frame::Primed(packed))) = FrameReader::default().frame(&mut &made[..]) else {
        panic!("no primed frame")
    };
    // What is told is a zstd frame of its own, and so is what it unpacks with.
    assert_eq!(zstd::bulk::decompress(&told, 1000).unwrap(), content);
    assert_eq!(Primer::read(&told).unwrap().unpack(&packed).unwrap(), content);
    assert!(zstd::bulk::decompress(&packed, 1000).is_err());
}

#[test]
fn the_bytes_of_a_delta_are_these() {
    let first = |push, how| Opening { push, how, item: 0, offset: 0 }.encode()[0];
    assert_eq!((first(true, How::Told), first(false, How::Told)), (3, 4));
    assert_eq!((first(true, How::Remembered), first(false, How::Remembered)), (5, 6));
    let grid = Grid::new(16, 0x0102_0304_0506_0708).unwrap();
    let hashes = vec![(0x0a0b_0c0d, 1), (2, (1 << 40) - 1)];
    let blocks: Vec<_> =
        hashes.iter().map(|&(weak, strong)| Block { length: 65_536, weak, strong }).collect();
    let mut stream = BytesMut::new();
    put_grid(&mut stream, &grid);
    put_blocks(&mut stream, &blocks);
    put_blocks(&mut stream, &[]);
    put_copy(&mut stream, 1 << 40, 5);
    put_again(&mut stream);
    let golden = golden(
        "04000009 10 0102030405060708  05000012 0a0b0c0d 0000000001 00000002 ff*5  05000000
         06000010 0000010000000000 0000000000000005  07000000",
    );
    assert_eq!(hex(&stream), hex(&golden));
    let (mut reader, mut rest) = (FrameReader::default(), &golden[..]);
    let copy = Frame::Copy { offset: 1 << 40, length: 5 };
    for expected in [Frame::Grid(grid), Frame::Blocks(hashes), Frame::Blocks(vec![]), copy, Frame::Again] {
        assert_eq!(reader.frame(&mut rest).unwrap(), Some(expected));
    }
}

#[test]
fn frames_of_a_delta_that_cannot_be_are_refused() {
    for evil in [
        "04000009 0b 07*8", // blocks of 2 KiB
        "04000009 16 07*8", // of 4 MiB
        "04000008 10 07*7",
        "0500000a 00*10",
        "0500effd",       // longer than a frame
        "06000010 00*16", // copies nothing
        "0600000f 00*15",
        "07000001 00",
        "09000001 00",
    ] {
        let frame = golden(evil);
        assert!(FrameReader::default().frame(&mut &frame[..]).is_err(), "{evil}");
    }
}
