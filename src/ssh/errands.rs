//! What the client's session does at its next turn: ask for channels, and close some.
//!
//! Through russh's handle each takes a queued message, and a channel that is opened that way a queue of its own and a task to be
//! woken for it; and russh keeps 3 KiB of it for as long as the session lives if this end closes it first. The session itself,
//! which its handler has in its hands when the server has said something, needs none of that. But only then: so a channel is asked
//! for like this only while the server owes an answer to an earlier request, and answers are coming in: the first of many must
//! not wait a round trip for each other.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use russh::client::Session;
use russh::{ChannelId, ChannelOpenFailure};
use tokio::sync::oneshot;

use super::channel::Channel;
use super::error::CarrierError;
use super::lane::Lane;
use super::link::Link;
use super::opening::refused;
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
    /// Whether an answer has come since the first of those was made.
    answering: bool,
    wanted: Vec<(String, Asked)>,
    /// Those of them that were made here, by this end's number of the channel.
    asked: HashMap<u32, Asked>,
    closing: Vec<(ChannelId, Arc<Lane>)>,
    /// The session has ended. Nothing is kept from then on: it would keep the link, which keeps this.
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
    pub(super) fn opened(self, link: &Arc<Link>, channel: ChannelId) -> Result<(), CarrierError> {
        let lane = Lane::new(channel.number(), 0, link.clone());
        link.enter(&lane)?;
        link.answered(self.id, &lane);
        link.opening.fetch_sub(1, Ordering::SeqCst);
        // Where nobody waits any more it is dropped, which closes it.
        let _ = self.answer.send(Ok(Channel::listening(lane, channel)));
        Ok(())
    }

    /// The server does not open it.
    pub(super) fn refused(self, link: &Link, why: &ChannelOpenFailure) {
        link.opening.fetch_sub(1, Ordering::SeqCst);
        link.unanswered(self.id);
        let _ = self.answer.send(Err(refused(why)));
        link.note_idle();
    }
}

impl Errands {
    /// A channel is asked for through the handle.
    pub(super) fn expect(&self) {
        let mut state = locked(&self.0);
        state.answering &= state.unanswered > 0;
        state.unanswered += 1;
    }

    /// Asks for a channel at the session's next turn; gives `name` back where nothing says that there will be one soon.
    pub(super) fn ask(&self, id: u32, name: String) -> Result<oneshot::Receiver<Answer>, String> {
        let mut state = locked(&self.0);
        if state.unanswered == 0 || !state.answering || state.over {
            return Err(name);
        }
        let (answer, answered) = oneshot::channel();
        state.wanted.push((name, Asked { id, answer }));
        Ok(answered)
    }

    /// Closes a channel at the session's next turn. What is consumed on its lane is acknowledged until then.
    pub(super) fn close(&self, id: ChannelId, lane: Arc<Lane>) {
        let mut state = locked(&self.0);
        if !state.over {
            state.closing.push((id, lane));
        }
    }

    /// The server has answered a request. Returns who waits for it, where it was made here.
    pub(super) fn answered(&self, number: u32) -> Option<Asked> {
        let mut state = locked(&self.0);
        state.unanswered = state.unanswered.saturating_sub(1);
        state.answering = true;
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

#[cfg(test)]
mod tests {
    use russh::keys::ssh_encoding::Decode;

    use super::*;
    use crate::ssh::flow::Flow;

    fn number() -> ChannelId {
        ChannelId::decode(&mut &[0, 0, 0, 1][..]).unwrap()
    }

    #[test]
    fn a_request_waits_for_the_next_answer_only_while_answers_come_in() {
        let errands = Errands::default();
        let taken = || errands.ask(1, "name".into()).is_ok();
        assert!(!taken(), "nothing is to come");
        errands.expect();
        errands.expect();
        assert!(!taken(), "the first answer may take a round trip");
        errands.answered(1);
        assert!(taken());
        errands.answered(2);
        assert!(!taken(), "that was the last");
        errands.expect();
        assert!(!taken(), "a new round of requests has no answer yet");
        errands.answered(3);
        errands.expect();
        errands.end();
        assert!(!taken(), "nobody answers any more");
    }

    #[tokio::test]
    async fn nothing_more_can_be_said_on_a_channel_that_listens() {
        let link = Link::new(&Flow::default());
        let mut channel = Channel::listening(Lane::new(1, 1, link), number());
        let more = bytes::Bytes::from_static(b"more");
        assert_eq!(channel.writer.send(more).await, Err(CarrierError::Finished));
    }

    #[test]
    fn a_link_that_has_ended_is_kept_by_nothing_that_it_keeps() {
        let link = Link::new(&Flow::default());
        let lane = |number| {
            let lane = Lane::new(number, number, link.clone());
            link.enter(&lane).unwrap();
            link.enter_sender(&lane).unwrap();
            lane.arrive(b"content", 256).unwrap();
            lane
        };
        let (before, after) = (lane(1), lane(2));
        before.consume(256);
        link.errands.close(number(), before);
        link.fail(CarrierError::Closed);
        after.consume(256);
        link.errands.close(number(), after.clone());
        link.answered(2, &after);
        assert!(link.enter(&after).is_err() && link.enter_sender(&after).is_err());
        drop(after);
        assert_eq!(Arc::strong_count(&link), 1);
    }
}
