//! A run of the workload under one fault, judged and told.

use std::env;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::ops::Range;
use std::time::Duration;

use testkit::Run;
use testkit::history::{History, ReadRecord, Verdict, Violation};

use crate::fault::Fault;
use crate::stand::{Clients, Enough, Mode};

/// Errors end this soon after Redis is back.
pub(crate) const HEALED: Duration = Duration::from_millis(250);
/// Errors end this soon beside a dozen threads that read and write all the time: it is a bound for what goes wrong, not a measure.
const HEALED_UNDER_LOAD: Duration = Duration::from_millis(500);

/// What came of a run.
pub(crate) struct Outcome {
    pub(crate) mode: Mode,
    pub(crate) clients: Option<Clients>,
    pub(crate) fault: Fault,
    pub(crate) run: Run,
    pub(crate) verdict: Verdict,
    /// When each injection began and ended.
    pub(crate) injections: Vec<Range<u64>>,
    /// Reads of Redis clients that the program answered itself.
    pub(crate) cached: f64,
    pub(crate) seed: u64,
    pub(crate) enough: Enough,
}

impl Outcome {
    /// No read broke the promise, and there was something to break it with.
    #[track_caller]
    pub(crate) fn assert_kept(&self) {
        record(self);
        let Outcome { run, verdict, .. } = self;
        let total = verdict.violations.len();
        if let Some(first) = verdict.violations.first() {
            eprintln!("around the first of them:\n{}", self.around(first));
        }
        let some_of = |rule| {
            let of_rule = verdict.violations.iter().filter(move |violation| violation.rule == rule);
            of_rule.take(3).map(|violation| format!("\n  {violation}"))
        };
        let some: String = verdict.broken().into_iter().flat_map(some_of).collect();
        assert!(total == 0, "{self}\n{total} reads broke {:?}, among them:{some}", verdict.broken());
        let reads = run.history.reads.len();
        assert!(reads >= self.enough.reads && run.hits * 30 > run.told, "{self}\ntoo few reads or hits");
        assert!(run.writes() > 50, "{self}\ntoo few writes");
        assert!(
            u128::from(self.last_refusal_ns()) <= HEALED_UNDER_LOAD.as_nanos(),
            "{self}\nthe program refuses after the fault is over"
        );
        assert!(run.cut == 0, "{self}\nthe program cut its clients");
    }

    /// The writes of the key in the second before, and what the connection saw of it.
    fn around(&self, violation: &Violation) -> String {
        let read = violation.read;
        let History { writes, reads } = &self.run.history;
        let since = read.start.saturating_sub(1_000_000_000);
        let writes = writes[read.key as usize].iter().enumerate();
        let near = writes.filter(|(_, write)| (since..read.end).contains(&write.begin));
        let told = near.map(|(number, write)| format!("  write {}: {write:?}\n", number + 1));
        let same = |other: &&ReadRecord| (other.key, other.connection) == (read.key, read.connection);
        let seen = reads.iter().filter(same).filter(|other| (since..=read.end).contains(&other.end));
        told.chain(seen.map(|read| format!("  {read:?}\n"))).collect()
    }

    /// How long after the end of the last injection a read began that was refused.
    fn last_refusal_ns(&self) -> u64 {
        let since_fault = |refused: &Range<u64>| {
            let before = self.injections.partition_point(|injection| injection.start <= refused.end);
            let last = before.checked_sub(1).map_or(0, |at| self.injections[at].end);
            refused.start.saturating_sub(last)
        };
        self.run.refused.iter().map(since_fault).max().unwrap_or(0)
    }
}

/// Prints the figures of an outcome, and appends them to the file that RECORD names.
pub(crate) fn record(outcome: &impl fmt::Display) {
    eprintln!("{outcome}");
    if let Some(path) = env::var_os("RECORD") {
        let mut file = OpenOptions::new().create(true).append(true).open(path).expect("the file of RECORD");
        writeln!(file, "{outcome}").expect("RECORD can be written");
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { mode, clients, fault, run, verdict, injections, seed, .. } = self;
        write!(
            f,
            "{}{} {fault:?} SEED={seed}: plain {}; strict {};",
            mode.name(),
            clients.map_or(String::new(), |clients| format!(" and {} for Redis clients", clients.name())),
            verdict.plain,
            verdict.strict
        )?;
        let (hits, told, writes, errors) = (run.hits, run.told, run.writes(), &run.errors);
        write!(f, " {hits} hits of {told}, {} cached for Redis clients, {writes} writes,", self.cached)?;
        write!(
            f,
            " {} injections, {} given up, {} closed, errors {errors:?}",
            injections.len(),
            run.given_up,
            run.closed
        )?;
        write!(f, " until {:.1} ms after", self.last_refusal_ns() as f64 / 1e6)
    }
}
