//! Several byte streams over one: for a pair of pipes to another process, which cannot be dialled twice.
//!
//! Each direction is a sequence of frames: the number of a stream (4 bytes, big-endian), a length (4, big-endian, at most
//! 65 536), and as many bytes. A frame without bytes ends the stream in that direction. The client opens a stream by its
//! first frame, and counts them from 0 without a gap.
//!
//! A frame that is not taken holds up all that come after it. So whoever uses a stream must go on reading it whatever
//! else waits, as the carrier's socket does, or drop it.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// The most bytes in a frame.
const FRAME: usize = 64 * 1024;
/// Bytes of a frame's number and length.
const HEAD: usize = 8;
/// Bytes that wait for the user of a stream, and that its user is ahead of the wire.
const BUFFER: usize = 256 * 1024;
/// Streams that a client may have begun and not ended: a sync has one that is used, and a few that only drain.
const STREAMS: usize = 16;

/// One end of the stream that carries streams. When it is dropped they all end.
pub struct Mux {
    shared: Arc<Shared>,
    /// Streams that the client opened.
    arrivals: mpsc::Receiver<DuplexStream>,
    _reading: JoinSet<()>,
}

struct Shared {
    writer: tokio::sync::Mutex<Box<dyn AsyncWrite + Send + Unpin>>,
    streams: Mutex<Streams>,
    /// Nothing arrives, or nothing can be sent, any more.
    gone: watch::Sender<bool>,
    /// For each stream a task that makes frames of what its user writes.
    writing: Mutex<JoinSet<()>>,
}

