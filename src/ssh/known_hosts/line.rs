//! One line of known_hosts, and whether it names a host.

use hmac::{Hmac, KeyInit, Mac};
use russh::keys::ssh_encoding::base64::{Base64, Encoding};
use sha1::Sha1;

use crate::ssh::pattern;

/// What a line says about its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker {
    /// The host has this key.
    Plain,
    /// Nobody may use this key.
    Revoked,
    /// This key signs host certificates; it is no host's key.
    Authority,
}

/// The fields of a line; the key is not decoded yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) marker: Marker,
    hosts: &'a [u8],
    pub(super) kind: &'a [u8],
    pub(super) base64: &'a [u8],
}

impl<'a> Line<'a> {
    /// The fields, or nothing where the line is empty, a comment, or not understood.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let mut words = line.split(|b| matches!(b, b' ' | b'\t' | b'\r')).filter(|word| !word.is_empty());
        let first = words.next()?;
        let (marker, hosts) = match first {
            b"@revoked" => (Marker::Revoked, words.next()?),
            b"@cert-authority" => (Marker::Authority, words.next()?),
            _ if first[0] == b'@' || first[0] == b'#' => return None,
            _ => (Marker::Plain, first),
        };
        Some(Self { marker, hosts, kind: words.next()?, base64: words.next()? })
    }

    /// Whether the line is about `name`: a host in lower case, or `[host]:port`.
    pub(super) fn names(&self, name: &str) -> bool {
        if self.hosts.starts_with(b"|") {
            return hash_matches(self.hosts, name).unwrap_or(false);
        }
        let mut named = false;
        for item in self.hosts.split(|b| *b == b',') {
            match item.strip_prefix(b"!") {
                Some(excluded) if pattern::matches(excluded, name.as_bytes()) => return false,
                Some(_) => {}
                None => named |= pattern::matches(item, name.as_bytes()),
            }
        }
        named
    }
}

/// `|1|salt|hash`: the hash is the HMAC-SHA1 of the name under the salt, both in base64.
fn hash_matches(hosts: &[u8], name: &str) -> Option<bool> {
    let (salt, hash) = std::str::from_utf8(hosts).ok()?.strip_prefix("|1|")?.split_once('|')?;
    let salt = Base64::decode_vec(salt).ok()?;
    let hash = Base64::decode_vec(hash).ok()?;
    let mac = Hmac::<Sha1>::new_from_slice(&salt).ok()?;
    Some(mac.chain_update(name.as_bytes()).verify_slice(&hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(hosts: &str, name: &str) -> bool {
        Line::parse(format!("{hosts} ssh-ed25519 AAAA").as_bytes()).unwrap().names(name)
    }

    #[test]
    fn names_lists_wildcards_and_negations_match_as_in_openssh() {
        for (hosts, name, expected) in [
            ("a.example", "a.example", true),
            ("A.Example", "a.example", true),
            ("a.example", "[a.example]:2222", false),
            ("[a.example]:2222", "[a.example]:2222", true),
            ("[a.example]:2222", "a.example", false),
            ("b.example,10.0.0.1", "10.0.0.1", true),
            ("*.example", "a.example", true),
            ("?.example", "a.example", true),
            ("*.example,!a.example", "a.example", false),
            ("!a.example,*.example", "a.example", false),
            ("!a.example", "b.example", false),
            ("[*.example]:*", "[a.example]:2222", true),
            ("*", "[a.example]:2222", true),
        ] {
            assert_eq!(names(hosts, name), expected, "{hosts} on {name}");
        }
    }

    #[test]
    fn a_hashed_name_matches_only_what_was_hashed() {
        let hashed = "|1|O33ESRMWPVkMYIwJ1Uw+n877jTo=|nuuC5vEqXlEZ/8BXQR7m619W6Ak=";
        assert!(names(hashed, "example.com"));
        assert!(!names(hashed, "[example.com]:2222"));
        for broken in ["|1|", "|1||", "|2|AAAA|AAAA", "|1|!!|nuuC5vEqXlEZ/8BXQR7m619W6Ak=", "|"] {
            assert!(!names(broken, "example.com"), "{broken}");
        }
    }

    #[test]
    fn comments_empty_lines_and_unknown_markers_are_no_lines() {
        for line in
            ["", "   ", "\t", "# a b c", "@new h ssh-ed25519 AAAA", "h ssh-ed25519", "@revoked h ssh-rsa"]
        {
            assert_eq!(Line::parse(line.as_bytes()), None, "{line}");
        }
        assert_eq!(Line::parse(b"@revoked\th ssh-rsa AAAA c\r").unwrap().marker, Marker::Revoked);
        assert_eq!(Line::parse(b"@cert-authority h ssh-rsa AAAA").unwrap().marker, Marker::Authority);
    }

    proptest! {
        #[test]
        fn no_line_makes_the_parser_panic(line: Vec<u8>, name in "[ -~]{0,20}") {
            Line::parse(&line).map(|line| line.names(&name));
        }

        #[test]
        fn no_likely_line_makes_the_parser_panic(line in r"(@revoked |@|#)?[|1,!*?\[\]:A-Za-z= \t]{0,60}") {
            Line::parse(line.as_bytes()).map(|line| line.names("host"));
        }
    }
}
