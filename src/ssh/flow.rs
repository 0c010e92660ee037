//! How much may be under way: windows, caps, rekeying, recycling; and the russh settings that follow from them.

use std::borrow::Cow;
use std::time::Duration;

use russh::keys::{Algorithm, EcdsaCurve, HashAlg};
use russh::{Preferred, cipher, kex};

/// The largest payload of one SSH data packet, bytes. Both ends split at it, so both count alike.
pub(super) const PACKET: usize = 61_440;
/// Bytes of control messages that one end may have under way: a credit of their own, apart from that of files.
pub(super) const MESSAGE_WINDOW: u32 = 4 << 20;
/// The least that one packet is charged, bytes: bounds the number of packets, not only their bytes.
pub(super) const MIN_CHARGE: usize = 256;

/// The measures of one connection. What this end announces here is enforced against the peer.
#[derive(Debug, Clone)]
pub struct Flow {
    /// Unconsumed bytes that the peer may have under way to us on all channels together.
    pub window: u32,
    /// Unconsumed bytes that the peer may have under way to us on one channel; at most `window`.
    pub channel_window: u32,
    /// Channels open at once that a server accepts a connection; more are refused with a resource shortage.
    pub channels: usize,
    /// Channels that a server accepts during the whole life of one SSH connection, before the client must have recycled it.
    pub channels_ever: u64,
    /// Bytes in one direction after which keys are exchanged anew; at most 16 GiB.
    pub rekey_bytes: u64,
    /// Channels after which the client recycles the SSH connection, those that only listen counted a quarter; `None`: never
    /// (a stream that cannot be dialled twice).
    pub recycle_channels: Option<u64>,
    /// Bytes, both directions together, after which the client recycles the SSH connection.
    pub recycle_bytes: u64,
    /// Silence after which the peer is asked for a sign of life; zero: a client never asks.
    pub keepalive: Duration,
    /// Unanswered questions after which the connection is given up.
    pub keepalive_max: usize,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            window: 16 << 20,
            channel_window: 4 << 20,
            channels: 2_304,
            channels_ever: 100_000,
            rekey_bytes: 16 << 30,
            recycle_channels: Some(20_000),
            recycle_bytes: 32 << 30,
            keepalive: Duration::from_secs(30),
            keepalive_max: 6,
        }
    }
}

impl Flow {
    /// Windows that make sense together: a channel's within the connection's, both large enough to move.
    pub(super) fn windows(&self) -> Windows {
        let all = self.window.max(Windows::LEAST);
        Windows { all, channel: self.channel_window.clamp(Windows::LEAST, all) }
    }

    /// russh's own windows never bind: ours do, and are smaller.
    pub(super) fn ssh_window(&self) -> u32 {
        self.windows().all.max(16 << 20)
    }

    /// When russh exchanges keys anew. By field: the constructor refuses more than 1 GiB.
    pub(super) fn rekey(&self) -> russh::Limits {
        let bytes = usize::try_from(self.rekey_bytes.min(16 << 30)).unwrap_or(usize::MAX);
        russh::Limits {
            rekey_write_limit: bytes,
            rekey_read_limit: bytes,
            rekey_time_limit: Duration::from_secs(3600),
        }
    }
}

/// The two windows an end announces to its peer, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Windows {
    pub(super) all: u32,
    pub(super) channel: u32,
}

impl Windows {
    /// Below this a packet of the least charge would not leave three quarters free.
    pub(super) const LEAST: u32 = 4096;

    /// The size that data is split at: four fit into a channel's window, so an acknowledgement a quarter is enough to move.
    pub(super) fn packet(self) -> usize {
        PACKET.min(self.channel as usize / 4)
    }
}

/// What one packet counts against the windows, bytes.
pub(super) fn charge(len: usize) -> u32 {
    u32::try_from(len.max(MIN_CHARGE)).unwrap_or(u32::MAX)
}

/// The algorithms of both ends. The strict key exchange markers (against Terrapin) are in the list by name, as leaving them
/// out would switch that protection off without a word; SHA-1 signatures and unauthenticated ciphers are not in it.
pub(super) fn algorithms(chacha_first: bool) -> Preferred {
    let mut ciphers = vec![cipher::AES_128_GCM, cipher::AES_256_GCM];
    ciphers.insert(if chacha_first { 0 } else { 2 }, cipher::CHACHA20_POLY1305);
    Preferred {
        kex: Cow::Borrowed(&[
            kex::MLKEM768X25519_SHA256,
            kex::CURVE25519,
            kex::CURVE25519_PRE_RFC_8731,
            kex::EXTENSION_SUPPORT_AS_CLIENT,
            kex::EXTENSION_SUPPORT_AS_SERVER,
            kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
            kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
        ]),
        key: Cow::Owned(vec![
            Algorithm::Ed25519,
            Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
            Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
            Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
            Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
            Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
        ]),
        cipher: Cow::Owned(ciphers),
        ..Preferred::DEFAULT
    }
}
