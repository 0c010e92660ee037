//! A channel on its way to being open.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use russh::{ChannelOpenFailure, client};

use super::SUBSYSTEM;
use super::channel::Channel;
use super::error::CarrierError;
use super::link::Link;
use super::port::Port;
use super::visitor::Visitor;

type Steps = Pin<Box<dyn Future<Output = Result<Channel, CarrierError>> + Send>>;

/// Opens a channel. Dropped half-way it goes on by itself and closes the channel, which the server would otherwise count as
/// open for ever.
pub(super) struct Opening(Option<Steps>);

impl Opening {
    pub(super) fn new(link: Arc<Link>, handle: Arc<client::Handle<Visitor>>) -> Self {
        Self(Some(Box::pin(async move {
            let opened = open(&link, handle).await;
            link.opening.fetch_sub(1, Ordering::SeqCst);
            if opened.is_err() {
                link.note_idle();
            }
            opened
        })))
    }

    pub(super) async fn wait(mut self) -> Result<Channel, CarrierError> {
        let Some(steps) = &mut self.0 else { return Err(CarrierError::Closed) };
        let opened = steps.await;
        self.0 = None;
        opened
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let (Some(steps), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move { drop(steps.await) });
        }
    }
}

async fn open(link: &Arc<Link>, handle: Arc<client::Handle<Visitor>>) -> Result<Channel, CarrierError> {
    let over = || link.cause().unwrap_or_else(|| CarrierError::lost("the session ended"));
    let opened = handle.channel_open_session().await.map_err(|error| match error {
        russh::Error::ChannelOpenFailure(why) => refused(&why),
        _ => over(),
    })?;
    // What arrives comes through the session's handler; russh's own queue would block the session when nobody reads.
    let (_, half) = opened.split();
    let number = half.id().number();
    let port = Port::Client(handle, half);
    let lane = link.until_entered(number).await?;
    let channel = Channel::new(lane, port);
    channel.request(SUBSYSTEM).await?;
    Ok(channel)
}

fn refused(why: &ChannelOpenFailure) -> CarrierError {
    CarrierError::Refused(Arc::from(why.description().to_lowercase()))
}
