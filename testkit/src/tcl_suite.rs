//! Redis' own test suite, run against whatever listens on an address.
//!
//! The suite is in Debian's source package of redis; `scripts/redis-source` fetches the one of the installed server. It is
//! written in Tcl and speaks to an "external" server over one address, so that a proxy can stand there. What fails through
//! us must stand in a list of exceptions, each with its class; what stands there and passes makes the list stale, and
//! fails too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::child::{Process, command, find_program};
use crate::{Random, seed};

/// What the tests must not ask for: a debug command that a server as packaged refuses, and hours.
const TAGS: &str = "-slow -needs:debug";

/// The sources of the installed redis-server.
#[derive(Debug)]
pub struct TclSuite {
    source: PathBuf,
}

/// What a run found.
#[derive(Debug)]
pub struct TclRun {
    tests: Vec<TclTest>,
    /// Set when the suite did not run to its end: its last words.
    broken_off: Option<String>,
}

#[derive(Debug)]
struct TclTest {
    unit: String,
    name: String,
    verdict: Verdict,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Passed,
    /// With what the suite says of it.
    Failed(String),
    /// Its tags do not fit.
    Ignored,
}

impl TclSuite {
    /// Units that take a moment, and together touch what a proxy can get wrong: the protocol, transactions, scripts, channels,
    /// blocking commands, clients, and each type of value.
    pub const QUICK_UNITS: &[&str] = &[
        "unit/protocol",
        "unit/keyspace",
        "unit/info-command",
        "unit/type/string",
        "unit/type/incr",
        "unit/type/set",
        "unit/type/stream-cgroups",
        "unit/expire",
        "unit/other",
        "unit/multi",
        "unit/quit",
        "unit/pubsub",
        "unit/scripting",
        "unit/functions",
        "unit/introspection",
        "unit/introspection-2",
        "unit/bitops",
        "unit/bitfield",
        "unit/tracking",
        "unit/lazyfree",
    ];

    /// The suite that belongs to the installed redis-server, fetched on first use.
    ///
    /// # Errors
    /// It cannot be had: no Debian, no network, no `tclsh` or `dpkg-source`. The text says which.
    pub fn fetch(repository: &Path) -> Result<Self, String> {
        if find_program("tclsh").is_none() {
            return Err("there is no tclsh here (on Debian: apt-get install tcl)".to_owned());
        }
        let script = repository.join("scripts/redis-source");
        let output = Command::new(&script).stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("{}: {error}", script.display()))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(Self { source: String::from_utf8_lossy(&output.stdout).trim().into() })
    }

    /// Runs these units (`unit/type/list`), or all if none is named, against the server at `address`, whose data it erases.
    ///
    /// # Panics
    /// When it still runs after `timeout`, or cannot be started.
    #[track_caller]
    pub fn run(&self, address: SocketAddr, units: &[&str], timeout: Duration) -> TclRun {
        self.run_with(&[], address, units, timeout)
    }

    /// The same without what the suite knows to leave out before a cluster (keys of several slots, several databases), without the tests
    /// that `skipped` names, or has a pattern for with a slash in front, and without whole units.
    ///
    /// # Panics
    /// As [`run`](Self::run).
    #[track_caller]
    pub fn run_in_cluster(
        &self,
        address: SocketAddr,
        skipped: &[&str],
        skipped_units: &[&str],
        units: &[&str],
        timeout: Duration,
    ) -> TclRun {
        let skipped = skipped.iter().flat_map(|test| ["--skiptest", test]);
        let skipped_units = skipped_units.iter().flat_map(|unit| ["--skipunit", unit]);
        let options = ["--cluster-mode", "--singledb"].into_iter().chain(skipped).chain(skipped_units);
        let options: Vec<_> = options.collect();
        self.run_with(&options, address, units, timeout)
    }

    #[track_caller]
    fn run_with(&self, options: &[&str], address: SocketAddr, units: &[&str], timeout: Duration) -> TclRun {
        // A folder of its own: the suite writes beside its tests, and cleans up what others write there.
        let folder = TempDir::new().expect("a temporary folder");
        copy(&self.source.join("tests"), &folder.path().join("tests"));
        fs::create_dir(folder.path().join("src")).expect("a folder in our own");
        for name in ["redis-server", "redis-cli", "redis-benchmark"] {
            if let Some(program) = find_program(name) {
                symlink(program, folder.path().join("src").join(name)).expect("a link in our own folder");
            }
        }
        let mut suite = command(&find_program("tclsh").expect("tclsh was there a moment ago"));
        suite.current_dir(folder.path()).arg("tests/test_helper.tcl");
        suite.args(["--host", &address.ip().to_string(), "--port", &address.port().to_string()]);
        // durable: an error in a test fails that test, not the suite.
        suite.args(["--verbose", "--no-latency", "--durable", "--tags", TAGS]);
        suite.args(options);
        // Below the ports that the kernel gives out, and not those of another run.
        let port = 12_000 + Random::new(seed()).next_u64() % 200 * 64;
        suite.args(["--baseport", &port.to_string(), "--portcount", "32"]);
        for unit in units {
            suite.args(["--single", unit]);
        }
        let log = folder.path().join("log");
        let open = || fs::File::create(&log).expect("a file in our own folder");
        suite.stdin(Stdio::null()).stdout(open()).stderr(Stdio::null());
        let (process, ()) = Process::spawn(suite, |_| ());
        let ended = process.wait_exit(timeout).is_some();
        process.kill();
        let log = String::from_utf8_lossy(&fs::read(&log).expect("our own file")).into_owned();
        let run = TclRun::of(&log);
        assert!(ended, "the suite did not end within {timeout:?}: {}\n{}", tail(&log), run.failures());
        run
    }
}

