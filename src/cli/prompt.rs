//! Questions that only a person can answer, asked on the terminal and nowhere else: a script that is asked
//! gets an error, never a silent yes.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::sync::{Mutex, PoisonError};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use thiserror::Error;

use super::error::printable;

/// The longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 4096;

/// Why nobody answered.
#[derive(Debug, Error)]
pub enum PromptError {
    /// There is no terminal.
    #[error("there is no terminal to ask on: {0}")]
    NoTerminal(#[source] io::Error),
    /// The terminal could not be read or written.
    #[error("cannot ask on the terminal: {0}")]
    Io(#[from] io::Error),
    /// The terminal ended before an answer came.
    #[error("the question was not answered")]
    NoAnswer,
}

/// An answer that must not be shown.
pub struct Secret(String);

impl Secret {
    /// The answer itself.
    pub fn reveal(self) -> String {
        self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The terminal of this process, whatever stdin and stdout are.
#[derive(Debug)]
pub struct Terminal(File);

impl Terminal {
    /// Opens `/dev/tty`. Fails where the process has no terminal.
    pub fn open() -> Result<Terminal, PromptError> {
        let tty = File::options().read(true).write(true).open("/dev/tty");
        tty.map(Terminal).map_err(PromptError::NoTerminal)
    }

    /// Asks until the answer is `yes` or `no`. Blocks.
    pub fn confirm(&mut self, question: &str) -> Result<bool, PromptError> {
        confirm(&mut BufReader::new(&self.0), &mut &self.0, question)
    }

    /// Asks for a line that is not shown while it is typed. Blocks.
    pub fn secret(&mut self, question: &str) -> Result<Secret, PromptError> {
        let _silence = Silence::over(&self.0)?;
        ask(&mut BufReader::new(&self.0), &mut &self.0, question).map(Secret)
    }
}

/// What to ask about a host that is met for the first time; `fingerprint` as `SHA256:…`.
pub fn host_question(host: &str, algorithm: &str, fingerprint: &str) -> String {
    let (host, algorithm, fingerprint) = (printable(host), printable(algorithm), printable(fingerprint));
    format!(
        "{host} is not known yet. Its {algorithm} key has the fingerprint\n  {fingerprint}\n\
         It must be the one that the server printed when it started. Trust it from now on (yes/no)? "
    )
}

/// What to ask for an encrypted key.
pub fn passphrase_question(key_file: &str) -> String {
    format!("Passphrase of {}: ", printable(key_file))
}

fn confirm(input: &mut impl BufRead, output: &mut impl Write, question: &str) -> Result<bool, PromptError> {
    let mut text = question;
    loop {
        match ask(input, output, text)?.trim().to_ascii_lowercase().as_str() {
            "yes" => return Ok(true),
            "no" => return Ok(false),
            _ => text = "Please type yes or no: ",
        }
    }
}

fn ask(input: &mut impl BufRead, output: &mut impl Write, question: &str) -> Result<String, PromptError> {
    output.write_all(question.as_bytes())?;
    output.flush()?;
    let mut line = Vec::new();
    io::Read::take(input, MAX_ANSWER).read_until(b'\n', &mut line)?;
    match line.pop() {
        Some(b'\n') => {}
        // Without its newline the line was cut: by the terminal's end, or for its length.
        _ => return Err(PromptError::NoAnswer),
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map_err(|_| io::Error::from(io::ErrorKind::InvalidData).into())
}

/// The terminal whose echo is off, and what it was like before.
static SILENT: Mutex<Option<(File, Termios)>> = Mutex::new(None);

/// Switches echo back on where a question has switched it off: for a process that ends with the question open. A thread that
/// waits for the answer cannot do it.
pub fn restore() {
    let silent = SILENT.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some((mut tty, before)) = silent {
        // Nothing better can be done about a terminal that is gone.
        let _ = tcsetattr(&tty, OptionalActions::Now, &before);
        // The typed newline was not shown either.
        let _ = tty.write_all(b"\n");
    }
}

/// Echo switched off; back on when dropped.
struct Silence;

impl Silence {
    fn over(tty: &File) -> io::Result<Silence> {
        let before = tcgetattr(tty)?;
        let mut silent = before.clone();
        silent.local_modes -= LocalModes::ECHO;
        *SILENT.lock().unwrap_or_else(PoisonError::into_inner) = Some((tty.try_clone()?, before));
        let silence = Silence;
        tcsetattr(tty, OptionalActions::Flush, &silent)?;
        Ok(silence)
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        restore();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(typed: &str) -> (Result<bool, String>, String) {
        let mut shown = Vec::new();
        let answer = confirm(&mut typed.as_bytes(), &mut shown, "Trust it? ");
        (answer.map_err(|error| error.to_string()), String::from_utf8(shown).expect("text"))
    }

    #[test]
    fn only_yes_is_yes_and_everything_else_is_asked_again() {
        assert_eq!(asked("yes\n").0, Ok(true));
        assert_eq!(asked("No\r\n").0, Ok(false));
        let (answer, shown) = asked("y\n\nYES\n");
        assert_eq!((answer, shown.matches("Please type").count()), (Ok(true), 2));
    }

    #[test]
    fn an_answer_that_was_cut_is_none() {
        assert!(asked("").0.is_err());
        assert!(asked("yes").0.is_err());
        assert!(asked(&"x".repeat(9000)).0.is_err());
    }

    #[test]
    fn a_secret_is_not_shown_by_debug_and_a_host_cannot_write_its_own_question() {
        assert_eq!(format!("{:?}", Secret("hunter2".into())), "Secret");
        assert!(!host_question("evil\r\x1b[A", "ssh-ed25519", "SHA256:x").contains(['\r', '\x1b']));
    }
}