#[derive(Default)]
struct Streams {
    /// The ways to the users of streams that the peer has not ended; nothing where the user has gone.
    open: HashMap<u32, Option<WriteHalf<DuplexStream>>>,
    /// The number of the next one.
    next: u32,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mux {
    /// The end that opens streams.
    pub fn client(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Mux {
        Mux::new(reader, writer, false)
    }

    /// The end that accepts them.
    pub fn server(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Mux {
        Mux::new(reader, writer, true)
    }

    fn new(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        accepts: bool,
    ) -> Mux {
        let shared = Arc::new(Shared {
            writer: tokio::sync::Mutex::new(Box::new(writer)),
            streams: Mutex::default(),
            gone: watch::Sender::new(false),
            writing: Mutex::default(),
        });
        let (sender, arrivals) = mpsc::channel(STREAMS);
        let mut reading = JoinSet::new();
        let inbound = Inbound { shared: shared.clone(), arrivals: accepts.then_some(sender) };
        reading.spawn(inbound.read_all(reader));
        Mux { shared, arrivals, _reading: reading }
    }

    /// Opens a stream; only the client does. The peer learns of it by what is written.
    ///
    /// # Errors
    /// The peer has gone.
    pub fn open(&self) -> io::Result<DuplexStream> {
        let mut streams = locked(&self.shared.streams);
        if self.ended() || streams.open.len() >= STREAMS {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the other end has gone"));
        }
        Ok(self.shared.begin(&mut streams))
    }

    /// The next stream that the client opens; nothing once it has gone. May be dropped while it waits.
    pub async fn accept(&mut self) -> Option<DuplexStream> {
        self.arrivals.recv().await
    }

    /// Whether the peer has gone.
    pub fn ended(&self) -> bool {
        *self.shared.gone.borrow()
    }

    /// Waits until all that was written to streams has been sent, once their users have dropped them.
    pub async fn flush(&self) {
        let mut writing = std::mem::take(&mut *locked(&self.shared.writing));
        while writing.join_next().await.is_some() {}
    }
}

impl Drop for Mux {
    /// The writing tasks hold what they write to, and what they belong to.
    fn drop(&mut self) {
        locked(&self.shared.writing).abort_all();
    }
}

impl Shared {
    /// The next stream, entered and with its writing task.
    fn begin(self: &Arc<Self>, streams: &mut Streams) -> DuplexStream {
        let (near, far) = tokio::io::duplex(BUFFER);
        let (from_user, to_user) = tokio::io::split(near);
        let number = streams.next;
        streams.next += 1;
        streams.open.insert(number, Some(to_user));
        let mut writing = locked(&self.writing);
        while writing.try_join_next().is_some() {}
        writing.spawn(self.clone().write_all(number, from_user));
        far
    }

    /// Makes frames of what a user writes, and of its end.
    async fn write_all(self: Arc<Self>, number: u32, mut from_user: ReadHalf<DuplexStream>) {
        let mut frame = vec![0; HEAD + FRAME];
        frame[..4].copy_from_slice(&number.to_be_bytes());
        loop {
            let length = from_user.read(&mut frame[HEAD..]).await.unwrap_or(0);
            frame[4..HEAD].copy_from_slice(&(length as u32).to_be_bytes());
            if self.send(&frame[..HEAD + length]).await.is_err() {
                return self.end().await;
            }
            if length == 0 {
                return;
            }
        }
    }

    async fn send(&self, frame: &[u8]) -> io::Result<()> {
        let mut writer = self.writer.lock().await;
        writer.write_all(frame).await?;
        writer.flush().await
    }

    /// The users of all streams see their end.
    async fn end(&self) {
        self.gone.send_replace(true);
        let ways: Vec<_> = locked(&self.streams).open.drain().collect();
        for (_, way) in ways {
            end_one(way).await;
        }
    }
}

async fn end_one(way: Option<WriteHalf<DuplexStream>>) {
    if let Some(mut way) = way {
        let _ = way.shutdown().await;
    }
}

/// Takes in frames.
struct Inbound {
    shared: Arc<Shared>,
    /// Only the end that accepts has it.
    arrivals: Option<mpsc::Sender<DuplexStream>>,
}

impl Inbound {
    /// Until the stream ends, is no sequence of frames, or the peer takes nothing any more.
    async fn read_all(self, mut reader: impl AsyncRead + Unpin) {
        let mut gone = self.shared.gone.subscribe();
        let mut buffer = vec![0; FRAME];
        let reading = async { while let Ok(()) = self.read(&mut reader, &mut buffer).await {} };
        tokio::select! {
            () = reading => {}
            _ = gone.wait_for(|gone| *gone) => {}
        }
        self.shared.end().await;
    }

    async fn read(&self, reader: &mut (impl AsyncRead + Unpin), buffer: &mut [u8]) -> io::Result<()> {
        let mut head = [0; HEAD];
        reader.read_exact(&mut head).await?;
        let [a, b, c, d, length @ ..] = head;
        let (number, length) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes(length));
        let Some(bytes) = buffer.get_mut(..length as usize) else { return Err(broken()) };
        reader.read_exact(bytes).await?;
        if !self.known(number) {
            self.arrive(number).await?;
        }
        self.hand_on(number, bytes).await;
        Ok(())
    }

    fn known(&self, number: u32) -> bool {
        locked(&self.shared.streams).open.contains_key(&number)
    }

    /// A stream that the client opens; anything else in its place breaks the protocol.
    async fn arrive(&self, number: u32) -> io::Result<()> {
        let Some(arrivals) = &self.arrivals else { return Err(broken()) };
        let far = {
            let mut streams = locked(&self.shared.streams);
            let gone = *self.shared.gone.borrow();
            if gone || number != streams.next || streams.open.len() >= STREAMS {
                return Err(broken());
            }
            self.shared.begin(&mut streams)
        };
        // Where nobody accepts any more it is dropped, which the client sees as its end.
        let _ = arrivals.send(far).await;
        Ok(())
    }

    /// Hands a frame to the stream's user. What comes for one that has gone is dropped, up to the end.
    async fn hand_on(&self, number: u32, bytes: &[u8]) {
        let way = locked(&self.shared.streams).open.insert(number, None).flatten();
        if bytes.is_empty() {
            locked(&self.shared.streams).open.remove(&number);
            return end_one(way).await;
        }
        let Some(mut way) = way else { return };
        if way.write_all(bytes).await.is_err() {
            return;
        }
        let late = match locked(&self.shared.streams).open.get_mut(&number) {
            Some(place) => place.replace(way),
            // All was ended meanwhile.
            None => Some(way),
        };
        end_one(late).await;
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a frame")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two ends over a stream that splits every frame.
    fn ends() -> (Mux, Mux) {
        let ((here, there), (back, forth)) = (tokio::io::duplex(7), tokio::io::duplex(7));
        (Mux::client(back, here), Mux::server(there, forth))
    }

    /// A server, and what a client that keeps to no rules says and hears.
    fn raw() -> (DuplexStream, DuplexStream, Mux) {
        let ((say, there), (hear, forth)) = (tokio::io::duplex(1 << 20), tokio::io::duplex(1 << 20));
        (say, hear, Mux::server(there, forth))
    }

    fn frame(number: u32, bytes: &[u8]) -> Vec<u8> {
        [&number.to_be_bytes()[..], &(bytes.len() as u32).to_be_bytes(), bytes].concat()
    }

    async fn text(stream: &mut DuplexStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn streams_are_told_apart_and_end_one_by_one_in_each_direction() {
        let (client, mut server) = ends();
        let mut near: Vec<_> = (0..5).map(|_| client.open().unwrap()).collect();
        for (number, stream) in near.iter_mut().enumerate() {
            stream.write_all(format!("to {number}").as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
        let mut far = Vec::new();
        for _ in 0..5 {
            let mut stream = server.accept().await.unwrap();
            let said = text(&mut stream).await;
            stream.write_all(said.replace("to", "from").as_bytes()).await.unwrap();
            far.push(stream);
        }
        drop(far);
        for (number, stream) in near.iter_mut().enumerate() {
            assert_eq!(text(stream).await, format!("from {number}"));
        }
        assert!(!client.ended() && !server.ended());
    }

    #[tokio::test]
    async fn bulk_both_ways_on_several_streams_arrives_whole() {
        let ((here, there), (back, forth)) = (tokio::io::duplex(70_000), tokio::io::duplex(70_000));
        let (client, mut server) = (Mux::client(back, here), Mux::server(there, forth));
        let mut tasks = JoinSet::new();
        for number in 0..3u8 {
            let stream = client.open().unwrap();
            tasks.spawn(exchange(stream, number));
        }
        for _ in 0..3 {
            let mut stream = server.accept().await.unwrap();
            tasks.spawn(async move {
                let number = stream.read_u8().await.unwrap();
                exchange_rest(stream, number).await;
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    }

    async fn exchange(mut stream: DuplexStream, number: u8) {
        stream.write_u8(number).await.unwrap();
        exchange_rest(stream, number).await;
    }

    async fn exchange_rest(stream: DuplexStream, number: u8) {
        let (mut read, mut write) = tokio::io::split(stream);
        let bulk = vec![number; 3_000_000];
        let mut back = Vec::new();
        let send = async {
            write.write_all(&bulk).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let (_, got) = tokio::join!(send, read.read_to_end(&mut back));
        assert!(got.is_ok() && back == bulk);
    }

    #[tokio::test]
    async fn what_comes_for_a_user_that_has_gone_holds_up_nobody() {
        let (client, mut server) = ends();
        let mut first = client.open().unwrap();
        first.write_all(b"x").await.unwrap();
        drop(server.accept().await.unwrap());
        // More than any buffer holds.
        first.write_all(&vec![0; 8 * BUFFER]).await.unwrap();
        let mut second = client.open().unwrap();
        second.write_all(b"still here").await.unwrap();
        drop(second);
        assert_eq!(text(&mut server.accept().await.unwrap()).await, "still here");
        assert_eq!(text(&mut first).await, "");
    }

    #[tokio::test]
    async fn all_that_was_written_is_sent_before_flush_returns() {
        let (mut say, mut hear, mut server) = raw();
        say.write_all(&frame(0, b"?")).await.unwrap();
        let mut stream = server.accept().await.unwrap();
        stream.write_all(b"the answer").await.unwrap();
        drop(stream);
        server.flush().await;
        drop(server);
        let mut heard = Vec::new();
        hear.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, [frame(0, b"the answer"), frame(0, b"")].concat());
    }

    #[tokio::test]
    async fn the_users_of_all_streams_see_that_the_peer_has_gone() {
        let (client, server) = ends();
        let mut streams = [client.open().unwrap(), client.open().unwrap()];
        drop(server);
        for stream in &mut streams {
            assert_eq!(text(stream).await, "");
        }
        assert!(client.open().is_err());
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_any_more_ends_the_streams_too() {
        let (mut say, hear, mut server) = raw();
        say.write_all(&frame(0, b"?")).await.unwrap();
        let mut stream = server.accept().await.unwrap();
        drop(hear);
        while stream.write_all(&[0; 1000]).await.is_ok() {}
        assert!(server.ended());
        // What the peer may still say is not waited for.
        assert!(server.accept().await.is_none());
    }

    #[tokio::test]
    async fn what_is_no_sequence_of_frames_ends_all() {
        let many: Vec<u8> = (0..=STREAMS as u32).flat_map(|number| frame(number, b"x")).collect();
        let long = [&0u32.to_be_bytes()[..], &(FRAME as u32 + 1).to_be_bytes(), b"x"].concat();
        let after_the_end = [frame(0, b"x"), frame(0, b""), frame(0, b"x")].concat();
        for said in [long, frame(1, b"x"), frame(u32::MAX, b""), after_the_end, many, vec![0xff; 100]] {
            let (mut say, mut hear, mut server) = raw();
            say.write_all(&said).await.unwrap();
            let mut streams = Vec::new();
            while let Some(stream) = server.accept().await {
                streams.push(stream);
            }
            assert!(server.ended() && streams.len() <= STREAMS);
            drop((server, streams));
            let mut heard = Vec::new();
            hear.read_to_end(&mut heard).await.unwrap();
        }
    }

    #[tokio::test]
    async fn nothing_is_kept_open_by_an_end_that_was_dropped() {
        let ((mut say, there), (mut hear, forth)) = (tokio::io::duplex(100), tokio::io::duplex(100));
        let client = Mux::client(there, forth);
        let mut stream = client.open().unwrap();
        drop(client);
        assert_eq!(hear.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(text(&mut stream).await, "");
        while say.write_all(b"x").await.is_ok() {}
    }

    #[tokio::test]
    async fn a_server_opens_nothing() {
        let ((mut say, there), (_hear, forth)) = (tokio::io::duplex(100), tokio::io::duplex(100));
        let client = Mux::client(there, forth);
        let mut stream = client.open().unwrap();
        say.write_all(&frame(1, b"x")).await.unwrap();
        assert_eq!(text(&mut stream).await, "");
        assert!(client.ended());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_at_all_are_taken_in_without_panic(bytes in proptest::collection::vec(0u8..4, 0..300)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let (mut say, _hear, mut server) = raw();
                say.write_all(&bytes).await.unwrap();
                drop(say);
                while server.accept().await.is_some() {}
                assert!(server.ended());
            });
        }
    }
}
