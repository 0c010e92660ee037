//! Where a root is: a path on this system, or a folder that another system exports.
//!
//! The rule is rsync's: a `:` before any `/` makes it remote, so `./a:b` is a local name. Parsed once, here.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::core::path::{Name, PathError, RelPath};
use crate::core::shown::Shown;

/// Why an argument does not name a root; the argument itself is named by whoever reports it.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum AddressError {
    /// No bytes at all.
    #[error("a root must not be empty (the current folder is `.`)")]
    Empty,
    /// Not UTF-8, empty, starting with `-`, or with characters that no user or host name has.
    #[error("{0} is not a valid {1} (a local name with a `:` is written ./NAME)")]
    Login(String, &'static str),
    /// A `[` without its `]`, or something other than `:` after it.
    #[error("an IPv6 address is written [ADDRESS]:FOLDER")]
    Bracket,
    /// Not a number from 1 to 65535.
    #[error("`{0}` is not a port (1 to 65535)")]
    Port(String),
    /// Nothing after the host.
    #[error("names no folder: write HOST:FOLDER, where FOLDER is what that system exports")]
    NoFolder,
    /// rsync's daemon syntax.
    #[error("`::` and rsync:// reach an rsync daemon, which syncfiles does not speak: write HOST:FOLDER")]
    Daemon,
    /// The folder or what follows it could leave the export.
    #[error("the folder {0}")]
    Path(#[from] PathError),
    /// Two remote roots.
    #[error("at most one of SOURCE and TARGET can be remote: run syncfiles on one of the two systems")]
    BothRemote,
    /// A folder of another system, where a history is asked for.
    #[error(
        "history is of a folder on this system: run it on that one, with the path that the folder has there (a local name with a `:` is written ./NAME)"
    )]
    History,
}

/// A root as the user named it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Root {
    /// A path on this system.
    Local(PathBuf),
    /// A folder that another system exports.
    Remote(RemoteRoot),
}

/// A folder that another system exports, or one below it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RemoteRoot {
    /// Whom to log in as, where the user said it.
    pub user: Option<String>,
    /// A name of the ssh configuration, a DNS name or an IP address, without brackets. Never starts with `-`.
    pub host: String,
    /// The port, where the user said it.
    pub port: Option<u16>,
    /// The name of the export.
    pub folder: Name,
    /// The folder below the export; usually the root of it.
    pub sub: RelPath,
    /// Whether the two are a path from the top of the other system, which has no exports then: only an outer ssh (`-e`)
    /// leads there.
    pub absolute: bool,
}

/// The two roots of a sync in their roles.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pair {
    /// System 1's: the remote one, or SOURCE where both are local.
    pub one: Root,
    /// System 2's, always on this system.
    pub two: PathBuf,
    /// Whether System 1's root was named first, for messages that repeat the command.
    pub one_is_source: bool,
}

impl Pair {
    /// How many of the two systems are this one, each with an end of the carrier in this process.
    pub fn ends(&self) -> usize {
        match self.one {
            Root::Remote(_) => 1,
            Root::Local(_) => 2,
        }
    }

    /// Gives `source` and `target`, in either order, their roles. Fails where both are remote.
    pub fn of(source: Root, target: Root) -> Result<Pair, AddressError> {
        match (source, target) {
            (Root::Remote(_), Root::Remote(_)) => Err(AddressError::BothRemote),
            (one, Root::Local(two)) => Ok(Pair { one, two, one_is_source: true }),
            (Root::Local(two), one) => Ok(Pair { one, two, one_is_source: false }),
        }
    }
}

impl Root {
    /// Reads `[user@]host:folder[/sub]`, `[user@]host:/path`, `ssh://[user@]host[:port]/folder[/sub]` or a local path. Bytes are taken
    /// as they are: nothing is percent-decoded, and folder names need not be UTF-8.
    pub fn parse(argument: OsString) -> Result<Root, AddressError> {
        let bytes = argument.as_bytes();
        if bytes.is_empty() {
            return Err(AddressError::Empty);
        }
        if let Some(rest) = bytes.strip_prefix(b"ssh://") {
            return parse_url(rest).map(Root::Remote);
        }
        if bytes.starts_with(b"rsync://") {
            return Err(AddressError::Daemon);
        }
        match bytes.iter().find(|&&byte| byte == b':' || byte == b'/') {
            Some(b':') => parse_scp(bytes).map(Root::Remote),
            _ => Ok(Root::Local(argument.into())),
        }
    }

