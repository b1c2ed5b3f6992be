//! The Redis of `--with-redis`: a child process on a private unix socket, without persistence, that ends with us.
//!
//! It must end also when we are killed with SIGKILL and cannot end anything. So between us and it stands a shell
//! that holds the read end of a pipe; the write end is ours alone and is closed by the kernel when we end, however
//! that happens. The shell then kills redis-server (which holds nothing worth saving) and removes the directory.
//! `PR_SET_PDEATHSIG`, the other way, fires when the *thread* that forked ends (prctl(2)) and leaves the directory.
//!
//! Only a SIGKILL for the shell as well leaves the directory; redis-server ends even then.

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use upstream::Address;

/// How long redis-server may take to answer, and to end.
const PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);

/// `sockaddr_un.sun_path` holds 108 bytes with the NUL at its end (unix(7)).
const SOCKET_PATH_BYTES: usize = 107;

/// `$1` is the directory, the rest the command. The reader is a process of its own: it works even without its parent.
const GUARD: &str = r#"
dir=$1; shift
exec 3<&0
"$@" </dev/null 3<&- &
redis=$!
{ read -r _ <&3; kill -9 "$redis"; } >/dev/null 2>&1 &
reader=$!
exec 3<&-
wait "$redis"; status=$?
kill "$reader" 2>/dev/null
rm -rf -- "$dir"
exit "$status"
"#;

/// A running redis-server of our own; dropping it ends it and removes its directory.
#[derive(Debug)]
pub struct OwnRedis {
    directory: PathBuf,
    guard: Child,
    /// Open as long as redis-server is to run.
    pipe: Option<ChildStdin>,
    address: Address,
}

/// Why the Redis of `--with-redis` did not start. Displays as one line; all of them are the machine's, and trying
/// again does not help.
#[derive(Debug)]
pub enum OwnRedisError {
    /// There is no redis-server.
    Missing,
    /// Something else that it needs could not be made.
    Io(&'static str, io::Error),
    /// It ended at once; with the last line it logged.
    Ended(ExitStatus, String),
    /// It does not answer; with the last line it logged.
    Silent(String),
}

impl std::error::Error for OwnRedisError {}

impl fmt::Display for OwnRedisError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OwnRedisError::Missing => f.write_str(
                "--with-redis: there is no redis-server on PATH; install it (Debian: apt-get install redis-server, \
                 or make deps) or give an address in REDIS_URL or REDIS_HOST",
            ),
            OwnRedisError::Io(what, error) => write!(f, "--with-redis: cannot {what}: {error}"),
            OwnRedisError::Ended(status, line) => write!(f, "--with-redis: redis-server ended at once ({status}): {line}"),
            OwnRedisError::Silent(line) => {
                write!(f, "--with-redis: redis-server did not answer within {PATIENCE:?}; its last line: {line}")
            }
        }
    }
}

/// Starts redis-server and waits until it answers. Blocks for some milliseconds, at most 5 s.
///
/// # Errors
/// redis-server is missing or does not answer in time.
pub fn start() -> Result<OwnRedis, OwnRedisError> {
    let program = find_server().ok_or(OwnRedisError::Missing)?;
    let directory =
        make_directory().map_err(|error| OwnRedisError::Io("make a directory for its socket", error))?;
    start_in(&program, directory.clone()).inspect_err(|_| {
        // The guard may have been faster.
        let _ = fs::remove_dir_all(&directory);
    })
}

impl OwnRedis {
    /// Its unix socket.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Ends it and removes its directory; the same as dropping it.
    pub fn stop(self) {}
}

