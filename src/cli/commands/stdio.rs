//! `syncfiles serve --stdio`: System 1 below an outer ssh, which has authenticated both ends.
//!
//! So nobody logs in here, and the host key lives as long as the process. This is the only place where that is allowed.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::task::JoinSet;

use super::sandbox::{Wanted, confined};
use super::serve::{exports, handler};
use super::{Stop, interrupted, places, runtime};
use crate::cli::exit::ExitCode;
use crate::cli::serve_args::ServeArgs;
use crate::session::Exports;
use crate::ssh::{Connection, Grant, Host, Peer, ServerConfig, host_key};
use crate::transport::mux::Mux;
use crate::transport::preamble::{self, Lost};
use crate::transport::stdio::{self, Input};

/// How long a client may take to say its first bytes.
const PATIENCE: Duration = Duration::from_secs(120);

/// Serves one client until its end of the pipe closes.
pub(crate) fn run(args: &ServeArgs) -> Result<ExitCode, Stop> {
    if std::io::stdin().is_terminal() {
        return Err(Stop::new(
            ExitCode::Usage,
            "cannot serve on a terminal: --stdio is for an outer ssh; on the other system run syncfiles -e ssh HOST:FOLDER DIR",
        ));
    }
    let wanted = Wanted { log: args.log_file.as_deref(), ..Wanted::default() };
    let exports = confined(args.sandbox, exports(args)?, wanted)?;
    let runtime = runtime(1)?;
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = serve(exports) => ended,
            () = interrupted() => Err(Stop::new(ExitCode::Interrupted, "interrupted")),
        }
    });
    // A thread may wait for input that never comes.
    runtime.shutdown_background();
    ended
}

async fn serve(exports: Exports) -> Result<ExitCode, Stop> {
    let lost = |error| Stop::new(ExitCode::Connection, format_args!("cannot use stdin and stdout: {error}"));
    let (input, mut output) = stdio::take().map_err(lost)?;
    let mut input = BufReader::with_capacity(128 * 1024, input);
    output.write_all(&preamble::greeting()).await.map_err(lost)?;
    output.flush().await.map_err(lost)?;
    expect_client(&mut input).await?;
    let mut mux = Mux::server(input, output);
    let nobody = Arc::new(|_: &str, _: &_, _| None::<Grant>);
    let host = Host::new(ServerConfig::new(vec![host_key::ephemeral()], nobody));
    let handler = Arc::new(known(handler(exports)));
    let mut guests = JoinSet::new();
    loop {
        tokio::select! {
            stream = mux.accept() => match stream {
                Some(stream) => {
                    let (host, handler) = (host.clone(), handler.clone());
                    guests.spawn(async move { host.serve_stream(stream, &*handler).await });
                }
                None => break,
            },
            Some(_) = guests.join_next() => {}
        }
    }
    // The client has gone; what runs still notices, and sees to its own files.
    while guests.join_next().await.is_some() {}
    mux.flush().await;
    Ok(ExitCode::InSync)
}

async fn expect_client(input: &mut BufReader<Input>) -> Result<(), Stop> {
    let said = tokio::time::timeout(PATIENCE, preamble::expect(input))
        .await
        .unwrap_or(Err(Lost::Ended(String::new())));
    said.map_err(|lost| {
        let code = match lost {
            Lost::Version(_) => ExitCode::IncompatiblePeer,
            Lost::Noise(_) => ExitCode::Protocol,
            Lost::Ended(_) | Lost::Io(_) => ExitCode::Connection,
        };
        Stop::new(code, format_args!("no syncfiles client on stdin: {lost}"))
    })
}

/// The outer ssh knows who the client is, and where; what the client says of itself counts nothing.
fn known<F>(
    handler: impl Fn(Connection, Peer) -> F + Send + Sync,
) -> impl Fn(Connection, Peer) -> F + Send + Sync
where
    F: Future<Output = ()>,
{
    let user = places::user().unwrap_or_default();
    let address = places::ssh_client();
    move |connection, peer| handler(connection, Peer { user: user.clone(), address, ..peer })
}
