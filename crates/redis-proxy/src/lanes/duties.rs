//! What must be done before the first byte of a command's answer is delivered.
//!
//! A duty is a value that says what a command may have changed. Who does it is handed in ([`Discharge`]), one for each client,
//! and is the same for commands on lanes ([`Duties`]) and on a pin: lanes know nothing of what is cached. A duty on a lane has the
//! number of its command, and is done when that one's answer begins, whatever has come before.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use super::keys::Keys;

/// What a command may have changed. Doing it again does no harm.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Duty {
    /// These keys.
    Written(Keys),
    /// These keys and others: a script's. It may answer in the words of a refusal, so that counts for nothing.
    Script(Keys),
    /// It is not known what. Only the client that has sent it can be sure to see the outcome.
    Seen,
    /// Nobody knows the command: it may be CONFIG or ACL under another name (`rename-command`).
    Unnamed,
    /// Every key.
    Everything,
    /// Whom Redis lets in without a login.
    Admission,
    /// Every key, and who may do what.
    Anything,
    /// As [`Anything`](Self::Anything), and connections of users have ended with it.
    EndsUsers,
}

/// What a duty is told of the answer before which it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Redis has not begun to carry the command out. Whoever may not change anything must not empty the cache by asking.
    Refused,
    /// Any other, or none.
    Other,
}

/// Does the duties of one client's commands: when an answer's first bytes are here, or when it is sure that none will come.
pub(crate) trait Discharge {
    fn discharge(&self, duty: &Duty, answer: Answer);
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

/// The duties of one client's commands on shared lanes. A command without one costs a look.
pub(super) struct Duties {
    discharge: Rc<dyn Discharge>,
    /// Whether any is left.
    owing: Cell<bool>,
    /// Each with the number of its command, in their order. Never borrowed while a duty is done: that may lead back here.
    left: RefCell<VecDeque<(u64, Duty)>>,
}

impl Duties {
    pub(super) fn new(discharge: Rc<dyn Discharge>) -> Self {
        Duties { discharge, owing: Cell::new(false), left: RefCell::default() }
    }

    /// The command of this number, which is above all before it, is sent.
    #[inline]
    pub(super) fn sent(&self, number: u64, duty: Option<Duty>) {
        if let Some(duty) = duty {
            self.owing.set(true);
            self.left.borrow_mut().push_back((number, duty));
        }
    }

    /// The answers to `whole` commands from number `first` on are here, and with `partly` the beginning of the next.
    #[inline]
    pub(super) fn answered(&self, first: u64, whole: usize, partly: bool) {
        if self.owing.get() {
            self.work(first..first + whole as u64 + u64::from(partly));
        }
    }

    /// The answer to a command is an error: the bytes that are here of it.
    pub(super) fn error(&self, number: u64, reply: &[u8]) {
        if self.owing.get() && Answer::of(reply) == Answer::Refused {
            self.refused(number);
        }
    }

    /// A command was not begun.
    pub(super) fn refused(&self, number: u64) {
        if let Some(duty) = self.take_within(number..number + 1) {
            self.discharge.discharge(&duty, Answer::Refused);
        }
    }

    /// No further answer will come.
    pub(super) fn lost(&self) {
        self.work(0..u64::MAX);
    }

    /// Does those of the commands with these numbers.
    fn work(&self, numbers: Range<u64>) {
        while let Some(duty) = self.take_within(numbers.clone()) {
            self.discharge.discharge(&duty, Answer::Other);
        }
    }

