//! What russh's server session calls back for one SSH connection: who may come in, and the refusal of everything else.

use std::net::SocketAddr;
use std::sync::Arc;

use russh::keys::{Certificate, HashAlg, PublicKey};
use russh::server::{self, Auth, ChannelOpenHandle, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, MethodKind, MethodSet, Pty};
use tokio::sync::oneshot;

use super::SUBSYSTEM;
use super::error::CarrierError;
use super::flow::charge;
use super::frame::{Frame, LINK, PREFACE, parse_call};
use super::lane::Lane;
use super::link::Link;
use super::port::Port;
use super::principal::{Door, Grant, Peer, Principal, describe};
use super::recycle::Successors;
use super::slot::{Slot, Slots};
use super::visitor::Stop;

/// See the module.
pub(super) struct Guest {
    pub(super) door: Door,
    pub(super) address: Option<SocketAddr>,
    pub(super) link: Arc<Link>,
    pub(super) successors: Arc<Successors>,
    /// Tells the server when the link channel has greeted: who it is, and where the link is written.
    pub(super) ready: Option<oneshot::Sender<(Principal, Port)>>,
    principal: Option<Principal>,
    slots: Slots,
    refused: u32,
}

/// Requests that are no business of ours before the connection is ended: each costs memory that is freed only then.
const REFUSALS: u32 = 64;

impl Guest {
    pub(super) fn new(
        door: Door,
        address: Option<SocketAddr>,
        link: Arc<Link>,
        successors: Arc<Successors>,
        caps: (usize, u64),
        ready: oneshot::Sender<(Principal, Port)>,
    ) -> Self {
        Self {
            door,
            address,
            link,
            successors,
            ready: Some(ready),
            principal: None,
            slots: Slots::new(caps),
            refused: 0,
        }
    }

    fn judge<T>(&self, result: Result<T, CarrierError>) -> Result<T, Stop> {
        result.inspect_err(|cause| self.link.fail(cause.clone())).map_err(Stop::from)
    }

    fn admit(&mut self, principal: Principal) -> Auth {
        match self.principal.is_none() && self.ready.is_some() {
            true => {
                self.principal = Some(principal);
                Auth::Accept
            }
            false => rejected(),
        }
    }

    fn admit_key(&mut self, user: &str, key: PublicKey, fingerprint: String, grant: Grant) -> Auth {
        let peer = Peer { user: user.into(), key: Some(key), fingerprint, address: self.address, grant };
        self.admit(Principal::Client(Box::new(peer)))
    }

    /// Says no to a request that wants the channel for something else, and closes it.
    fn refuse(&mut self, id: ChannelId, session: &mut Session) -> Result<(), Stop> {
        session.channel_failure(id)?;
        session.close(id)?;
        self.forget(id);
        self.count_refusal()
    }

    /// Says no to a request that a channel can do without.
    fn decline(&mut self, id: ChannelId, session: &mut Session) -> Result<(), Stop> {
        session.channel_failure(id)?;
        self.count_refusal()
    }

    fn count_refusal(&mut self) -> Result<(), Stop> {
        self.refused += 1;
        self.judge(match self.refused > REFUSALS {
            true => Err(CarrierError::Protocol("one request too many that is never served")),
            false => Ok(()),
        })
    }

    fn forget(&mut self, id: ChannelId) {
        if let Some(Slot::File(_) | Slot::Silent(_)) = self.slots.remove(id.number()) {
            self.link.peer_closed(id.number());
        }
    }

    /// The first bytes on the subsystem: nothing but a link, and only one.
    fn begin(&mut self, id: ChannelId, data: &[u8], session: &Session) -> Result<(), CarrierError> {
        const BAD: CarrierError = CarrierError::Protocol("a channel without its preface");
        let (head, rest) = data.split_first_chunk::<PREFACE>().ok_or(BAD)?;
        match head[0] {
            LINK => {
                let (Some(ready), Some(principal)) = (self.ready.take(), self.principal.take()) else {
                    return Err(BAD);
                };
                self.slots.set(id.number(), Slot::Link);
                self.link.trust();
                self.link_data(rest)?;
                let _ = ready.send((principal, Port::Server(session.handle(), id)));
                Ok(())
            }
            _ => Err(BAD),
        }
    }

    /// A file's channel, of a client whose link has greeted.
    fn welcome(&mut self, own: u32, id: u32) -> Result<Arc<Lane>, CarrierError> {
        let lane = Lane::new(own, id, self.link.clone());
        self.link.enter_sender(&lane)?;
        self.link.enter(&lane)?;
        self.slots.set(own, Slot::Silent(lane.clone()));
        Ok(lane)
    }

    /// Something was said on a file's channel for the first time: it is handed over.
    fn hand_over(&mut self, id: ChannelId, lane: Arc<Lane>, session: &Session) -> Result<(), CarrierError> {
        let owner = self.link.owner().ok_or(CarrierError::Protocol("a file before the hello"))?;
        self.slots.set(id.number(), Slot::File(lane.clone()));
        owner.arrived(lane, Port::Server(session.handle(), id));
        Ok(())
    }

    fn link_data(&mut self, data: &[u8]) -> Result<(), CarrierError> {
        for key in self.link.arrive(data)? {
            let owner = self.link.owner();
            let owner = owner.ok_or(CarrierError::Protocol("a successor before the hello"))?;
            self.successors.expect(&key, &owner)?;
            self.link.outbox.post(Frame::Expected);
        }
        Ok(())
    }
}

fn rejected() -> Auth {
    Auth::Reject {
        proceed_with_methods: Some(MethodSet::from(&[MethodKind::PublicKey][..])),
        partial_success: false,
    }
}