impl Drop for OwnRedis {
    fn drop(&mut self) {
        self.pipe = None;
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.guard.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                let _ = self.guard.kill();
            }
            thread::sleep(POLL);
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn start_in(program: &Path, directory: PathBuf) -> Result<OwnRedis, OwnRedisError> {
    let socket = directory.join("redis.sock");
    // Held open: the guard removes the directory before we have read why redis-server ended.
    let (mut log, guard) = spawn(program, &directory, &socket)
        .map_err(|error| OwnRedisError::Io("start redis-server", error))?;
    let mut own = OwnRedis { directory, guard, pipe: None, address: Address::Unix(socket.clone()) };
    own.pipe = own.guard.stdin.take();
    let deadline = Instant::now() + PATIENCE;
    while !answers(&socket) {
        match own.guard.try_wait() {
            Ok(None) if Instant::now() >= deadline => return Err(OwnRedisError::Silent(last_line(&mut log))),
            Ok(None) => thread::sleep(POLL),
            Ok(Some(status)) => return Err(OwnRedisError::Ended(status, last_line(&mut log))),
            Err(error) => return Err(OwnRedisError::Io("wait for redis-server", error)),
        }
    }
    Ok(own)
}

fn spawn(program: &Path, directory: &Path, socket: &Path) -> io::Result<(File, Child)> {
    let log = File::options().read(true).append(true).create_new(true).open(directory.join("redis.log"))?;
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(GUARD).arg("redis-proxy-guard").arg(directory).arg(program);
    command.arg("--unixsocket").arg(socket).args(["--unixsocketperm", "700", "--port", "0"]);
    command.args(["--save", "", "--appendonly", "no", "--daemonize", "no", "--dir"]).arg(directory);
    // Our environment holds secrets that are not Redis' business.
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").current_dir("/");
    // Ctrl-C goes to the whole process group of the terminal: redis-server is to end after us, not with us.
    command.process_group(0);
    command.stdin(std::process::Stdio::piped()).stdout(log.try_clone()?).stderr(log.try_clone()?);
    Ok((log, command.spawn()?))
}

/// redis-server, or where there is none its twin Valkey.
fn find_server() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian's PATH of an ordinary user lacks sbin, and that of a service may be empty.
    let usual = ["/usr/local/bin", "/usr/bin", "/usr/local/sbin", "/usr/sbin"].map(PathBuf::from);
    // A relative entry of PATH means a different place once the guard has changed the directory.
    let folders: Vec<PathBuf> =
        std::env::split_paths(&path).filter(|folder| folder.is_absolute()).chain(usual).collect();
    let files = |name: &'static str| folders.iter().map(move |folder| folder.join(name));
    files("redis-server").chain(files("valkey-server")).find(|file| file.is_file())
}

/// A new directory that only we may enter, of a name short enough for a socket in it.
fn make_directory() -> io::Result<PathBuf> {
    let random = getrandom::u32().map_err(|error| io::Error::other(error.to_string()))?;
    let name = format!("redis-proxy-{}-{random:08x}", std::process::id());
    let mut directory = std::env::temp_dir().join(&name);
    if !directory.is_absolute()
        || directory.join("redis.sock").as_os_str().as_bytes().len() > SOCKET_PATH_BYTES
    {
        directory = Path::new("/tmp").join(&name);
    }
    DirBuilder::new().mode(0o700).create(&directory)?;
    Ok(directory)
}

fn answers(socket: &Path) -> bool {
    let ask = || -> io::Result<bool> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"PING\r\n")?;
        let mut reply = [0; 7];
        stream.read_exact(&mut reply)?;
        Ok(&reply == b"+PONG\r\n")
    };
    ask().unwrap_or(false)
}

