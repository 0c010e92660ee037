//! The socket as russh sees it.
//!
//! russh's session loop does not read while it writes, so two ends that both send bulk wait for each other for ever. This
//! wrapper reads ahead whenever a write is blocked. It also gathers the many small writes of the loop into few, counts the
//! wire's bytes, and can be cut from outside, which ends a session that a peer would keep alive.

use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// How much is asked from the stream at once, bytes. Whoever has room for as much gets it without a copy.
const READ: usize = 16 * 1024;
/// How much is gathered before a write waits for the stream, bytes.
const GATHER: usize = 128 * 1024;
/// From this size on a write goes to the stream without being gathered, bytes.
const LARGE: usize = 32 * 1024;

/// A byte stream that can carry a connection: TCP, memory, a child's stdin and stdout.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for T {}

/// The meter and the switch of one socket, shared with whoever watches it.
#[derive(Debug, Default)]
pub(super) struct Line {
    sent: AtomicU64,
    received: AtomicU64,
    /// The most that is read ahead, bytes.
    ahead: AtomicUsize,
    cut: AtomicBool,
    waiting: Mutex<Option<Waker>>,
}

impl Line {
    /// `ahead`: the most that is read ahead, bytes. Once channels are open it must exceed all that the peer may have under way.
    pub(super) fn new(ahead: usize) -> Arc<Self> {
        Arc::new(Self { ahead: AtomicUsize::new(ahead), ..Self::default() })
    }

    /// Allows reading more ahead: for a peer that has logged in.
    pub(super) fn read_ahead(&self, ahead: usize) {
        self.ahead.fetch_max(ahead, Ordering::Relaxed);
    }

    fn has_room(&self, ahead: usize) -> bool {
        ahead < self.ahead.load(Ordering::Relaxed)
    }

    /// Bytes of the wire so far: sent, received.
    pub(super) fn traffic(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.received.load(Ordering::Relaxed))
    }

    /// Ends the socket: every read and write from now on fails.
    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        let waker = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Fails once the socket is cut; otherwise sees to it that a cut wakes this task.
    fn check(&self, cx: &Context<'_>) -> io::Result<()> {
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if !waiting.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *waiting = Some(cx.waker().clone());
            }
        }
        match self.cut.load(Ordering::SeqCst) {
            true => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the connection was given up")),
            false => Ok(()),
        }
    }
}

/// A stream with read-ahead and gathered writes. Both halves must be polled by one task, as russh's session does.
pub(super) struct Socket<S> {
    stream: S,
    line: Arc<Line>,
    ahead: BytesMut,
    ended: bool,
    out: BytesMut,
    /// Whether what was gathered has waited once for more to come.
    waited: bool,
    /// Whether the first words are out. Nothing is read before: whoever talks something else than SSH hears what is spoken here,
    /// however short the talk will be.
    introduced: bool,
}

impl<S: Stream> Socket<S> {
    /// Wraps a stream.
    pub(super) fn new(stream: S, line: Arc<Line>) -> Self {
        Self {
            stream,
            line,
            ahead: BytesMut::new(),
            ended: false,
            out: BytesMut::new(),
            waited: false,
            introduced: false,
        }
    }

    /// Reads ahead once. Ready: something (or the end) arrived, or there is no room.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ended || !self.line.has_room(self.ahead.len()) {
            return Poll::Ready(Ok(()));
        }
        self.ahead.reserve(READ);
        let mut room = (&mut self.ahead).limit(READ);
        let got = ready!(pin!(self.stream.read_buf(&mut room)).poll(cx))?;
        self.arrived(got);
        Poll::Ready(Ok(()))
    }

    /// Reads from the stream straight into the reader's own room.
    fn poll_pass(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.arrived(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }

    fn arrived(&mut self, bytes: usize) {
        self.ended = bytes == 0;
        self.line.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Writes to the stream; while that is blocked, reads ahead instead.
    fn poll_put(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, bytes) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(n)) => {
                self.line.sent.fetch_add(n as u64, Ordering::Relaxed);
                Poll::Ready(Ok(n))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                self.line.check(cx)?;
                while !self.ended && self.line.has_room(self.ahead.len()) {
                    if let Err(error) = ready!(self.poll_fill(cx)) {
                        return Poll::Ready(Err(error));
                    }
                }
                Poll::Pending
            }
        }
    }

    /// Writes what was gathered.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let mut out = std::mem::take(&mut self.out);
            let put = self.poll_put(cx, &out);
            if let Poll::Ready(Ok(n)) = put {
                out.advance(n);
            }
            self.out = out;
            ready!(put)?;
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}

