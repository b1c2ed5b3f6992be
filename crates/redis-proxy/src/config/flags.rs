//! The command line, made from the table.

use std::ffi::{OsStr, OsString};

use clap::builder::{PossibleValuesParser, ValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint};

use super::completions;
use super::error::{ConfigError, quoted};
use super::man;
use super::table::{self, Setting};
use super::value::SettingKind;

/// What the command line says.
pub(super) enum CommandLine {
    /// Flags to go on with.
    Flags(Flags),
    /// The subcommand `bench`; the settings are not for it.
    Bench(Box<loadgen::Options>),
    /// A subcommand that asks a running program, and its arguments; of the settings it takes the tokens alone.
    Ask(String, ArgMatches),
    /// `--help`, `--version`, `--man` or `--completions`: this text is all.
    Text(String),
}

/// The flags given.
pub(super) struct Flags(ArgMatches);

impl Flags {
    /// The text of a setting's flag.
    pub(super) fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get_one::<OsString>(name).map(OsString::as_os_str)
    }

    /// The path of `--config`.
    pub(super) fn config(&self) -> Option<&OsStr> {
        self.get(CONFIG)
    }

    pub(super) fn check_config(&self) -> bool {
        self.0.get_flag(CHECK)
    }

    pub(super) fn check_health(&self) -> bool {
        self.0.get_flag(HEALTH)
    }

    pub(super) fn print_config(&self) -> bool {
        self.0.get_flag(PRINT)
    }
}

const CONFIG: &str = "config";
const CHECK: &str = "check-config";
const HEALTH: &str = "check-health";
const PRINT: &str = "print-config";
const MAN: &str = "man";
const COMPLETIONS: &str = "completions";
const BENCH: &str = "bench";

/// Takes the command line apart; the values are not looked at yet.
///
/// # Errors
/// A flag that does not exist, is given twice, or lacks its value.
pub(super) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<CommandLine, ConfigError> {
    match command().try_get_matches_from(args) {
        Ok(mut matches) => match matches.remove_subcommand() {
            Some((name, bench)) if name == BENCH => {
                let options = loadgen::Options::from_matches(&bench).map_err(ConfigError::other)?;
                Ok(CommandLine::Bench(Box::new(options)))
            }
            Some((name, matches)) => Ok(CommandLine::Ask(name, matches)),
            None if matches.get_flag(MAN) => Ok(CommandLine::Text(man::page(shown()))),
            None => match matches.get_one::<String>(COMPLETIONS) {
                Some(shell) => Ok(CommandLine::Text(completions::script(shown(), shell))),
                None => Ok(CommandLine::Flags(Flags(matches))),
            },
        },
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(CommandLine::Text(error.to_string())),
            _ => Err(one_line(&error)),
        },
    }
}

/// The setting whose name is nearest to `word`, by the measure of the flags.
pub(super) fn closest(word: &str) -> Option<&'static Setting> {
    let flag = format!("--{}", word.to_ascii_lowercase().replace('_', "-"));
    let name = flag.trim_start_matches('-').to_owned();
    let error = command().try_get_matches_from([OsString::new(), flag.into()]).err();
    // It may be a flag to the letter, written in another case.
    let near = error.as_ref().and_then(|error| context(error, ContextKind::SuggestedArg)).unwrap_or(&name);
    table::all().find(|setting| setting.flag() == near.trim_start_matches('-') || setting.flag() == name)
}

/// What is understood: what is shown, and what is no more.
fn command() -> Command {
    shown().args(table::GONE.map(|(name, _)| gone(name)))
}

/// What help, the manual page and shells show.
fn shown() -> Command {
    let file = Arg::new(CONFIG).long(CONFIG).value_name("FILE").value_parser(ValueParser::os_string());
    let file = file.value_hint(ValueHint::FilePath);
    let switch = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    let settings = table::SECTIONS
        .iter()
        .flat_map(|section| section.settings.iter().map(|setting| flag(setting).help_heading(section.title)));
    Command::new("redis-proxy")
        .version(env!("CARGO_PKG_VERSION"))
        .about(env!("CARGO_PKG_DESCRIPTION"))
        .after_help("Flags win over environment variables, those over the file. More: docs/configuration.md")
        .max_term_width(110)
        .arg(file.help("A TOML file of settings: `capacity = 1000`"))
        .arg(switch(CHECK).help("Check the settings and the files they name, then end"))
        .arg(
            switch(HEALTH)
                .help("Ask /readyz of the program that runs with these settings, then end: 0 if it is ready"),
        )
        .arg(switch(PRINT).help("Print every setting and where it comes from, secrets masked, then end"))
        .arg(switch(MAN).help("Print the manual page, for man(1), then end"))
        .arg(
            Arg::new(COMPLETIONS)
                .long(COMPLETIONS)
                .value_name("SHELL")
                .value_parser(PossibleValuesParser::new(completions::SHELLS))
                .help("Print the script by which a shell completes our command lines, then end"),
        )
        .args(settings)
        .subcommands(cli::commands())
        .subcommand(loadgen::command().name(BENCH))
        .disable_help_subcommand(true)
        // Settings of a server beside it are a mistake.
        .args_conflicts_with_subcommands(true)
}

