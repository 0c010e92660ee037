//! `from=`: the addresses a key may come from (PATTERNS in ssh_config(5), and CIDR blocks).

use std::net::{IpAddr, Ipv6Addr};

use super::quoted;
use crate::ssh::pattern;

/// A list of address patterns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AddressList {
    items: Vec<Item>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    negated: bool,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// An address and the number of leading bits that count.
    Block(IpAddr, u32),
    /// Wildcards over the address as text.
    Wildcard(Vec<u8>),
}

impl AddressList {
    /// Reads a comma-separated list. Host names are refused: they are never looked up, and a negated one that
    /// silently matched nothing would let in whom it should keep out.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let items = text.split(|b| *b == b',').map(Item::parse).collect::<Result<_, _>>()?;
        Ok(Self { items })
    }

    /// The same, of nothing but addresses and CIDR blocks: what a certificate's `source-address` may have.
    pub(super) fn parse_blocks(text: &[u8]) -> Result<Self, String> {
        let list = Self::parse(text)?;
        let plain = |item: &Item| !item.negated && matches!(item.what, What::Block(..));
        match list.items.iter().all(plain) {
            true => Ok(list),
            false => Err(format!("the list {} holds more than addresses and CIDR blocks", quoted(text))),
        }
    }

    /// Whether some pattern matches and no negated one does.
    pub(super) fn admits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let hits =
            |negated| self.items.iter().any(|item| item.negated == negated && item.what.matches(address));
        !hits(true) && hits(false)
    }
}

impl Item {
    fn parse(text: &[u8]) -> Result<Self, String> {
        let (negated, text) = match text.strip_prefix(b"!") {
            Some(text) => (true, text),
            None => (false, text),
        };
        let what = block(text).or_else(|| wildcard(text)).ok_or_else(|| {
            format!(
                "from= holds {}, which is no address, wildcard or CIDR block (host names are not looked up)",
                quoted(text)
            )
        })?;
        Ok(Self { negated, what })
    }
}

impl What {
    fn matches(&self, address: IpAddr) -> bool {
        match self {
            Self::Wildcard(text) => pattern::matches(text, address.to_string().as_bytes()),
            Self::Block(network, bits) => match (network, address) {
                (IpAddr::V4(network), IpAddr::V4(address)) => {
                    let shift = 32 - bits;
                    (network.to_bits() ^ address.to_bits()).checked_shr(shift).unwrap_or(0) == 0
                }
                (IpAddr::V6(network), IpAddr::V6(address)) => {
                    let shift = 128 - bits;
                    (network.to_bits() ^ address.to_bits()).checked_shr(shift).unwrap_or(0) == 0
                }
                _ => false,
            },
        }
    }
}

/// `ADDRESS` or `ADDRESS/BITS`; the bits beyond must be zero, as OpenSSH demands.
fn block(text: &[u8]) -> Option<What> {
    let text = std::str::from_utf8(text).ok()?;
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) if bits.bytes().all(|b| b.is_ascii_digit()) => {
            (address, Some(bits.parse::<u32>().ok()?))
        }
        Some(_) => return None,
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(width);
    let spare = width.checked_sub(bits)?;
    let lowest = match address {
        IpAddr::V4(v4) => v4.to_bits().trailing_zeros(),
        IpAddr::V6(v6) => v6.to_bits().trailing_zeros(),
    };
    (lowest >= spare).then(|| canonical(address, bits))
}

/// Peers are compared in canonical form, so an IPv4 block written as IPv6 (`::ffff:…`) becomes the IPv4
/// block.
fn canonical(address: IpAddr, bits: u32) -> What {
    match (address, bits.checked_sub(96)) {
        (IpAddr::V6(v6), Some(bits)) => match Ipv6Addr::to_ipv4_mapped(&v6) {
            Some(v4) => What::Block(IpAddr::V4(v4), bits),
            None => What::Block(address, bits + 96),
        },
        _ => What::Block(address, bits),
    }
}

/// An address with `*` or `?` in it.
fn wildcard(text: &[u8]) -> Option<What> {
    let of_an_address = |b: &u8| b.is_ascii_hexdigit() || b".:*?".contains(b);
    let wild = text.iter().any(|b| b"*?".contains(b));
    (wild && text.iter().all(of_an_address)).then(|| What::Wildcard(text.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(patterns: &str, address: &str) -> bool {
        AddressList::parse(patterns.as_bytes()).unwrap().admits(address.parse().unwrap())
    }

    #[test]
    fn addresses_blocks_and_wildcards_admit_what_they_cover() {
        for (patterns, address, expected) in [
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "1.2.3.4", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("2001:DB8::1", "2001:db8::1", true),
            ("10.0.?.*", "10.0.1.200", true),
            ("10.0.?.*", "10.0.10.200", false),
            ("2001:db8:*", "2001:db8::1", true),
            ("*,!10.0.0.1", "10.0.0.1", false),
            ("!10.0.0.1,*", "10.0.0.2", true),
            ("!10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8,!10.1.0.0/16,10.1.0.1", "10.1.0.1", false),
            ("10.0.0.1", "::ffff:10.0.0.1", true),
            ("::ffff:10.0.0.0/104", "10.1.2.3", true),
            ("*,!::ffff:10.0.0.1", "10.0.0.1", false),
        ] {
            assert_eq!(admits(patterns, address), expected, "{patterns} on {address}");
        }
    }

    #[test]
    fn names_and_malformed_blocks_refuse_the_line() {
        for patterns in [
            "",
            "host.example",
            "*.example.com",
            "!evil.example,*",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "::/129",
            "10.0.0.*/8",
            "10.0.0.1,",
            "10.0.0.1, 10.0.0.2",
            "!",
            "fe80::1%eth0",
        ] {
            assert!(AddressList::parse(patterns.as_bytes()).is_err(), "{patterns}");
        }
    }
}
