//! CLIENT PAUSE: while Redis lets clients wait, each has a connection of its own, so that it waits for nobody else's command.
//!
//! That Redis does is taken from its answer, and not for longer than [`BELIEF_NS`]: then it is asked again, by a command that
//! would have to wait. A pause may have ended behind the proxy, or never have begun.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::UNIX_EPOCH;

use resp::Arguments;
use sync::Mutex;

use super::words::{is, number};
use crate::clock::now_ns;

/// How long a pause is believed in.
const BELIEF_NS: u64 = 60_000_000_000;

/// What CLIENT PAUSE or UNPAUSE asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// For so many milliseconds.
    For(u64),
    End,
}

/// Whether Redis lets clients wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paused {
    No,
    Yes,
    /// So it was said, too long ago: whoever hears this asks, and the others take it for a yes.
    Ask,
}

/// What Redis has granted.
#[derive(Default)]
pub(crate) struct Pauses {
    /// Whether anything has been, for those who ask with every command.
    any: AtomicBool,
    // Never across an await.
    granted: Mutex<Granted>,
}

#[derive(Clone, Copy, Default)]
struct Granted {
    until_ns: u64,
    believed_until_ns: u64,
    /// Grants so far: an answer to an older question ends no newer pause.
    number: u64,
}

impl Pause {
    /// What the request asks for, if it is one of the two and Redis may grant it.
    pub(crate) fn wanted(arguments: Arguments<'_>) -> Option<Pause> {
        let word = arguments.get(1).filter(|_| is(arguments, b"CLIENT"))?;
        match word.eq_ignore_ascii_case(b"PAUSE") {
            true => number(arguments.get(2)).map(Pause::For),
            false => word.eq_ignore_ascii_case(b"UNPAUSE").then_some(Pause::End),
        }
    }
}

impl Pauses {
    /// Redis says OK.
    pub(crate) fn granted(&self, pause: Pause, now_ns: u64) {
        let mut granted = self.granted.lock();
        granted.number += 1;
        match pause {
            Pause::For(milliseconds) => {
                // Redis 7.0 adds the time without a look at the sum: beyond what its clock can say, it pauses nobody.
                let clock_ms = UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis());
                if u128::from(milliseconds) + clock_ms > i64::MAX.unsigned_abs().into() {
                    return;
                }
                let until_ns = now_ns.saturating_add(milliseconds.saturating_mul(1_000_000));
                // A shorter one does not end a longer one (networking.c, `pauseClients`).
                granted.until_ns = granted.until_ns.max(until_ns);
                granted.believed_until_ns = now_ns.saturating_add(BELIEF_NS);
                self.any.store(true, Ordering::Relaxed);
            }
            Pause::End => self.end(&mut granted),
        }
    }

    /// Cheap where nobody has asked for a pause.
    pub(crate) fn now(&self) -> Paused {
        match self.any.load(Ordering::Relaxed) {
            false => Paused::No,
            true => self.at(now_ns()),
        }
    }

    fn at(&self, now_ns: u64) -> Paused {
        let mut granted = self.granted.lock();
        if now_ns >= granted.until_ns {
            self.end(&mut granted);
            return Paused::No;
        }
        if now_ns < granted.believed_until_ns {
            return Paused::Yes;
        }
        granted.believed_until_ns = now_ns.saturating_add(BELIEF_NS);
        Paused::Ask
    }

    fn end(&self, granted: &mut Granted) {
        granted.until_ns = 0;
        self.any.store(false, Ordering::Relaxed);
    }

    pub(crate) fn number(&self) -> u64 {
        self.granted.lock().number
    }

    /// Redis has answered what it would have let wait, asked when there were so many grants.
    pub(crate) fn denied(&self, number: u64) {
        let mut granted = self.granted.lock();
        if granted.number == number {
            self.end(&mut granted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_believed_for_a_minute_and_then_asked_for_by_one() {
        let (pauses, minute) = (Pauses::default(), BELIEF_NS);
        assert_eq!(pauses.now(), Paused::No);
        pauses.granted(Pause::For(600_000), 5);
        assert_eq!((pauses.at(5), pauses.at(4 + minute)), (Paused::Yes, Paused::Yes));
        assert_eq!((pauses.at(5 + minute), pauses.at(6 + minute)), (Paused::Ask, Paused::Yes));
        assert_eq!(pauses.at(5 + 2 * minute), Paused::Ask);
        pauses.denied(pauses.number());
        assert_eq!(pauses.at(6 + 2 * minute), Paused::No);
    }

    #[test]
    fn a_pause_ends_by_itself_or_by_unpause_and_a_shorter_one_ends_no_longer_one() {
        let pauses = Pauses::default();
        pauses.granted(Pause::For(2), 0);
        pauses.granted(Pause::For(1), 0);
        assert_eq!((pauses.at(1_999_999), pauses.at(2_000_000)), (Paused::Yes, Paused::No));
        pauses.granted(Pause::For(2), 0);
        let asked = pauses.number();
        pauses.granted(Pause::For(1_000), 0);
        pauses.denied(asked);
        assert_eq!(pauses.at(1), Paused::Yes, "a newer one");
        pauses.granted(Pause::End, 0);
        assert_eq!(pauses.at(1), Paused::No);
    }

    #[test]
    fn what_the_clock_of_redis_cannot_say_pauses_nobody() {
        let pauses = Pauses::default();
        pauses.granted(Pause::For(i64::MAX.unsigned_abs()), 0);
        pauses.granted(Pause::For(u64::MAX), 0);
        assert_eq!((pauses.now(), pauses.at(1)), (Paused::No, Paused::No));
    }
}
