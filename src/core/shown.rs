//! The one way in which bytes that a peer or a file system chose reach a terminal or a log.

use std::fmt;

/// Displays bytes as text with everything escaped that could act on a terminal or mislead a reader:
/// C0 and C1 controls, DEL, line and paragraph separators, bidirectional and zero-width controls, bytes
/// that are not UTF-8 (`\xNN`), and the backslash itself.
pub struct Shown<'a>(pub &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\\' => f.write_str("\\\\")?,
                    '\n' => f.write_str("\\n")?,
                    '\t' => f.write_str("\\t")?,
                    '\r' => f.write_str("\\r")?,
                    c if (c as u32) < 0x80 && c.is_control() => write!(f, "\\x{:02x}", c as u32)?,
                    c if misleads(c) => write!(f, "\\u{{{:x}}}", c as u32)?,
                    c => f.write_char(c)?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// C1 controls, separators, bidirectional and invisible formatting characters (Unicode UAX 9 and the
/// "Trojan Source" list).
fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::Shown;

    #[test]
    fn nothing_that_acts_on_a_terminal_survives() {
        let evil = "a\x1b[2Jb\u{9b}31m\u{202e}c\n\u{200b}d\\".as_bytes();
        assert_eq!(Shown(evil).to_string(), "a\\x1b[2Jb\\u{9b}31m\\u{202e}c\\n\\u{200b}d\\\\");
        assert_eq!(Shown(b"\xff\xfe").to_string(), "\\xff\\xfe");
        assert_eq!(Shown("grüße 日本".as_bytes()).to_string(), "grüße 日本");
    }
}
