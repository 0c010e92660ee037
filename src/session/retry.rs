//! Trying again after the connection was lost: when that makes sense, and how long to wait before.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use super::error::SessionError;
use super::options::Retries;

/// The first wait.
const SHORTEST: Duration = Duration::from_millis(500);
/// The longest; each is twice the one before.
const LONGEST: Duration = Duration::from_secs(60);

/// The waits before each further attempt, at most `times` of them; without it, for ever.
pub(crate) fn waits(times: Option<usize>) -> ExponentialBackoff {
    let waits = ExponentialBuilder::default().with_min_delay(SHORTEST).with_max_delay(LONGEST).with_jitter();
    match times {
        Some(times) => waits.with_max_times(times),
        None => waits.without_max_times(),
    }
    .build()
}

/// What is left of the attempts that a user allows.
pub(crate) struct Attempts {
    waits: ExponentialBackoff,
    times: usize,
    begun: usize,
    /// Whether a connection that was never made is tried again.
    first: bool,
}

impl Attempts {
    pub(crate) fn new(retries: Retries) -> Attempts {
        let times = retries.times as usize;
        Attempts { waits: waits(Some(times)), times, begun: 0, first: retries.first }
    }

    /// How long to wait before the next attempt, and what to tell the user meanwhile; none if `error` has to be final.
    /// `reached`: whether this run has been connected at all.
    pub(crate) fn next(
        &mut self,
        error: &SessionError,
        reached: bool,
        peer: &str,
    ) -> Option<(Duration, String)> {
        let what = error.passing()?;
        if !reached && !self.first {
            return None;
        }
        let wait = self.waits.next()?;
        self.begun += 1;
        let text = format!("{what} {peer}: trying again, {} of {}", self.begun, self.times);
        Some((wait, text))
    }
}

impl SessionError {
    /// What happened, if it may pass by itself: no connection, or silence. Whatever somebody refused stays refused.
    pub(crate) fn passing(&self) -> Option<&'static str> {
        match self {
            SessionError::Connection(_) => Some("lost the connection to"),
            SessionError::Timeout(_) => Some("heard nothing from"),
            SessionError::ConnectTimeout(_) => Some("could not reach"),
            SessionError::Incompatible(_)
            | SessionError::Refused(_)
            | SessionError::Root(_)
            | SessionError::Protocol(_)
            | SessionError::Guard { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost() -> SessionError {
        SessionError::Connection("it rained".into())
    }

    #[test]
    fn waits_grow_up_to_a_minute_and_are_never_the_same_for_everybody() {
        let waits: Vec<Duration> = waits(None).take(20).collect();
        assert!(waits[0] >= SHORTEST && waits[0] < 2 * SHORTEST, "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= 2 * LONGEST), "{waits:?}");
        assert!(waits[19] >= LONGEST, "{waits:?}");
    }

    #[test]
    fn a_lost_connection_is_taken_up_as_often_as_was_asked_for() {
        let mut attempts = Attempts::new(Retries { times: 2, first: false });
        let texts: Vec<_> =
            std::iter::from_fn(|| attempts.next(&lost(), true, "nas")).map(|(_, text)| text).collect();
        assert_eq!(
            texts,
            [
                "lost the connection to nas: trying again, 1 of 2",
                "lost the connection to nas: trying again, 2 of 2"
            ]
        );
    }

    #[test]
    fn what_was_refused_or_never_reached_is_not_tried_again_unasked() {
        let retries = Retries { times: 9, first: false };
        assert!(Attempts::new(retries).next(&lost(), false, "nas").is_none());
        assert!(Attempts::new(Retries { first: true, ..retries }).next(&lost(), false, "nas").is_some());
        for error in [
            SessionError::Refused("no key".into()),
            SessionError::Root("no root".into()),
            SessionError::broke("it"),
            SessionError::Guard { code: 25, text: "too many".into() },
        ] {
            assert!(Attempts::new(retries).next(&error, true, "nas").is_none(), "{error}");
        }
    }
}
