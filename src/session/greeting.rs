//! Step 1 of the exchange, on System 2: hello and welcome, which exchange the policy and both clocks.

use super::client::Remote;
use super::control::Control;
use super::error::SessionError;
use super::local::Local;
use super::options::Options;
use crate::core::age::Timestamp;
use crate::core::side::Sides;
use crate::protocol::message::{Begin, Hello, Message, Welcome};
use crate::protocol::{codec, extension};
use crate::replica::filter::Rules;
use crate::replica::identity::Id;

/// What the greeting settled.
pub(crate) struct Met {
    pub(crate) welcome: Welcome,
    /// Both clocks at the hello.
    pub(crate) now: Sides<Timestamp>,
    pub(crate) uncertainty: i64,
    /// Half the least round trip, in nanoseconds. A side that is busy, or its machine, may have held up the welcome.
    pub(crate) delay: i64,
}

impl Met {
    /// System 1's root.
    pub(crate) fn peer(&self) -> Option<Id> {
        self.welcome.root.map(Id)
    }

    /// What both sides must share, where this one uses the base of that run.
    pub(crate) fn begin(&self, base: Option<Id>) -> Begin {
        let base = base.map(|run| run.0);
        Begin { uncertainty: self.uncertainty, delay: self.delay, clock: self.now.two, base }
    }
}

/// A hello that was said.
pub(crate) struct Said<'a> {
    control: &'a Control,
    remote: &'a Remote,
    options: &'a Options,
    at: Timestamp,
}

/// Hello and welcome. Half of what the round trip spent on the way is how little can be said about whose
/// clock is ahead (Cristian's algorithm).
pub(crate) async fn greet(
    control: &Control,
    local: &Local,
    remote: &Remote,
    rules: Rules,
    options: &Options,
) -> Result<Met, SessionError> {
    say_hello(control, local, remote, rules, options).await?.welcome().await
}

/// The hello alone; whoever says it waits for the welcome next.
pub(crate) async fn say_hello<'a>(
    control: &'a Control,
    local: &Local,
    remote: &'a Remote,
    rules: Rules,
    options: &'a Options,
) -> Result<Said<'a>, SessionError> {
    let hello = Hello {
        export: remote.export.clone(),
        sub: remote.sub.clone(),
        root: local.id().map(|id| id.0),
        wish: options.wish(),
        rules: rules.into(),
        extensions: extension::of_hello(options.bwlimit, options.watch),
    };
    let at = options.clock.now();
    control.send_bytes(codec::encode_hello(&hello)?).await?;
    Ok(Said { control, remote, options, at })
}

impl Said<'_> {
    /// The answer.
    pub(crate) async fn welcome(self) -> Result<Met, SessionError> {
        let Said { control, remote, options, at: sent } = self;
        control.served(&remote.name).await?;
        let mut answer = control.receive_bytes().await?;
        // What System 1 said while it still waited for this round: what it speaks of, this round will find.
        if options.watch && matches!(codec::decode(&answer), Ok(Message::Changed)) {
            answer = control.receive_bytes().await?;
        }
        let (_, answer) = codec::decode_welcome(&answer)?;
        let received = options.clock.now();
        let welcome = answer.map_err(|refusal| SessionError::by_peer(&refusal))?;
        if options.watch && !extension::watch(&welcome.extensions) {
            return Err(SessionError::Incompatible(
                "the other end cannot keep watching its folder: update syncfiles there".into(),
            ));
        }
        let held = i64::try_from(welcome.held).unwrap_or(i64::MAX);
        let uncertainty = received.0.saturating_sub(sent.0).saturating_sub(held).max(0) / 2;
        let now = Sides { one: welcome.clock, two: Timestamp(sent.0.saturating_add(uncertainty)) };
        let delay = least(uncertainty, control.round_trip());
        Ok(Met { welcome, now, uncertainty, delay })
    }
}

/// Half the least round trip. Both ends scan by the time of the welcome, and on a busy machine it may wait for a processor
/// longer than for the line; nothing makes an answer come earlier than the line allows.
fn least(uncertainty: i64, login: Option<i64>) -> i64 {
    login.map_or(uncertainty, |trip| uncertainty.min(trip / 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::packed::Compress;
    use crate::session::packing::Packing;

    #[test]
    fn a_welcome_that_was_held_up_does_not_make_the_line_a_slow_one() {
        let ms = 1_000_000;
        let of = |welcome, login| Packing::of(Compress::Auto, least(welcome * ms / 2, login));
        assert_eq!(of(30, Some(ms / 5)), Packing::Off);
        assert_eq!(of(1, Some(30 * ms)), Packing::Off);
        assert_eq!(of(30, Some(31 * ms)), Packing::Sampled);
        assert_eq!(of(30, None), Packing::Sampled);
    }
}
