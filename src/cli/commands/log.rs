//! The server's log, by `tracing`: one line an event, for people or for machines.
//!
//! Values may come from a peer. Whatever could act on a terminal or forge a field is escaped here.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::cli::error::printable;
use crate::cli::serve_args::LogFormat;

/// The log of this process.
pub(crate) struct Log {
    /// Where it is written, if that is a file.
    page: Option<Page>,
}

impl Log {
    /// From now on events go to `file`, appended, or to stderr; nowhere where stderr is somebody's terminal far away
    /// (`--stdio`).
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(crate) fn begin(file: Option<&Path>, format: LogFormat, stdio: bool) -> io::Result<Log> {
        let page = file.map(Page::open).transpose()?;
        let to = match &page {
            Some(page) => {
                let page = page.clone();
                BoxMakeWriter::new(move || page.clone())
            }
            None if stdio => return Ok(Log { page }),
            None => BoxMakeWriter::new(io::stderr),
        };
        // The journal, and whoever looks at a terminal, knows the time.
        let lines = Lines { format, stamped: file.is_some() };
        // A full disk must not stop the server; there is nobody else to tell.
        let layer =
            tracing_subscriber::fmt::layer().event_format(lines).with_writer(to).log_internal_errors(false);
        let ours = |about: &Metadata<'_>| about.target().starts_with(env!("CARGO_PKG_NAME"));
        let layer = layer.with_filter(filter_fn(ours)).with_filter(LevelFilter::INFO);
        // There is one log a process. Should another be there already, it is as good.
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer));
        Ok(Log { page })
    }

    /// Goes on in the file that has the log's name now, which is made if there is none.
    ///
    /// # Errors
    /// It cannot be opened; the log goes on where it was.
    pub(crate) fn reopen(&self) -> io::Result<()> {
        self.page.as_ref().map_or(Ok(()), Page::reopen)
    }
}

/// A log file. Clones write to the same one.
#[derive(Clone)]
struct Page {
    path: Arc<Path>,
    file: Arc<Mutex<File>>,
}

impl Page {
    fn open(path: &Path) -> io::Result<Page> {
        Ok(Page { path: path.into(), file: Arc::new(Mutex::new(appended(path)?)) })
    }

    fn reopen(&self) -> io::Result<()> {
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = appended(&self.path)?;
        Ok(())
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn appended(path: &Path) -> io::Result<File> {
    File::options().append(true).create(true).open(path)
}

/// How an event becomes a line.
struct Lines {
    format: LogFormat,
    /// Whether a line for people begins with the time.
    stamped: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut said = Said::default();
        event.record(&mut said);
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let line = match self.format {
            LogFormat::Text if self.stamped => format!("{time} {}", said.text()),
            LogFormat::Text => said.text(),
            LogFormat::Json => said.json(&time, &event.metadata().level().as_str().to_lowercase()),
        };
        writeln!(to, "{line}")
    }
}

/// The most characters of a value: a peer may choose a name, not how long the log gets.
const LONGEST: usize = 1000;

/// What an event says: its name, and values by name in their order.
#[derive(Default)]
struct Said {
    event: String,
    fields: Vec<(&'static str, Value)>,
}

impl Said {
    fn take(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(event)) => self.event = event,
            // What does not apply is not said.
            (_, Value::String(text)) if text.is_empty() => {}
            (name, value) => self.fields.push((name, value)),
        }
    }

    fn take_text(&mut self, field: &Field, text: &str) {
        let mut text = printable(text);
        if let Some((end, _)) = text.char_indices().nth(LONGEST) {
            text.truncate(end);
            text.push('…');
        }
        self.take(field, text.into());
    }

