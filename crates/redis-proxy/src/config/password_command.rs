//! The program that prints Redis' password, such as one that asks a vault or makes a token.
//!
//! It is run without a shell, in a process group of its own: whatever it has started ends with it.

use std::io::{self, ErrorKind, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::ioctl_fionbio;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::{activation, supervisor};

/// So long it may take; then it is killed.
const PATIENCE: Duration = Duration::from_secs(5);
/// From one look at it to the next.
const PAUSE: Duration = Duration::from_millis(2);
/// The most that it may print.
const MOST_BYTES: usize = 64 << 10;

/// The process group of the run under way; taken out before its number may be another's.
static UNDER_WAY: Mutex<Option<Pid>> = Mutex::new(None);

/// Ends the run that is under way, for the end of the program.
pub(crate) fn end_password_command() {
    if let Some(group) = *lock(&UNDER_WAY) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// A program with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PasswordCommand(Vec<String>);

impl PasswordCommand {
    /// Splits `text` as a shell would, by blanks, quotes and backslashes, and does nothing else that a shell does. `None`: a quote is
    /// not closed, or there is no program.
    pub(super) fn parse(text: &str) -> Option<PasswordCommand> {
        let words = shlex::split(text)?;
        words.first().filter(|program| !program.is_empty())?;
        Some(PasswordCommand(words))
    }

    /// `text` as it may be shown: an argument may be a secret.
    pub(super) fn masked(text: &str) -> String {
        match PasswordCommand::parse(text).map(|command| command.0).as_deref() {
            Some([program]) => program.clone(),
            Some([program, ..]) => format!("{program} ***"),
            _ => "***".into(),
        }
    }

    /// Runs it and returns the first line that it prints, one run at a time in this process. Blocks for [`PATIENCE`] at most, and as
    /// long for a run before it.
    ///
    /// # Errors
    /// For people, with nothing of what it prints: it cannot be started, fails, prints nothing or too much, or does not end.
    pub(super) fn run(&self) -> Result<String, String> {
        static TURN: Mutex<()> = Mutex::new(());
        let _turn = lock(&TURN);
        self.run_within(PATIENCE)
    }

    fn run_within(&self, patience: Duration) -> Result<String, String> {
        let PasswordCommand(words) = self;
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        // Who starts us has to do with us alone.
        for name in supervisor::VARIABLES.iter().chain(&activation::VARIABLES) {
            command.env_remove(name);
        }
        let mut child =
            command.process_group(0).spawn().map_err(|error| format!("cannot be started: {error}"))?;
        *lock(&UNDER_WAY) = Some(Pid::from_child(&child));
        let printed = read_to_its_end(&mut child, patience);
        let ended = end(child);
        let printed = printed?;
        let status = ended.map_err(|error| error.to_string())?;
        if !status.success() {
            return Err(format!("ended with {status}"));
        }
        first_line(printed)
    }
}

/// What it prints until it ends, which is left for [`end`] to see.
fn read_to_its_end(child: &mut Child, patience: Duration) -> Result<Vec<u8>, String> {
    let start = Instant::now();
    let words = |error: io::Error| error.to_string();
    let mut stdout = child.stdout.take().ok_or("has no standard output")?;
    ioctl_fionbio(&stdout, true).map_err(|error| words(error.into()))?;
    let mut printed = Vec::new();
    loop {
        let has_ended = has_ended(child).map_err(words)?;
        // What it had to say is in the pipe by then. Who else has the pipe open is not waited for.
        read_what_is_there(&mut stdout, &mut printed).map_err(words)?;
        if printed.len() > MOST_BYTES {
            return Err(format!("prints more than {}KiB", MOST_BYTES >> 10));
        }
        if has_ended {
            return Ok(printed);
        }
        if start.elapsed() >= patience {
            return Err(format!("has not ended after {patience:?}"));
        }
        sleep(PAUSE);
    }
}

/// Whether it has ended; it stays a zombie, so that its number remains its own.
fn has_ended(child: &Child) -> io::Result<bool> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Ok(waitid(WaitId::Pid(Pid::from_child(child)), options)?.is_some())
}

/// Reads until there is nothing for now, the end, or more than may be.
fn read_what_is_there(stdout: &mut ChildStdout, printed: &mut Vec<u8>) -> io::Result<()> {
    let mut part = [0; 4096];
    while printed.len() <= MOST_BYTES {
        match stdout.read(&mut part) {
            Ok(0) => break,
            Ok(count) => printed.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Ends it and all that it has started, as far as that is still in its group, and takes its status.
fn end(mut child: Child) -> io::Result<ExitStatus> {
    *lock(&UNDER_WAY) = None;
    // It has not been waited for: the number is its group's.
    let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
    child.wait()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn first_line(printed: Vec<u8>) -> Result<String, String> {
    let text = String::from_utf8(printed).map_err(|_| "prints what is not UTF-8")?;
    match text.lines().next() {
        None | Some("") => Err("prints no password: its first line is empty".into()),
        Some(line) => Ok(line.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn command(text: &str) -> PasswordCommand {
        PasswordCommand::parse(text).expect(text)
    }

    fn shell(script: &str) -> PasswordCommand {
        PasswordCommand(["sh", "-c", script].map(String::from).to_vec())
    }

    fn run(command: &PasswordCommand) -> Result<String, String> {
        command.run_within(Duration::from_secs(20))
    }

    /// The state of a process, `None` once it is gone.
    fn state(pid: &str) -> Option<char> {
        let stat = fs::read_to_string(Path::new("/proc").join(pid).join("stat")).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }

    #[test]
    fn words_are_split_as_a_shell_splits_them() {
        for (text, words) in [
            ("get-token", &["get-token"][..]),
            ("get  token\t--x=1", &["get", "token", "--x=1"]),
            (r#"get 'a b' "c 'd'" e\ f g"h"i '' "#, &["get", "a b", "c 'd'", "e f", "ghi", ""]),
            (
                r#"get '$HOME' "`id`" $HOME * ; x | y"#,
                &["get", "$HOME", "`id`", "$HOME", "*", ";", "x", "|", "y"],
            ),
        ] {
            assert_eq!(command(text).0, words, "{text}");
        }
        for text in ["", " ", "get 'a", "get \"a", "'' a", "get a\\"] {
            assert_eq!(PasswordCommand::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_may_be_a_secret_is_masked() {
        for (text, shown) in [
            ("get-token", "get-token"),
            ("echo SECRET", "echo ***"),
            ("echo 'SECRET", "***"),
            ("'a b' SECRET x", "a b ***"),
        ] {
            assert_eq!(PasswordCommand::masked(text), shown);
        }
    }

    #[test]
    fn the_first_line_is_the_password() {
        for (script, password) in [
            ("echo pw", "pw"),
            ("printf pw", "pw"),
            ("printf 'pw\\r\\nmore\\n'", "pw"),
            ("printf ' p w \\nmore'", " p w "),
            ("echo noise >&2; echo pw", "pw"),
            ("printf p; sleep 0.1; printf w", "pw"),
            ("read -r line || echo 'nothing to read'", "nothing to read"),
        ] {
            assert_eq!(run(&shell(script)).as_deref(), Ok(password), "{script}");
        }
        assert_eq!(run(&command("printf 'a b'")).as_deref(), Ok("a b"));
    }

    #[test]
    fn a_command_that_gives_no_password_says_why_and_nothing_of_what_it_printed() {
        for (script, why) in [
            ("echo SECRET; exit 3", "ended with exit status: 3"),
            ("echo SECRET; kill -9 $$", "ended with signal: 9 (SIGKILL)"),
            ("true", "prints no password: its first line is empty"),
            ("echo; echo SECRET", "prints no password: its first line is empty"),
            ("printf 'SECRET\\377'", "prints what is not UTF-8"),
        ] {
            assert_eq!(run(&shell(script)), Err(why.into()), "{script}");
        }
        let why = run(&command("/nowhere/get-token")).expect_err("there is none");
        assert!(why.starts_with("cannot be started: No such file"), "{why}");
        let why = run(&command("/")).expect_err("a folder");
        assert!(why.starts_with("cannot be started: Permission denied"), "{why}");
    }

    #[test]
    fn a_command_that_prints_megabytes_is_ended_at_once() {
        let start = Instant::now();
        assert_eq!(run(&command("yes SECRET")), Err("prints more than 64KiB".into()));
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_command_that_never_ends_is_killed_with_all_it_has_started_and_leaves_no_zombie() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("pids");
        for closing in ["", "exec >&-;"] {
            let script = format!("{closing} sleep 600 & echo $$ $! >{}; wait", file.display());
            let why = shell(&script).run_within(Duration::from_millis(300));
            assert_eq!(why, Err("has not ended after 300ms".into()));
            let pids = fs::read_to_string(&file).expect("it was started");
            let pids: Vec<_> = pids.split_whitespace().collect();
            assert_eq!(state(pids[0]), None, "it is reaped");
            // Its child is killed; whoever adopts it reaps it.
            let deadline = Instant::now() + Duration::from_secs(10);
            while !matches!(state(pids[1]), None | Some('Z')) {
                assert!(Instant::now() < deadline, "{:?}", state(pids[1]));
                sleep(PAUSE);
            }
        }
    }

    #[test]
    fn a_command_that_closes_its_output_has_said_all_and_its_end_is_waited_for() {
        assert_eq!(
            run(&shell("echo pw; exec >&-; sleep 0.2; exit 4")),
            Err("ended with exit status: 4".into())
        );
        assert_eq!(run(&shell("echo pw; exec >&-; sleep 0.2")).as_deref(), Ok("pw"));
    }

    #[test]
    fn a_child_that_keeps_the_output_open_is_not_waited_for() {
        let start = Instant::now();
        assert_eq!(run(&shell("sleep 600 & echo pw")).as_deref(), Ok("pw"));
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn runs_take_turns() {
        let folder = tempfile::tempdir().expect("a folder");
        // A folder is made by one at a time.
        let held = folder.path().join("held");
        let script = format!("mkdir {0} || exit 5; sleep 0.05; rmdir {0}; echo pw", held.display());
        std::thread::scope(|scope| {
            let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| shell(&script).run())).collect();
            for run in runs {
                assert_eq!(run.join().expect("no panic").as_deref(), Ok("pw"));
            }
        });
    }
}
