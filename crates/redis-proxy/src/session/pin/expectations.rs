//! What is on its way on a pin: one queue, each command with what its reply will mean and with what must be done before that reply
//! is passed on.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use command::SubscriptionKind;

use super::later::Later;
use super::subscriptions::Confirmation;
use crate::lanes::{Answer, Discharge, Duty};
use crate::session::expect::Expect;
use crate::session::tracking::{Redirect, Target};

/// What is awaited for a command on its way: the reply that its plan expects, or one that something goes along with.
pub(crate) enum ReplyMeaning {
    Planned(Expect),
    /// That Redis queues a command from which this follows for its client.
    Queued(Box<Later>),
    /// That of a CLIENT TRACKING ON, with the client of ours that invalidations are to go to.
    Track(Option<Box<(Redirect, Target)>>),
    /// That of a WAIT in whose place an error of its probe has gone out.
    Replaced,
    /// An error, in whose place the client gets this one: of a request that spoils its transaction.
    Spoiled(Bytes),
}

impl From<Expect> for ReplyMeaning {
    fn from(expect: Expect) -> ReplyMeaning {
        match expect {
            Expect::Tracking(true) => ReplyMeaning::Track(None),
            expect => ReplyMeaning::Planned(expect),
        }
    }
}

impl ReplyMeaning {
    /// What was planned, where that is all.
    fn planned(&self) -> Option<Expect> {
        match self {
            ReplyMeaning::Planned(expect) => Some(*expect),
            ReplyMeaning::Queued(_)
            | ReplyMeaning::Track(_)
            | ReplyMeaning::Replaced
            | ReplyMeaning::Spoiled(_) => None,
        }
    }
}

/// A command on its way.
struct Expected {
    awaited: ReplyMeaning,
    /// Done once, before the first byte of the reply is passed on.
    duty: Option<Duty>,
    /// Whether the client has its answer already.
    is_answered: bool,
}

impl Expected {
    fn is(&self, expect: Expect) -> bool {
        self.awaited.planned() == Some(expect)
    }

    fn may_kill(&self) -> bool {
        matches!(&self.awaited, ReplyMeaning::Queued(later) if later.may_kill())
    }
}

/// All commands on their way on one pin, in their order.
pub(super) struct Expectations {
    expected: VecDeque<Expected>,
    /// Of the commands that Redis has queued: done before EXEC's reply.
    queued: Vec<Duty>,
    /// How many EXECs may be on their way. One may be among what is sent unread.
    execs: usize,
    discharge: Rc<dyn Discharge>,
}

impl Expectations {
    pub(super) fn new(discharge: Rc<dyn Discharge>) -> Self {
        Expectations { expected: VecDeque::new(), queued: Vec::new(), execs: 0, discharge }
    }

    pub(super) fn len(&self) -> usize {
        self.expected.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.expected.is_empty()
    }

    pub(super) fn push(&mut self, awaited: ReplyMeaning, duty: Option<Duty>) {
        let expected = Expected { awaited, duty, is_answered: false };
        self.execs += usize::from(expected.is(Expect::Exec));
        self.expected.push_back(expected);
    }

    /// The client has its answer to the last of them: it is not to see that of Redis.
    pub(super) fn answer_last(&mut self) {
        if let Some(last) = self.expected.back_mut() {
            last.is_answered = true;
        }
    }

    /// Whether the client has its answer to the next.
    pub(super) fn is_answered(&self) -> bool {
        self.expected.front().is_some_and(|expected| expected.is_answered)
    }

    /// The reply that is awaited next.
    pub(super) fn front(&self) -> Option<&ReplyMeaning> {
        self.expected.front().map(|expected| &expected.awaited)
    }

    fn front_mut(&mut self) -> Option<&mut ReplyMeaning> {
        self.expected.front_mut().map(|expected| &mut expected.awaited)
    }

    /// The next reply stays with us: an error of the probe before it has gone out in its place.
    pub(super) fn replace_next(&mut self) {
        if let Some(wait) = self.front_mut() {
            *wait = ReplyMeaning::Replaced;
        }
    }