impl TclRun {
    fn of(log: &str) -> Self {
        let (mut tests, mut unit, mut ended) = (Vec::<TclTest>::new(), String::new(), false);
        let mut failing = false;
        for line in log.lines().map(without_colour) {
            let ok =
                line.strip_prefix("[ok]: ").and_then(|rest| rest.rsplit_once(" (")).map(|(name, _)| name);
            let ignored =
                line.strip_prefix("[ignore]: ").and_then(|rest| rest.rsplit_once(": ")).map(|(name, _)| name);
            let failed = line
                .strip_prefix("[err]: ")
                .map(|rest| rest.rsplit_once(" in tests/").unwrap_or((rest, "")).0);
            let verdicts = [
                ok.map(|name| (name, Verdict::Passed)),
                ignored.map(|name| (name, Verdict::Ignored)),
                failed.map(|name| (name, Verdict::Failed(String::new()))),
            ];
            if let Some((name, verdict)) = verdicts.into_iter().flatten().next() {
                failing = failed.is_some();
                tests.push(TclTest { unit: unit.clone(), name: name.to_owned(), verdict });
            } else if let Some(name) = line.strip_prefix("Testing ").filter(|name| !name.contains(' ')) {
                unit = name.to_owned();
            } else if line.starts_with('[') {
                failing = false;
            } else if line.contains("All tests passed") || line.contains("The following tests failed") {
                ended = true;
                break; // a list of what we know follows
            } else if let Some(TclTest { verdict: Verdict::Failed(text), .. }) = tests.last_mut()
                && failing
            {
                let _ = writeln!(text, "    {line}");
            }
        }
        Self { tests, broken_off: (!ended).then(|| tail(log)) }
    }

