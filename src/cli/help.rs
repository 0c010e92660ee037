//! Help that fits a screen, for `-h` alone; `--help` has all of it, from the definition that parses.

use std::ffi::OsString;
use std::fmt::Write;

use super::exit::ExitCode;

/// What most people need on most days: at most 24 lines of 80 columns. A test holds it to the definition.
pub(super) const SCREEN: &str = "\
Keeps a folder on two systems the same, each file in its newest version.

  syncfiles [OPTIONS] SOURCE TARGET    sync; each a path or [USER@]HOST:FOLDER
  syncfiles serve [NAME=]DIR...        be the other system: export folders
  syncfiles verify SOURCE TARGET       compare by SHA-256, change nothing
  syncfiles history|restore|undo ROOT  see, bring back, undo what a sync did
  syncfiles demo                       see all of it at work on this machine

  -n, --dry-run       print what would happen, change nothing
      --delete        let deletions travel; more than --max-delete (50%) stops
      --pull, --push  change this side only, or the other side only
      --mirror        with one of these: make that side equal to the other
      --conflict WHO  both changed: newer, local, remote, keep-both or skip
      --exclude PAT   leave out; so do .syncignore files (--include takes in)
      --watch         keep both the same, all the time, until interrupted
  -v, -i, -q          name what changes; rsync's eleven characters; errors only
  -P, --stats         progress; totals at the end; --json: an object a line
      --port N        where the other system serves (2222); --identity: the key
  -z, -c              compress always; hash everything again

rsync's -a -r -l -p -t -u -x are always on; -h among other options is rsync's
human-readable. What a sync displaces is kept for 30 days. All options: --help
";

/// What follows the options in `--help`: how roots are written, and how a run ends.
pub(super) fn tail() -> String {
    let mut text = ROOTS.to_owned();
    text.push_str("\nExit codes:\n");
    for code in ExitCode::ALL {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {:2}  {}", code.number(), code.meaning());
    }
    text
}

const ROOTS: &str = "\
SOURCE and TARGET, in either order: [USER@]HOST:FOLDER[/SUB], ssh://[USER@]HOST[:PORT]/FOLDER[/SUB],
with -e also [USER@]HOST:/PATH, or a local path (one named like a command is written ./serve). At most one is remote.
";

/// What was typed means help: `help` where it can be no folder, and `-h` as rsync has it, human-readable among other options and help where it stands alone.
pub(super) enum Asked {
    /// `syncfiles -h`, `syncfiles help`.
    Screen,
    /// Anything else: these are the arguments.
    Nothing(Vec<OsString>),
}

/// Looks for a `-h` or a `help` that stands alone. With a command it asks for the command's help.
pub(super) fn asked(mut arguments: Vec<OsString>, is_command: impl Fn(&str) -> bool) -> Asked {
    match &arguments[..] {
        [_, only] if only == "-h" || only == "help" => return Asked::Screen,
        [_, help, verb] if help == "help" && verb.to_str().is_some_and(&is_command) => {
            arguments.swap(1, 2);
            arguments[2] = "--help".into();
        }
        [_, verb, last] if last == "-h" && verb.to_str().is_some_and(is_command) => {
            arguments[2] = "--help".into();
        }
        _ => {}
    }
    Asked::Nothing(arguments)
}

#[cfg(test)]
mod tests {
    use super::super::args::command;
    use super::*;

    #[test]
    fn the_help_fits_a_screen() {
        assert!(SCREEN.lines().count() <= 24);
        for line in SCREEN.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }

    #[test]
    fn the_help_on_a_screen_names_only_what_there_is_and_each_command_for_users() {
        let whole = command();
        let shown = |arg: &&clap::Arg| !arg.is_hide_set();
        let longs: Vec<_> = whole.get_arguments().filter(shown).filter_map(|arg| arg.get_long()).collect();
        let shorts: Vec<_> = whole.get_arguments().filter_map(|arg| arg.get_short()).collect();
        let words = SCREEN.split(|c: char| c.is_whitespace() || ",;.:()".contains(c));
        for word in words.filter(|word| word.starts_with('-')) {
            let known = match word.strip_prefix("--") {
                Some(long) => longs.contains(&long),
                None => word.len() == 2 && word.chars().nth(1).is_some_and(|short| shorts.contains(&short)),
            };
            assert!(known, "{word}");
        }
        for verb in ["serve", "history", "restore", "undo", "verify", "demo"] {
            assert!(SCREEN.contains(verb) && command().find_subcommand(verb).is_some(), "{verb}");
        }
    }
}
