//! What clients wrote and read, and whether a promise was kept: the judge of the coherence contract.
//!
//! One writer a key writes increasing numbers, so that the order of a key's values is known; readers note what they
//! saw. All of it is stamped by one clock, [`now_ns`](crate::now_ns), in one process. From a key's writes follow its
//! *states*: what it held, from when at the earliest, and until when at the latest. A read is explained by a state that
//! shows what it saw and may have begun before the read ended. The newest explanation counts:
//!
//! ```text
//! staleness(read) = max(0, start(read) - earliest acknowledgement of any write newer than what it saw)
//! ```
//!
//! No tolerance is added. The program measures age from a later instant than the start noted here (after it has read
//! the request), and an acknowledgement is noted here later than the write happened: both only make this judge milder.
//! Deadlines alone have a tolerance, [`DEADLINE_GRAIN`], because Redis counts them in milliseconds.
//!
//! A write whose outcome is unknown (its connection was cut) is *open*: it may have happened between its start and the
//! instant at which its writer made sure that it cannot happen any more, or never.

mod histogram;
mod judge;
mod timeline;

#[cfg(test)]
mod naive;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

pub use histogram::Staleness;

/// Redis stores deadlines in milliseconds and calls a key expired in the one after (`keyIsExpired` in db.c); its `PTTL`
/// is rounded too.
pub const DEADLINE_GRAIN: Duration = Duration::from_millis(2);

/// Everything that happened, by one clock, in nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The writes of each key, by the key's number, in the order of its one writer.
    pub writes: Vec<Vec<Write>>,
    /// The reads of all connections; those of one connection in the order of its requests.
    pub reads: Vec<ReadRecord>,
}

/// A change of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// Before its first byte was sent.
    pub begin: u64,
    /// What became of it.
    pub outcome: WriteOutcome,
    /// What the key holds after it; `None` is nothing. A change of the deadline alone repeats the number.
    pub value: Option<u64>,
    /// When the key ends by itself.
    pub deadline: Option<Deadline>,
    /// How it came about.
    pub cause: Cause,
}

/// What is known of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// Its success was read at this instant.
    Done(u64),
    /// It happened before this instant or never.
    Open(u64),
}

/// When a key ends by itself, as closely as its writer can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// Not before.
    pub earliest: u64,
    /// Not after.
    pub latest: u64,
}

/// How a write reached Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Behind the program's back, or through it by a command that does not name the key.
    Direct,
    /// Through the program, which knows which key it wrote.
    Through,
    /// With all other keys: FLUSHALL, FLUSHDB.
    Flush,
    /// A flush, through the program.
    FlushThrough,
}

impl Cause {
    /// Whether everything went.
    pub(crate) fn is_flush(self) -> bool {
        matches!(self, Cause::Flush | Cause::FlushThrough)
    }

    /// Whether the program knew, and all of its readers see it from its answer on.
    pub(crate) fn is_known(self) -> bool {
        matches!(self, Cause::Through | Cause::FlushThrough)
    }
}

/// An answered read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRecord {
    /// Before its first byte was sent.
    pub start: u64,
    /// After its answer was read.
    pub end: u64,
    /// The key's number.
    pub key: u32,
    /// The client's connection.
    pub connection: u32,
    /// Whether it asked for the newest value.
    pub strict: bool,
    /// How many of the key's writes there were up to the last that its own connection had put before it and that was
    /// successful: it sees the outcome of that one or of a later one, whether the program knew of it or not.
    pub after: usize,
    /// What it saw.
    pub seen: SeenValue,
}

/// What a read saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SeenValue {
    /// That there is no value.
    Nothing,
    /// A value that was written to this key.
    Number(u64),
    /// Bytes that no writer of this key wrote.
    Foreign,
}

/// What is promised to the readers.
#[derive(Clone, Copy, Debug)]
pub struct Contract {
    /// The most that a plain read may be behind (C1).
    pub bound: Duration,
    /// The most that a strict read may be behind (C7): zero where it is linearizable. `None`: nothing of its own.
    pub strict: Option<Duration>,
    /// Each connection reads each key in the order of its writes (C4).
    pub monotonic: bool,
    /// Nothing is read after its deadline, not even within the bound (C5).
    pub deadlines: bool,
    /// Redis evicts: a key may vanish at any time, which then is nobody's fault.
    pub may_vanish: bool,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// How far plain reads were behind.
    pub plain: Staleness,
    /// How far strict reads were behind.
    pub strict: Staleness,
    /// The reads that broke the promise.
    pub violations: Vec<Violation>,
}

/// A read that broke the promise.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which part of it.
    pub rule: ContractRule,
    /// Its number in [`History::reads`].
    pub index: usize,
    /// The read.
    pub read: ReadRecord,
    /// What was expected, with the writes around it.
    pub why: String,
}

/// The rules of the contract that a history can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContractRule {
    /// C0: a value that was not written to this key before the read ended.
    Integrity,
    /// C1 (and C6, whose bound is the expiry): behind by more than the bound.
    Bound,
    /// C3: behind a write that the program itself had acknowledged, or that its own connection had sent before it.
    OwnWrites,
    /// C4: behind what the same connection had seen before.
    Monotonic,
    /// C5: read after its deadline.
    Deadline,
    /// C7: a strict read behind a write, or behind a read that had ended before it began.
    Strict,
    /// C8: behind a flush by more than the bound.
    Flush,
}

impl History {
    /// Holds every read against the promise; n reads and writes cost n log n.
    pub fn check(&self, promise: &Contract) -> Verdict {
        judge::judge(self, promise)
    }
}

impl Verdict {
    /// The rules broken, each once.
    pub fn broken(&self) -> Vec<ContractRule> {
        let mut rules: Vec<ContractRule> = self.violations.iter().map(|violation| violation.rule).collect();
        rules.sort_unstable();
        rules.dedup();
        rules
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { rule, read, why, .. } = self;
        let kind = if read.strict { "strict read" } else { "read" };
        write!(f, "{rule:?}: the {kind} of key {} on connection {} saw ", read.key, read.connection)?;
        write!(f, "{:?} from {} to {}: {why}", read.seen, millis(read.start), millis(read.end))
    }
}

/// Instants in a report: milliseconds with six digits, which is what tells them apart.
fn millis(instant: u64) -> String {
    format!("{}.{:06}", instant / 1_000_000, instant % 1_000_000)
}
