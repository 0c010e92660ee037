//! `syncfiles --watch SOURCE TARGET`.

use std::sync::Arc;
use std::time::Duration;

use super::Stop;
use super::sync::{Source, beside, open, until_interrupted};
use crate::cli::address::Pair;
use crate::cli::exit::ExitCode;
use crate::cli::progress::{End, Screen};
use crate::session::progress::Progress;
use crate::session::{Options, Watched, watch, watch_together};

/// Keeps both folders the same until it is interrupted, and shows it.
pub(crate) fn run(
    source: Source,
    pair: &Pair,
    options: &Options,
    screen: &Arc<Screen>,
) -> Result<ExitCode, Stop> {
    let (watched, progress) = (Watched::default(), screen.clone() as Arc<dyn Progress>);
    let ended = until_interrupted(pair.ends(), Stop::new(ExitCode::Interrupted, "interrupted"), async {
        // A watch has time; whoever else syncs this folder gets it between two rounds.
        let local = open(pair, options, Duration::MAX, progress.clone()).await?;
        match source {
            Source::Server(remote, road) => {
                road.listen(progress.clone());
                let connect = async || road.connect().await;
                let ended = watch(connect, local, &remote, options, progress, &watched).await;
                road.end().await;
                ended
            }
            Source::Folder(path) => {
                let (exports, remote) = beside(&path, options)?;
                watch_together(exports, local, &remote, options, progress, &watched).await
            }
        }
    });
    let stop = match ended {
        Ok(never) => match never {},
        Err(stop) => stop,
    };
    let outcome = watched.outcome();
    let end = match stop.code {
        ExitCode::Interrupted if watched.rounds() > 0 => End::Watched(&outcome),
        code => End::Stopped(&stop.line, code),
    };
    // What could not be written changes nothing: the folders are what this was about, and nothing more is to be said.
    let _ = screen.finish(end);
    Ok(stop.code)
}
