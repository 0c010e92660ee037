//! `verify`: are two folders the same, by SHA-256?

use std::io::Write;
use std::sync::Arc;

use super::road::Road;
use super::sync::{PATIENCE, absolute, rules};
use super::{Stop, interrupted, places, printed, runtime, shut_down};
use crate::cli::address::Root;
use crate::cli::amount::count;
use crate::cli::exit::ExitCode;
use crate::cli::sync_args::VerifyArgs;
use crate::core::path::RelPath;
use crate::session::progress::Silent;
use crate::session::{
    Export, Exports, Local, Opening, Options, Remote, SessionError, Together, Verified, verify,
};

/// Paths that differ and are named; the rest is counted.
const NAMED: usize = 20;

/// Compares, and prints one digest a side. Ends with 0 when they are the same, with 23 when not.
pub(crate) fn run(args: &VerifyArgs) -> Result<ExitCode, Stop> {
    let options = Options {
        dry: true,
        whole: true,
        checksum: args.options.compare.checksum,
        rules: rules(&args.filters)?,
        timeout: args.options.connect.patience().unwrap_or(PATIENCE),
        ..Options::new(places::state_home()?)
    };
    let opening = Opening {
        look: true,
        create: false,
        new_root: false,
        state_home: options.state_home.clone(),
        exclusive: None,
    };
    let local = Arc::new(Local::open(&args.pair.two, &RelPath::root(), opening)?);
    let road = match &args.pair.one {
        Root::Remote(root) => Some(Road::prepare(root, &args.options.connect)?),
        Root::Local(_) => None,
    };
    let runtime = runtime(args.pair.ends())?;
    let compare = async {
        match (&args.pair.one, road) {
            (Root::Remote(root), Some(road)) => {
                let remote = road.remote(root);
                let verified = verify(road.connect(), local, &remote, &options, Arc::new(Silent)).await;
                road.end().await;
                verified
            }
            (root, _) => {
                let path = absolute(root.local().unwrap_or(&args.pair.two))
                    .map_err(|stop| SessionError::Root(stop.line))?;
                let remote = Remote {
                    export: "source".into(),
                    sub: RelPath::root(),
                    name: path.display().to_string(),
                    place: format!("folder:{}", path.display()),
                };
                let folders = vec![Export { name: "source".into(), path }];
                let state_home = options.state_home.clone();
                let together = Together::new(Exports {
                    read_only: true,
                    no_delete: true,
                    ..Exports::new(folders, state_home)
                });
                let verified = verify(together.connect(), local, &remote, &options, Arc::new(Silent)).await;
                together.end().await;
                verified
            }
        }
    };
    let verified = runtime.block_on(async {
        tokio::select! {
            verified = compare => verified.map_err(Stop::from),
            () = interrupted() => Err(Stop::new(ExitCode::Interrupted, "interrupted; nothing was changed")),
        }
    });
    shut_down(runtime);
    let verified = verified?;
    let one = args.pair.one.to_string();
    printed(print(
        &verified,
        &one,
        &args.pair.two.display().to_string(),
        args.options.show.quiet,
        &mut std::io::stdout(),
    ))?;
    Ok(if verified.same() { ExitCode::InSync } else { ExitCode::SomeFailed })
}

fn print(verified: &Verified, one: &str, two: &str, quiet: bool, out: &mut dyn Write) -> std::io::Result<()> {
    if !quiet {
        for (digest, entries, name) in [
            (verified.digests.one, verified.entries.one, one),
            (verified.digests.two, verified.entries.two, two),
        ] {
            let digest = digest
                .map_or_else(|| "(something could not be read)".to_owned(), |digest| digest.to_string());
            let entries = count(entries, "entry", "entries");
            writeln!(out, "{digest}  {entries}  {}", crate::cli::error::printable(name))?;
        }
    }
    if !quiet {
        for path in &verified.reserved {
            writeln!(out, "not compared: {path}: it is never synchronised")?;
        }
    }
    for (path, why) in &verified.unread {
        writeln!(out, "unread: {path}: {}", crate::cli::error::printable(why))?;
    }
    for path in verified.differing.iter().take(NAMED) {
        writeln!(out, "differs: {path}")?;
    }
    let more = verified.differing.len().saturating_sub(NAMED);
    if more > 0 {
        writeln!(out, "and {more} more differ")?;
    }
    if !quiet && verified.same() && verified.digests.one != verified.digests.two {
        let why = if verified.reserved.is_empty() { "excluded" } else { "not compared" };
        writeln!(out, "the same but for what is {why}: the digests count its names")?;
    }
    Ok(())
}
