//! `%h`, `${HOME}` and `~` in the values of an ssh configuration.

use std::path::{Path, PathBuf};

use super::Around;

/// What each `%` letter stands for.
pub(super) type Tokens<'a> = &'a [(char, &'a str)];

/// Puts in what `%` letters stand for and, where `variables` says so, `${NAME}` of the environment. What is put in is not
/// looked at again.
pub(super) fn expand(text: &str, tokens: Tokens<'_>, variables: Option<&Around>) -> Result<String, String> {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['%', '$']) {
        let (before, from) = rest.split_at(at);
        expanded.push_str(before);
        rest = match (from.strip_prefix("${"), variables) {
            (Some(name), Some(around)) => {
                let (name, after) = name.split_once('}').ok_or("a `${` has no `}`")?;
                expanded.push_str(&variable(name, around)?);
                after
            }
            _ if from.starts_with('$') => {
                expanded.push('$');
                &from[1..]
            }
            _ => {
                let letter = from[1..].chars().next().ok_or("a `%` has no letter")?;
                match tokens.iter().find(|(known, _)| *known == letter) {
                    Some((_, value)) => expanded.push_str(value),
                    None if letter == '%' => expanded.push('%'),
                    None => return Err(format!("`%{letter}` is not understood here")),
                }
                &from[1 + letter.len_utf8()..]
            }
        };
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// The value of an environment variable.
pub(super) fn variable(name: &str, around: &Around) -> Result<String, String> {
    (around.variable)(name).ok_or_else(|| format!("the environment has no variable {name}"))
}

/// A path with `~` or `~/` at its start.
pub(super) fn home(text: &str, home: &Path) -> Result<PathBuf, String> {
    match text.strip_prefix('~') {
        None => Ok(text.into()),
        Some("") => Ok(home.to_owned()),
        Some(rest) => match rest.strip_prefix('/') {
            Some(rest) => Ok(home.join(rest.trim_start_matches('/'))),
            None => {
                Err(format!("{text}: the home folders of others are not looked up; write the path in full"))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn around() -> Around {
        Around::new("/home/eva", "eva", |name: &str| (name == "X").then(|| "%h${X}".into()))
    }

    #[test]
    fn letters_and_variables_are_put_in_once() {
        let tokens: Tokens<'_> = &[('h', "%r"), ('r', "eva")];
        for (text, expected) in [
            ("plain", Ok("plain")),
            ("%h-%r-%%-%%h", Ok("%r-eva-%-%h")),
            ("a${X}b", Ok("a%h${X}b")),
            ("$X $", Ok("$X $")),
            ("%", Err("no letter")),
            ("%C", Err("`%C`")),
            ("%é", Err("`%é`")),
            ("${X", Err("no `}`")),
            ("${NONE}", Err("no variable NONE")),
        ] {
            match (expand(text, tokens, Some(&around())), expected) {
                (Ok(seen), Ok(expected)) => assert_eq!(seen, expected, "{text}"),
                (Err(seen), Err(expected)) => assert!(seen.contains(expected), "{text}: {seen}"),
                (seen, _) => panic!("{text}: {seen:?}"),
            }
        }
        assert_eq!(expand("${X}", tokens, None).as_deref(), Ok("${X}"));
    }

    #[test]
    fn a_tilde_is_the_home_folder_and_nobody_elses() {
        let at = Path::new("/home/eva");
        for (text, expected) in
            [("~", "/home/eva"), ("~/a", "/home/eva/a"), ("~//a", "/home/eva/a"), ("/a~", "/a~"), ("a", "a")]
        {
            assert_eq!(home(text, at).as_deref(), Ok(Path::new(expected)), "{text}");
        }
        assert!(home("~bob/x", at).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_expansion_panic(text: String, likely in "[%$a-z{}~/é]{0,30}") {
            for text in [text, likely] {
                let _ = expand(&text, &[('h', "host")], Some(&around()));
                let _ = home(&text, Path::new("/h"));
            }
        }
    }
}
