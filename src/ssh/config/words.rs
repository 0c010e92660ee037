//! One line of an ssh configuration: its keyword, and its arguments as OpenSSH splits them.

/// What separates words.
const BLANKS: [char; 4] = [' ', '\t', '\r', '\n'];

/// The keyword of a line in lower case, and what follows it and its `=`; nothing for an empty line and a comment.
pub(super) fn keyword(line: &str) -> Option<(String, &str)> {
    let line = line.trim_end_matches([' ', '\t', '\r', '\n', '\x0c']).trim_start_matches(BLANKS);
    let end = line.find([' ', '\t', '\r', '\n', '=', '"']).unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    if word.is_empty() || word.starts_with('#') {
        return None;
    }
    let rest = rest.trim_start_matches(BLANKS);
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start_matches(BLANKS);
    Some((word.to_ascii_lowercase(), rest))
}

/// The words of what follows a keyword, without their quotes, up to a comment; nothing where a quote stays open.
pub(super) fn arguments(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = text.trim_start_matches([' ', '\t']);
    while !rest.is_empty() && !rest.starts_with('#') {
        let (word, after) = word(rest)?;
        words.push(word);
        rest = after.trim_start_matches([' ', '\t']);
    }
    Some(words)
}

/// The first word and what follows it. A backslash stands for itself but before quotes, itself and, outside of quotes,
/// a blank.
fn word(text: &str) -> Option<(String, &str)> {
    let (mut word, mut quote) = (String::new(), None);
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match (c, quote) {
            ('\\', _) => {
                let escaped = chars.next_if(|(_, next)| {
                    matches!(next, '\'' | '"' | '\\') || (*next == ' ' && quote.is_none())
                });
                word.push(escaped.map_or('\\', |(_, next)| next));
            }
            (' ' | '\t', None) => return Some((word, &text[at..])),
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            (c, _) => word.push(c),
        }
    }
    quote.is_none().then_some((word, ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_keyword_ends_at_a_blank_or_an_equals_sign_and_has_no_case() {
        for (line, expected) in [
            ("Port 22", Some(("port", "22"))),
            ("  \tPORT\t=  22 \r\n", Some(("port", "22"))),
            ("Port=22", Some(("port", "22"))),
            ("ProxyCommand a = b # c", Some(("proxycommand", "a = b # c"))),
            ("User", Some(("user", ""))),
            ("# Port 22", None),
            ("", None),
            (" \t\x0c", None),
        ] {
            let seen = keyword(line);
            assert_eq!(seen.as_ref().map(|(word, rest)| (word.as_str(), *rest)), expected, "{line:?}");
        }
    }

    #[test]
    fn words_are_split_as_ssh_splits_them() {
        for (text, expected) in [
            ("a  b\tc", &["a", "b", "c"][..]),
            ("\"a b\" c", &["a b", "c"]),
            ("'a b' c", &["a b", "c"]),
            ("x\"a b\"y", &["xa by"]),
            (r"a\ b", &["a b"]),
            (r#""a\ b""#, &[r"a\ b"]),
            (r#""a\"b" 'it\'s'"#, &["a\"b", "it's"]),
            (r"C:\dir\\x", &[r"C:\dir\x"]),
            ("a # comment", &["a"]),
            ("a#b", &["a#b"]),
            ("\"\" a", &["", "a"]),
            ("", &[]),
        ] {
            assert_eq!(arguments(text).as_deref().unwrap(), expected, "{text}");
        }
        assert_eq!(arguments("\"open"), None);
        assert_eq!(arguments("a 'open"), None);
    }

    proptest! {
        #[test]
        fn no_line_makes_the_splitting_panic(line: String, likely in "[ \ta-zA-Z=#\"'\\\\]{0,40}") {
            for line in [line, likely] {
                if let Some((_, rest)) = keyword(&line) {
                    let _ = arguments(rest);
                }
            }
        }
    }
}
