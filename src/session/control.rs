//! Typed control messages over a connection, as long as the other end gives signs of life.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::error::SessionError;
use super::pulse::{Held, Pulse};
use crate::core::base::BaseContent;
use crate::core::merge::Fork;
use crate::core::path::RelPath;
use crate::core::version::Content;
use crate::protocol::codec;
use crate::protocol::message::Message;
use crate::protocol::rows::{Row, rows_of};
use crate::ssh::Connection;

/// Sends and receives control messages. Sending and receiving may go on at the same time, each from one task.
#[derive(Clone)]
pub(crate) struct Control {
    connection: Connection,
    pulse: Arc<Pulse>,
}

/// Messages that carry lists are cut at about this many bytes, well below what one message may have.
const FULL: usize = 256 * 1024;

impl Control {
    /// Over `connection` with `peer`, which may be silent for as long as `patience`, or for ever if that is
    /// [`Duration::MAX`].
    pub(crate) fn new(connection: Connection, patience: Duration, peer: &str) -> Control {
        let pulse = Arc::new(Pulse::new(connection.clone(), patience, peer));
        Control { connection, pulse }
    }

    /// What the line took for a request and its answer during the login, in nanoseconds; at the client only.
    pub(crate) fn round_trip(&self) -> Option<i64> {
        self.connection.round_trip().and_then(|trip| i64::try_from(trip.as_nanos()).ok())
    }

    pub(crate) async fn send(&self, message: &Message) -> Result<(), SessionError> {
        self.send_bytes(codec::encode(message)?).await
    }

    /// As [`send`](Control::send), of what counts as content: a limit on that holds it up.
    pub(crate) async fn send_content(&self, message: &Message) -> Result<(), SessionError> {
        let bytes = codec::encode(message)?;
        self.connection.pace(bytes.len()).await;
        self.send_bytes(bytes).await
    }

    /// The next message. A refusal, and the end of the connection, are errors.
    pub(crate) async fn receive(&self) -> Result<Message, SessionError> {
        loop {
            match codec::decode(&self.receive_bytes().await?)? {
                Message::Alive => {}
                Message::Refuse(refusal) => return Err(SessionError::by_peer(&refusal)),
                message => return Ok(message),
            }
        }
    }

    /// Does what needs the other end, as long as that gives signs of life.
    pub(crate) async fn patiently<T>(
        &self,
        work: impl Future<Output = Result<T, SessionError>>,
    ) -> Result<T, SessionError> {
        tokio::select! {
            biased;
            done = work => done,
            silent = self.silence() => Err(silent),
        }
    }

    /// Resolves once the other end has been silent for too long.
    pub(crate) async fn silence(&self) -> SessionError {
        self.pulse.silence(&self.connection).await
    }

    /// As long as this is held, the other end is told that this one works, also while it waits for a message.
    pub(crate) fn working(&self) -> Held {
        self.pulse.working()
    }

    /// Does `work` and has the other end told of it, whatever else this one waits for meanwhile.
    pub(crate) async fn busily<T>(&self, work: impl Future<Output = T>) -> T {
        let _working = self.working();
        work.await
    }

    /// As long as this is held, this end waits for the other one, and does not say that it is alive.
    pub(crate) fn waiting(&self) -> Held {
        self.pulse.waiting()
    }

    /// Waits until `peer` has said that it serves this end, which may be saying its first message already.
    pub(crate) async fn served(&self, peer: &str) -> Result<(), SessionError> {
        self.connection.served().await.map_err(|error| SessionError::connecting(peer, error))
    }

    /// Ends the session: tells the other end what went wrong here, or finds out what went wrong there.
    pub(crate) async fn end<T>(&self, result: Result<T, SessionError>) -> Result<T, SessionError> {
        let result = match result {
            Ok(value) => Ok(value),
            Err(error) => Err(self.explained(error).await),
        };
        if let Err(error) = &result {
            self.refuse(error).await;
        }
        self.close().await;
        result
    }

