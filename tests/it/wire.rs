//! What travels and what does not: compression, and edits of files that both sides have.

use std::sync::Arc;

use syncfiles::protocol::packed::Compress;
use syncfiles::session::Options;
use syncfiles::session::progress::{Event, ProblemKind, Progress};

use crate::support::pair::{Pair, Ran, Side};

/// Bytes that do not shrink, the same for the same seed.
fn noise(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    };
    (0..size.div_ceil(8)).flat_map(|_| next().to_le_bytes()).take(size).collect()
}

/// Bytes in both directions.
fn wire(ran: &Ran) -> u64 {
    ran.outcome.wire.0 + ran.outcome.wire.1
}

fn text(lines: usize) -> String {
    (0..lines).map(|line| format!("line {line} of a text that shrinks\n")).collect()
}

/// What one sync of a text on System 1 and another on System 2 costs.
fn texts(compress: Compress) -> u64 {
    let pair = Pair::new();
    pair.one.write("small", text(1000), 100).write("large", text(50_000), 100);
    pair.two.write("other", text(60_000), 100).write("noise", noise(300_000, 1), 100);
    let ran = pair.try_sync(|options: &mut Options| options.compress = compress).unwrap();
    pair.assert_settled();
    wire(&ran)
}

#[test]
fn content_that_shrinks_costs_less_where_compression_is_asked_for_and_never_elsewhere() {
    let (never, always, auto) = (texts(Compress::Never), texts(Compress::Always), texts(Compress::Auto));
    assert!(never > 4_000_000, "{never}");
    assert!((300_000..1_200_000).contains(&always), "{always}");
    // A stream in memory has no round trip to speak of; but on a machine that stands still for a moment it may seem so.
    assert!(auto <= never + 100_000, "{auto}");
}