    /// A subscription is confirmed, or its end, of which so many are `left` of a kind: what awaits the last one is answered.
    ///
    /// A node of a cluster tells of the end of a subscription unasked, where its slot has left.
    pub(super) fn confirmed(&mut self, what: Confirmation, left: impl FnOnce(SubscriptionKind) -> i64) {
        let done = match (self.front_mut(), what) {
            (Some(ReplyMeaning::Planned(Expect::Subscribed(awaited))), Confirmation::Subscribed(_))
            | (Some(ReplyMeaning::Planned(Expect::Unsubscribed(awaited))), Confirmation::Unsubscribed(_)) => {
                *awaited = awaited.saturating_sub(1);
                *awaited == 0
            }
            (Some(ReplyMeaning::Planned(Expect::UnsubscribedAll(kind))), _) => left(*kind) == 0,
            _ => false,
        };
        if done {
            self.pop();
        }
    }

    /// What the next reply was planned to mean.
    pub(super) fn next(&self) -> Option<Expect> {
        self.front().and_then(ReplyMeaning::planned)
    }

    /// What the last reply was planned to mean.
    pub(super) fn last(&self) -> Option<Expect> {
        self.expected.back().and_then(|expected| expected.awaited.planned())
    }

    /// Whether confirmations are awaited next.
    pub(super) fn awaits_confirmation(&self) -> bool {
        matches!(
            self.next(),
            Some(Expect::Subscribed(_) | Expect::Unsubscribed(_) | Expect::UnsubscribedAll(_))
        )
    }

    /// The next reply is whole.
    pub(super) fn pop(&mut self) -> Option<ReplyMeaning> {
        let expected = self.expected.pop_front()?;
        self.execs -= usize::from(expected.is(Expect::Exec));
        Some(expected.awaited)
    }

    /// Whether a blocking command is among them.
    pub(super) fn awaits_block(&self) -> bool {
        let blocks = |awaited: &ReplyMeaning| {
            matches!(awaited, ReplyMeaning::Planned(Expect::Blocked) | ReplyMeaning::Replaced)
        };
        self.expected.iter().any(|expected| blocks(&expected.awaited))
    }

    /// Whether an EXEC is among them of a transaction that may be its client's end; `is_queued` if what does that is queued.
    pub(super) fn may_end(&self, is_queued: impl FnOnce() -> bool) -> bool {
        // Most have none.
        self.execs > 0
            && self.expected.iter().any(|expected| expected.is(Expect::Exec))
            && (is_queued() || self.expected.iter().any(Expected::may_kill))
    }

    /// A reply is about to be passed on of which this is the beginning, or more of it. `is_queued` if a transaction is open and
    /// takes what it answers.
    pub(super) fn answers(&mut self, piece: &[u8], is_error: bool, is_queued: bool) {
        let Some(Expected { awaited, duty, .. }) = self.expected.front_mut() else { return };
        match awaited.planned() {
            Some(Expect::Exec) => {
                let duties = std::mem::take(&mut self.queued).into_iter().chain(duty.take());
                let answer = Answer::of(piece);
                duties.for_each(|duty| self.discharge.discharge(&duty, answer));
            }
            // If it fails, all is queued as before.
            Some(Expect::Discard) if is_error => {}
            Some(Expect::Discard) => self.queued.clear(),
            // As good as not sent.
            _ if is_queued => {
                let duty = duty.take();
                self.queued.extend(duty.filter(|_| !is_error));
            }
            _ => {
                if let Some(duty) = duty.take() {
                    self.discharge.discharge(&duty, Answer::of(piece));
                }
            }
        }
    }

    /// What follows is sent unread, and its EXEC may be among that. Whether what is here may change anything.
    pub(super) fn goes_unread(&mut self) -> bool {
        self.execs += 1;
        !self.queued.is_empty() || self.expected.iter().any(|expected| expected.duty.is_some())
    }

    /// An answer to something that was sent unread.
    pub(super) fn answers_anything(&self) {
        self.discharge.discharge(&Duty::Anything, Answer::Other);
    }
}