    /// The reason that the other end gave before it went, where `error` only shows that it has gone.
    async fn explained(&self, error: SessionError) -> SessionError {
        if !matches!(error, SessionError::Connection(_)) {
            return error;
        }
        let last_words = async {
            while let Ok(Some(bytes)) = self.connection.receive().await {
                if let Ok(Message::Refuse(refusal)) = codec::decode(&bytes) {
                    return Some(SessionError::by_peer(&refusal));
                }
            }
            None
        };
        tokio::time::timeout(FAREWELL, last_words).await.ok().flatten().unwrap_or(error)
    }

    /// Tells the other end why the session ends, if it still listens.
    pub(crate) async fn refuse(&self, error: &SessionError) {
        let refusal = Message::Refuse(error.refusal());
        let _ = tokio::time::timeout(FAREWELL, self.send(&refusal)).await;
    }

    /// Closes the connection, and waits until what was sent has arrived: a process that ends at once would take it
    /// along.
    pub(crate) async fn close(&self) {
        self.connection.close();
        let _ = tokio::time::timeout(FAREWELL, self.connection.ended()).await;
    }

    pub(crate) async fn send_bytes(&self, bytes: Vec<u8>) -> Result<(), SessionError> {
        self.patiently(async { Ok(self.connection.send(Bytes::from(bytes)).await?) }).await
    }

    /// The next message as it came. Signs of life are none.
    pub(crate) async fn receive_bytes(&self) -> Result<Bytes, SessionError> {
        let lost = || {
            SessionError::Connection("the other end closed the connection before the sync was done".into())
        };
        let _waiting = self.waiting();
        let next = async { self.next().await?.ok_or_else(lost) };
        self.patiently(next).await
    }

    /// As [`receive_bytes`](Control::receive_bytes), from an end that may have nothing to say for as long as it likes; `None`
    /// once it has left in good order.
    pub(crate) async fn receive_sometime(&self) -> Result<Option<Bytes>, SessionError> {
        let _waiting = self.waiting();
        self.next().await
    }

    async fn next(&self) -> Result<Option<Bytes>, SessionError> {
        loop {
            match self.connection.receive().await? {
                Some(bytes) if is_sign(&bytes) => {}
                next => return Ok(next),
            }
        }
    }

    /// Sends `items` in as many messages as they need; `size` estimates the encoded bytes of one from above.
    pub(crate) async fn send_list<T>(
        &self,
        items: impl IntoIterator<Item = T>,
        size: impl Fn(&T) -> usize,
        message: impl Fn(Vec<T>) -> Message,
    ) -> Result<(), SessionError> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for item in items {
            bytes += size(&item);
            batch.push(item);
            if bytes >= FULL {
                self.send(&message(std::mem::take(&mut batch))).await?;
                bytes = 0;
            }
        }
        if batch.is_empty() { Ok(()) } else { self.send(&message(batch)).await }
    }

    /// Sends the tree from which both plan, but for an empty one, which may be the end of the run.
    pub(crate) async fn send_tree(&self, tree: &Fork) -> Result<(), SessionError> {
        if tree.members.is_empty() {
            return Ok(());
        }
        self.send_list(rows_of(tree), row_size, Message::Rows).await?;
        self.send(&Message::RowsEnd).await
    }
}

/// No sign of life is longer, in bytes; what is need not be decoded to know that it is none.
const SIGN: usize = 4;

fn is_sign(bytes: &[u8]) -> bool {
    bytes.len() <= SIGN && matches!(codec::decode(bytes), Ok(Message::Alive))
}

/// How long an end that does not listen is told why it ends. One that is only slow does listen.
const FAREWELL: Duration = Duration::from_secs(10);

/// An estimate from above of a row's encoded bytes.
fn row_size(row: &Row) -> usize {
    let target = match row.two.version().map(|version| &version.content) {
        Some(Content::Link { target }) => target.len(),
        _ => 0,
    };
    let agreed = match row.base.as_ref().map(|base| &base.content) {
        Some(BaseContent::Link { target }) => target.len(),
        _ => 0,
    };
    row.name.as_bytes().len() + target + agreed + 160
}

/// An estimate from above of a path's encoded bytes.
pub(crate) fn path_size(path: &RelPath) -> usize {
    path.as_bytes().len() + 12
}
