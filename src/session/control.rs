//! Typed control messages over a connection.

use std::time::Duration;

use bytes::Bytes;

use super::error::SessionError;
use crate::core::base::BaseContent;
use crate::core::path::RelPath;
use crate::core::version::Content;
use crate::protocol::codec;
use crate::protocol::message::Message;
use crate::protocol::rows::Row;
use crate::ssh::Connection;

/// Sends and receives control messages. Sending and receiving may go on at the same time, each from one task.
#[derive(Clone)]
pub(crate) struct Control {
    connection: Connection,
}

/// Messages that carry lists are cut at about this many bytes, well below what one message may have.
const FULL: usize = 256 * 1024;

impl Control {
    pub(crate) fn new(connection: Connection) -> Control {
        Control { connection }
    }

    pub(crate) async fn send(&self, message: &Message) -> Result<(), SessionError> {
        let bytes = codec::encode(message)?;
        Ok(self.connection.send(Bytes::from(bytes)).await?)
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
        Ok(self.connection.send(Bytes::from(bytes)).await?)
    }

    pub(crate) async fn receive_bytes(&self) -> Result<Bytes, SessionError> {
        let lost = || {
            SessionError::Connection("the other end closed the connection before the sync was done".into())
        };
        self.connection.receive().await?.ok_or_else(lost)
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
}

/// How long an end that does not listen is told why it ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// An estimate from above of a row's encoded bytes.
pub(crate) fn row_size(row: &Row) -> usize {
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
