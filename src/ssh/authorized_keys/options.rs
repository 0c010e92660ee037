//! The options before a key.

use std::time::SystemTime;

use super::command::{Limits, parse_command};
use super::expiry::parse_expiry;
use super::from::AddressList;
use super::quoted;

/// What a line asks of a login, and what it allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// The key is not a client's but that of whoever certifies clients' keys.
    pub(super) authority: bool,
    /// The names of which a certificate must have one, instead of the user's.
    pub(super) principals: Option<Vec<String>>,
    pub(super) from: Option<AddressList>,
    pub(super) expires: Option<SystemTime>,
    pub(super) limits: Limits,
}

/// Options that take away what this server never gives.
const NOTHING_LOST: [&str; 6] =
    ["restrict", "no-pty", "no-port-forwarding", "no-agent-forwarding", "no-x11-forwarding", "no-user-rc"];

impl Options {
    /// Reads a comma-separated list of options, or says why the line cannot be used.
    pub(super) fn parse(mut text: &[u8]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut command = None;
        loop {
            let (name, value, rest) = next_option(text)?;
            let lower = name.to_ascii_lowercase();
            match (lower.as_slice(), value) {
                (b"from", Some(value)) if options.from.is_none() => {
                    options.from = Some(AddressList::parse(&value)?)
                }
                (b"command", Some(value)) if command.is_none() => command = Some(parse_command(&value)?),
                (b"cert-authority", None) => options.authority = true,
                (b"principals", Some(value)) if options.principals.is_none() => {
                    options.principals = Some(parse_principals(&value)?)
                }
                (b"from" | b"command" | b"principals", Some(_)) => {
                    return Err(format!("it has two options {}", quoted(name)));
                }
                (b"expiry-time", Some(value)) => {
                    // Of several, the earliest holds.
                    let expires = parse_expiry(&value)?;
                    options.expires = Some(options.expires.map_or(expires, |earlier| earlier.min(expires)));
                }
                (flag, None) if NOTHING_LOST.iter().any(|known| known.as_bytes() == flag) => {}
                _ => return Err(format!("the option {} is not supported", quoted(name))),
            }
            match rest {
                Some(rest) => text = rest,
                None => break,
            }
        }
        if options.principals.is_some() && !options.authority {
            return Err("the option \"principals\" is for lines with cert-authority".into());
        }
        options.limits = command.unwrap_or_default();
        Ok(options)
    }
}

/// Names between commas, compared as they are written.
fn parse_principals(text: &[u8]) -> Result<Vec<String>, String> {
    let name = |name: &[u8]| {
        let name = std::str::from_utf8(name).ok().filter(|name| !name.is_empty());
        let literal = name.filter(|name| !name.contains(['*', '?', '!', ' ', '\t', '"', '\\']));
        literal.map(str::to_owned)
    };
    let names: Option<Vec<String>> = text.split(|byte| *byte == b',').map(name).collect();
    names.ok_or_else(|| format!("principals {} is no list of names between commas", quoted(text)))
}

/// An option's name, its value without the quotes, and what follows its comma.
type Step<'a> = (&'a [u8], Option<Vec<u8>>, Option<&'a [u8]>);

fn next_option(text: &[u8]) -> Result<Step<'_>, String> {
    let end = text.iter().position(|b| matches!(b, b'=' | b',' | b'"')).unwrap_or(text.len());
    let (name, mut rest) = text.split_at(end);
    if name.is_empty() {
        return Err("it has an empty option".into());
    }
    let mut value = None;
    if let Some(after) = rest.strip_prefix(b"=") {
        let (unquoted, after) = dequote(after)
            .ok_or_else(|| format!("the value of option {} has no quotes or an open one", quoted(name)))?;
        value = Some(unquoted);
        rest = after;
    }
    match rest.split_first() {
        None => Ok((name, value, None)),
        Some((b',', rest)) => Ok((name, value, Some(rest))),
        Some(_) => Err(format!("something follows the option {} without a comma", quoted(name))),
    }
}

/// A quoted string at the start of `text`, and what follows it. Only `\"` is an escape, as in OpenSSH.
fn dequote(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut rest = text.strip_prefix(b"\"")?;
    let mut value = Vec::new();
    loop {
        match rest {
            [b'\\', b'"', after @ ..] => {
                value.push(b'"');
                rest = after;
            }
            [b'"', after @ ..] => return Some((value, after)),
            [byte, after @ ..] => {
                value.push(*byte);
                rest = after;
            }
            [] => return None,
        }
    }
}

/// The first word of a line and the rest without leading blanks; blanks within quotes do not end a word.
pub(super) fn split_word(line: &[u8]) -> (&[u8], &[u8]) {
    let (mut at, mut in_quotes) = (0, false);
    while let Some(byte) = line.get(at) {
        match byte {
            b'\\' if line.get(at + 1) == Some(&b'"') => at += 1,
            b'"' => in_quotes = !in_quotes,
            b' ' | b'\t' if !in_quotes => break,
            _ => {}
        }
        at += 1;
    }
    let (word, rest) = line.split_at(at.min(line.len()));
    (word, rest.trim_ascii_start())
}
