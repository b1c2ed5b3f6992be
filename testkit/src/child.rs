//! A child process that cannot outlive the test: killed when dropped, and by the kernel when the test process dies.
//!
//! The kernel's part is `PR_SET_PDEATHSIG`, set by util-linux' `setpriv` because setting it ourselves between fork and
//! exec takes unsafe code. The signal comes when the *thread* that forked ends (prctl(2)), and the test harness ends a
//! thread with each test, so all children are started by one thread that lives as long as the process.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::wait_until;

/// How long a process may take for what it should do at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A running or ended child.
pub(crate) struct Process {
    child: Mutex<Child>,
    pid: u32,
    /// Names this process even when its number is used again: signals never reach a stranger.
    pidfd: OwnedFd,
}

/// Runs what follows with SIGHUP as it is by default: tests that are run by nohup would hand on that it is ignored. By way of a
/// shell, because env takes a path with `=` in it for a variable.
pub const WITH_SIGHUP: [&str; 5] = ["env", "--default-signal=HUP", "sh", "-c", r#"exec "$0" "$@""#];

/// A command that runs `program` with an empty environment but for PATH.
///
/// # Panics
/// When there is no such file.
#[track_caller]
pub(crate) fn command(program: &Path) -> Command {
    assert!(program.is_file(), "there is no program {}", program.display());
    static SETPRIV: OnceLock<Option<PathBuf>> = OnceLock::new();
    let mut command = match SETPRIV.get_or_init(|| find_program("setpriv")) {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).args(WITH_SIGHUP).arg(program);
            command
        }
        None => Command::new(program),
    };
    command.env_clear().env("PATH", env::var_os("PATH").unwrap_or_default());
    command
}

/// The first file of this name on PATH.
pub fn find_program(name: impl AsRef<OsStr>) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(name.as_ref())).find(|file| file.is_file())
}

impl Process {
    /// Starts the command; `prepare` takes the pipes off the child.
    #[track_caller]
    pub(crate) fn spawn<P>(command: Command, prepare: impl FnOnce(&mut Child) -> P) -> (Process, P) {
        let program = format!("{command:?}");
        let mut child = match spawn_on_lasting_thread(command) {
            Ok(child) => child,
            Err(error) => panic!("cannot start {program}: {error}"),
        };
        let prepared = prepare(&mut child);
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())
            .unwrap_or_else(|error| panic!("pidfd_open (Linux 5.3) of {program}: {error}"));
        (Process { pid: child.id(), child: Mutex::new(child), pidfd }, prepared)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal; an ended process is left in peace.
    pub(crate) fn signal(&self, signal: Signal) {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => panic!("cannot send {signal:?} to process {}: {error}", self.pid),
        }
    }

    /// SIGKILL, and waits for the end.
    pub(crate) fn kill(&self) -> ExitStatus {
        self.signal(Signal::KILL);
        self.wait_exit(PATIENCE).expect("a process ends when killed")
    }

    /// SIGSTOP, and waits until every thread of it stands still.
    pub(crate) fn stop_running(&self) {
        self.signal(Signal::STOP);
        wait_until(PATIENCE, "a process to stop", || {
            fs::read_dir(format!("/proc/{}/task", self.pid))
                .expect("the process to stop runs")
                .all(|thread| stat_fields(&thread.unwrap().path().join("stat"))[0] == "T")
        });
    }

    /// Whether it stands still.
    pub(crate) fn is_stopped(&self) -> bool {
        stat_fields(Path::new(&format!("/proc/{}/stat", self.pid)))[0] == "T"
    }

    /// SIGCONT.
    pub(crate) fn continue_running(&self) {
        self.signal(Signal::CONT);
    }

    /// How it ended, or `None` if it runs on for `timeout`.
    pub(crate) fn wait_exit(&self, timeout: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.child.lock().unwrap().try_wait().expect("we are its parent") {
                return Some(status);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            // A pidfd is readable once the process has ended (pidfd_open(2)).
            let left = Timespec::try_from(left).expect("a timeout that fits a timespec");
            match poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&left)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("poll of a pidfd: {error}"),
            }
        }
    }

    /// User and system time used so far, in clock ticks.
    pub(crate) fn cpu_ticks(&self) -> u64 {
        let fields = stat_fields(Path::new(&format!("/proc/{}/stat", self.pid)));
        // proc_pid_stat(5): utime and stime are fields 14 and 15; ours begin with field 3.
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// Resident memory.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a VmRSS line");
        line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number of kB") * 1024
    }

    /// Open file descriptors.
    pub(crate) fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid)).expect("the process runs").count()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The fields of a stat file from the third, the state: the second, the name, may hold spaces and parentheses.