/// The flag of a setting that is no more, so that it can be said what to set in its place.
fn gone(name: &'static str) -> Arg {
    let flag = name.to_ascii_lowercase().replace('_', "-");
    Arg::new(name)
        .long(flag)
        .value_parser(ValueParser::os_string())
        .num_args(0..=1)
        .default_missing_value("")
        .hide(true)
}

fn flag(setting: &'static Setting) -> Arg {
    let default = if setting.default.is_empty() { "none" } else { setting.default };
    let (doc, expected, name) = (setting.doc, setting.accepts.expected(), setting.name);
    let arg = Arg::new(name)
        .long(setting.flag())
        .value_name(setting.accepts.unit())
        .value_parser(ValueParser::os_string())
        // `--capacity -5` is a bad capacity, not an unknown flag.
        .allow_negative_numbers(true)
        .help(format!("{doc} [default: {default}] [accepts: {expected}] [env: {name}]"));
    match setting.accepts {
        SettingKind::Switch { .. } => arg.num_args(0..=1).require_equals(true).default_missing_value("on"),
        _ => arg,
    }
}

/// clap explains over several lines, and repeats arguments that may be a password.
fn one_line(error: &clap::Error) -> ConfigError {
    if matches!(error.kind(), ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand) {
        let unknown = context(error, ContextKind::InvalidArg)
            .filter(|arg| arg.starts_with('-'))
            .map(|arg| name_alone(arg));
        let hint = context(error, ContextKind::SuggestedArg)
            .map_or(String::new(), |arg| format!("; did you mean {}?", name_alone(arg)));
        return ConfigError::other(match unknown {
            Some(arg) => format!("{} is no flag{hint}; --help lists them", quoted(arg)),
            None => "an argument that is no flag was given; --help lists the flags".to_owned(),
        });
    }
    if let (ErrorKind::MissingRequiredArgument, Some(ContextValue::Strings(missing))) =
        (error.kind(), error.get(ContextKind::InvalidArg))
    {
        return ConfigError::other(format!("missing: {}; --help tells more", missing.join(" ")));
    }
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    ConfigError::other(line.trim_start_matches("error: "))
}

fn context(error: &clap::Error, kind: ContextKind) -> Option<&String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text),
        _ => None,
    }
}

/// `--name` of `--name=value` or `--name <VALUE>`.
fn name_alone(arg: &str) -> &str {
    arg.split(['=', ' ']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(args: &[&str]) -> String {
        let args = ["redis-proxy"].iter().chain(args).map(OsString::from);
        match parse(args) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("accepted"),
        }
    }

    #[test]
    fn clap_finds_nothing_wrong_with_the_table() {
        command().debug_assert();
    }

    #[test]
    fn what_is_wrong_with_a_flag_is_one_line() {
        let cases: [(&[&str], &str); 9] = [
            (&["--capcity", "1"], "\"--capcity\" is no flag; did you mean --capacity?; --help lists them"),
            (&["--zzz"], "\"--zzz\" is no flag; --help lists them"),
            (&["-z"], "\"-z\" is no flag; --help lists them"),
            (&["SECRET"], "an argument that is no flag was given; --help lists the flags"),
            (
                &["--redis-pasword=SECRET"],
                "\"--redis-pasword\" is no flag; did you mean --redis-password?; --help lists them",
            ),
            (&["--capacity"], "a value is required for '--capacity <NUMBER>' but none was supplied"),
            (&["get"], "missing: <KEY>; --help tells more"),
            (&["purge"], "missing: <KEY|--prefix <PREFIX>|--all>; --help tells more"),
            (&["--port", "1", "--port", "2"], "the argument '--port <PORT>' cannot be used multiple times"),
        ];
        for (args, expected) in cases {
            assert_eq!(error(args), expected);
        }
    }
}
