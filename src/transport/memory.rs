//! A byte stream within the process, for two local roots and for tests.

use tokio::io::DuplexStream;

/// Bytes that one end may be ahead of the other.
const BUFFER: usize = 1 << 20;

/// The two ends of a new stream.
pub fn pair() -> (DuplexStream, DuplexStream) {
    tokio::io::duplex(BUFFER)
}
