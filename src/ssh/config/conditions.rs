//! Whether a `Host` or a `Match` line applies.

use std::process::{Command, Stdio};

use crate::core::shown::Shown;
use crate::ssh::pattern;

/// What the conditions are about.
pub(super) struct Subject<'a> {
    /// The host as it was asked for.
    pub(super) asked: &'a str,
    /// The host as the lines so far name it.
    pub(super) host: &'a str,
    /// Whom the lines so far log in as.
    pub(super) user: &'a str,
    /// Who runs this.
    pub(super) local_user: &'a str,
    /// What a `Tag` line so far said.
    pub(super) tag: &'a str,
    /// Whether the configuration is read for the second and last time.
    pub(super) last: bool,
    /// Turns a command of `Match exec` into what is run.
    pub(super) expand: &'a dyn Fn(&str) -> Result<String, String>,
}

/// What became of a `Match` line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its lines apply, or do not.
    Applies(bool),
    /// It asks for something that is not understood here; its lines are not used.
    Foreign(String),
}

/// Whether a host is one that a `Host` line lists: some pattern matches it, and no negated one does.
pub(super) fn host(patterns: &[String], asked: &str) -> bool {
    let hits = |pattern: &str| pattern::matches_exactly(pattern.as_bytes(), asked.as_bytes());
    let negated = |pattern: &String| pattern.strip_prefix('!').is_some_and(hits);
    patterns.iter().any(|pattern| hits(pattern)) && !patterns.iter().any(negated)
}

/// Whether a `Match` line applies; an error is a line that no ssh reads.
pub(super) fn matched(words: &[String], about: &Subject<'_>) -> Result<Verdict, String> {
    let mut words = words.iter().map(String::as_str);
    let (mut applies, mut count) = (true, 0);
    while let Some(word) = words.next() {
        let (negated, attribute) = word.strip_prefix('!').map_or((false, word), |rest| (true, rest));
        let (attribute, joined) = attribute
            .split_once('=')
            .map_or((attribute, None), |(attribute, value)| (attribute, Some(value)));
        let attribute = attribute.to_ascii_lowercase();
        count += 1;
        let hit = match attribute.as_str() {
            "all" if count > 2 || words.next().is_some() => {
                return Err("`all` cannot be combined with other conditions".into());
            }
            "all" => true,
            "final" | "canonical" => about.last,
            _ => {
                let missing = || format!("`Match {}` has no value", Shown(attribute.as_bytes()));
                let value = joined.or_else(|| words.next()).ok_or_else(missing)?;
                if value.is_empty() && !matches!(attribute.as_str(), "tagged" | "command") {
                    return Err(missing());
                }
                match attribute.as_str() {
                    // Not run in vain.
                    "exec" if !applies => negated,
                    "exec" => succeeds(&(about.expand)(value)?)?,
                    attribute => match holds(attribute, value, about) {
                        Some(hit) => hit,
                        None if applies => return Ok(Verdict::Foreign(attribute.to_owned())),
                        None => negated,
                    },
                }
            }
        };
        applies &= hit != negated;
    }
    match count {
        0 => Err("`Match` has no condition".into()),
        _ => Ok(Verdict::Applies(applies)),
    }
}

/// Whether the words ask for a second reading.
pub(super) fn wants_last(words: &[String]) -> bool {
    words.iter().any(|word| word.eq_ignore_ascii_case("final"))
}

fn holds(attribute: &str, value: &str, about: &Subject<'_>) -> Option<bool> {
    let exact = |text: &str| list(value, text, pattern::matches_exactly);
    let any_case = |text: &str| list(value, text, pattern::matches);
    Some(match attribute {
        "host" => any_case(about.host),
        "originalhost" => any_case(about.asked),
        "user" => exact(about.user),
        "localuser" => exact(about.local_user),
        "tagged" if about.tag.is_empty() => value.is_empty(),
        "tagged" => exact(about.tag),
        // There is never a command, and always a subsystem.
        "command" => value.is_empty(),
        "sessiontype" => exact("subsystem"),
        _ => return None,
    })
}

/// Whether a comma-separated list has a pattern that matches, and no negated one that does.
fn list(patterns: &str, text: &str, matches: fn(&[u8], &[u8]) -> bool) -> bool {
    let hits = |pattern: &str| matches(pattern.as_bytes(), text.as_bytes());
    let negated = |pattern: &str| pattern.strip_prefix('!').is_some_and(hits);
    patterns.split(',').any(|pattern| !pattern.starts_with('!') && hits(pattern))
        && !patterns.split(',').any(negated)
}

/// Whether a shell command ends well.
fn succeeds(command: &str) -> Result<bool, String> {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status =
        shell.status().map_err(|error| format!("cannot run the command of `Match exec`: {error}"))?;
    Ok(status.success())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn judge(line: &str) -> Result<Verdict, String> {
        let words: Vec<String> = line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        let about = Subject {
            asked: "nas",
            host: "nas.example",
            user: "eva",
            local_user: "me",
            tag: "home",
            last: false,
            expand: &|command| Ok(command.replace("%h", "nas.example")),
        };
        matched(&words, &about)
    }

    #[test]
    fn every_condition_must_hold_and_a_negated_one_must_not() {
        for (line, expected) in [
            ("all", true),
            ("!all", false),
            ("host nas.example", true),
            ("host NAS.*", true),
            ("host nas", false),
            ("originalhost nas", true),
            ("originalhost *,!nas", false),
            ("host=nas.example user=eva", true),
            ("user eva,bob localuser me", true),
            ("user EVA", false),
            ("!user bob", true),
            ("user bob exec false", false),
            ("exec true", true),
            ("!exec true", false),
            ("exec false", false),
            ("tagged home", true),
            ("tagged away", false),
            ("sessiontype subsystem", true),
            ("final", false),
            ("!final", true),
            ("canonical all", false),
            ("user bob localnetwork 10.0.0.0/8", false),
        ] {
            assert_eq!(judge(line), Ok(Verdict::Applies(expected)), "{line}");
        }
    }

    #[test]
    fn a_condition_that_is_not_understood_says_so_and_a_broken_line_is_an_error() {
        for line in ["localnetwork 10.0.0.0/8", "user eva !localnetwork 10.0.0.0/8", "version x", "new y"] {
            assert!(matches!(judge(line), Ok(Verdict::Foreign(_))), "{line}");
        }
        for line in ["", "host", "user eva host", "all host x", "user a user b all", "host="] {
            assert!(judge(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_host_line_needs_a_match_and_no_negated_one() {
        for (patterns, expected) in [
            ("nas", true),
            ("*", true),
            ("n?s other", true),
            ("!nas *", false),
            ("* !nas", false),
            ("!other", false),
            ("* !other", true),
            ("NAS", false),
        ] {
            let patterns: Vec<String> = patterns.split(' ').map(str::to_owned).collect();
            assert_eq!(host(&patterns, "nas"), expected, "{patterns:?}");
        }
    }

    proptest! {
        #[test]
        fn no_condition_makes_the_judge_panic(line in "((!?(all|host|user|final|tagged|[a-z]{1,4})(=| )?)[a-z*?!,=]{0,6} ?){0,6}") {
            if !line.contains("exec") {
                let _ = judge(&line);
            }
        }
    }
}
