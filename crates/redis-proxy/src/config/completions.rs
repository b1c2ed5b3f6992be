//! Completions for shells, `--completions`, made from the command line's own definitions and so from the table.

use std::str::FromStr;

use clap::builder::PossibleValuesParser;
use clap::{Arg, Command, ValueHint};
use clap_complete::Shell;

use super::table::{self, Setting};
use super::value::SettingKind;

/// The shells that there are completions for.
pub(super) const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// The script of one of [`SHELLS`]; empty for any other.
pub(super) fn script(command: Command, shell: &str) -> String {
    let Ok(shell) = Shell::from_str(shell) else { return String::new() };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command.mut_args(completed), "redis-proxy", &mut script);
    // In the script for bash the dash of our name is taken for the beginning of a subcommand in one of two places that must be alike
    // (clap_complete 4.6.12), so that no option of a subcommand would be completed.
    String::from_utf8_lossy(&script).replace("redis__subcmd__proxy", "redis__proxy")
}

/// The flag of a setting with the words that it takes, and with one sentence of what it is. Other flags are left as they are, but
/// without backticks: the script for zsh would show a backslash before each.
fn completed(arg: Arg) -> Arg {
    let help = arg.get_help().map(|help| help.to_string().replace('`', ""));
    let arg = arg.help(help.unwrap_or_default());
    let Some(setting) = table::all().find(|setting| setting.name == arg.get_id().as_str()) else {
        return arg;
    };
    let arg = arg.help(first_sentence(setting).replace('`', ""));
    match &setting.accepts {
        SettingKind::OneOf(words) => arg.value_parser(PossibleValuesParser::new(*words)),
        SettingKind::Switch { auto: false } => arg.value_parser(PossibleValuesParser::new(["on", "off"])),
        SettingKind::Switch { auto: true } => {
            arg.value_parser(PossibleValuesParser::new(["on", "off", "auto"]))
        }
        SettingKind::File => arg.value_hint(ValueHint::FilePath),
        SettingKind::Command => arg.value_hint(ValueHint::CommandString),
        SettingKind::Host | SettingKind::ListenHost => arg.value_hint(ValueHint::Hostname),
        _ => arg,
    }
}

fn first_sentence(setting: &Setting) -> &'static str {
    setting.doc.split_once(". ").map_or(setting.doc, |(first, _)| first).trim_end_matches('.')
}
