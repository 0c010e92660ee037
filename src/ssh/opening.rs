//! A channel on its way to being open.
//!
//! Channels are asked for in the order in which their openings are made, whichever task waits for which: the first step, to
//! queue the request, is taken at once, and the session's queue is fair.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use russh::{ChannelOpenFailure, client};

use super::channel::Channel;
use super::error::CarrierError;
use super::frame::call;
use super::link::Link;
use super::port::Port;
use super::visitor::Visitor;

type Steps = Pin<Box<dyn Future<Output = Result<Channel, CarrierError>> + Send>>;

/// Opens a channel. Dropped half-way it goes on by itself and closes the channel, which the server would otherwise count as
/// open for ever.
pub struct Opening {
    steps: Option<Steps>,
    /// What the first step ended with, where it was the last.
    opened: Option<Result<Channel, CarrierError>>,
}

impl Opening {
    /// `first`: what is said on the channel along with the request for it.
    pub(super) fn new(link: Arc<Link>, handle: Arc<client::Handle<Visitor>>, first: &[u8]) -> Self {
        let id = link.call();
        let name = call(id, first);
        let mut steps: Steps = Box::pin(async move {
            let opened = open(&link, handle, id, name).await;
            link.opening.fetch_sub(1, Ordering::SeqCst);
            if opened.is_err() {
                link.unanswered(id);
                link.note_idle();
            }
            opened
        });
        // Whoever waits will be woken: waiting begins with another look.
        match steps.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(opened) => Self { steps: None, opened: Some(opened) },
            Poll::Pending => Self { steps: Some(steps), opened: None },
        }
    }

    /// As it is, but it goes on while nobody waits for it. One that does not must be waited for at once: it may hold a
    /// place in the session's queue that others wait for.
    pub fn unattended(mut self) -> Self {
        let Some(steps) = self.steps.take() else { return self };
        let task = tokio::spawn(steps);
        let ended = async move { task.await.unwrap_or(Err(CarrierError::Closed)) };
        Self { steps: Some(Box::pin(ended)), opened: None }
    }

    /// The open channel.
    ///
    /// # Errors
    /// The server refused it, or the connection ended. May be dropped while it waits.
    pub async fn wait(mut self) -> Result<Channel, CarrierError> {
        let opened = match &mut self.steps {
            Some(steps) => steps.await,
            None => return self.opened.take().unwrap_or(Err(CarrierError::Closed)),
        };
        self.steps = None;
        opened
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let (Some(steps), Ok(runtime)) = (self.steps.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move { drop(steps.await) });
        }
    }
}

/// The request is the one kind that can carry bytes of ours: without that a file would cost two more messages, and on a long
/// line one more round trip.
async fn open(
    link: &Arc<Link>,
    handle: Arc<client::Handle<Visitor>>,
    id: u32,
    name: String,
) -> Result<Channel, CarrierError> {
    let over = || link.cause().unwrap_or_else(|| CarrierError::lost("the session ended"));
    let opened = handle.channel_open_direct_streamlocal(name).await.map_err(|error| match error {
        russh::Error::ChannelOpenFailure(why) => refused(&why),
        _ => over(),
    })?;
    // What arrives comes through the session's handler; russh's own queue would block the session when nobody reads.
    let (_, half) = opened.split();
    let number = half.id().number();
    let port = Port::Client(handle, half);
    let lane = link.until_entered(number).await?;
    link.answered(id, &lane);
    Ok(Channel::new(lane, port))
}

fn refused(why: &ChannelOpenFailure) -> CarrierError {
    CarrierError::Refused(Arc::from(why.description().to_lowercase()))
}
