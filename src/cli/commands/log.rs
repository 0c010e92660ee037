//! The server's log: one line an event, for people or for machines.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::cli::error::printable;
use crate::cli::serve_args::LogFormat;

/// Where the log goes, and how it is written.
pub(crate) struct Log {
    to: Mutex<Box<dyn Write + Send>>,
    format: LogFormat,
}

impl Log {
    /// To `file`, appended, or to stderr, or nowhere where that is somebody's terminal far away (`--stdio`).
    pub(crate) fn open(file: Option<&Path>, format: LogFormat, stdio: bool) -> io::Result<Log> {
        let to: Box<dyn Write + Send> = match file {
            Some(file) => Box::new(File::options().append(true).create(true).open(file)?),
            None if stdio => Box::new(io::sink()),
            None => Box::new(io::stderr()),
        };
        Ok(Log { to: Mutex::new(to), format })
    }

    /// One event with what belongs to it. Values may come from a peer: they are escaped here.
    pub(crate) fn event(&self, event: &str, fields: &[(&str, String)]) {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let line = match self.format {
            LogFormat::Text => {
                let fields = fields.iter().map(|(name, value)| format!(" {name}={}", printable(value)));
                format!("syncfiles: {event}{}\n", fields.collect::<String>())
            }
            LogFormat::Json => {
                let fixed = [("time", seconds.into()), ("event", event.into())];
                let fields = fields.iter().map(|(name, value)| (*name, printable(value).into()));
                let object: serde_json::Map<String, serde_json::Value> =
                    fixed.into_iter().chain(fields).map(|(name, value)| (name.to_owned(), value)).collect();
                format!("{}\n", serde_json::Value::Object(object))
            }
        };
        let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        // A full disk must not stop the server; there is nobody else to tell.
        let _ = to.write_all(line.as_bytes()).and_then(|()| to.flush());
    }
}
