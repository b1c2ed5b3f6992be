//! A program that ends by itself: `--help`, bad settings.

use std::io::Read;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use crate::child::{Process, command};

/// What a program left behind.
#[derive(Debug)]
pub struct RunOutput {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Runs a program with only these variables (and PATH) until it ends.
///
/// # Panics
/// When it still runs after `timeout`; the text holds what it wrote.
#[track_caller]
pub fn run_to_end(
    program: impl AsRef<Path>,
    environment: &[(&str, &str)],
    arguments: &[&str],
    timeout: Duration,
) -> RunOutput {
    let mut program = command(program.as_ref());
    program.envs(environment.iter().copied()).args(arguments);
    program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (process, streams) = Process::spawn(program, |child| (child.stdout.take(), child.stderr.take()));
    let [stdout, stderr] = [read_on_thread(streams.0.unwrap()), read_on_thread(streams.1.unwrap())];
    let ended = process.wait_exit(timeout);
    let status = process.kill();
    let output = RunOutput { status, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() };
    assert!(ended.is_some(), "the program did not end within {timeout:?}: {output:#?}");
    output
}

/// Both streams are read at once, so that a full pipe cannot stop the program.
fn read_on_thread(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("a pipe can be read");
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child::find_program;

    #[test]
    fn both_streams_the_status_and_only_the_given_environment_are_seen() {
        let sh = find_program("sh").unwrap();
        let script = "echo out; head -c 300000 /dev/zero >&2; env | cut -d= -f1; exit 3";
        let output = run_to_end(sh, &[("CAPACITY", "-1")], &["-c", script], Duration::from_secs(10));
        assert_eq!(output.status.code(), Some(3));
        assert_eq!(output.stderr.len(), 300_000);
        let mut lines: Vec<&str> =
            output.stdout.lines().filter(|name| !["PWD", "_", "SHLVL", "OLDPWD"].contains(name)).collect();
        lines.sort_unstable();
        assert_eq!(lines, ["CAPACITY", "PATH", "out"]);
    }

    #[test]
    #[should_panic(expected = "did not end within 50ms")]
    fn a_program_that_runs_on_is_killed_and_reported() {
        run_to_end(find_program("sleep").unwrap(), &[], &["600"], Duration::from_millis(50));
    }
}