/// Small texts out of the same few words, each in an order of its own, and files that do not shrink.
fn small_files(side: &Side, name: &str, seed: u64) {
    let words: Vec<String> = (0..200).map(|word| hex(&noise(6, word + 1))).collect();
    for file in 0..200 {
        let order = noise(300, seed + file);
        let text: Vec<&str> = order.iter().map(|at| words[usize::from(*at) % 200].as_str()).collect();
        side.write(&format!("{name}/text{file}"), text.join(" "), 100);
        side.write(&format!("{name}/noise{file}"), order, 100);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn many_small_files_share_what_they_share_in_both_directions() {
    let sizes = [Compress::Never, Compress::Always].map(|compress| {
        let pair = Pair::new();
        small_files(&pair.one, "theirs", 1000);
        small_files(&pair.two, "ours", 2000);
        let ran = pair.try_sync(|options: &mut Options| options.compress = compress).unwrap();
        pair.assert_same();
        pair.assert_settled();
        wire(&ran)
    });
    // One text alone has 200 different words to say, a third of its size whatever is done; behind others it has none.
    let texts = 2 * 200 * 300 * 13;
    assert!(sizes[0] - sizes[1] > texts * 7 / 10, "{sizes:?} of {texts}");
}

/// A megabyte or three on both sides.
fn agreed(size: usize) -> (Pair, Vec<u8>) {
    let (pair, content) = (Pair::new(), noise(size, 1));
    pair.one.write("big", &content, 1000).write("other", noise(size, 2), 1000);
    pair.sync();
    (pair, content)
}

#[test]
fn of_an_edit_in_the_middle_of_a_large_file_little_travels_in_either_direction() {
    let (pair, content) = agreed(3 << 20);
    let mut edited = content.clone();
    edited[1 << 20..][..1000].copy_from_slice(&noise(1000, 3));
    edited.splice(4096..4096, *b"0123456789");
    pair.one.write("big", &edited, 100);
    let mut other = noise(3 << 20, 2);
    other.drain(1 << 19..1 << 20);
    pair.two.write("other", &other, 100);
    let ran = pair.sync();
    assert!(wire(&ran) < 200_000, "{}", wire(&ran));
    assert_eq!(ran.travelled(), 2);
    pair.assert_same();
    assert_eq!(std::fs::read(pair.two.path("big")).unwrap(), edited);
    assert_eq!(pair.one.displaced(), [noise(3 << 20, 2)]);
    pair.assert_settled();
}

/// Edits a file of one side at a place, and syncs; what that costs.
fn edit(pair: &Pair, side: &Side, content: &mut [u8], at: usize, age: u64) -> u64 {
    content[at..][..1000].copy_from_slice(&noise(1000, at as u64));
    side.write("big", &*content, age);
    let ran = pair.sync();
    assert_eq!(ran.travelled(), 1);
    pair.assert_same();
    assert_eq!(std::fs::read(pair.two.path("big")).unwrap(), content);
    wire(&ran)
}

#[test]
fn who_sent_an_edit_need_not_be_told_what_the_other_side_has_for_the_next_one() {
    for one_edits in [true, false] {
        let (pair, mut content) = agreed(3 << 20);
        let side = if one_edits { &pair.one } else { &pair.two };
        let first = edit(&pair, side, &mut content, 1 << 20, 900);
        let second = edit(&pair, side, &mut content, 2 << 20, 800);
        // A list of 768 blocks of nine bytes.
        assert!(second + 6_000 < first, "{first} and then {second}");
        // The other side was never told that version, nor did it make it.
        let other = if one_edits { &pair.two } else { &pair.one };
        let third = edit(&pair, other, &mut content, 1 << 19, 700);
        assert!(second + 6_000 < third, "{second} and then {third}");
        pair.assert_settled();
    }
}

#[test]
fn who_sent_a_large_file_whole_need_not_be_told_for_its_first_edit_what_the_other_side_has() {
    for one_edits in [true, false] {
        let (pair, mut content) = (Pair::new(), noise(16 << 20, 1));
        let side = if one_edits { &pair.one } else { &pair.two };
        side.write("big", &content, 1000);
        pair.sync();
        // The list would be of 2048 blocks of nine bytes.
        let first = edit(&pair, side, &mut content, 1 << 20, 900);
        assert!(first < 18_000 + 8192, "{first}");
        let other = if one_edits { &pair.two } else { &pair.one };
        let told = edit(&pair, other, &mut content, 1 << 19, 800);
        assert!(first + 16_000 < told, "{first} and then {told}");
        pair.assert_settled();
    }
}

#[test]
fn of_files_that_are_not_large_nothing_is_remembered_before_they_are_edited() {
    let pair = Pair::new();
    pair.one.write("big", noise((16 << 20) - 1, 1), 1000);
    pair.sync();
    let db = rusqlite::Connection::open(pair.one.path(".syncfiles/state.db")).unwrap();
    let kept: i64 = db.query_row("SELECT COUNT(*) FROM signature", (), |row| row.get(0)).unwrap();
    assert_eq!(kept, 0);
}

/// Forgets what the server remembers, as soon as a transfer has begun.
struct Forgetter(std::path::PathBuf);

impl Progress for Forgetter {
    fn event(&self, event: &Event) {
        if let Event::Started { .. } = event {
            let db = rusqlite::Connection::open(&self.0).unwrap();
            assert_eq!(db.execute("DELETE FROM signature", ()).unwrap(), 1);
        }
    }
}

/// Both ends used to wait for ever: each for the blocks that the other one had.
#[test]
fn a_sender_that_does_not_remember_after_all_sends_everything() {
    let (pair, mut content) = agreed(3 << 20);
    edit(&pair, &pair.one, &mut content, 1 << 20, 900);
    content.truncate(2 << 20);
    pair.one.write("big", &content, 800);
    let forgetter = Forgetter(pair.one.path(".syncfiles/state.db"));
    let outcome = pair.sync_watched(Arc::new(forgetter)).unwrap();
    assert_eq!((outcome.problems.len(), outcome.wire.0 + outcome.wire.1 > 2 << 20), (0, true));
    pair.assert_same();
    pair.assert_settled();
}

#[test]
fn a_delta_that_comes_out_wrong_is_followed_by_the_whole_content() {
    for one_edits in [true, false] {
        let (pair, mut content) = agreed(3 << 20);
        let side = if one_edits { &pair.one } else { &pair.two };
        edit(&pair, side, &mut content, 1 << 20, 900);
        // What is remembered of each block is from now on said of the one before.
        let db = rusqlite::Connection::open(side.path(".syncfiles/state.db")).unwrap();
        let mut blocks: Vec<u8> = db.query_row("SELECT blocks FROM signature", (), |row| row.get(0)).unwrap();
        blocks.rotate_left(16);
        assert_eq!(db.execute("UPDATE signature SET blocks = ?1", [blocks]).unwrap(), 1);
        drop(db);
        assert!(edit(&pair, side, &mut content, 2 << 20, 800) > 3 << 20);
        assert!(edit(&pair, side, &mut content, 3 << 19, 700) < 100_000);
        pair.assert_settled();
    }
}

#[test]
fn files_that_were_never_agreed_on_share_what_they_share() {
    let pair = Pair::new();
    let content = noise(1 << 20, 1);
    pair.one.write("big", &content, 1000);
    pair.two.write("big", [&content[..], b"and more"].concat(), 100);
    let ran = pair.sync();
    assert!(wire(&ran) < 150_000, "{}", wire(&ran));
    pair.assert_same();
    pair.assert_settled();
}

#[test]
fn a_file_that_is_all_new_arrives_as_well() {
    let (pair, _) = agreed(600_000);
    pair.one.write("big", noise(700_000, 9), 100);
    pair.two.write("other", text(20_000), 100);
    pair.sync();
    pair.assert_same();
    pair.assert_settled();
}

/// Writes to a file as soon as a transfer has begun.
struct Meddler(std::path::PathBuf);

impl Progress for Meddler {
    fn event(&self, event: &Event) {
        if let Event::Started { .. } = event {
            std::fs::write(&self.0, noise(900_000, 7)).unwrap();
        }
    }
}

#[test]
fn a_version_that_changes_while_its_successor_comes_is_not_lost() {
    let (pair, content) = agreed(800_000);
    pair.one.write("big", [&content[..], b"edited"].concat(), 100);
    let outcome = pair.sync_watched(Arc::new(Meddler(pair.two.path("big")))).unwrap();
    assert_eq!(outcome.problems.len(), 1);
    assert_eq!(outcome.problems[0].kind, ProblemKind::Changed);
    assert_eq!(std::fs::read(pair.two.path("big")).unwrap(), noise(900_000, 7));
    pair.sync();
    pair.assert_same();
    assert_eq!(std::fs::read(pair.one.path("big")).unwrap(), noise(900_000, 7));
}

/// A folder of many files, and what both sides then do to it.
#[test]
fn of_a_large_folder_in_which_little_differs_little_is_told() {
    let pair = Pair::new();
    for number in 0..2000 {
        pair.one.write(&format!("d/f{number:04}"), format!("content {number}"), 1000);
    }
    pair.one.write("d/sub/inner", "inner", 1000).folder("d/empty").link("d/link", "f0001");
    pair.sync();
    pair.one
        .write("d/f0100", "edited on one", 100)
        .write("d/a first", "new on one", 100)
        .chmod("d/f0200", 0o600);
    pair.two
        .write("d/f1500", "edited on two", 100)
        .write("d/z last", "new on two", 100)
        .rename("d/link", "d/linked");
    pair.one.write("d/f0700", "older", 100).remove("d/f0001");
    pair.two.write("d/f0700", "younger", 50).remove("d/f1999").write("d/sub/inner", "changed", 100);
    let ran = pair.try_sync(|options: &mut Options| options.delete = true).unwrap();
    // Named one by one they take 80 000 bytes.
    assert!(wire(&ran) < 40_000, "{}", wire(&ran));
    pair.assert_same();
    assert_eq!(pair.one.read("d/f0100").as_deref(), Some("edited on one"));
    assert_eq!(pair.one.read("d/f0700").as_deref(), Some("younger"));
    assert_eq!(pair.one.read("d/sub/inner").as_deref(), Some("changed"));
    assert_eq!((pair.two.read("d/f0001"), pair.one.read("d/f1999")), (None, None));
    assert_eq!(pair.one.tree().len(), 2000 - 2 + 2 + 5);
    pair.assert_settled();
}

/// The hash that a file was sent with is remembered: the next run has nothing to read, and nothing to list.
#[test]
fn what_was_sent_or_received_is_not_hashed_again_in_the_next_run() {
    let pair = Pair::new();
    for number in 0..50 {
        pair.one.write(&format!("from one {number}"), noise(1000, number), 1000);
        pair.two.write(&format!("from two {number}"), noise(1000, 100 + number), 1000);
    }
    pair.one.write("large from one", noise(300_000, 500), 1000);
    pair.two.write("large from two", noise(300_000, 501), 1000);
    pair.sync();
    let (next, third) = (pair.sync(), pair.sync());
    assert!(wire(&next) < wire(&third) + 500, "{} {}", wire(&next), wire(&third));
}