fn stat_fields(path: &Path) -> Vec<String> {
    let stat = fs::read_to_string(path).expect("the process runs");
    let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
    fields.split_whitespace().map(str::to_owned).collect()
}

fn spawn_on_lasting_thread(command: Command) -> io::Result<Child> {
    type Order = (Command, Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, orders) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, started) in orders {
                // Nobody waits for the answer only if the test is being torn down.
                let _ = started.send(command.spawn());
            }
        });
        sender
    });
    let (sender, started) = mpsc::channel();
    spawner.send((command, sender)).expect("the spawner lives as long as the process");
    started.recv().expect("the spawner answers")
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    use super::*;

    fn sleeper() -> Process {
        let mut command = command(&find_program("sleep").unwrap());
        command.arg("600");
        Process::spawn(command, |_| ()).0
    }

    #[test]
    fn a_child_is_gone_once_dropped() {
        let process = sleeper();
        let proc = format!("/proc/{}", process.pid());
        assert!(Path::new(&proc).exists());
        drop(process);
        assert!(!Path::new(&proc).exists());
    }

    #[test]
    fn a_child_survives_the_thread_that_asked_for_it() {
        let process = thread::spawn(sleeper).join().unwrap();
        assert_eq!(process.wait_exit(Duration::from_millis(100)), None);
    }

    #[test]
    fn a_child_dies_with_the_process_that_started_it() {
        const IS_MIDDLE: &str = "TESTKIT_IS_MIDDLE";
        if env::var_os(IS_MIDDLE).is_some() {
            // This test once more, in a process of its own: starts a child that is deaf to SIGTERM, and stays.
            let mut child = command(&find_program("sh").unwrap());
            child.args(["-c", "trap '' TERM; echo \"the child is $$\"; exec sleep 600"]);
            let (_child, ()) = Process::spawn(child, |_| ());
            loop {
                thread::park();
            }
        }
        let mut middle = command(&env::current_exe().unwrap());
        middle.args([
            "--exact",
            "child::tests::a_child_dies_with_the_process_that_started_it",
            "--nocapture",
        ]);
        middle.env(IS_MIDDLE, "yes").stdout(Stdio::piped());
        let (middle, stdout) = Process::spawn(middle, |child| child.stdout.take().unwrap());
        let mut lines = BufReader::new(stdout).lines().map(Result::unwrap);
        let child =
            lines.find_map(|line| line.split_once("the child is ").map(|(_, pid)| pid.to_owned())).unwrap();
        let stat = format!("/proc/{child}/stat");
        assert!(Path::new(&stat).exists());
        middle.kill();
        // An orphan stays a zombie where init does not reap.
        wait_until(PATIENCE, "the orphan to die", || {
            fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z"))
        });
    }

    #[test]
    fn a_stopped_child_uses_no_time_and_goes_on_when_continued() {
        let mut busy = command(&find_program("sh").unwrap());
        busy.arg("-c").arg("while :; do :; done");
        let (busy, ()) = Process::spawn(busy, |_| ());
        wait_until(PATIENCE, "the child to use time", || busy.cpu_ticks() > 0);
        busy.stop_running();
        let ticks = busy.cpu_ticks();
        thread::sleep(Duration::from_millis(50));
        assert_eq!(busy.cpu_ticks(), ticks);
        busy.continue_running();
        wait_until(PATIENCE, "the child to use more time", || busy.cpu_ticks() > ticks);
        assert!(busy.resident_bytes() > 4096);
        assert!(busy.open_files() >= 3);
    }
}
