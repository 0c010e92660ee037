//! What travels and what does not: compression, and edits of files that both sides have.

use syncfiles::protocol::packed::Compress;
use syncfiles::session::Options;

use crate::support::pair::{Pair, Ran};

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
