//! Reading the files of an ssh configuration: blocks that apply, files that are included.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::conditions::{self, Subject, Verdict};
use super::expand::{expand, home};
use super::found::{Found, Place};
use super::words::{arguments, keyword};
use super::{Around, Asked, ConfigError};
use crate::core::shown::Shown;
use crate::ssh::key_file::{read_small, shown};

/// The most bytes of a file.
const FILE_CAP: u64 = 1024 * 1024;
/// How deep files may include others, as in OpenSSH.
const DEPTH: usize = 16;
/// How many files may be read in all.
const FILES: usize = 1024;

/// How a file is treated.
#[derive(Clone, Copy)]
pub(super) struct Care {
    /// It may name files below the user's home, and includes files there.
    pub(super) users_own: bool,
    /// It must belong to root or to the user, and nobody else may write it: it can name commands to run.
    pub(super) guarded: bool,
    /// It must be there.
    pub(super) wanted: bool,
}

/// The state of one reading.
pub(super) struct Reader<'a> {
    pub(super) asked: &'a Asked<'a>,
    pub(super) around: &'a Around,
    /// What `Host` lines are about: the host as it was asked for, on the second reading as it is named.
    pub(super) name: String,
    pub(super) found: Found,
    /// What the user should hear of.
    pub(super) notices: Vec<String>,
    /// Whether this is the second reading, and whether one is wanted.
    pub(super) last: bool,
    pub(super) wants_last: bool,
    pub(super) files: usize,
}

/// Where in the files the reader is.
#[derive(Clone, Copy)]
struct Stand {
    care: Care,
    /// Whether the lines apply.
    active: bool,
    /// Whether no line of this file can apply: it is included by a block that does not.
    never: bool,
    depth: usize,
}

impl<'a> Reader<'a> {
    /// Reads a file and what it includes.
    pub(super) fn file(&mut self, path: &Path, care: Care) -> Result<(), ConfigError> {
        self.read(path, Stand { care, active: true, never: false, depth: 0 })
    }

    /// Prepares for the second reading, which cannot name another host any more.
    pub(super) fn begin_last(&mut self) {
        self.last = true;
        self.name = self.host();
        self.found.settle_host(&self.name);
    }

    fn read(&mut self, path: &Path, mut stand: Stand) -> Result<(), ConfigError> {
        let Some(text) = content(path, stand.care)? else { return Ok(()) };
        self.files += 1;
        for (index, line) in text.lines().enumerate() {
            let place = Place { file: path.to_owned(), line: index + 1 };
            if let Some((keyword, rest)) = keyword(line) {
                self.line(&keyword, rest, &place, &mut stand)?;
            }
        }
        Ok(())
    }

    fn line(
        &mut self,
        keyword: &str,
        rest: &str,
        place: &Place,
        stand: &mut Stand,
    ) -> Result<(), ConfigError> {
        let words = || arguments(rest).ok_or_else(|| place.wrong("a quote is not closed"));
        match keyword {
            "host" => stand.active = !stand.never && conditions::host(&words()?, &self.name),
            "match" => {
                let words = words()?;
                self.wants_last |= conditions::wants_last(&words);
                stand.active = !stand.never && self.matched(&words, place)?;
            }
            "include" => self.include(&words()?, place, *stand)?,
            keyword if stand.active => self.found.take(keyword, rest, place)?,
            _ => {}
        }
        Ok(())
    }

    fn matched(&mut self, words: &[String], place: &Place) -> Result<bool, ConfigError> {
        let host = self.host();
        let about = Subject {
            asked: self.asked.host,
            host: &host,
            user: self.user(),
            local_user: &self.around.user,
            tag: self.found.word("tag").map_or("", |(tag, _)| tag),
            last: self.last,
            expand: &|command| self.expand(command),
        };
        match conditions::matched(words, &about).map_err(|fault| place.wrong(fault))? {
            Verdict::Applies(applies) => Ok(applies),
            Verdict::Foreign(what) => {
                let notice = format!(
                    "{} line {}: `Match {}` is not understood here; the settings below it are not used",
                    shown(&place.file),
                    place.line,
                    Shown(what.as_bytes())
                );
                if !self.notices.contains(&notice) {
                    self.notices.push(notice);
                }
                Ok(false)
            }
        }
    }

