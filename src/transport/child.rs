//! A byte stream over the stdin and stdout of another program, such as `ssh`.
//!
//! The program stays in our process group, so that it may ask on the terminal, and is never left behind: once the stream
//! is dropped it sees the end of its input, and is told to end if that does not suffice.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::pin::{Pin, pin};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, BufReader, ReadBuf};
use tokio::process::{Child as Process, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::{oneshot, watch};

use crate::core::shown::Shown;

/// How many of its last lines are remembered.
const LINES: usize = 5;
/// The most bytes of a line that are looked at.
const LINE: u64 = 1024;
/// How long a program may take to end by itself once its input has ended, and again once it was told to.
const GRACE: Duration = Duration::from_secs(1);

/// Hears a line that the program wrote to stderr, fit to be printed. Must not block.
pub type Hear = Arc<dyn Fn(&str) + Send + Sync>;

/// What to run: a program's name and its arguments.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program(Vec<OsString>);

impl Program {
    /// A program, looked up in PATH, and its arguments.
    pub fn new(name: impl Into<OsString>, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        let arguments = arguments.into_iter().map(Into::into);
        Self(std::iter::once(name.into()).chain(arguments).collect())
    }

    /// A simple command for `sh` with its arguments, run by `exec`, as ssh runs a ProxyCommand: no shell stays behind.
    pub fn shell(command: impl AsRef<OsStr>) -> Self {
        let mut text = OsString::from("exec ");
        text.push(command);
        Self::new("/bin/sh", [OsString::from("-c"), text])
    }

    /// The program's name, fit to be printed.
    pub fn name(&self) -> Shown<'_> {
        Shown(self.0.first().map_or(b"", |name| name.as_encoded_bytes()))
    }
}

/// Starts a program, inside a tokio runtime. What it writes to stderr is remembered for [`Watch`], and told to `hear`.
///
/// # Errors
/// It cannot be started; the text names the program.
pub fn spawn(program: &Program, hear: Option<Hear>) -> io::Result<Child> {
    let name = program.name();
    let failed = |error: io::Error| io::Error::new(error.kind(), format!("cannot run {name}: {error}"));
    let mut command = Command::new(program.0.first().map_or(OsStr::new(""), OsString::as_os_str));
    command.args(program.0.iter().skip(1));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().map_err(failed)?;
    let pipes = (process.stdin.take(), process.stdout.take(), process.stderr.take());
    let (Some(input), Some(output), Some(errors)) = pipes else {
        return Err(failed(io::Error::other("it has no pipes")));
    };
    let (dropped, gone) = oneshot::channel();
    let (tell, ended) = watch::channel(None);
    let said = Arc::new(Mutex::new(VecDeque::new()));
    tokio::spawn(tend(Tended(process), errors, said.clone(), hear, gone, tell));
    Ok(Child { input: Some(input), output, watch: Watch { ended, said }, _dropped: dropped })
}

/// The stream: what is written is the program's input, what is read its output.
#[derive(Debug)]
pub struct Child {
    /// Nothing once it was shut down: that is how the program sees the end.
    input: Option<ChildStdin>,
    output: ChildStdout,
    watch: Watch,
    _dropped: oneshot::Sender<()>,
}

impl Child {
    /// How it ends, for whoever has given the stream away.
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }
}

/// How a program ended and what it said; outlives its stream.
#[derive(Clone, Debug)]
pub struct Watch {
    ended: watch::Receiver<Option<Ending>>,
    said: Arc<Mutex<VecDeque<String>>>,
}

impl Watch {
    /// Waits until the program has ended and all that it wrote was read. That may be never: race it with a deadline.
    pub async fn ended(&self) -> Ending {
        let mut ended = self.ended.clone();
        let lost = || Ending { status: None, said: self.said() };
        match ended.wait_for(Option::is_some).await {
            Ok(ending) => ending.clone().unwrap_or_else(lost),
            Err(_) => lost(),
        }
    }

    /// The last lines of stderr so far, fit to be printed.
    pub fn said(&self) -> Vec<String> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// How a program ended. Shown as the end of a sentence about it: `ended with status 255: Connection refused`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ending {
    /// Its exit status, where it is known.
    pub status: Option<ExitStatus>,
    /// The last lines that it wrote to stderr, fit to be printed.
    pub said: Vec<String>,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use std::os::unix::process::ExitStatusExt;
        match self.status.map(|status| (status.code(), status.signal())) {
            Some((Some(code), _)) => write!(f, "ended with status {code}")?,
            Some((_, Some(signal))) => write!(f, "was ended by signal {signal}")?,
            _ => f.write_str("ended")?,
        }
        match self.said.as_slice() {
            [] => Ok(()),
            said => write!(f, ": {}", said.join("; ")),
        }
    }
}

/// A process that is told to end when nobody tends it any more, as when the runtime goes away.
struct Tended(Process);

