//! An error and its causes as the one line a user reads.

use std::error::Error;
use std::fmt::Write;

use crate::core::shown::Shown;

/// `act object: cause: deeper cause`, for printing after `syncfiles: `. A cause that the text before it already
/// contains (most of ours do) is not said twice, and nothing in it can act on a terminal.
pub fn one_line(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            let _ = write!(text, ": {cause_text}");
        }
        next = cause.source();
    }
    printable(text.trim_end())
}

/// Text of our own in which a peer's or a file's bytes may stand: controls are escaped, and what has been
/// escaped already (by [`Shown`]) is not escaped again.
pub fn printable(text: &str) -> String {
    let parts: Vec<String> = text.split('\\').map(|part| Shown(part.as_bytes()).to_string()).collect();
    parts.join("\\")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[derive(Debug, thiserror::Error)]
    enum Stage {
        #[error("cannot stage {0}: {1}")]
        Said(&'static str, #[source] io::Error),
        #[error("cannot stage {0}")]
        Unsaid(&'static str, #[source] io::Error),
    }

    #[test]
    fn a_cause_is_said_once() {
        let cause = || io::Error::other("no space left on device");
        let line = "cannot stage a/b: no space left on device";
        assert_eq!(one_line(&Stage::Said("a/b", cause())), line);
        assert_eq!(one_line(&Stage::Unsaid("a/b", cause())), line);
    }

    #[test]
    fn nothing_in_an_error_acts_on_the_terminal_or_breaks_the_line() {
        let evil = io::Error::other("banner\x1b[2J\nsyncfiles: all is well \\xff");
        assert_eq!(one_line(&evil), "banner\\x1b[2J\\nsyncfiles: all is well \\xff");
    }
}
