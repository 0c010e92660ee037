//! The values that an ssh configuration gives to the keywords that mean something here, before they are understood.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::ConfigError;
use super::words::arguments;

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: PathBuf,
    /// From 1.
    pub(super) line: usize,
}

impl Place {
    /// The error of something that stands here.
    pub(super) fn wrong(&self, fault: impl std::fmt::Display) -> ConfigError {
        ConfigError::Line { file: self.file.clone(), line: self.line, fault: fault.to_string() }
    }
}

/// The words of one line, and where it is.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) words: Vec<String>,
    pub(super) place: Place,
}

/// How the lines of a keyword are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One word; the first line counts.
    Word,
    /// Several words; the first line counts.
    Words,
    /// One word a line; all lines count.
    Each,
    /// The rest of the line as it is; the first line counts.
    Rest,
}

/// The keywords that mean something here.
const KEYWORDS: [(&str, Kind); 20] = [
    ("batchmode", Kind::Word),
    ("certificatefile", Kind::Each),
    ("connecttimeout", Kind::Word),
    ("globalknownhostsfile", Kind::Words),
    ("hostkeyalias", Kind::Word),
    ("hostname", Kind::Word),
    ("identitiesonly", Kind::Word),
    ("identityagent", Kind::Word),
    ("identityfile", Kind::Each),
    ("port", Kind::Word),
    ("proxycommand", Kind::Rest),
    ("proxyjump", Kind::Rest),
    ("proxyusefdpass", Kind::Word),
    ("pubkeyauthentication", Kind::Word),
    ("serveralivecountmax", Kind::Word),
    ("serveraliveinterval", Kind::Word),
    ("stricthostkeychecking", Kind::Word),
    ("tag", Kind::Word),
    ("user", Kind::Word),
    ("userknownhostsfile", Kind::Words),
];

/// What was found so far. Of all but a few keywords the first line wins.
#[derive(Debug, Default)]
pub(super) struct Found(BTreeMap<&'static str, Vec<Value>>);

impl Found {
    /// Takes in a line of a block that applies. Keywords that mean nothing here are passed over.
    pub(super) fn take(&mut self, keyword: &str, rest: &str, place: &Place) -> Result<(), ConfigError> {
        let Some((keyword, kind)) = KEYWORDS.iter().find(|(known, _)| *known == keyword) else {
            return Ok(());
        };
        let words = match kind {
            Kind::Rest => vec![rest.to_owned()],
            _ => arguments(rest).ok_or_else(|| place.wrong("a quote is not closed"))?,
        };
        if words.is_empty() || words.iter().any(String::is_empty) {
            return Err(place.wrong(format_args!("{keyword} has no value")));
        }
        if words.len() > 1 && *kind != Kind::Words {
            return Err(place.wrong(format_args!(
                "{keyword} has more than one value; one with blanks is written in quotes"
            )));
        }
        let value = Value { words, place: place.clone() };
        match *keyword {
            "proxyjump" => self.take_jump(value),
            keyword if *kind == Kind::Each => {
                let all = self.0.entry(keyword).or_default();
                if all.iter().all(|known| known.words != value.words) {
                    all.push(value);
                }
            }
            keyword => {
                self.0.entry(keyword).or_insert_with(|| vec![value]);
            }
        }
        Ok(())
    }

    /// Of ProxyJump and ProxyCommand the first wins; a ProxyJump of `none` leaves it to a later ProxyCommand.
    fn take_jump(&mut self, mut value: Value) {
        if let Some(word) = value.words.first_mut() {
            word.truncate(word.find('#').unwrap_or(word.len()));
            word.truncate(word.trim_end().len());
        }
        let none = is_none(&value);
        if self.0.contains_key("proxyjump") || !none && self.0.contains_key("proxycommand") {
            return;
        }
        if !none {
            let none = Value { words: vec!["none".into()], place: value.place.clone() };
            self.0.insert("proxycommand", vec![none]);
        }
        self.0.insert("proxyjump", vec![value]);
    }

    /// Names the host where no line did.
    pub(super) fn settle_host(&mut self, host: &str) {
        let place = Place { file: PathBuf::new(), line: 0 };
        let value = Value { words: vec![host.replace('%', "%%")], place };
        self.0.entry("hostname").or_insert_with(|| vec![value]);
    }

    /// All lines of a keyword that count.
    pub(super) fn all(&self, keyword: &str) -> &[Value] {
        self.0.get(keyword).map_or(&[], Vec::as_slice)
    }

    /// The one word of a keyword, and where it is.
    pub(super) fn word(&self, keyword: &str) -> Option<(&str, &Place)> {
        let value = self.all(keyword).first()?;
        Some((value.words.first()?, &value.place))
    }
}

/// Whether a value is the word `none`.
pub(super) fn is_none(value: &Value) -> bool {
    value.words.first().is_some_and(|word| word.eq_ignore_ascii_case("none"))
}
