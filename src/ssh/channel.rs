//! A channel of a carrier: bytes in both directions under credit, and an end mark each way.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use russh::ChannelId;

use super::error::CarrierError;
use super::flow::charge;
use super::frame::Frame;
use super::lane::Lane;
use super::port::Port;

/// One channel, both ways. Dropping both halves closes it. The server sees a channel with the first bytes (or the end mark)
/// that the client sends on it.
#[derive(Debug)]
pub struct Channel {
    /// What the peer sends.
    pub reader: ChannelReader,
    /// What the peer gets.
    pub writer: ChannelWriter,
}

/// The receiving half of a [`Channel`].
pub struct ChannelReader(Arc<Ends>);

/// The sending half of a [`Channel`].
pub struct ChannelWriter(Arc<Ends>);

/// Received bytes. They count as consumed, and the peer may send as many again, when this is dropped.
pub struct Chunk {
    bytes: Bytes,
    cost: u32,
    lane: Arc<Lane>,
}

/// Both halves of a channel; its drop closes the channel.
struct Ends {
    lane: Arc<Lane>,
    exit: Option<Exit>,
}

/// How a channel is closed, and what this end sends gets out.
enum Exit {
    Port(Port),
    /// Nothing is sent, and closing is an [errand](super::errands).
    Errand(ChannelId),
}

impl Channel {
    pub(super) fn new(lane: Arc<Lane>, port: Port) -> Self {
        Self::leaving(lane, Exit::Port(port))
    }

    fn leaving(lane: Arc<Lane>, exit: Exit) -> Self {
        let ends = Arc::new(Ends { lane, exit: Some(exit) });
        Self { reader: ChannelReader(ends.clone()), writer: ChannelWriter(ends) }
    }

    /// A channel on which this end, the client, has said all that it is going to say.
    pub(super) fn listening(lane: Arc<Lane>, id: ChannelId) -> Self {
        lane.finished.store(true, Ordering::Release);
        Self::leaving(lane, Exit::Errand(id))
    }

    /// At the server, once all is sent that the client can want: drops the channel without telling the client that it is given
    /// up. The client closes it when it has read that; what it still sends is not read.
    pub fn settle(self) {
        self.reader.0.lane.settled_here.store(true, Ordering::Release);
    }
}

impl ChannelReader {
    /// The next bytes as they came, at most a packet; `None` after the peer's end mark.
    ///
    /// # Errors
    /// The peer closed the channel before its end, or the connection ended. May be dropped while it waits.
    pub async fn next(&mut self) -> Result<Option<Chunk>, CarrierError> {
        let lane = &self.0.lane;
        let packet = std::future::poll_fn(|cx| lane.poll_next(cx)).await?;
        Ok(packet.map(|(bytes, cost)| Chunk { bytes, cost, lane: lane.clone() }))
    }
}

impl ChannelWriter {
    /// Sends bytes, as soon as the peer has room for them: small ones as one packet, large ones in pieces.
    ///
    /// # Errors
    /// The peer closed the channel, the connection ended, or [`finish`](Self::finish) was called. Dropped while it waits,
    /// whole packets of the bytes may have been sent, and the channel stays usable.
    pub async fn send(&mut self, mut bytes: Bytes) -> Result<(), CarrierError> {
        let lane = &self.0.lane;
        if lane.finished.load(Ordering::Acquire) {
            return Err(CarrierError::Finished);
        }
        let most = lane.pace.as_ref().map_or(usize::MAX, |pace| pace.piece());
        let packet = lane.link.peer().packet().min(most);
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(packet));
            self.0.transmit(piece).await?;
        }
        Ok(())
    }

    /// Sends the end mark: the peer's reader gets `None` after everything sent before.
    ///
    /// # Errors
    /// As [`send`](Self::send). A second call does nothing.
    pub async fn finish(&mut self) -> Result<(), CarrierError> {
        let lane = &self.0.lane;
        if lane.finished.load(Ordering::Acquire) {
            return Ok(());
        }
        self.0.port()?.eof().await.map_err(|lost| lane.ended().unwrap_or(lost))?;
        lane.finished.store(true, Ordering::Release);
        Ok(())
    }
}