    /// The path, if it is on this system.
    pub fn local(&self) -> Option<&Path> {
        if let Root::Local(path) = self { Some(path) } else { None }
    }
}

/// `[user@]host[:port]/folder[/sub]`, `[user@]host[:port]//path`.
fn parse_url(rest: &[u8]) -> Result<RemoteRoot, AddressError> {
    let slash = rest.iter().position(|&byte| byte == b'/').ok_or(AddressError::NoFolder)?;
    let (user, place) = split_user(&rest[..slash])?;
    let (host, after) = split_host(place)?;
    let port = match after {
        b"" => None,
        [b':', digits @ ..] => Some(parse_port(digits)?),
        _ => return Err(AddressError::Bracket),
    };
    let path = &rest[slash + 1..];
    let (folder, sub) = parse_folder(path)?;
    Ok(RemoteRoot { user, host, port, folder, sub, absolute: path.starts_with(b"/") })
}

/// `[user@]host:folder[/sub]`, `[user@]host:/path`; holds a `:`.
fn parse_scp(bytes: &[u8]) -> Result<RemoteRoot, AddressError> {
    // A folder may hold `@` too, so only what precedes the first `:` can be a user.
    let colon = bytes.iter().position(|&byte| byte == b':').unwrap_or(bytes.len());
    let at = bytes[..colon].iter().rposition(|&byte| byte == b'@').map_or(0, |at| at + 1);
    let (user, _) = split_user(&bytes[..at])?;
    let (host, after) = split_host(&bytes[at..])?;
    let folder = after.strip_prefix(b":").ok_or(AddressError::Bracket)?;
    if folder.starts_with(b":") {
        return Err(AddressError::Daemon);
    }
    let absolute = folder.starts_with(b"/");
    let (folder, sub) = parse_folder(folder)?;
    Ok(RemoteRoot { user, host, port: None, folder, sub, absolute })
}

/// The user before the last `@`, if there is an `@`, and the rest.
fn split_user(bytes: &[u8]) -> Result<(Option<String>, &[u8]), AddressError> {
    match bytes.iter().rposition(|&byte| byte == b'@') {
        None => Ok((None, bytes)),
        Some(at) => Ok((Some(login(&bytes[..at], "user name")?), &bytes[at + 1..])),
    }
}

/// A host, in brackets or up to the next `:`, and what follows it.
fn split_host(bytes: &[u8]) -> Result<(String, &[u8]), AddressError> {
    if let Some(inner) = bytes.strip_prefix(b"[") {
        let end = inner.iter().position(|&byte| byte == b']').ok_or(AddressError::Bracket)?;
        return Ok((login(&inner[..end], "host")?, &inner[end + 1..]));
    }
    let end = bytes.iter().position(|&byte| byte == b':').unwrap_or(bytes.len());
    Ok((login(&bytes[..end], "host")?, &bytes[end..]))
}

/// A user or host. One that starts with `-` would be an option to an external ssh (CVE-2017-1000117).
fn login(bytes: &[u8], what: &'static str) -> Result<String, AddressError> {
    let wrong = || AddressError::Login(format!("`{}`", Shown(bytes)), what);
    let text = std::str::from_utf8(bytes).map_err(|_| wrong())?;
    let forbidden = |c: char| c.is_control() || c.is_whitespace() || "/@[]'\"\\`$;&|<>(){}*?!".contains(c);
    let fine = !text.is_empty() && text.len() <= 255 && !text.starts_with('-') && !text.contains(forbidden);
    if fine { Ok(text.to_owned()) } else { Err(wrong()) }
}

fn parse_port(digits: &[u8]) -> Result<u16, AddressError> {
    let text = std::str::from_utf8(digits).unwrap_or_default();
    let only_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|&port| port > 0 && only_digits)
        .ok_or_else(|| AddressError::Port(Shown(digits).to_string()))
}

