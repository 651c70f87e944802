//! `tcp-close man`: the manual pages, from the same source as the help.

use std::{
    fs,
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

use super::{Failure, printed};
use crate::cli::{Cli, ManArgs};

/// Manuals of what a person runs, and of what the system does.
const PEOPLE: &str = "1";
const SYSTEM: &str = "8";

pub(super) fn run(args: &ManArgs) -> Result<ExitCode, Failure> {
    let pages = pages().context("cannot render a manual page").map_err(Failure::Other)?;
    let Some(directory) = &args.directory else {
        let Some((_, text)) = pages.first() else {
            return Ok(ExitCode::SUCCESS);
        };
        return printed(io::stdout().lock().write_all(text));
    };
    let cannot = || format!("cannot write into {}", directory.display());
    fs::create_dir_all(directory).with_context(cannot).map_err(Failure::Other)?;
    for (name, text) in &pages {
        fs::write(directory.join(name), text).with_context(cannot).map_err(Failure::Other)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Every page with its file's name, the one of the whole program first.
fn pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut whole = Cli::command();
    whole.build();
    let commands = whole.get_subcommands().filter(|command| !command.is_hide_set());
    [&whole].into_iter().chain(commands).map(page).collect()
}

fn page(command: &clap::Command) -> io::Result<(String, Vec<u8>)> {
    let section = section(command);
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let man =
        Man::new(command.clone()).section(section).source(concat!("tcp-close ", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    let commands: Vec<_> = command.get_subcommands().filter(|command| !command.is_hide_set()).collect();
    if !commands.is_empty() {
        subcommands(&commands).to_writer(&mut text)?;
    }
    let more = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    notes(&more).to_writer(&mut text)?;
    Ok((format!("{name}.{section}"), text))
}

/// The section of a command's page.
fn section(command: &clap::Command) -> &'static str {
    if command.get_name() == "daemon" { SYSTEM } else { PEOPLE }
}

/// Where the pages of the commands are.
fn subcommands(commands: &[&clap::Command]) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    for command in commands {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name());
        roff.control("TP", []);
        roff.text([bold(name), roman(format!("({})", section(command)))]);
        roff.text([roman(command.get_about().map(ToString::to_string).unwrap_or_default())]);
    }
    roff
}

/// What stands below the options: blocks with a heading are kept line by line, sentences are filled.
fn notes(text: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["NOTES"]);
    for block in text.split("\n\n") {
        let lines: Vec<&str> = block.trim_matches('\n').lines().collect();
        let (heading, body) = match lines.split_first() {
            Some((first, rest)) if first.ends_with(':') => (Some(first.trim_end_matches(':')), rest),
            _ => (None, lines.as_slice()),
        };
        match heading {
            Some(heading) => roff.control("SS", [heading]),
            None => roff.control("PP", []),
        };
        // Filled, lines of a table or of an example would run into each other.
        let keeps_lines = body.len() > 1 || heading.is_some();
        if keeps_lines {
            roff.control("nf", []);
        }
        for line in body {
            roff.text([roman(*line)]);
        }
        if keeps_lines {
            roff.control("fi", []);
        }
    }
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let pages = pages().expect("pages");
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names.first(), Some(&"tcp-close.1"));
        assert!(names.contains(&"tcp-close-daemon.8") && names.contains(&"tcp-close-watch.1"), "{names:?}");
        let whole =
            pages.first().map(|(_, text)| String::from_utf8_lossy(text).into_owned()).unwrap_or_default();
        assert!(whole.contains("daemon\\fR(8)") && whole.contains("watch\\fR(1)"), "{whole}");
        for (name, text) in &pages {
            let text = String::from_utf8_lossy(text);
            for section in [".TH ", ".SH NAME", ".SH SYNOPSIS", ".SH OPTIONS", ".SS Examples"] {
                assert!(text.contains(section), "{name} has no {section}: {text}");
            }
        }
    }
}