fn last_line(log: &mut File) -> String {
    let mut text = Vec::new();
    let _ = log.rewind().and_then(|()| log.read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it logged nothing").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::os::unix::fs::PermissionsExt;
    use std::process::Stdio;

    fn socket(own: &OwnRedis) -> PathBuf {
        match own.address() {
            Address::Unix(path) => path.clone(),
            other => panic!("{other}"),
        }
    }

    /// The answer to an inline command, a bulk string.
    fn ask(socket: &Path, command: &str) -> String {
        let mut stream = BufReader::new(UnixStream::connect(socket).unwrap());
        stream.get_mut().write_all(format!("{command}\r\n").as_bytes()).unwrap();
        let mut head = String::new();
        stream.read_line(&mut head).unwrap();
        let mut body = vec![0; head.trim().trim_start_matches('$').parse().unwrap()];
        stream.read_exact(&mut body).unwrap();
        String::from_utf8(body).unwrap()
    }

    fn server_pid(socket: &Path) -> u32 {
        let info = ask(socket, "INFO server");
        let line = info.lines().find_map(|line| line.strip_prefix("process_id:")).unwrap();
        line.trim().parse().unwrap()
    }

    /// The fields of /proc/pid/stat from the state on; `None` once the process is gone.
    fn stat(pid: u32) -> Option<Vec<String>> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<String> = text.rsplit_once(')')?.1.split_whitespace().map(String::from).collect();
        // Where nobody reaps orphans, a dead one stays as a zombie.
        (fields[0] != "Z").then_some(fields)
    }

    fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done() {
            assert!(Instant::now() < deadline, "waited in vain for {what}");
            thread::sleep(POLL);
        }
    }

    #[test]
    fn it_answers_and_is_gone_with_its_directory_once_dropped() {
        let own = start().unwrap();
        let socket = socket(&own);
        let pid = server_pid(&socket);
        let directory = socket.parent().unwrap().to_owned();
        assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(ask(&socket, "INFO persistence").contains("aof_enabled:0"));
        own.stop();
        assert!(stat(pid).is_none() && !directory.exists());
    }

    #[test]
    fn a_signal_for_our_process_group_does_not_reach_it() {
        let own = start().unwrap();
        let group = |pid| stat(pid).unwrap()[2].clone();
        assert_ne!(group(server_pid(&socket(&own))), group(std::process::id()));
    }

    #[test]
    fn it_listens_on_no_port() {
        let own = start().unwrap();
        assert!(ask(&socket(&own), "INFO server").contains("tcp_port:0"));
    }

    #[test]
    fn it_ends_when_we_are_killed() {
        let (mut stand_in, socket) = stand_in();
        let pid = server_pid(&socket);
        assert!(stat(pid).is_some());
        stand_in.kill().unwrap();
        stand_in.wait().unwrap();
        wait_for("redis-server to end", || stat(pid).is_none());
        wait_for("its directory to go", || !socket.parent().unwrap().exists());
    }

    #[test]
    fn it_ends_when_its_guard_and_we_are_killed() {
        let (mut stand_in, socket) = stand_in();
        let pid = server_pid(&socket);
        let guard = stat(pid).unwrap()[1].clone();
        assert!(Command::new("kill").args(["-9", &guard]).status().unwrap().success());
        stand_in.kill().unwrap();
        stand_in.wait().unwrap();
        wait_for("redis-server to end", || stat(pid).is_none());
        fs::remove_dir_all(socket.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_server_that_ends_at_once_is_told_with_its_last_line() {
        let directory = make_directory().unwrap();
        let program = directory.join("redis-server");
        fs::write(&program, "#!/bin/sh\necho first\necho 'no memory today' >&2\nexit 3\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
        let error = start_in(&program, directory.clone()).unwrap_err().to_string();
        assert_eq!(error, "--with-redis: redis-server ended at once (exit status: 3): no memory today");
        assert!(!directory.exists());
    }

    #[test]
    fn a_missing_server_is_told_in_one_line() {
        let text = OwnRedisError::Missing.to_string();
        assert!(text.contains("apt-get install redis-server") && !text.contains('\n'), "{text}");
    }

    /// A process that does what the program does: this test binary, running the test below.
    fn stand_in() -> (Child, PathBuf) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "with_redis::tests::stand_in_for_the_program", "--nocapture"])
            .env(STAND_IN, "1");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let socket =
            lines.map_while(Result::ok).find_map(|line| line.strip_prefix("SOCKET ").map(PathBuf::from));
        (child, socket.unwrap())
    }

    const STAND_IN: &str = "REDIS_PROXY_TEST_STAND_IN";

    #[test]
    fn stand_in_for_the_program() {
        if std::env::var_os(STAND_IN).is_none() {
            return;
        }
        let own = start().unwrap();
        println!("\nSOCKET {}", socket(&own).display());
        // Longer than any test, and not for ever should the test that kills us fail.
        thread::sleep(12 * PATIENCE);
    }
}