impl Drop for Expectations {
    /// What was sent may have been executed, whether its reply came or not; but what is queued was not, without an EXEC.
    fn drop(&mut self) {
        let queued = std::mem::take(&mut self.queued).into_iter().filter(|_| self.execs > 0);
        let sent = self.expected.drain(..).filter_map(|expected| expected.duty);
        queued.chain(sent).for_each(|duty| self.discharge.discharge(&duty, Answer::Other));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::{Keys, Noted};

    fn expectations() -> (Rc<Noted>, Expectations) {
        let noted = Rc::new(Noted::default());
        (noted.clone(), Expectations::new(noted))
    }

    fn written(key: &'static str) -> Option<Duty> {
        Some(Duty::Written(Keys::new(key.as_bytes(), std::iter::empty())))
    }

    /// MULTI and two writes, which Redis has queued.
    fn in_transaction() -> (Rc<Noted>, Expectations) {
        let (noted, mut expectations) = expectations();
        for (what, duty) in
            [(Expect::Multi, None), (Expect::Reply, written("a")), (Expect::Reply, written("b"))]
        {
            expectations.push(ReplyMeaning::from(what), duty);
        }
        for (reply, is_queued) in [(&b"+OK\r\n"[..], false), (b"+QUEUED\r\n", true), (b"+QUEUED\r\n", true)] {
            expectations.answers(reply, false, is_queued);
            expectations.pop();
        }
        assert_eq!(noted.done(), []);
        (noted, expectations)
    }

    fn done(keys: &[&str], answer: Answer) -> Vec<(String, Answer)> {
        keys.iter().map(|key| ((*key).to_owned(), answer)).collect()
    }

    #[test]
    fn what_is_queued_is_done_once_with_the_beginning_of_execs_answer() {
        for (reply, answer) in [(&b"*2\r\n"[..], Answer::Other), (b"-EXECABORT", Answer::Refused)] {
            let (noted, mut expectations) = in_transaction();
            expectations.push(Expect::Exec.into(), None);
            expectations.push(Expect::Reply.into(), written("c"));
            for piece in [reply, b"the rest of it"] {
                expectations.answers(piece, reply[0] == b'-', true);
                assert_eq!(noted.done(), done(&["a", "b"], answer));
            }
            expectations.pop();
            drop(expectations);
            let mut all = done(&["a", "b"], answer);
            all.extend(done(&["c"], Answer::Other));
            assert_eq!(noted.done(), all);
        }
    }

    #[test]
    fn what_is_discarded_is_never_done_and_what_is_not_still_is() {
        let (noted, mut expectations) = in_transaction();
        expectations.push(Expect::Discard.into(), None);
        expectations.push(Expect::Exec.into(), None);
        expectations.answers(b"-NOPERM", true, true);
        expectations.pop();
        expectations.answers(b"*2\r\n", false, true);
        assert_eq!(noted.done(), done(&["a", "b"], Answer::Other));

        let (noted, mut expectations) = in_transaction();
        expectations.push(Expect::Discard.into(), None);
        expectations.push(Expect::Exec.into(), None);
        expectations.answers(b"+OK\r\n", false, true);
        expectations.pop();
        expectations.answers(b"-ERR EXEC without MULTI\r\n", true, false);
        drop(expectations);
        assert_eq!(noted.done(), []);
    }

    #[test]
    fn a_lost_pin_has_done_what_was_sent_and_no_transaction_without_an_exec() {
        let (noted, mut expectations) = in_transaction();
        expectations.push(Expect::Reply.into(), written("c"));
        drop(expectations);
        assert_eq!(noted.done(), done(&["c"], Answer::Other));

        let (noted, mut expectations) = in_transaction();
        expectations.push(Expect::Exec.into(), None);
        drop(expectations);
        assert_eq!(noted.done(), done(&["a", "b"], Answer::Other));

        let (noted, mut expectations) = in_transaction();
        assert!(expectations.goes_unread(), "its EXEC may be sent unread");
        drop(expectations);
        assert_eq!(noted.done(), done(&["a", "b"], Answer::Other));
    }

    #[test]
    fn a_command_that_an_open_transaction_refuses_is_not_among_what_exec_does() {
        let (noted, mut expectations) = in_transaction();
        expectations.push(Expect::Reply.into(), written("c"));
        expectations.push(Expect::Exec.into(), None);
        expectations.answers(b"-ERR wrong number of arguments", true, true);
        expectations.pop();
        expectations.answers(b"-EXECABORT", true, true);
        assert_eq!(noted.done(), done(&["a", "b"], Answer::Refused));
    }
}
