//! What goes beside the program and is made by it: the manual page, and the scripts by which shells complete its command lines.
#![allow(clippy::unwrap_used, reason = "a broken part ends the test")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use testkit::{RunOutput, find_program, not_run, run_to_end};

const PATIENCE: Duration = Duration::from_secs(60);
const SUBCOMMANDS: [&str; 6] = ["get", "purge", "stats", "health", "top", "bench"];

fn printed(arguments: &[&str]) -> String {
    let output = run_to_end(env!("CARGO_BIN_EXE_redis-proxy"), &[], arguments, PATIENCE);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    output.stdout
}

/// Runs one of the programs that read what is made here; none if it is not installed.
fn run(program: &str, arguments: &[&str]) -> Option<RunOutput> {
    let Some(path) = find_program(program) else {
        assert!(std::env::var_os("CLIENTS_REQUIRED").is_none(), "{program} is not installed");
        not_run(&format!("{program} is not installed"));
        return None;
    };
    let home = tempfile::tempdir().unwrap();
    let environment = [("HOME", home.path().to_str().unwrap()), ("LC_ALL", "C.UTF-8"), ("MANWIDTH", "100")];
    Some(run_to_end(path, &environment, arguments, PATIENCE))
}

/// The flags of all settings, as the reference page has them.
fn flags() -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let text = fs::read_to_string(path).unwrap();
    let names = text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let is_setting = |name: &&str| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    // What was the ancestor's stands in the same place of another table.
    let names = names.filter(is_setting).filter(|name| !name.starts_with("FLASK"));
    let flags: Vec<_> =
        names.map(|name| (name.to_owned(), name.to_ascii_lowercase().replace('_', "-"))).collect();
    assert!(flags.len() > 100, "{flags:?}");
    flags
}

#[test]
fn the_manual_page_has_every_setting_and_every_subcommand() {
    let page = printed(&["--man"]);
    assert!(!page.contains("resp\\-cache"), "a setting that is no more");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("redis-proxy.1");
    fs::write(&file, &page).unwrap();
    let Some(read) = run("man", &["--warnings", "--nj", "--nh", "-l", file.to_str().unwrap()]) else {
        return;
    };
    assert!(read.status.success() && read.stderr.is_empty(), "{}", read.stderr);
    let words = read.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for (name, flag) in flags() {
        let has_flag = [" ", "[", "="].iter().any(|end| words.contains(&format!(" --{flag}{end}")));
        assert!(has_flag && words.contains(&format!("[env: {name}]")), "{name}");
    }
    for name in SUBCOMMANDS {
        assert!(words.contains(&format!(" redis-proxy {name} [--")), "{name}");
    }
    for expected in
        ["NAME redis-proxy - ", "EXIT STATUS 0 Done", "[default: 100000]", "redis-proxy get user:1 >value"]
    {
        assert!(words.contains(expected), "{expected}");
    }
}

/// Bash with the script, and a command line of which the last word is to be completed.
const BASH: &str = r#"source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_redis__proxy redis-proxy "${@: -1}" "${@: -2:1}"; printf '%s\n' "${COMPREPLY[@]}""#;
/// Zsh loads it as it loads all of them, and says what it has made of it.
const ZSH: &str = r#"fpath=("$1" $fpath); autoload -Uz compinit && compinit -u -d "$1/dump"
[[ ${_comps[redis-proxy]} == _redis-proxy ]] && autoload +X _redis-proxy && functions _redis-proxy"#;

#[test]
fn shells_complete_every_setting_and_its_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for (shell, file) in [("bash", "bash"), ("zsh", "_redis-proxy"), ("fish", "fish")] {
        let script = printed(&["--completions", shell]);
        assert!(!script.contains("resp-cache"), "{shell}: a setting that is no more");
        for (name, flag) in flags() {
            let forms =
                [format!("--{flag} "), format!("--{flag}\""), format!("--{flag}="), format!("-l {flag} ")];
            assert!(forms.iter().any(|form| script.contains(form)), "{shell}: {name}");
        }
        fs::write(path(file), script).unwrap();
    }
    for (line, expected) in [
        (&["redis-proxy", "--capac"][..], "--capacity\n--capacity-bytes\n"),
        (&["redis-proxy", "--coherence", ""], "ttl\ntracking\nstrict\n"),
        (&["redis-proxy", "pur"], "purge\n"),
        (&["redis-proxy", "purge", "--pre"], "--prefix\n"),
        (&["redis-proxy", "--completions", ""], "bash\nzsh\nfish\n"),
    ] {
        let Some(output) = run("bash", &[&["--norc", "-c", BASH, "bash", &path("bash")], line].concat())
        else {
            return;
        };
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), (expected, ""), "{line:?}");
    }
    if let Some(output) = run(
        "fish",
        &[
            "-c",
            "source $argv[1]; complete -C 'redis-proxy --capac'; complete -C 'redis-proxy --coherence='",
            &path("fish"),
        ],
    ) {
        let words: Vec<_> = output.stdout.lines().filter_map(|line| line.split('\t').next()).collect();
        assert!(words.contains(&"--capacity-bytes") && words.contains(&"--coherence=tracking"), "{output:?}");
    }
    let folder = folder.path().to_str().unwrap();
    if let Some(output) = run("zsh", &["-f", "-c", ZSH, "zsh", folder]) {
        assert!(output.status.success() && output.stdout.contains("--capacity-bytes="), "{output:?}");
    }
}