impl Chunk {
    /// `part` of it, to be kept when the chunk is gone: without a copy where it is most of it, as all of the chunk's memory is
    /// kept with it then.
    pub fn keep(&self, part: &[u8]) -> Bytes {
        kept(&self.bytes, part)
    }
}

fn kept(whole: &Bytes, part: &[u8]) -> Bytes {
    let (outer, inner) = (whole.as_ptr_range(), part.as_ptr_range());
    let within = outer.start <= inner.start && inner.end <= outer.end;
    if within && part.len() >= whole.len() / 2 { whole.slice_ref(part) } else { Bytes::copy_from_slice(part) }
}

impl Ends {
    fn port(&self) -> Result<&Port, CarrierError> {
        match &self.exit {
            Some(Exit::Port(port)) => Ok(port),
            Some(Exit::Errand(_)) => Err(CarrierError::Finished),
            None => Err(CarrierError::Closed),
        }
    }

    /// Sends one packet. Credit is taken before and given back if this is dropped before the session took the packet.
    async fn transmit(&self, packet: Bytes) -> Result<(), CarrierError> {
        let lane = &self.lane;
        // Before any credit is taken: that is for others to use meanwhile.
        if let Some(pace) = &lane.pace {
            pace.pass(packet.len()).await;
        }
        let cost = charge(packet.len());
        let over = |_| lane.ended().or_else(|| lane.link.cause()).unwrap_or(CarrierError::Closed);
        let own = lane.credit.acquire_many(cost).await.map_err(over)?;
        let shared = lane.link.credit.acquire_many(cost).await.map_err(over)?;
        if !lane.book(cost) {
            return Err(CarrierError::Abandoned);
        }
        own.forget();
        shared.forget();
        let booked = Booked { lane, cost: Some(cost) };
        self.port()?.data(packet).await.map_err(|lost| lane.ended().unwrap_or(lost))?;
        booked.keep();
        Ok(())
    }
}

/// Credit that goes back unless its packet was sent.
struct Booked<'a> {
    lane: &'a Lane,
    cost: Option<u32>,
}

impl Booked<'_> {
    fn keep(mut self) {
        self.cost = None;
    }
}

impl Drop for Booked<'_> {
    fn drop(&mut self) {
        if let Some(cost) = self.cost {
            self.lane.settle(cost);
        }
    }
}

impl Drop for Ends {
    /// The client closes. The server, which lives long and would leak, only says that it is done, and waits for the client.
    fn drop(&mut self) {
        let Some(exit) = self.exit.take() else { return };
        let link = self.lane.link.clone();
        match exit {
            Exit::Port(port @ Port::Client(..)) => {
                self.lane.release();
                link.leave(&self.lane);
                port.close_soon(&link);
            }
            Exit::Errand(id) => {
                // Until the session has its turn, what arrives is acknowledged as ever.
                self.lane.desert();
                link.errands.close(id, self.lane.clone());
                link.leave(&self.lane);
            }
            Exit::Port(Port::Server(..)) => {
                self.lane.desert();
                let over = self.lane.settled_here.load(Ordering::Acquire)
                    || self.lane.finished.load(Ordering::Acquire) && self.lane.eof_came();
                if !over && self.lane.ended().is_none() {
                    link.outbox.post(Frame::Abandon(self.lane.id()));
                }
            }
        }
    }
}

impl Deref for Chunk {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if self.cost > 0 {
            self.lane.consume(self.cost);
        }
    }
}

impl std::fmt::Debug for Chunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Chunk({} bytes)", self.bytes.len())
    }
}

impl std::fmt::Debug for ChannelReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ChannelReader({})", self.0.lane.id())
    }
}

impl std::fmt::Debug for ChannelWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ChannelWriter({})", self.0.lane.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_part_of_a_packet_does_not_keep_all_of_its_memory() {
        let packet = Bytes::from(vec![7; 1000]);
        let shares = |part: &[u8]| kept(&packet, part).as_ptr() == part.as_ptr();
        assert!(shares(&packet[4..]) && shares(&packet[..500]));
        assert!(!shares(&packet[..499]) && !shares(&packet[1000..]) && !shares(&[7; 1000]));
        assert_eq!(kept(&packet, &packet[1..3]), [7, 7][..]);
    }
}
