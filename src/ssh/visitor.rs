//! What russh's client session calls back.

use std::sync::{Arc, Mutex, OnceLock};

use russh::client::{self, DisconnectReason, Session};
use russh::keys::{PublicKey, PublicKeyOrCertificate};
use russh::{Channel, ChannelId, ChannelOpenFailure, Names};

use super::client::HostCheck;
use super::error::{CarrierError, ConnectError};
use super::flow::charge;
use super::lane::Lane;
use super::link::{CONFIRMED_TWICE, Link};
use super::login::Asking;
use super::wait::locked;

/// What became of the host key, told past russh.
#[derive(Default)]
pub(super) struct Verdict {
    /// The key that was accepted before: no other will do, and nobody is asked.
    accepted: Option<PublicKey>,
    /// The key that the server showed, once it was accepted.
    pub(super) key: OnceLock<PublicKey>,
    refusal: Mutex<Option<String>>,
    /// Whether a person may be being asked: about the host, for a passphrase.
    pub(super) asking: Asking,
}

impl Verdict {
    /// `accepted`: the key that was accepted before.
    pub(super) fn new(accepted: Option<PublicKey>) -> Self {
        Self { accepted, ..Self::default() }
    }

    /// The error of a handshake that was stopped.
    pub(super) fn explain(&self, stop: &Stop) -> ConnectError {
        let refusal = locked(&self.refusal).take();
        match (refusal, stop) {
            (Some(why), _) => ConnectError::HostKey(why),
            (None, Stop::Ssh(error)) => ConnectError::broken(error),
            (None, Stop::Carrier(error)) => ConnectError::Protocol(error.to_string()),
        }
    }

    fn refuse(&self, why: String) -> bool {
        *locked(&self.refusal) = Some(why);
        false
    }
}

/// Why a session was stopped: by russh or by us.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    #[error("{0}")]
    Ssh(#[from] russh::Error),
    #[error("{0}")]
    Carrier(#[from] CarrierError),
}

/// What russh's client session calls back. Never waits, but for the host-key check.
pub(super) struct Visitor {
    pub(super) link: Arc<Link>,
    pub(super) check: Arc<dyn HostCheck>,
    pub(super) verdict: Arc<Verdict>,
    /// This end's number of the link channel: the first one opened.
    pub(super) link_number: Option<u32>,
}

impl Drop for Visitor {
    /// The session has ended, for whatever reason.
    fn drop(&mut self) {
        self.link.hung_up("the server hung up");
    }
}

impl Visitor {
    /// A broken protocol ends the connection with its own cause.
    fn judge(&self, result: Result<(), CarrierError>) -> Result<(), Stop> {
        result.inspect_err(|cause| self.link.fail(cause.clone())).map_err(Stop::from)
    }

    /// Takes in bytes of a channel.
    fn arrived(&self, id: ChannelId, data: &[u8]) -> Result<(), Stop> {
        if self.link_number == Some(id.number()) {
            return match self.link.arrive(data) {
                Ok(rest) if rest.is_empty() => Ok(()),
                Ok(_) => self.judge(Err(CarrierError::Protocol("a frame that only clients send"))),
                Err(cause) => self.judge(Err(cause)),
            };
        }
        match self.link.lane(id.number()) {
            Some(lane) => self.judge(lane.arrive(data, charge(data.len()))),
            None => Ok(()),
        }
    }
}

/// Every channel that a server tries to open is refused.
macro_rules! server_opens_nothing {
    ($($name:ident($($what:ty),*);)*) => {$(
        async fn $name(
            &mut self,
            _: Channel<client::Msg>,
            $(_: $what,)*
            reply: client::ChannelOpenHandle,
            _: &mut Session,
        ) -> Result<(), Stop> {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            Ok(())
        }
    )*};
}

impl client::Handler for Visitor {
    type Error = Stop;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Stop> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = key else {
            return Ok(self.verdict.refuse("the server showed a certificate that was not asked for".into()));
        };
        if let Some(accepted) = &self.verdict.accepted {
            let same = accepted.key_data() == key.key_data();
            return Ok(same || self.verdict.refuse("the server's host key changed during the sync".into()));
        }
        let asked = self.verdict.asking.begin();
        let answer = self.check.check(key.clone()).await;
        drop(asked);
        if let Err(why) = answer {
            return Ok(self.verdict.refuse(why));
        }
        let _ = self.verdict.key.set(key.clone());
        Ok(true)
    }

    /// Against Terrapin. russh tells only the client, so the client insists for both ends.
    async fn kex_done(&mut self, _: Option<&[u8]>, names: &Names, _: &mut Session) -> Result<(), Stop> {
        match names.strict_kex() {
            true => Ok(()),
            false => Err(CarrierError::Protocol("no strict key exchange").into()),
        }
    }

    async fn channel_open_confirmation(
        &mut self,
        id: ChannelId,
        _: u32,
        _: u32,
        session: &mut Session,
    ) -> Result<(), Stop> {
        if self.link_number.is_none() {
            self.link_number = Some(id.number());
            return Ok(());
        }
        let entered = match self.link.errands.answered(id.number()) {
            _ if self.link_number == Some(id.number()) => Err(CONFIRMED_TWICE),
            Some(asked) => asked.opened(&self.link, id),
            None => self.link.enter_kept(&Lane::new(id.number(), 0, self.link.clone())),
        };
        self.judge(entered)?;
        Ok(self.link.errands.run(session)?)
    }

    async fn channel_open_failure(
        &mut self,
        id: ChannelId,
        why: ChannelOpenFailure,
        _: &str,
        _: &str,
        session: &mut Session,
    ) -> Result<(), Stop> {
        if let Some(asked) = self.link.errands.answered(id.number()) {
            asked.refused(&self.link, &why);
        }
        Ok(self.link.errands.run(session)?)
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], session: &mut Session) -> Result<(), Stop> {
        self.arrived(id, data)?;
        Ok(self.link.errands.run(session)?)
    }

    async fn channel_eof(&mut self, id: ChannelId, session: &mut Session) -> Result<(), Stop> {
        if let Some(lane) = self.link.lane(id.number()) {
            lane.arrive_eof();
        }
        Ok(self.link.errands.run(session)?)
    }

    async fn channel_close(&mut self, id: ChannelId, session: &mut Session) -> Result<(), Stop> {
        if self.link_number == Some(id.number()) {
            let cause = if self.link.farewell() { CarrierError::Closed } else { CarrierError::Abandoned };
            return self.judge(Err(cause));
        }
        self.link.peer_closed(id.number());
        Ok(self.link.errands.run(session)?)
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Stop>) -> Result<(), Stop> {
        match reason {
            DisconnectReason::Error(Stop::Carrier(cause)) => self.link.fail(cause),
            DisconnectReason::Error(Stop::Ssh(error)) => self.link.hung_up(&error.to_string()),
            DisconnectReason::ReceivedDisconnect(_) => self.link.hung_up("the server hung up"),
        }
        Ok(())
    }

    server_opens_nothing! {
        server_channel_open_session();
        server_channel_open_agent_forward();
        server_channel_open_x11(&str, u32);
        server_channel_open_direct_streamlocal(&str);
        server_channel_open_forwarded_streamlocal(&str);
        server_channel_open_direct_tcpip(&str, u32, &str, u32);
        server_channel_open_forwarded_tcpip(&str, u32, &str, u32);
    }
}