    fn include(&mut self, words: &[String], place: &Place, stand: Stand) -> Result<(), ConfigError> {
        if stand.depth >= DEPTH || self.files >= FILES {
            return Err(place.wrong("too many files are included"));
        }
        for word in words {
            let pattern = self.include_pattern(word, stand.care).map_err(|fault| place.wrong(fault))?;
            let options = glob::MatchOptions { require_literal_leading_dot: true, ..Default::default() };
            let paths = glob::glob_with(&pattern, options)
                .map_err(|error| place.wrong(format_args!("{}: {error}", Shown(pattern.as_bytes()))))?;
            for path in paths.filter_map(Result::ok) {
                let care = Care { guarded: true, wanted: false, ..stand.care };
                let never = stand.never || !stand.active;
                self.read(&path, Stand { care, never, depth: stand.depth + 1, ..stand })?;
            }
        }
        Ok(())
    }

    /// A path is anchored in `~/.ssh`, or in `/etc/ssh` where a file of the system includes.
    fn include_pattern(&self, word: &str, care: Care) -> Result<String, String> {
        let word = self.expand(word)?;
        if word.starts_with('~') && !care.users_own {
            return Err(format!("{word} has no home folder to start from"));
        }
        let own = PathBuf::from(glob::Pattern::escape(&self.around.home.to_string_lossy()));
        let path = home(&word, &own)?;
        let base = if care.users_own { own.join(".ssh") } else { PathBuf::from("/etc/ssh") };
        Ok(base.join(path).to_string_lossy().into_owned())
    }

    /// The host as the lines so far name it. A mistake in it is reported when it is used.
    fn host(&self) -> String {
        let named = self.found.word("hostname").map_or("%h", |(name, _)| name);
        let host = expand(named, &[('h', self.asked.host)], None);
        host.unwrap_or_else(|_| named.to_owned()).to_ascii_lowercase()
    }

    fn user(&self) -> &str {
        let configured = self.found.word("user").map(|(user, _)| user);
        self.asked.user.or(configured).unwrap_or(&self.around.user)
    }

    /// Puts in what is known so far.
    fn expand(&self, text: &str) -> Result<String, String> {
        let configured = self.found.word("port").and_then(|(port, _)| port.parse().ok());
        let port = self.asked.port.or(configured).unwrap_or(self.asked.default_port).to_string();
        let home = self.around.home.to_string_lossy();
        let host = self.host();
        let tokens = [
            ('d', &*home),
            ('h', &*host),
            ('n', self.asked.host),
            ('p', &port),
            ('r', self.user()),
            ('u', &self.around.user),
        ];
        expand(text, &tokens, Some(self.around))
    }
}

/// The text of a file; nothing where it is missing and may be.
fn content(path: &Path, care: Care) -> Result<Option<String>, ConfigError> {
    let user = rustix::process::geteuid().as_raw();
    let safe_owner = |owner| owner == 0 || owner == user;
    let safe = |about: &std::fs::Metadata| about.mode() & 0o022 == 0 && safe_owner(about.uid());
    let read = read_small(path, FILE_CAP, |about| !care.guarded || safe(about));
    let path = || path.to_owned();
    match read {
        Ok((Some(text), _)) => Ok(Some(String::from_utf8_lossy(&text).into_owned())),
        Ok((None, about)) if !safe_owner(about.uid()) => {
            Err(ConfigError::Owner { file: path(), owner: about.uid() })
        }
        Ok((None, about)) => Err(ConfigError::Writable { file: path(), mode: about.mode() & 0o777 }),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !care.wanted => Ok(None),
        Err(source) => Err(ConfigError::Read { file: path(), source }),
    }
}