impl<S: Stream> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.introduced {
            this.line.check(cx)?;
            // Whether it was an error is seen below: what the other end said before it went is read first.
            let _ = ready!(this.poll_drain(cx));
            this.introduced = true;
        }
        if this.ahead.is_empty() && !this.ended {
            this.line.check(cx)?;
            // Whoever reads has nothing more to say for now. But what has arrived may call for an answer, and other tasks may
            // be about to say something: they get one turn, as sending is what costs most of a small message.
            let waits = !this.out.is_empty() && !this.waited;
            this.waited = waits;
            let sent = if waits { Poll::Pending } else { this.poll_drain(cx) };
            if this.ahead.is_empty() {
                let pass = buf.remaining() >= READ && !this.ended;
                let read = if pass { this.poll_pass(cx, buf) } else { this.poll_fill(cx) };
                // What the other end said before it went is read first.
                if let (Poll::Pending, Poll::Ready(Err(gone))) = (&read, sent) {
                    return Poll::Ready(Err(gone));
                }
                if waits && read.is_pending() {
                    cx.waker().wake_by_ref();
                }
                ready!(read)?;
                if this.ended {
                    // The last word, where the other end still listens.
                    let _ = this.poll_drain(cx);
                }
                if pass {
                    return Poll::Ready(Ok(()));
                }
            }
        }
        let n = buf.remaining().min(this.ahead.len());
        buf.put_slice(&this.ahead[..n]);
        this.ahead.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl<S: Stream> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.out.len() >= GATHER || buf.len() >= LARGE {
            ready!(self.poll_drain(cx))?;
        }
        if buf.len() >= LARGE {
            return self.poll_put(cx, buf);
        }
        let n = buf.len().min(GATHER);
        self.out.extend_from_slice(&buf[..n]);
        Poll::Ready(Ok(n))
    }

    /// Small amounts wait until the reader has caught up; see `poll_read`.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.out.len() < GATHER && !self.ended {
            true => Poll::Ready(Ok(())),
            false => self.poll_drain(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn what_the_other_end_said_before_it_went_is_read_although_nothing_can_be_sent_any_more() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut socket = Socket { introduced: true, ..Socket::new(near, Line::new(1 << 20)) };
        let mut bytes = [0; 8];
        socket.write_all(b"hello").await.unwrap();
        // What was written waits for its turn.
        assert!(pin!(socket.read(&mut bytes)).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        far.write_all(b"bye").await.unwrap();
        drop(far);
        assert_eq!(socket.read(&mut bytes).await.unwrap(), 3);
        assert_eq!(bytes[..3], *b"bye");
        // Then it ends, in whatever way.
        assert!(!matches!(socket.read(&mut bytes).await, Ok(1..)));
    }

    #[tokio::test]
    async fn the_last_words_of_who_takes_no_first_ones_are_read() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut socket = Socket::new(near, Line::new(1 << 20));
        let mut bytes = [0; 8];
        socket.write_all(b"SSH-2.0").await.unwrap();
        far.write_all(b"bye").await.unwrap();
        drop(far);
        assert_eq!(socket.read(&mut bytes).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn nothing_is_read_before_the_first_words_are_out() {
        let (near, mut far) = tokio::io::duplex(4);
        let mut socket = Socket::new(near, Line::new(1 << 20));
        let (mut here, mut there) = ([0; 8], [0; 8]);
        far.write_all(b"GET").await.unwrap();
        socket.write_all(b"SSH-2.0").await.unwrap();
        // There is no room for all of it yet.
        assert!(pin!(socket.read(&mut here)).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(far.read(&mut there).await.unwrap(), 4);
        assert_eq!(socket.read(&mut here).await.unwrap(), 3);
        assert_eq!(far.read(&mut there).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn what_was_gathered_is_sent_when_nothing_arrives_and_before_the_end() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut socket = Socket { introduced: true, ..Socket::new(near, Line::new(1 << 20)) };
        let (mut here, mut there) = ([0; 8], [0; 8]);
        socket.write_all(b"hello").await.unwrap();
        let (reading, heard) = (socket.read(&mut here), far.read(&mut there));
        tokio::select! {
            _ = reading => panic!("nothing was sent"),
            heard = heard => assert_eq!(heard.unwrap(), 5),
        }
        socket.write_all(b"you").await.unwrap();
        far.shutdown().await.unwrap();
        assert_eq!(socket.read(&mut here).await.unwrap(), 0);
        assert_eq!(far.read(&mut there).await.unwrap(), 3);
    }
}
