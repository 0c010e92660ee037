//! `command=`: `syncfiles serve --stdio [--read-only] [--no-delete] [NAME=]DIR…` as a key's limits.
//!
//! Under a stock sshd a shell reads the command; here nobody does. So only what a shell would take
//! literally is accepted: words and quotes, but nothing that a shell would expand.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use super::quoted;

/// How far a key reaches; the default is as far as the server itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The client may not change anything.
    pub read_only: bool,
    /// The client may not delete anything.
    pub no_delete: bool,
    /// The only folders the client may see; without it, all that the server exports.
    pub exports: Option<Vec<Export>>,
}

/// A folder and the name clients know it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// One component: not empty, no `/`, neither `.` nor `..`.
    pub name: String,
    /// The folder as it is written; under a stock sshd, relative ones start at the account's home.
    pub dir: PathBuf,
}

/// The limits that a command stands for, or why the line cannot be used.
pub(super) fn parse_command(text: &[u8]) -> Result<Limits, String> {
    let words = split(text).ok_or_else(|| {
        format!("the command {} has an open quote or something a shell would expand; quote it", quoted(text))
    })?;
    let not_ours = || format!("the command {} is not \"syncfiles serve --stdio … DIR\"", quoted(text));
    let [program, serve, arguments @ ..] = words.as_slice() else { return Err(not_ours()) };
    // A first word with a `=` would be an assignment to a shell.
    let is_ours = program.rsplit(|b| *b == b'/').next() == Some(b"syncfiles") && !program.contains(&b'=');
    if !is_ours || serve != b"serve" {
        return Err(not_ours());
    }
    let (mut limits, mut exports) = (Limits::default(), Vec::new());
    let (mut stdio, mut options_ended) = (false, false);
    for word in arguments {
        match word.as_slice() {
            b"--" if !options_ended => options_ended = true,
            b"--stdio" if !options_ended => stdio = true,
            b"--read-only" if !options_ended => limits.read_only = true,
            b"--no-delete" if !options_ended => limits.no_delete = true,
            option if option.starts_with(b"-") && !options_ended => {
                return Err(format!("the command's option {} is not supported", quoted(option)));
            }
            folder => add(&mut exports, folder)?,
        }
    }
    if !stdio || exports.is_empty() {
        return Err(not_ours());
    }
    limits.exports = Some(exports);
    Ok(limits)
}

fn add(exports: &mut Vec<Export>, word: &[u8]) -> Result<(), String> {
    let export = export(word)
        .ok_or_else(|| format!("the command's folder {} has no usable name; write NAME=DIR", quoted(word)))?;
    if exports.iter().any(|other| other.name == export.name) {
        return Err(format!("the command has two folders named {}", quoted(export.name.as_bytes())));
    }
    exports.push(export);
    Ok(())
}

/// `NAME=DIR`, or `DIR` named by its last component. A `=` after a `/` belongs to the folder.
fn export(word: &[u8]) -> Option<Export> {
    let equals = word.iter().position(|b| *b == b'=').filter(|at| !word[..*at].contains(&b'/'));
    let (name, dir) = match equals {
        Some(at) => (Some(&word[..at]), &word[at + 1..]),
        None => (None, word),
    };
    let dir = PathBuf::from(OsString::from_vec(dir.to_vec()));
    let name = match name {
        Some(name) => name,
        None => dir.file_name()?.as_bytes(),
    };
    let name = std::str::from_utf8(name).ok()?.to_owned();
    let usable = !matches!(name.as_str(), "" | "." | "..") && !dir.as_os_str().is_empty();
    (usable && !word.contains(&0)).then_some(Export { name, dir })
}

/// The words of a command in which no shell would expand anything; `None` otherwise.
fn split(text: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' | b'\t' => words.extend(word.take()),
            b'\'' => single_quoted(&mut bytes, word.get_or_insert_default())?,
            b'"' => double_quoted(&mut bytes, word.get_or_insert_default())?,
            b'\\' => word.get_or_insert_default().push(bytes.next().filter(|b| *b != b'\n')?),
            b'$' | b'`' | b'~' | b'*' | b'?' | b'[' | b']' | b'{' | b'}' | b'(' | b')' | b'<' | b'>'
            | b'|' | b'&' | b';' | b'#' | b'!' | b'\n' | b'\r' | 0 => return None,
            byte => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    Some(words)
}

