//! What must be done before the first byte of a command's answer is delivered.
//!
//! Answers come in the order of the commands, so a duty needs no more than its command's number.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// Done when the answer's first bytes are here, or when it is sure that none will come. Doing it again does no harm.
pub(crate) type Duty = Rc<dyn Fn(Answer)>;

/// What a duty is told of the answer before which it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Redis has not begun to carry the command out. Whoever may not change anything must not empty the cache by asking.
    Refused,
    /// Any other, or none.
    Other,
}

/// How errors begin that a command is refused with before it runs (Redis 6.2 to 8.2, server.c, `processCommand`).
const REFUSALS: &[&[u8]] = &[
    b"-NOPERM",
    b"-NOAUTH",
    b"-EXECABORT",
    b"-ERR wrong number of arguments",
    b"-ERR unknown command",
    b"-ERR unknown subcommand",
    b"-ERR Unknown subcommand",
    b"-ERR DEBUG command not allowed",
];

impl Answer {
    /// What the first bytes of an answer tell.
    pub(crate) fn of(reply: &[u8]) -> Answer {
        match REFUSALS.iter().any(|refusal| reply.starts_with(refusal)) {
            true => Answer::Refused,
            false => Answer::Other,
        }
    }
}

/// The duties of the commands on one way. A command without one costs an addition.
#[derive(Default)]
pub(crate) struct Duties {
    answered: Cell<u64>,
    /// Whether any is left.
    owing: Cell<bool>,
    /// Each with the number of its command.
    left: RefCell<VecDeque<(u64, Duty)>>,
}

impl Duties {
    /// A command is sent, behind so many that have no answer yet.
    #[inline]
    pub(crate) fn sent(&self, behind: usize, duty: Option<Duty>) {
        if let Some(duty) = duty {
            self.owing.set(true);
            self.left.borrow_mut().push_back((self.answered.get() + behind as u64, duty));
        }
    }

    /// `whole` answers are here, and with `partly` the beginning of the next.
    #[inline]
    pub(crate) fn answered(&self, whole: usize, partly: bool) {
        self.answered.set(self.answered.get() + whole as u64);
        if self.owing.get() {
            self.work(self.answered.get() + u64::from(partly));
        }
    }

    /// The answer behind `whole` others is an error: the bytes that are here of it.
    pub(crate) fn error(&self, whole: usize, reply: &[u8]) {
        if self.owing.get() && Answer::of(reply) == Answer::Refused {
            self.refused(whole);
        }
    }

    /// The command behind `whole` others was not begun.
    pub(crate) fn refused(&self, whole: usize) {
        let refused = self.answered.get() + whole as u64;
        self.left.borrow_mut().retain(|(number, duty)| {
            if *number == refused {
                duty(Answer::Refused);
            }
            *number != refused
        });
    }

    /// No further answer will come.
    pub(crate) fn lost(&self) {
        self.work(u64::MAX);
    }

    /// Does those of the commands before number `end`.
    fn work(&self, end: u64) {
        let mut left = self.left.borrow_mut();
        while left.front().is_some_and(|(number, _)| *number < end) {
            if let Some((_, duty)) = left.pop_front() {
                duty(Answer::Other);
            }
        }
        self.owing.set(!left.is_empty());
    }
}

impl Drop for Duties {
    /// Whoever waited has gone; what was sent may have been executed all the same.
    fn drop(&mut self) {
        self.lost();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duty_is_done_when_its_answer_begins_and_not_before() {
        let done = Rc::new(RefCell::new(Vec::new()));
        let duty = |number: u64| -> Option<Duty> {
            let done = done.clone();
            Some(Rc::new(move |answer| done.borrow_mut().push((number, answer == Answer::Other))))
        };
        let duties = Duties::default();
        duties.sent(0, duty(0));
        duties.sent(1, None);
        duties.sent(2, duty(2));
        duties.sent(3, duty(3));
        duties.answered(0, false);
        assert!(done.borrow().is_empty());
        duties.answered(0, true);
        assert_eq!(*done.borrow(), [(0, true)]);
        duties.answered(2, false);
        assert_eq!(*done.borrow(), [(0, true)]);
        duties.sent(2, duty(4));
        duties.answered(1, true);
        assert_eq!(*done.borrow(), [0, 2, 3].map(|number| (number, true)));
        drop(duties);
        assert_eq!(*done.borrow(), [0, 2, 3, 4].map(|number| (number, true)));
    }

    #[test]
    fn a_duty_is_told_that_its_command_was_refused() {
        let done = Rc::new(RefCell::new(Vec::new()));
        let duty = |number: u64| -> Option<Duty> {
            let done = done.clone();
            Some(Rc::new(move |answer| done.borrow_mut().push((number, answer))))
        };
        let duties = Duties::default();
        (0..4).for_each(|number| duties.sent(number, duty(number as u64)));
        duties.error(1, b"-NOPERM this user has no permissions\r\n");
        duties.error(2, b"-WRONGTYPE of value\r\n");
        duties.error(3, b"-NO");
        duties.answered(4, false);
        let expected = [(1, Answer::Refused), (0, Answer::Other), (2, Answer::Other), (3, Answer::Other)];
        assert_eq!(*done.borrow(), expected);
    }
}
