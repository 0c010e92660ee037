//! rsync's options that its users type without thinking.

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
}

impl RsyncHabits {
    /// Refuses what is not synchronised, by name.
    pub(super) fn check(&self) -> Result<(), Usage> {
        let refused = [
            (self.hard_links, "-H (--hard-links)", "hard links are copied as files of their own"),
            (self.acls, "-A (--acls)", "access control lists are not synchronised"),
            (self.xattrs, "-X (--xattrs)", "extended attributes are not synchronised"),
            (self.sparse, "-S (--sparse)", "holes are not kept"),
            (self.owner, "-o (--owner)", "files belong to the user who runs syncfiles"),
            (self.group, "-g (--group)", "files belong to the group of the user who runs syncfiles"),
            (self.devices, "-D (--devices)", "devices, sockets and fifos are never touched"),
        ];
        match refused.iter().find(|(count, ..)| *count > 0) {
            None => Ok(()),
            Some((_, option, instead)) => {
                Err(Usage::Wrong(format!("{option} is not supported: {instead}; leave it out")))
            }
        }
    }
}
