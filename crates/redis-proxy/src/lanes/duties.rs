//! What must be done before the first byte of a command's answer is delivered.
//!
//! Answers come in the order of the commands, so a duty needs no more than its command's number.

use std::collections::VecDeque;
use std::rc::Rc;

/// Done when the answer's first byte is here, or when it is sure that none will come. Doing it again does no harm.
pub(crate) type Duty = Rc<dyn Fn()>;

/// The duties of the commands on one way.
#[derive(Default)]
pub(crate) struct Duties {
    sent: u64,
    answered: u64,
    waiting: VecDeque<(u64, Duty)>,
}

impl Duties {
    /// A command is sent.
    #[inline]
    pub(crate) fn sent(&mut self, duty: Option<Duty>) {
        if let Some(duty) = duty {
            self.waiting.push_back((self.sent, duty));
        }
        self.sent += 1;
    }

    /// `whole` answers are here, and with `partly` the beginning of the next.
    #[inline]
    pub(crate) fn answered(&mut self, whole: usize, partly: bool) {
        self.answered += whole as u64;
        if !self.waiting.is_empty() {
            self.work(partly);
        }
    }

    fn work(&mut self, partly: bool) {
        let begun = self.answered + u64::from(partly);
        while self.waiting.front().is_some_and(|(number, _)| *number < begun) {
            if let Some((_, duty)) = self.waiting.pop_front() {
                duty();
            }
        }
    }

    /// No further answer will come.
    pub(crate) fn lost(&mut self) {
        self.waiting.drain(..).for_each(|(_, duty)| duty());
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
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn a_duty_is_done_when_its_answer_begins_and_not_before() {
        let done = Rc::new(RefCell::new(Vec::new()));
        let duty = |number: u64| -> Option<Duty> {
            let done = done.clone();
            Some(Rc::new(move || done.borrow_mut().push(number)))
        };
        let mut duties = Duties::default();
        duties.sent(duty(0));
        duties.sent(None);
        duties.sent(duty(2));
        duties.sent(duty(3));
        duties.sent(duty(4));
        duties.answered(0, false);
        assert!(done.borrow().is_empty());
        duties.answered(0, true);
        assert_eq!(*done.borrow(), [0]);
        duties.answered(2, false);
        assert_eq!(*done.borrow(), [0]);
        duties.answered(1, true);
        assert_eq!(*done.borrow(), [0, 2, 3]);
        drop(duties);
        assert_eq!(*done.borrow(), [0, 2, 3, 4]);
    }
}
