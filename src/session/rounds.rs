//! A watch seen from System 1: after each round it says when its root may have changed, and serves the round that follows.

use std::sync::Arc;

use bytes::Bytes;

use super::error::SessionError;
use super::local::Local;
use super::server::Session;
use super::warm::Warm;
use crate::core::path::RelPath;
use crate::protocol::message::{Hello, Message};
use crate::protocol::{codec, extension};

/// What System 1 keeps from round to round, for one client and as long as its connection.
pub(super) struct Kept {
    pub(super) local: Arc<Local>,
    pub(super) warm: Warm,
    /// What the client named: export, folder below it, its own root.
    named: (String, RelPath, Option<[u8; 16]>),
}

impl Kept {
    /// For the client that said `hello`; none if it wants one round only.
    pub(super) fn of(hello: &Hello, local: &Arc<Local>) -> Result<Option<Kept>, SessionError> {
        if !extension::watch(&hello.extensions) || hello.wish.dry {
            return Ok(None);
        }
        let (local, warm) = (local.clone(), Warm::new(local.clone())?);
        Ok(Some(Kept { local, warm, named: named(hello) }))
    }

    /// Further rounds are about the same two roots.
    pub(super) fn check(&self, hello: &Hello) -> Result<(), SessionError> {
        if self.named == named(hello) && extension::watch(&hello.extensions) && !hello.wish.dry {
            Ok(())
        } else {
            Err(SessionError::broke("it began a further round about something else"))
        }
    }
}

fn named(hello: &Hello) -> (String, RelPath, Option<[u8; 16]>) {
    (hello.export.clone(), hello.sub.clone(), hello.root)
}

impl Session<'_> {
    /// One round, or as many as the client wants.
    pub(super) async fn rounds(&self) -> Result<(), SessionError> {
        let mut hello = self.control.receive_bytes().await?;
        let mut kept = None;
        loop {
            self.round(&codec::decode_hello(&hello)?.1, &mut kept).await?;
            let Some(kept) = &kept else { return Ok(()) };
            match self.next_hello(kept).await? {
                Some(next) => hello = next,
                None => return Ok(()),
            }
        }
    }

    /// Waits for the client's next round, and says once that there is reason for one. `None` when the client has left,
    /// or the server is to stop.
    async fn next_hello(&self, kept: &Kept) -> Result<Option<Bytes>, SessionError> {
        let mut said = false;
        loop {
            tokio::select! {
                hello = self.control.receive_sometime() => return hello,
                () = kept.warm.changed(), if !said => {
                    said = true;
                    self.control.send(&Message::Changed).await?;
                }
                () = self.exports.stopping.begun() => return Ok(None),
            }
        }
    }
}
