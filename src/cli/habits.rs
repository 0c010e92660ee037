//! rsync's options that its users type without thinking, and those they type because rsync needs them.

use std::ffi::OsString;

use clap::{ArgAction, Args};

use super::args::Usage;

/// What rsync's users type without thinking: always on here, or refused by name.
#[derive(Args, Clone, Debug, Default)]
#[rustfmt::skip]
pub(super) struct RsyncHabits {
    #[arg(short = 'a', long, hide = true, action = ArgAction::Count)] archive: u8,
    #[arg(short = 'r', long, hide = true, action = ArgAction::Count)] recursive: u8,
    #[arg(short = 'l', long, hide = true, action = ArgAction::Count)] links: u8,
    #[arg(short = 'p', long, hide = true, action = ArgAction::Count)] perms: u8,
    #[arg(short = 't', long, hide = true, action = ArgAction::Count)] times: u8,
    #[arg(short = 'u', long, hide = true, action = ArgAction::Count)] update: u8,
    #[arg(short = 'x', long, hide = true, action = ArgAction::Count)] one_file_system: u8,
    #[arg(long, hide = true, action = ArgAction::Count)] partial: u8,
    #[arg(short = 'H', long, hide = true, action = ArgAction::Count)] hard_links: u8,
    #[arg(short = 'A', long, hide = true, action = ArgAction::Count)] acls: u8,
    #[arg(short = 'X', long, hide = true, action = ArgAction::Count)] xattrs: u8,
    #[arg(short = 'S', long, hide = true, action = ArgAction::Count)] sparse: u8,
    #[arg(short = 'o', long, hide = true, action = ArgAction::Count)] owner: u8,
    #[arg(short = 'g', long, hide = true, action = ArgAction::Count)] group: u8,
    #[arg(short = 'D', long, hide = true, action = ArgAction::Count)] devices: u8,
    #[arg(short = 'b', long, hide = true, action = ArgAction::Count)] backup: u8,
    #[arg(long, hide = true, action = ArgAction::Count)] mkpath: u8,
    #[arg(long, hide = true, action = ArgAction::Count)] inplace: u8,
    #[arg(long, hide = true, action = ArgAction::Count)] append: u8,
    #[arg(long, hide = true, action = ArgAction::Count)] append_verify: u8,
    #[arg(long, hide = true, action = ArgAction::Count)] delete_before: u8,
    #[arg(long, hide = true, action = ArgAction::Count)] delete_during: u8,
    #[arg(long, hide = true, action = ArgAction::Count)] delete_delay: u8,
    #[arg(long, hide = true, action = ArgAction::Count)] delete_after: u8,
    #[arg(long, hide = true, action = ArgAction::Count)] delete_excluded: u8,
    #[arg(long, hide = true, value_name = "DIR")] backup_dir: Option<OsString>,
    #[arg(long, hide = true, value_name = "DIR")] link_dest: Option<OsString>,
    #[arg(long, hide = true, value_name = "DIR")] partial_dir: Option<OsString>,
    #[arg(long, hide = true, value_name = "PROG")] rsync_path: Option<OsString>,
    #[arg(short = 'f', long, hide = true, value_name = "RULE")] filter: Option<OsString>,
    #[arg(long, hide = true, value_name = "FLAGS")] info: Option<OsString>,
}

/// Instead of rsync's ways to keep what a run replaces.
const KEPT: &str = "leave it out: what a sync displaces is kept anyway, see `syncfiles history`";
/// Instead of its ways to go on with a file.
const RESUMED: &str = "leave it out: a file that was interrupted is resumed, and takes its place whole";
/// Instead of its moments for deletions.
const DELETE: &str = "write --delete";

impl RsyncHabits {
    /// Refuses by name what is not synchronised, and what is done in another way.
    pub(super) fn check(&self) -> Result<(), Usage> {
        match self.foreign().iter().chain(&self.otherwise()).find(|(given, ..)| *given) {
            None => Ok(()),
            Some((_, option, instead)) => Err(Usage::Wrong(format!("{option} is not supported: {instead}"))),
        }
    }

    /// What is not synchronised at all.
    fn foreign(&self) -> [(bool, &'static str, &'static str); 7] {
        [
            (
                self.hard_links > 0,
                "-H (--hard-links)",
                "hard links are copied as files of their own; leave it out",
            ),
            (self.acls > 0, "-A (--acls)", "access control lists are not synchronised; leave it out"),
            (self.xattrs > 0, "-X (--xattrs)", "extended attributes are not synchronised; leave it out"),
            (self.sparse > 0, "-S (--sparse)", "holes are not kept; leave it out"),
            (self.owner > 0, "-o (--owner)", "files belong to the user who runs syncfiles; leave it out"),
            (
                self.group > 0,
                "-g (--group)",
                "files belong to the group of the user who runs syncfiles; leave it out",
            ),
            (
                self.devices > 0,
                "-D (--devices)",
                "devices, sockets and fifos are never touched; leave it out",
            ),
        ]
    }

    /// What is done in another way.
    fn otherwise(&self) -> [(bool, &'static str, &'static str); 16] {
        let mkdir = "TARGET is made if it is not there; make the folders above it with mkdir -p";
        let whole = "leave it out: a file takes its place whole, in one step";
        let excluded = "leave it out: what is excluded is never touched, on either side";
        [
            (self.backup > 0, "-b (--backup)", KEPT),
            (self.backup_dir.is_some(), "--backup-dir", KEPT),
            (self.link_dest.is_some(), "--link-dest", KEPT),
            (self.mkpath > 0, "--mkpath", mkdir),
            (self.inplace > 0, "--inplace", whole),
            (self.append > 0, "--append", RESUMED),
            (self.append_verify > 0, "--append-verify", RESUMED),
            (self.partial_dir.is_some(), "--partial-dir", RESUMED),
            (self.delete_before > 0, "--delete-before", DELETE),
            (self.delete_during > 0, "--delete-during", DELETE),
            (self.delete_delay > 0, "--delete-delay", DELETE),
            (self.delete_after > 0, "--delete-after", DELETE),
            (self.delete_excluded > 0, "--delete-excluded", excluded),
            (self.rsync_path.is_some(), "--rsync-path", "write --remote-path, which goes with -e"),
            (self.filter.is_some(), "-f (--filter)", "write --exclude and --include, or a .syncignore file"),
            (self.info.is_some(), "--info", "write --progress, --stats, or -v for names"),
        ]
    }
}
