//! What the client's session does at its next turn: ask for channels, and close some.
//!
//! Through russh's handle each takes a queued message, and a channel that is opened that way a queue of its own and a task to be
//! woken for it; and russh keeps 3 KiB of it for as long as the session lives if this end closes it first. The session itself,
//! which its handler has in its hands whenever the server says anything, needs none of that. But only then: so a channel is asked
//! for like this only while the server owes an answer to an earlier request.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use russh::ChannelId;
use russh::client::Session;
use tokio::sync::oneshot;

use super::channel::Channel;
use super::error::CarrierError;
use super::lane::Lane;
use super::link::Link;
use super::wait::locked;

/// What became of a request for a channel.
pub(super) type Answer = Result<Channel, CarrierError>;

/// See the module.
#[derive(Default)]
pub(super) struct Errands(Mutex<State>);

#[derive(Default)]
struct State {
    /// Requests that the server has not answered, made in either way.
    unanswered: usize,
    wanted: Vec<(String, Asked)>,
    /// Those of them that were made here, by this end's number of the channel.
    asked: HashMap<u32, Asked>,
    closing: Vec<(ChannelId, Arc<Lane>)>,
    /// The session has ended.
    over: bool,
}

/// A channel that was asked for, and who waits for it.
pub(super) struct Asked {
    /// The number that both ends will know it by.
    id: u32,
    answer: oneshot::Sender<Answer>,
}

impl Asked {
    /// The server has opened it.
    pub(super) fn opened(self, link: &Arc<Link>, channel: ChannelId) {
        let lane = Lane::new(channel.number(), self.id, link.clone());
        link.enter(&lane);
        link.answered(self.id, &lane);
        link.opening.fetch_sub(1, Ordering::SeqCst);
        // Where nobody waits any more it is dropped, which closes it.
        let _ = self.answer.send(Ok(Channel::listening(lane, channel)));
    }

    /// The server does not open it.
    pub(super) fn refused(self, link: &Link, why: &str) {
        link.opening.fetch_sub(1, Ordering::SeqCst);
        link.unanswered(self.id);
        let _ = self.answer.send(Err(CarrierError::Refused(why.to_lowercase().into())));
        link.note_idle();
    }
}

impl Errands {
    /// A channel is asked for through the handle.
    pub(super) fn expect(&self) {
        locked(&self.0).unanswered += 1;
    }

    /// Asks for a channel at the session's next turn; gives `name` back where nothing says that there will be one.
    pub(super) fn ask(&self, id: u32, name: String) -> Result<oneshot::Receiver<Answer>, String> {
        let mut state = locked(&self.0);
        if state.unanswered == 0 || state.over {
            return Err(name);
        }
        let (answer, answered) = oneshot::channel();
        state.wanted.push((name, Asked { id, answer }));
        Ok(answered)
    }

    /// Closes a channel at the session's next turn. What is consumed on its lane is acknowledged until then.
    pub(super) fn close(&self, id: ChannelId, lane: Arc<Lane>) {
        locked(&self.0).closing.push((id, lane));
    }

    /// The server has answered a request. Returns who waits for it, where it was made here.
    pub(super) fn answered(&self, number: u32) -> Option<Asked> {
        let mut state = locked(&self.0);
        state.unanswered = state.unanswered.saturating_sub(1);
        state.asked.remove(&number)
    }

    /// The session has its turn.
    pub(super) fn run(&self, session: &mut Session) -> Result<(), russh::Error> {
        let mut state = locked(&self.0);
        for (id, lane) in state.closing.drain(..) {
            // Before the server takes its credit back.
            lane.release();
            session.close(id)?;
        }
        for (name, asked) in std::mem::take(&mut state.wanted) {
            let number = session.channel_open_direct_streamlocal(&name)?.number();
            state.unanswered += 1;
            state.asked.insert(number, asked);
        }
        Ok(())
    }

    /// The session has ended: nobody waits any more, and nothing more can be asked for here.
    pub(super) fn end(&self) {
        *locked(&self.0) = State { over: true, ..State::default() };
    }
}