    /// The first of them.
    fn take_within(&self, numbers: Range<u64>) -> Option<Duty> {
        let mut left = self.left.borrow_mut();
        let at = match left.front() {
            // As nearly always: answers come in the order of the commands.
            Some((number, _)) if *number >= numbers.start => 0,
            _ => left.partition_point(|(number, _)| *number < numbers.start),
        };
        if left.get(at).is_none_or(|(number, _)| *number >= numbers.end) {
            return None;
        }
        let duty = left.remove(at);
        self.owing.set(!left.is_empty());
        duty.map(|(_, duty)| duty)
    }
}

impl Drop for Duties {
    /// Whoever waited has gone; what was sent may have been executed all the same.
    fn drop(&mut self) {
        self.lost();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::rc::Weak;

    use super::*;

    /// Notes what it is to do.
    #[derive(Default)]
    pub(crate) struct Noted(RefCell<Vec<(Vec<u8>, Answer)>>);

    impl Noted {
        /// The keys of the duties done, and what each was told.
        pub(crate) fn done(&self) -> Vec<(String, Answer)> {
            let done = self.0.borrow();
            done.iter().map(|(key, answer)| (String::from_utf8_lossy(key).into_owned(), *answer)).collect()
        }
    }

    impl Discharge for Noted {
        fn discharge(&self, duty: &Duty, answer: Answer) {
            let Duty::Written(keys) = duty else { unreachable!("only keys are written here") };
            self.0.borrow_mut().extend(keys.iter().map(|key| (key.to_vec(), answer)));
        }
    }

    fn written(key: &str) -> Option<Duty> {
        Some(Duty::Written(Keys::new(key.as_bytes(), std::iter::empty())))
    }

    fn others(keys: &[&str]) -> Vec<(String, Answer)> {
        keys.iter().map(|key| ((*key).to_owned(), Answer::Other)).collect()
    }

    #[test]
    fn a_duty_is_done_when_its_answer_begins_and_not_before() {
        let noted = Rc::new(Noted::default());
        let duties = Duties::new(noted.clone());
        duties.sent(0, written("0"));
        duties.sent(1, None);
        duties.sent(2, written("2"));
        duties.sent(3, written("3"));
        duties.answered(0, 0, false);
        assert_eq!(noted.done(), []);
        duties.answered(0, 0, true);
        assert_eq!(noted.done(), others(&["0"]));
        duties.answered(0, 2, false);
        assert_eq!(noted.done(), others(&["0"]));
        duties.sent(4, written("4"));
        duties.answered(2, 1, true);
        assert_eq!(noted.done(), others(&["0", "2", "3"]));
        drop(duties);
        assert_eq!(noted.done(), others(&["0", "2", "3", "4"]));
    }

    #[test]
    fn a_duty_is_done_with_its_own_answer_whatever_has_not_come_before() {
        let noted = Rc::new(Noted::default());
        let duties = Duties::new(noted.clone());
        (0..6)
            .filter(|number| *number != 2)
            .for_each(|number| duties.sent(number, written(&number.to_string())));
        duties.answered(3, 1, true);
        assert_eq!(noted.done(), others(&["3", "4"]));
        duties.answered(2, 1, false);
        duties.answered(0, 0, false);
        assert_eq!(noted.done(), others(&["3", "4"]));
        duties.answered(1, 1, false);
        duties.refused(5);
        duties.answered(0, 1, false);
        let mut expected = others(&["3", "4", "1", "5", "0"]);
        expected[3].1 = Answer::Refused;
        assert_eq!(noted.done(), expected);
    }

    #[test]
    fn a_duty_is_told_that_its_command_was_refused() {
        let noted = Rc::new(Noted::default());
        let duties = Duties::new(noted.clone());
        (0..4).for_each(|number| duties.sent(number, written(&number.to_string())));
        duties.error(1, b"-NOPERM this user has no permissions\r\n");
        duties.error(2, b"-WRONGTYPE of value\r\n");
        duties.error(3, b"-NO");
        duties.answered(0, 4, false);
        let mut expected = others(&["1", "0", "2", "3"]);
        expected[0].1 = Answer::Refused;
        assert_eq!(noted.done(), expected);
    }

    /// Sends once more, and is answered, from within.
    #[derive(Default)]
    struct ComesBack {
        duties: RefCell<Weak<Duties>>,
        done: Cell<usize>,
    }

    impl Discharge for ComesBack {
        fn discharge(&self, _: &Duty, _: Answer) {
            self.done.set(self.done.get() + 1);
            let duties = self.duties.borrow().upgrade();
            if let Some(duties) = duties.filter(|_| self.done.get() < 4) {
                duties.sent(1, written("again"));
                duties.refused(1);
                duties.answered(1, 0, true);
            }
        }
    }

    #[test]
    fn a_duty_that_leads_back_to_its_duties_finds_them_free() {
        let discharge = Rc::new(ComesBack::default());
        let duties = Rc::new(Duties::new(discharge.clone()));
        discharge.duties.replace(Rc::downgrade(&duties));
        duties.sent(0, written("first"));
        duties.answered(0, 1, false);
        assert_eq!(discharge.done.get(), 4);
    }
}
