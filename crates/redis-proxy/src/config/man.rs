//! The manual page, `--man`, made from the command line's own definitions and so from the table.

use std::io;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

const DESCRIPTION: &str = "\
redis-proxy answers GET /{key} over HTTP, and the reads of Redis clients, from local memory where it can and from Redis where it cannot.

Every setting is an option, an environment variable and a line of the file of --config, in that order: --capacity 5000, CAPACITY=5000, \
capacity = 5000.

With a subcommand it serves nothing: it asks a program that runs.";

const EXIT: [(&str, &str); 7] = [
    ("0", "Done; ended by a signal, with everything answered or given up."),
    ("1", "It could not start. Of a subcommand: no such key, or not ready."),
    ("2", "A setting or an argument is wrong, and a line says which."),
    ("3", "Of a subcommand: nobody answers, or cannot at present."),
    ("4", "Of a subcommand: refused."),
    ("70", "A part of it has died of a fault."),
    ("74", "Of a subcommand: standard output cannot be written."),
];

/// The page, as man(1) takes it.
pub(super) fn page(command: Command) -> String {
    let mut page = Vec::new();
    // A vector takes all that is written to it.
    let _ = render(command, &mut page);
    String::from_utf8_lossy(&page).into_owned()
}

fn render(command: Command, page: &mut Vec<u8>) -> io::Result<()> {
    let subcommands: Vec<Command> = command.get_subcommands().cloned().collect();
    let names: Vec<&str> = subcommands.iter().map(Command::get_name).collect();
    // With all options written out nobody would find the end of it.
    let usage = format!("redis-proxy [OPTIONS]\nredis-proxy {} [OPTIONS] ...", names.join("|"));
    let man = Man::new(command.override_usage(usage).long_about(DESCRIPTION)).manual("redis-proxy");
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    Roff::new().control("SH", ["SUBCOMMANDS"]).to_writer(page)?;
    subcommands.into_iter().try_for_each(|subcommand| render_subcommand(subcommand, page))?;
    let mut end = Roff::new();
    end.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in EXIT {
        end.control("TP", []).text([bold(code)]).text([roman(meaning)]);
    }
    end.control("SH", ["SEE ALSO"]);
    end.text([bold("redis-server"), roman("(1), README.md and docs/ of the source.")]);
    end.to_writer(page)
}

/// A part of the page, not one of its own.
fn render_subcommand(subcommand: Command, page: &mut Vec<u8>) -> io::Result<()> {
    let title = format!("redis-proxy {}", subcommand.get_name());
    let after = subcommand.get_after_help().map(ToString::to_string).unwrap_or_default();
    Roff::new().control("SS", [title.as_str()]).to_writer(page)?;
    let man = Man::new(subcommand.bin_name(title).disable_help_flag(true));
    let mut part = Vec::new();
    man.render_synopsis_section(&mut part)?;
    without_heading(&part, page);
    Roff::new().control("PP", []).to_writer(page)?;
    part.clear();
    man.render_description_section(&mut part)?;
    without_heading(&part, page);
    part.clear();
    man.render_options_section(&mut part)?;
    without_heading(&part, page);
    // Each stays a line: there are examples among them.
    let mut end = Roff::new();
    end.control("PP", []);
    for line in after.lines() {
        end.control("br", []).text([roman(line)]);
    }
    end.to_writer(page)
}

/// The part but for what precedes the text of its section.
fn without_heading(part: &[u8], page: &mut Vec<u8>) {
    let text = String::from_utf8_lossy(part);
    let at = text.find(".SH ").and_then(|at| Some(at + text[at..].find('\n')? + 1));
    page.extend_from_slice(&text.as_bytes()[at.unwrap_or(0)..]);
}