fn single_quoted(bytes: &mut impl Iterator<Item = u8>, word: &mut Vec<u8>) -> Option<()> {
    loop {
        match bytes.next()? {
            b'\'' => return Some(()),
            byte => word.push(byte),
        }
    }
}

fn double_quoted(bytes: &mut impl Iterator<Item = u8>, word: &mut Vec<u8>) -> Option<()> {
    loop {
        match bytes.next()? {
            b'"' => return Some(()),
            b'$' | b'`' | b'!' => return None,
            b'\\' => match bytes.next()? {
                escaped @ (b'"' | b'\\' | b'$' | b'`') => word.push(escaped),
                other => word.extend([b'\\', other]),
            },
            byte => word.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exports(command: &str) -> Vec<(String, String)> {
        let exports = parse_command(command.as_bytes()).unwrap().exports.unwrap();
        exports.into_iter().map(|e| (e.name, e.dir.to_str().unwrap().to_owned())).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, dir)| ((*name).to_owned(), (*dir).to_owned())).collect()
    }

    #[test]
    fn folders_are_named_by_themselves_or_by_what_precedes_the_equals_sign() {
        for (command, expected) in [
            ("syncfiles serve --stdio /srv/music", &[("music", "/srv/music")][..]),
            ("/usr/bin/syncfiles serve a=/srv/a --stdio b=rel", &[("a", "/srv/a"), ("b", "rel")]),
            (
                "syncfiles serve --stdio '/my music' \"b c=/x y\"",
                &[("my music", "/my music"), ("b c", "/x y")],
            ),
            (r"syncfiles  serve --stdio /a\ b/", &[("a b", "/a b/")]),
            ("syncfiles serve --stdio ./a=b", &[("a=b", "./a=b")]),
            ("syncfiles serve --stdio -- --odd", &[("--odd", "--odd")]),
            ("syncfiles serve --stdio root=/", &[("root", "/")]),
        ] {
            assert_eq!(exports(command), pairs(expected), "{command}");
        }
    }

    #[test]
    fn flags_become_limits() {
        let limits = parse_command(b"syncfiles serve --stdio --read-only --no-delete /a").unwrap();
        assert!(limits.read_only && limits.no_delete);
        let limits = parse_command(b"syncfiles serve --stdio /a").unwrap();
        assert!(!limits.read_only && !limits.no_delete);
    }

    #[test]
    fn any_other_command_refuses_the_line() {
        for command in [
            "",
            "syncfiles",
            "syncfiles serve",
            "syncfiles serve /a",
            "syncfiles serve --stdio",
            "rsync --server /a",
            "notsyncfiles serve --stdio /a",
            "syncfiles serve --stdio --user x /a",
            "syncfiles sync --stdio /a",
            "syncfiles serve --stdio -r /a",
            "env syncfiles serve --stdio /a",
            "syncfiles serve --stdio /",
            "syncfiles serve --stdio ..",
            "syncfiles serve --stdio /a /b/a",
            "syncfiles serve --stdio =/a",
            "syncfiles serve --stdio a=",
            "syncfiles serve --stdio ''",
            "syncfiles serve --stdio ..=/a",
            "A=/syncfiles serve --stdio /a",
        ] {
            assert!(parse_command(command.as_bytes()).is_err(), "{command}");
        }
    }

    #[test]
    fn what_a_shell_would_expand_refuses_the_line() {
        for folder in [
            "$HOME",
            "~/a",
            "`id`",
            "/a;id",
            "/a|id",
            "/a&",
            "/a>b",
            "/*",
            "/a?",
            "{a,b}",
            "\"$HOME\"",
            "\"`id`\"",
            "'/a",
            "\"/a",
            "/a\\",
            "#a",
            "/a\n/b",
        ] {
            assert!(
                parse_command(format!("syncfiles serve --stdio {folder}").as_bytes()).is_err(),
                "{folder}"
            );
        }
        assert_eq!(exports("syncfiles serve --stdio '/a$b'"), pairs(&[("a$b", "/a$b")]));
    }
}
