//! Completion scripts and the manual page, made from the definition that parses.

use std::io::{self, Write};

use super::args::command;
use super::exit::ExitCode;

/// Writes the completion script for a shell.
pub fn completions(shell: clap_complete::Shell, out: &mut dyn Write) -> io::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "syncfiles", &mut script);
    out.write_all(&script)
}

/// Writes the manual page, in roff: the sync itself, then a section a command.
pub fn man(out: &mut dyn Write) -> io::Result<()> {
    let mut whole = command();
    whole.build();
    let mut page = Vec::new();
    clap_mangen::Man::new(whole.clone()).render(&mut page)?;
    for verb in whole.get_subcommands() {
        writeln!(page, ".SH \"{}\"", verb.get_name().to_uppercase())?;
        let man = clap_mangen::Man::new(verb.clone());
        man.render_description_section(&mut page)?;
        man.render_synopsis_section(&mut page)?;
        man.render_options_section(&mut page)?;
    }
    writeln!(page, ".SH \"EXIT STATUS\"")?;
    for code in ExitCode::ALL {
        writeln!(page, ".TP\n{}\n{}", code.number(), code.meaning().replace('-', "\\-"))?;
    }
    out.write_all(&page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_name_every_command() {
        let mut page = Vec::new();
        man(&mut page).expect("a page");
        let page = String::from_utf8(page).expect("text");
        assert!(page.contains(".TP\n26\nconflicts were left (\\-\\-conflict skip)\n"), "{page}");
        let mut script = Vec::new();
        completions(clap_complete::Shell::Bash, &mut script).expect("a script");
        let script = String::from_utf8(script).expect("text");
        for verb in ["serve", "history", "restore", "undo", "verify", "demo", "completions", "man"] {
            assert!(page.contains(&format!(".SH \"{}\"", verb.to_uppercase())), "{verb}");
            assert!(script.contains(verb), "{verb}");
        }
    }
}
