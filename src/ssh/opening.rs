//! A channel on its way to being open.
//!
//! Channels are asked for in the order in which their openings are made, whichever task waits for which: the first step, to
//! queue the request, is taken at once, and the session's queue is fair.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use russh::{ChannelOpenFailure, client};
use tokio::sync::oneshot;

use super::channel::Channel;
use super::errands::Answer;
use super::error::CarrierError;
use super::frame::call;
use super::link::Link;
use super::port::Port;
use super::visitor::Visitor;

type Steps = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Opens a channel. Dropped half-way it goes on by itself and closes the channel, which the server would otherwise count as
/// open for ever.
pub struct Opening(State);

enum State {
    /// Through the handle; the request is on its way.
    Steps(Steps),
    /// As an [errand](super::errands).
    Errand(oneshot::Receiver<Answer>, Arc<Link>),
    Ended(Answer),
}

impl Opening {
    /// `first`: what is said on the channel along with the request for it.
    pub(super) fn new(link: Arc<Link>, handle: Arc<client::Handle<Visitor>>, first: &[u8]) -> Self {
        let id = link.call();
        Self::through_handle(link, handle, id, call(id, first))
    }

    /// Asks for a channel on which this end says nothing but `first`, as soon as the server says something: at once where
    /// nothing makes sure that it will.
    pub(super) fn listening(link: Arc<Link>, handle: Arc<client::Handle<Visitor>>, first: &[u8]) -> Self {
        let id = link.call();
        match link.errands.ask(id, call(id, first)) {
            Ok(answer) => Self(State::Errand(answer, link)),
            Err(name) => Self::through_handle(link, handle, id, name),
        }
    }

    fn through_handle(link: Arc<Link>, handle: Arc<client::Handle<Visitor>>, id: u32, name: String) -> Self {
        link.errands.expect();
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
            Poll::Ready(opened) => Self(State::Ended(opened)),
            Poll::Pending => Self(State::Steps(steps)),
        }
    }

    /// As it is, but it goes on while nobody waits for it. One that does not must be waited for at once: it may hold a
    /// place in the session's queue that others wait for.
    pub fn unattended(mut self) -> Self {
        let Some(steps) = self.steps() else { return self };
        let task = tokio::spawn(steps);
        Self(State::Steps(Box::pin(async move { task.await.unwrap_or(Err(CarrierError::Closed)) })))
    }

    /// The open channel.
    ///
    /// # Errors
    /// The server refused it, or the connection ended. May be dropped while it waits.
    pub async fn wait(mut self) -> Answer {
        let answer = match &mut self.0 {
            State::Steps(steps) => steps.await,
            State::Errand(answer, link) => answer.await.unwrap_or_else(|_| Err(over(link))),
            State::Ended(answer) => std::mem::replace(answer, Err(CarrierError::Closed)),
        };
        self.0 = State::Ended(Err(CarrierError::Closed));
        answer
    }

    fn steps(&mut self) -> Option<Steps> {
        match std::mem::replace(&mut self.0, State::Ended(Err(CarrierError::Closed))) {
            State::Steps(steps) => Some(steps),
            other => {
                self.0 = other;
                None
            }
        }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let (Some(steps), Ok(runtime)) = (self.steps(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move { drop(steps.await) });
        }
    }
}

fn over(link: &Link) -> CarrierError {
    link.cause().unwrap_or_else(|| CarrierError::lost("the session ended"))
}

/// The request is the one kind that can carry bytes of ours: without that a file would cost two more messages, and on a long
/// line one more round trip.
async fn open(link: &Arc<Link>, handle: Arc<client::Handle<Visitor>>, id: u32, name: String) -> Answer {
    let opened = handle.channel_open_direct_streamlocal(name).await.map_err(|error| match error {
        russh::Error::ChannelOpenFailure(why) => refused(&why),
        _ => over(link),
    })?;
    // What arrives comes through the session's handler; russh's own queue would block the session when nobody reads.
    let (_, half) = opened.split();
    let number = half.id().number();
    let port = Port::Client(handle, half);
    let lane = link.until_entered(number).await?;
    link.answered(id, &lane);
    Ok(Channel::new(lane, port))
}

/// In our words: a server may say anything.
pub(super) fn refused(why: &ChannelOpenFailure) -> CarrierError {
    CarrierError::Refused(Arc::from(why.description().to_lowercase()))
}
