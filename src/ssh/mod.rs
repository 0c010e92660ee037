//! The carrier: SSH client and server, keys, credits. Knows no sync message.
//!
//! A [`Connection`] carries one sync: ordered control messages, and channels of bytes, over russh. Reading order: `socket`
//! (the stream russh gets), `flow` (how much may be under way), `frame` (the link channel's bytes), `lane` (one channel's
//! accounts), `ledger`, `outbox`, `mailbox`, `errands` and `link` (one SSH connection), `port` (russh's sending end), `pace`,
//! `channel`, `opening`, `trunk` and `connection` (what callers hold), `client`, `visitor`, `login`, `identities` and `agent`, `server`,
//! `apart`, `principal`, `slot` and `guest` (the two ends), `recycle` (a fresh SSH connection behind the same `Connection`).

mod agent;
mod apart;
mod channel;
mod client;
mod connection;
mod cut;
mod errands;
mod error;
mod flow;
mod frame;
mod guest;
mod identities;
mod lane;
mod ledger;
mod link;
mod login;
mod mailbox;
mod opening;
mod outbox;
mod pace;
mod port;
mod principal;
mod recycle;
mod server;
mod slot;
mod socket;
mod trunk;
mod visitor;
mod wait;

pub use channel::{Channel, ChannelReader, ChannelWriter, Chunk};
pub use client::{ClientConfig, Dial, HostCheck, Later, connect, enter};
pub use connection::Connection;
pub use error::{CarrierError, ConnectError};
pub use flow::Flow;
pub use frame::MAX_MESSAGE;
pub use identities::{AskSecret, Identities, Wanted};
pub use login::Login;
pub use opening::Opening;
pub use principal::{Authorize, Grant, Peer, describe};
pub use server::{Host, Server, ServerConfig};
pub use socket::Stream;

pub use russh::keys::{Certificate, PrivateKey, PublicKey};

/// The one subsystem there is.
pub const SUBSYSTEM: &str = "syncfiles";

pub mod authorized_keys;
pub mod config;
pub mod host_key;
pub mod identity;
pub mod known_hosts;

mod key_file;
mod key_text;
mod pattern;
