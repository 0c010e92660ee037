//! `ProxyJump`: the hosts on the way.

use crate::core::shown::Shown;

/// A host to go through.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hop {
    /// Whom to log in as there, where it is said.
    pub user: Option<String>,
    /// The host, without brackets. Never starts with `-`.
    pub host: String,
    /// The port, where it is said.
    pub port: Option<u16>,
}

/// The hops of a comma-separated list of `[user@]host[:port]` and `ssh://[user@]host[:port]`, nearest first.
pub(super) fn hops(text: &str) -> Result<Vec<Hop>, String> {
    text.split(',').map(|hop| hop_of(hop.trim())).collect()
}

fn hop_of(text: &str) -> Result<Hop, String> {
    let wrong = |what: &str| format!("`{}` is no host to jump to: {what}", Shown(text.as_bytes()));
    let rest = text.strip_prefix("ssh://").map_or(text, |rest| rest.trim_end_matches('/'));
    let (user, place) = match rest.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, rest),
    };
    let (host, port) = match place.strip_prefix('[') {
        Some(inner) => {
            let (host, after) = inner.split_once(']').ok_or_else(|| wrong("a `[` has no `]`"))?;
            match after {
                "" => (host, None),
                after => (host, Some(after.strip_prefix(':').ok_or_else(|| wrong("a port follows a `:`"))?)),
            }
        }
        None => match place.split_once(':') {
            Some((host, port)) if !port.contains(':') => (host, Some(port)),
            // An IPv6 address as it is.
            _ => (place, None),
        },
    };
    let port = match port {
        Some(port) => Some(port.parse().ok().filter(|port| *port > 0).ok_or_else(|| wrong("the port"))?),
        None => None,
    };
    if !plain(host) || user.is_some_and(|user| !plain(user)) {
        return Err(wrong("write USER@HOST:PORT"));
    }
    Ok(Hop { user: user.map(str::to_owned), host: host.to_owned(), port })
}

/// Whether a word can be an argument of ssh and nothing else.
fn plain(word: &str) -> bool {
    let odd = |c: char| c.is_control() || c.is_whitespace() || "/@[]'\"\\`$;&|<>(){}*?!#,".contains(c);
    !word.is_empty() && word.len() <= 255 && !word.starts_with('-') && !word.contains(odd)
}

impl Hop {
    /// As ssh's `-J` takes it.
    pub fn text(&self) -> String {
        let user = self.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{user}{host}{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_way_to_write_a_hop_is_read() {
        for (text, user, host, port) in [
            ("bastion", None, "bastion", None),
            ("eva@bastion:2022", Some("eva"), "bastion", Some(2022)),
            ("eva@corp@bastion", Some("eva@corp"), "", None),
            ("[::1]:22", None, "::1", Some(22)),
            ("eva@[fe80::1%eth0]", Some("eva"), "fe80::1%eth0", None),
            ("::1", None, "::1", None),
            ("ssh://eva@bastion:22/", Some("eva"), "bastion", Some(22)),
            ("-oProxyCommand=x", None, "", None),
            ("a b", None, "", None),
            ("h:0", None, "", None),
            ("h:x", None, "", None),
            ("[::1", None, "", None),
            ("[::1]22", None, "", None),
            ("@h", None, "", None),
            ("", None, "", None),
        ] {
            let expected =
                (!host.is_empty()).then(|| Hop { user: user.map(str::to_owned), host: host.into(), port });
            assert_eq!(hop_of(text).ok(), expected, "{text}");
        }
        assert_eq!(hops("a, b:2,c@d").unwrap().len(), 3);
        assert!(hops("a,,b").is_err());
    }

    proptest! {
        #[test]
        fn what_is_read_reads_back_and_is_never_an_option(text in "[a-z@:\\[\\]0-9,.-]{0,20}|\\PC{0,20}") {
            for hop in hops(&text).into_iter().flatten() {
                prop_assert!(!hop.host.starts_with('-'));
                prop_assert_eq!(hop_of(&hop.text()), Ok(hop));
            }
        }
    }
}