    /// How many tests passed, failed, and were not run for their tags.
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |is: fn(&Verdict) -> bool| self.tests.iter().filter(|test| is(&test.verdict)).count();
        (
            count(|verdict| *verdict == Verdict::Passed),
            count(|verdict| matches!(verdict, Verdict::Failed(_))),
            count(|verdict| *verdict == Verdict::Ignored),
        )
    }

    /// A line a unit, and the sum.
    pub fn summary(&self) -> String {
        let mut units = BTreeMap::<&str, [usize; 3]>::new();
        for test in &self.tests {
            let counts = units.entry(&test.unit).or_default();
            match test.verdict {
                Verdict::Passed => counts[0] += 1,
                Verdict::Failed(_) => counts[1] += 1,
                Verdict::Ignored => counts[2] += 1,
            }
        }
        let (passed, failed, ignored) = self.counts();
        let mut text = String::new();
        for (unit, [passed, failed, ignored]) in units.into_iter().chain([("all", [passed, failed, ignored])])
        {
            let _ = writeln!(text, "{unit:<40} {passed:>5} ok {failed:>4} failed {ignored:>4} ignored");
        }
        text
    }

    /// Those that failed, excepted or not, with what the suite says of them.
    fn failures(&self) -> String {
        let failed = self.tests.iter().filter_map(|test| match &test.verdict {
            Verdict::Failed(text) => Some(format!("failed: {} {}\n{text}", test.unit, test.name)),
            Verdict::Passed | Verdict::Ignored => None,
        });
        failed.collect()
    }

    /// Holds the failures against the exceptions: lines of class, unit and test, with a blank between.
    ///
    /// # Errors
    /// A text with all that is wrong: a failure that is no exception, an exception that passed, a suite that broke off.
    pub fn judge(&self, exceptions: &str) -> Result<(), String> {
        let lines = exceptions.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let excepted: BTreeSet<(&str, &str)> = lines
            .map(|line| {
                let mut words = line.splitn(3, ' ').skip(1);
                words.next().zip(words.next()).ok_or_else(|| format!("no class, unit and test: {line}"))
            })
            .collect::<Result<_, _>>()?;
        let of = |test: &'_ TclTest| excepted.contains(&(&*test.unit, &*test.name));
        let mut wrong = String::new();
        let mut failed = BTreeSet::new();
        for test in &self.tests {
            if let Verdict::Failed(text) = &test.verdict {
                failed.insert((&*test.unit, &*test.name));
                if !of(test) {
                    let _ = write!(wrong, "failed: {} {}\n{text}", test.unit, test.name);
                }
            }
        }
        let ran: BTreeSet<&str> = self.tests.iter().map(|test| &*test.unit).collect();
        for (unit, name) in
            excepted.iter().filter(|exception| ran.contains(exception.0) && !failed.contains(*exception))
        {
            let _ = writeln!(wrong, "excepted, and it did not fail: {unit} {name}");
        }
        if let Some(words) = &self.broken_off {
            let _ = writeln!(wrong, "the suite broke off: {words}");
        }
        if self.counts().0 == 0 {
            wrong.push_str("no test passed at all\n");
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

/// A line without the escape sequences that colour it.
fn without_colour(line: &str) -> String {
    let mut pieces = line.split("\x1b[");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |text, piece| text + piece.split_once('m').map_or("", |(_, rest)| rest))
}

fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().map(without_colour).collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a new folder in our own");
    for entry in fs::read_dir(from).expect("the sources") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("a copy in our own folder");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "Cleanup: may take some time... OK\n\
        \x1b[1;37;49mTesting unit/one\x1b[0m\n\
        [\x1b[0;32;49mok\x1b[0m]: A (b) (12 ms)\n\
        [\x1b[0;36;49mignore\x1b[0m]: C: Tag: slow denied\n\
        [\x1b[0;31;49merr\x1b[0m]: D in tests/unit/one.tcl\n\
        Expected '1' to equal or match '2'\n\
        [1/2 \x1b[0;33;49mdone\x1b[0m]: unit/one (0 seconds)\n\
        \x1b[1;37;49mTesting unit/two\x1b[0m\n\
        [\x1b[0;32;49mok\x1b[0m]: E (0 ms)\n";
    const END: &str = "!!! WARNING The following tests failed:\n\n*** [err]: D in tests/unit/one.tcl\n";

    #[test]
    fn a_failure_must_be_excepted_and_an_exception_must_fail() {
        let run = TclRun::of(&format!("{LOG}{END}"));
        assert_eq!(run.counts(), (2, 1, 1));
        assert_eq!(run.judge("# Why.\n\nclass unit/one D\n"), Ok(()));
        assert_eq!(run.judge("class unit/one D\nclass unit/three X\n"), Ok(()), "not run, not judged");
        let unlisted = run.judge("").expect_err("D failed");
        assert!(unlisted.contains("failed: unit/one D\n    Expected '1'"), "{unlisted}");
        let stale = run.judge("class unit/one D\nclass unit/two E\n").expect_err("E passed");
        assert_eq!(stale, "excepted, and it did not fail: unit/two E\n");
    }

    #[test]
    fn a_suite_that_breaks_off_fails() {
        let broken = TclRun::of(LOG).judge("class unit/one D\n").expect_err("no end");
        assert!(broken.starts_with("the suite broke off: "), "{broken}");
        assert!(TclRun::of("\\o/ All tests passed without errors!\n").judge("").is_err(), "nothing ran");
    }
}