impl Drop for Guest {
    /// The session has ended, for whatever reason.
    fn drop(&mut self) {
        self.link.hung_up("the client hung up");
    }
}

impl server::Handler for Guest {
    type Error = Stop;

    async fn auth_none(&mut self, user: &str) -> Result<Auth, Stop> {
        let peer = Peer {
            user: user.into(),
            key: None,
            fingerprint: String::new(),
            address: self.address,
            grant: Arc::new(()),
        };
        Ok(match self.door {
            Door::Open => self.admit(Principal::Client(Box::new(peer))),
            Door::Keys(_) => rejected(),
        })
    }

    /// Here nothing has been verified, and nothing is granted.
    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Stop> {
        let welcome = match &self.door {
            _ if self.successors.expects(offer.public_key) => true,
            Door::Keys(authorize) => authorize.welcome(user, offer.public_key, self.address),
            Door::Open => false,
        };
        Ok(if welcome { Auth::Accept } else { rejected() })
    }

    /// Here the signature has been verified.
    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Stop> {
        let key = key.public_key;
        if let Some(inner) = self.successors.take(key) {
            return Ok(self.admit(Principal::Successor(inner)));
        }
        let Door::Keys(authorize) = &self.door else { return Ok(rejected()) };
        let Some(grant) = authorize.authorize(user, key, self.address) else { return Ok(rejected()) };
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        Ok(self.admit_key(user, key.clone(), fingerprint, grant))
    }

    /// Here its authority's signature and that of the key in it have been verified, and nothing else.
    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, Stop> {
        let Door::Keys(authorize) = &self.door else { return Ok(rejected()) };
        let Some(grant) = authorize.certify(user, certificate, self.address) else { return Ok(rejected()) };
        let key = PublicKey::from(certificate.public_key().clone());
        Ok(self.admit_key(user, key, describe(certificate), grant))
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Stop> {
        if !self.slots.admit() {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        self.slots.set(channel.id().number(), Slot::Opened);
        reply.accept().await;
        Ok(())
    }

    /// A file's channel, and nothing else: there are no sockets to be reached here.
    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        name: &str,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Stop> {
        let greeted = self.ready.is_none();
        let Some(call) = parse_call(name).filter(|_| greeted) else {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            return self.count_refusal();
        };
        if !self.slots.admit() {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        let (id, first) = call;
        let welcome = self.welcome(channel.id().number(), id);
        let lane = self.judge(welcome)?;
        // Before anybody can send anything on it.
        reply.accept().await;
        if first.is_empty() {
            return Ok(());
        }
        // Bounded by the number of channels that may wait: it counts nothing.
        let handed = lane.arrive(&first, 0).and_then(|()| self.hand_over(channel.id(), lane, session));
        self.judge(handed)
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Stop> {
        match self.slots.get(id.number()) {
            Some(Slot::Opened) if name == SUBSYSTEM => {
                self.slots.set(id.number(), Slot::Started);
                session.channel_success(id)?;
                Ok(())
            }
            _ => self.refuse(id, session),
        }
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], session: &mut Session) -> Result<(), Stop> {
        let result = match self.slots.get(id.number()) {
            Some(Slot::File(lane)) => lane.arrive(data, charge(data.len())),
            Some(Slot::Silent(lane)) => {
                let lane = lane.clone();
                lane.arrive(data, charge(data.len())).and_then(|()| self.hand_over(id, lane, session))
            }
            Some(Slot::Link) => self.link_data(data),
            Some(Slot::Started) => self.begin(id, data, session),
            Some(Slot::Opened) => Err(CarrierError::Protocol("data before the subsystem was asked for")),
            None => Ok(()),
        };
        self.judge(result)
    }

    async fn extended_data(&mut self, _: ChannelId, _: u32, _: &[u8], _: &mut Session) -> Result<(), Stop> {
        self.judge(Err(CarrierError::Protocol("extended data")))
    }

    async fn channel_eof(&mut self, id: ChannelId, session: &mut Session) -> Result<(), Stop> {
        match self.slots.get(id.number()) {
            Some(Slot::File(lane)) => lane.arrive_eof(),
            Some(Slot::Silent(lane)) => {
                let lane = lane.clone();
                lane.arrive_eof();
                let handed = self.hand_over(id, lane, session);
                return self.judge(handed);
            }
            // Whoever has nothing to say need not wait for the login deadline.
            Some(Slot::Opened | Slot::Started) => {
                session.close(id)?;
                self.forget(id);
            }
            Some(Slot::Link) | None => {}
        }
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut Session) -> Result<(), Stop> {
        match self.slots.get(id.number()) {
            Some(Slot::Link) => self.judge(Err(CarrierError::Closed)),
            _ => {
                self.forget(id);
                Ok(())
            }
        }
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), Stop> {
        self.refuse(id, session)
    }

    async fn exec_request(&mut self, id: ChannelId, _: &[u8], session: &mut Session) -> Result<(), Stop> {
        self.refuse(id, session)
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        _: &str,
        _: &str,
        session: &mut Session,
    ) -> Result<(), Stop> {
        self.decline(id, session)
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        _: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Stop> {
        self.decline(id, session)
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        session: &mut Session,
    ) -> Result<(), Stop> {
        self.decline(id, session)
    }

    async fn window_change_request(
        &mut self,
        id: ChannelId,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        session: &mut Session,
    ) -> Result<(), Stop> {
        self.decline(id, session)
    }

    async fn signal(&mut self, id: ChannelId, _: russh::Sig, session: &mut Session) -> Result<(), Stop> {
        self.decline(id, session)
    }

    /// russh itself answers this one with a failure.
    async fn agent_request(&mut self, _: ChannelId, _: &mut Session) -> Result<bool, Stop> {
        self.count_refusal()?;
        Ok(false)
    }
}