/// The export's name and the path below it; doubled and trailing slashes and `.` mean nothing.
fn parse_folder(bytes: &[u8]) -> Result<(Name, RelPath), AddressError> {
    let path = relative(bytes)?;
    let mut components = path.components();
    let folder = Name::parse(components.next().ok_or(AddressError::NoFolder)?)?;
    let sub = RelPath::parse(&components.collect::<Vec<_>>().join(&b'/'))?;
    Ok((folder, sub))
}

/// A path below a root as people type it: `./a//b/` is `a/b`.
pub(crate) fn relative(bytes: &[u8]) -> Result<RelPath, PathError> {
    let kept: Vec<_> = bytes.split(|&b| b == b'/').filter(|c| !c.is_empty() && *c != b".").collect();
    RelPath::parse(&kept.join(&b'/'))
}

/// The last component of a local path as the name it is exported by.
pub(crate) fn name_of(path: &Path) -> Option<Result<Name, PathError>> {
    path.file_name().map(|name: &OsStr| Name::parse(name.as_bytes()))
}

/// Splits `NAME=REST` at the first `=`, where no `/` comes before it.
pub(crate) fn split_name(argument: &OsStr) -> Option<(&[u8], OsString)> {
    let bytes = argument.as_bytes();
    let at = bytes.iter().position(|&byte| byte == b'=' || byte == b'/')?;
    (bytes[at] == b'=').then(|| (&bytes[..at], OsString::from_vec(bytes[at + 1..].to_vec())))
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Root::Local(path) => write!(f, "{}", Shown(path.as_os_str().as_bytes())),
            Root::Remote(root) => write!(f, "{root}"),
        }
    }
}