impl Tended {
    fn tell(&self, signal: Signal) {
        // There is no id once the process was waited for, so no other process can be hit.
        let pid = self.0.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(pid) = pid {
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits for its end; helps once `gone` says that its stream was dropped.
    async fn end(&mut self, gone: oneshot::Receiver<()>) -> Option<ExitStatus> {
        tokio::select! {
            status = self.0.wait() => return status.ok(),
            _ = gone => {}
        }
        for signal in [Signal::TERM, Signal::KILL] {
            if let Ok(status) = tokio::time::timeout(GRACE, self.0.wait()).await {
                return status.ok();
            }
            self.tell(signal);
        }
        self.0.wait().await.ok()
    }
}

impl Drop for Tended {
    fn drop(&mut self) {
        self.tell(Signal::TERM);
    }
}

/// The one task of a program: listens until stderr ends, and waits until the program does.
async fn tend(
    mut process: Tended,
    errors: ChildStderr,
    said: Arc<Mutex<VecDeque<String>>>,
    hear: Option<Hear>,
    gone: oneshot::Receiver<()>,
    tell: watch::Sender<Option<Ending>>,
) {
    let status = {
        let mut listening = pin!(listen(errors, &said, hear));
        let mut ending = pin!(process.end(gone));
        tokio::select! {
            () = &mut listening => ending.await,
            status = &mut ending => {
                // Whatever it left running may hold stderr open for ever.
                let _ = tokio::time::timeout(GRACE, listening).await;
                status
            }
        }
    };
    let said = said.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
    tell.send_replace(Some(Ending { status, said }));
}

async fn listen(errors: ChildStderr, said: &Mutex<VecDeque<String>>, hear: Option<Hear>) {
    let mut errors = BufReader::new(errors);
    let mut line = Vec::new();
    while let Ok(1..) = (&mut errors).take(LINE).read_until(b'\n', &mut line).await {
        let text = Shown(line.trim_ascii()).to_string();
        line.clear();
        if text.is_empty() {
            continue;
        }
        if let Some(hear) = &hear {
            hear(&text);
        }
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() == LINES {
            said.pop_front();
        }
        said.push_back(text);
    }
}

impl AsyncRead for Child {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_read(cx, buf)
    }
}

impl AsyncWrite for Child {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.input {
            Some(input) => Pin::new(input).poll_write(cx, buf),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input.as_mut().map_or(Poll::Ready(Ok(())), |input| Pin::new(input).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    fn shell(command: &str) -> Child {
        spawn(&Program::new("sh", ["-c", command]), None).unwrap()
    }

    #[tokio::test]
    async fn bytes_go_through_and_the_end_of_input_is_seen() {
        let mut child = spawn(&Program::shell("cat"), None).unwrap();
        let (mut sent, mut back) = (vec![0u8; 300_000], Vec::new());
        sent.iter_mut().enumerate().for_each(|(at, byte)| *byte = at as u8);
        let watch = child.watch();
        let (mut output, mut input) = tokio::io::split(&mut child);
        let write = async {
            input.write_all(&sent).await.unwrap();
            input.shutdown().await.unwrap();
        };
        let (_, read) = tokio::join!(write, output.read_to_end(&mut back));
        assert_eq!((read.unwrap(), &back), (sent.len(), &sent));
        assert_eq!(watch.ended().await.to_string(), "ended with status 0");
        assert!(child.write_all(b"more").await.is_err());
    }

    #[tokio::test]
    async fn the_ending_tells_the_status_and_the_last_lines_and_no_control_codes() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ear = heard.clone();
        let hear: Hear = Arc::new(move |line: &str| ear.lock().unwrap().push(line.to_owned()));
        let command =
            "for n in 1 2 3 4 5 6; do echo line $n >&2; done; printf '\\033[2Jlast\\r\\n' >&2; exit 7";
        let child = spawn(&Program::new("sh", ["-c", command]), Some(hear)).unwrap();
        let ending = child.watch().ended().await;
        let text = ending.to_string();
        assert_eq!(text, "ended with status 7: line 3; line 4; line 5; line 6; \\x1b[2Jlast");
        assert_eq!(heard.lock().unwrap().len(), 7);
    }

    #[tokio::test]
    async fn a_line_without_end_takes_no_memory_without_end() {
        let child = shell("head -c 1000000 /dev/zero >&2");
        let said = child.watch().ended().await.said;
        // Each NUL is shown as four characters.
        assert!(said.iter().map(String::len).sum::<usize>() <= LINES * 4 * LINE as usize, "{}", said.len());
    }

    #[tokio::test]
    async fn a_dropped_stream_ends_a_program_that_reads_its_input() {
        let child = shell("cat");
        let watch = child.watch();
        drop(child);
        assert_eq!(watch.ended().await.status.and_then(|status| status.code()), Some(0));
    }

    #[tokio::test]
    async fn a_dropped_stream_ends_a_program_that_wants_to_stay() {
        let mut child = shell("trap '' TERM; echo up; while :; do read x || :; done");
        let mut up = [0; 3];
        child.read_exact(&mut up).await.unwrap();
        let watch = child.watch();
        drop(child);
        use std::os::unix::process::ExitStatusExt;
        let signal = watch.ended().await.status.and_then(|status| status.signal());
        assert_eq!(signal, Some(Signal::KILL.as_raw()));
    }

    #[test]
    fn a_program_ends_with_the_runtime() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (mut output, id) = runtime.block_on(async {
            let mut process = Command::new("sleep").arg("1000").stdout(Stdio::piped()).spawn().unwrap();
            let output = process.stdout.take().unwrap().into_owned_fd().unwrap();
            let id = process.id();
            tokio::spawn(async move {
                let mut process = Tended(process);
                process.0.wait().await
            });
            tokio::task::yield_now().await;
            (std::fs::File::from(output), id)
        });
        assert!(id.is_some());
        drop(runtime);
        // The pipe ends when its last writer does.
        let mut rest = Vec::new();
        io::Read::read_to_end(&mut output, &mut rest).unwrap();
    }

    #[tokio::test]
    async fn a_program_that_is_missing_is_named() {
        let missing = spawn(&Program::new("no-such-program", [""; 0]), None).unwrap_err().to_string();
        assert!(missing.starts_with("cannot run no-such-program: "), "{missing}");
    }
}