    /// `syncfiles: event name=value name="a value"`, in quotes with a backslash before quotes and backslashes, so that no value
    /// ends before its end.
    fn text(&self) -> String {
        let mut line = format!("syncfiles: {}", self.event);
        for (name, value) in &self.fields {
            let _ = match value {
                Value::String(text) if text.contains([' ', '"', '=', '\\']) => {
                    write!(line, " {name}=\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
                }
                Value::String(text) => write!(line, " {name}={text}"),
                value => write!(line, " {name}={value}"),
            };
        }
        line
    }

    /// One object: when, how bad, what; then what belongs to it.
    fn json(&self, time: &str, level: &str) -> String {
        let fixed = [("time", time.into()), ("level", level.into()), ("event", self.event.as_str().into())];
        let all = fixed.iter().chain(&self.fields);
        let all: Vec<_> = all.map(|(name, value)| format!("{}:{value}", Value::from(*name))).collect();
        format!("{{{}}}", all.join(","))
    }
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take_text(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take_text(field, &format!("{value:?}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, value.into());
    }

    /// Seconds: a thousandth is as exact as anybody wants them.
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.take(field, ((value * 1000.0).round() / 1000.0).into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log that can be read.
    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, stamped: bool, say: impl FnOnce()) -> String {
        let paper = Paper::default();
        let to = paper.clone();
        let layer = tracing_subscriber::fmt::layer()
            .event_format(Lines { format, stamped })
            .with_writer(move || to.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), say);
        let bytes = paper.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn say() {
        let none = String::new();
        tracing::info!(user = %"ann", key = "SHA256:x", none, files = 4u64, seconds = 0.12345, ok = true, "served");
    }

    #[test]
    fn a_line_for_people_names_the_event_and_its_values_in_their_order() {
        let line = logged(LogFormat::Text, false, say);
        assert_eq!(line, "syncfiles: served user=ann key=SHA256:x files=4 seconds=0.123 ok=true\n");
        let stamped = logged(LogFormat::Text, true, say);
        assert!(stamped.starts_with("20") && stamped.contains("Z syncfiles: served"), "{stamped}");
    }

    #[test]
    fn a_line_for_machines_is_an_object_with_numbers_as_numbers() {
        let line = logged(LogFormat::Json, true, say);
        let object: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&object["event"], &object["level"]), (&"served".into(), &"info".into()));
        assert_eq!((&object["files"], &object["seconds"]), (&4.into(), &0.123.into()));
        assert_eq!((&object["user"], object.get("none")), (&"ann".into(), None));
        assert!(line.starts_with("{\"time\":\"20"), "{line}");
    }

    #[test]
    fn no_value_acts_on_a_terminal_begins_a_line_or_makes_a_field() {
        let evil = "eve\x1b[2J\nsyncfiles: served user=root \" key=x\u{202e}";
        let text = logged(LogFormat::Text, false, || tracing::warn!(user = evil, "refused"));
        let shown = "eve\\\\x1b[2J\\\\nsyncfiles: served user=root \\\" key=x\\\\u{202e}";
        assert_eq!(text, format!("syncfiles: refused user=\"{shown}\"\n"));
        let open = logged(LogFormat::Text, false, || tracing::warn!(user = "x \\", key = "k", "refused"));
        assert_eq!(open, "syncfiles: refused user=\"x \\\\\" key=k\n");
        let json = logged(LogFormat::Json, false, || tracing::warn!(user = evil, "refused"));
        let object: Value = serde_json::from_str(&json).unwrap();
        assert!(object["user"].as_str().unwrap().starts_with("eve\\x1b[2J\\nsyncfiles"), "{json}");
        assert_eq!((object["level"].as_str(), json.lines().count()), (Some("warn"), 1));
    }

    #[test]
    fn a_long_value_is_cut_whatever_a_peer_likes_to_be_called() {
        let long = "é".repeat(100_000);
        let text = logged(LogFormat::Text, false, || tracing::warn!(user = long, "refused"));
        assert_eq!(text, format!("syncfiles: refused user={}…\n", "é".repeat(LONGEST)));
    }

    #[test]
    fn a_log_that_was_moved_away_is_begun_anew_and_one_that_cannot_be_goes_on() {
        let home = tempfile::tempdir().unwrap();
        let (path, moved) = (home.path().join("logs/log"), home.path().join("logs/log.1"));
        std::fs::create_dir(home.path().join("logs")).unwrap();
        let page = Page::open(&path).unwrap();
        let mut writer = page.clone();
        writer.write_all(b"1\n").unwrap();
        std::fs::rename(&path, &moved).unwrap();
        writer.write_all(b"2\n").unwrap();
        page.reopen().unwrap();
        writer.write_all(b"3\n").unwrap();
        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "1\n2\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "3\n");
        std::fs::rename(home.path().join("logs"), home.path().join("old")).unwrap();
        page.reopen().unwrap_err();
        writer.write_all(b"4\n").unwrap();
        assert_eq!(std::fs::read_to_string(home.path().join("old/log")).unwrap(), "3\n4\n");
    }
}