impl fmt::Display for RemoteRoot {
    /// As the user would type it: `host:folder`, or as `ssh://` where that cannot say it (a port; a folder whose
    /// name starts with `:`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.port.is_some() || !self.absolute && self.folder.as_bytes().starts_with(b":");
        if url {
            f.write_str("ssh://")?;
        }
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?
        } else {
            f.write_str(&self.host)?
        }
        match self.port {
            Some(port) => write!(f, ":{port}/")?,
            None if url => f.write_str("/")?,
            None => f.write_str(":")?,
        }
        write!(f, "{}{}", if self.absolute { "/" } else { "" }, self.folder)?;
        if self.sub.is_root() { Ok(()) } else { write!(f, "/{}", self.sub) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Root, AddressError> {
        Root::parse(text.into())
    }

    #[test]
    fn every_way_to_write_a_remote_root_reads_back_as_it_was_meant() {
        for (typed, user, host, port, folder, sub) in [
            ("host:docs", None, "host", None, "docs", ""),
            ("eva@host:docs/a//b/", Some("eva"), "host", None, "docs", "a/b"),
            ("host:./docs", None, "host", None, "docs", ""),
            ("host:mail@home", None, "host", None, "mail@home", ""),
            ("host:a:b/c", None, "host", None, "a:b", "c"),
            ("eva@work@host:docs", None, "", None, "", ""),
            ("[fe80::1%eth0]:docs", None, "fe80::1%eth0", None, "docs", ""),
            ("eva@[::1]:docs/x", Some("eva"), "::1", None, "docs", "x"),
            ("ssh://host/docs", None, "host", None, "docs", ""),
            ("ssh://eva@host:2022/docs/x/", Some("eva"), "host", Some(2022), "docs", "x"),
            ("ssh://[::1]:22/docs", None, "::1", Some(22), "docs", ""),
        ] {
            let Ok(Root::Remote(root)) = parse(typed) else {
                assert_eq!(host, "", "{typed}");
                continue;
            };
            let seen = (root.user.as_deref(), root.host.as_str(), root.port, root.folder.to_string());
            assert_eq!(seen, (user, host, port, folder.to_owned()), "{typed}");
            assert_eq!(root.sub.as_bytes(), sub.as_bytes(), "{typed}");
        }
    }

    #[test]
    fn a_path_from_the_top_of_the_other_system_is_told_apart_and_shown_as_it_was_meant() {
        for (typed, absolute, shown) in [
            ("host:/srv/docs", true, "host:/srv/docs"),
            ("eva@host:/srv//docs/", true, "eva@host:/srv/docs"),
            ("ssh://host:22//srv/docs", true, "ssh://host:22//srv/docs"),
            ("ssh://host/srv/docs", false, "host:srv/docs"),
            ("host:/:x", true, "host:/:x"),
        ] {
            let Ok(Root::Remote(root)) = parse(typed) else { panic!("{typed}") };
            assert_eq!((root.absolute, root.to_string().as_str()), (absolute, shown), "{typed}");
        }
        assert!(matches!(parse("host:/"), Err(AddressError::NoFolder)));
    }

    #[test]
    fn a_slash_before_the_first_colon_makes_it_local() {
        for typed in ["folder", "./a:b", "/srv/a:b", "a/b:c", ".", "..", "~x", "[x]", "eva@host", "./serve"] {
            assert_eq!(parse(typed), Ok(Root::Local(typed.into())), "{typed}");
        }
    }

    #[test]
    fn what_is_neither_says_how_to_write_it() {
        for (typed, hint) in [
            ("", "current folder is `.`"),
            (":docs", "./NAME"),
            ("-oProxyCommand=evil:docs", "not a valid host"),
            ("-x@host:docs", "not a valid user name"),
            ("@host:docs", "not a valid user name"),
            ("host:", "names no folder"),
            ("host::module", "rsync daemon"),
            ("rsync://host/module", "rsync daemon"),
            ("host:../etc", "`..`"),
            ("host:docs/.syncfiles", "reserved"),
            ("[::1:docs", "[ADDRESS]:FOLDER"),
            ("[::1]docs:x", "[ADDRESS]:FOLDER"),
            ("ssh://host", "names no folder"),
            ("ssh://host/", "names no folder"),
            ("host:///", "names no folder"),
            ("ssh://host:0/docs", "not a port"),
            ("ssh://host:+22/docs", "not a port"),
            ("ssh://[::1]22/docs", "[ADDRESS]:FOLDER"),
            ("a b:docs", "not a valid host"),
        ] {
            let error = parse(typed).expect_err(typed).to_string();
            assert!(error.contains(hint), "{typed}: {error}");
            assert!(!error.contains('\n'), "{typed}: {error}");
        }
    }

    #[test]
    fn names_that_are_not_utf8_are_folders_but_not_hosts() {
        let root = Root::parse(OsString::from_vec(b"host:a\xff/\xfe".to_vec())).expect("a folder");
        assert_eq!(root.to_string(), "host:a\\xff/\\xfe");
        assert!(Root::parse(OsString::from_vec(b"h\xff:a".to_vec())).is_err());
    }

    #[test]
    fn the_remote_root_is_system_one_in_either_order_and_two_remotes_are_refused() {
        let (remote, local) = (parse("h:f").expect("remote"), parse("./f").expect("local"));
        let first = Pair::of(remote.clone(), local.clone()).expect("one remote");
        let second = Pair::of(local.clone(), remote.clone()).expect("one remote");
        assert_eq!((&first.one, &first.two), (&second.one, &second.two));
        assert!(first.one_is_source && !second.one_is_source);
        let both = Pair::of(local.clone(), parse("./g").expect("local")).expect("two local");
        assert_eq!((both.one, both.two), (local, "./g".into()));
        assert_eq!(Pair::of(remote.clone(), remote), Err(AddressError::BothRemote));
    }

    /// Any text, and text that is nearly an address.
    const TYPED: &str = r"[ -~]{0,30}|(ssh://)?([a-z]{1,3}@)?(h|\[::1\])(:[0-9]{1,6})?[:/][a-z./:]{0,9}";

    proptest! {
        #[test]
        fn parsing_is_total_and_what_is_shown_reads_back(text in TYPED) {
            if let Ok(Root::Remote(root)) = parse(&text) {
                if root.folder.as_bytes().contains(&b'\\') || root.sub.as_bytes().contains(&b'\\') {
                    return Ok(());
                }
                prop_assert!(!root.host.starts_with('-'));
                prop_assert_eq!(parse(&root.to_string()), Ok(Root::Remote(root)));
            }
        }

        #[test]
        fn any_bytes_at_all_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Root::parse(OsString::from_vec(bytes));
        }
    }
}
