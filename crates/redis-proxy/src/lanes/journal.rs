//! The requests of a lane that have no reply, as bytes, and whose they are.
//!
//! What is not written yet stands behind what is. Beside the bytes the *runs* say whose they are, neighbours of one client in one
//! run. So a lost connection forgets nothing: what was not written goes to the next connection, a read that was written goes there
//! once, and a client with anything else on its way is closed, because nobody knows whether it was executed.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::{Buf, Bytes, BytesMut};
use resp::{Parsed, RequestLimits, RequestParser};

use super::detours::{Course, Stray};
use super::mailbox::{Mailbox, MailboxState};
use super::request::Request;

/// A journal that a burst has grown beyond this is given back once it is empty.
const KEPT_BYTES: usize = 256 * 1024;

/// Requests on their way, in their order.
#[derive(Default)]
pub(super) struct Journal {
    bytes: BytesMut,
    /// Of the bytes: what the connection has been given.
    written: usize,
    runs: VecDeque<Run>,
    /// Commands without a reply.
    commands: usize,
    /// Whether a part of the first reply has gone to its client.
    partly_delivered: bool,
}

/// Commands of one client that follow each other, on a lane and in their numbers.
struct Run {
    mailbox: Rc<Mailbox>,
    /// The number of the first.
    first: u64,
    commands: usize,
    replied: usize,
    /// Their length in the journal.
    bytes: usize,
    /// Whether they may be sent twice.
    reads: bool,
    /// Whether they have been.
    retried: bool,
    /// Of one that was sent on.
    course: Option<Course>,
}

/// Whose reply is at hand.
pub(super) struct DueReply {
    pub(super) mailbox: Rc<Mailbox>,
    /// The number of its command.
    pub(super) number: u64,
    /// How many replies are this client's, from that one on.
    pub(super) missing: usize,
}

impl Journal {
    /// Adds a command of `mailbox` with this number. `read` if it may be sent twice; `course` if it was sent on.
    #[inline]
    pub(super) fn add(
        &mut self,
        request: Request<'_>,
        mailbox: &Rc<Mailbox>,
        number: u64,
        read: bool,
        course: Option<Course>,
    ) {
        let before = self.bytes.len();
        request.write(&mut self.bytes);
        let bytes = self.bytes.len() - before;
        self.commands += 1;
        match self.runs.back_mut() {
            Some(run)
                if run.reads == read
                    && !run.is_apart()
                    && course.is_none()
                    && run.follows(number)
                    && Rc::ptr_eq(&run.mailbox, mailbox) =>
            {
                run.commands += 1;
                run.bytes += bytes;
            }
            _ => self.runs.push_back(Run {
                mailbox: mailbox.clone(),
                first: number,
                commands: 1,
                replied: 0,
                bytes,
                reads: read,
                retried: false,
                course,
            }),
        }
    }

    /// Commands without a reply.
    #[inline]
    pub(super) fn commands(&self) -> usize {
        self.commands
    }

    /// Bytes, those of requests among them that are answered and stand before others.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether answers are due to what its connection has been given.
    pub(super) fn is_owed(&self) -> bool {
        self.written > 0
    }

    /// What its connection has not been given.
    #[inline]
    pub(super) fn unwritten(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// So many more bytes its connection has been given.
    #[inline]
    pub(super) fn wrote(&mut self, count: usize) {
        self.written += count;
    }

    /// Whose reply is at hand: `None` if nobody has asked for one.
    #[inline]
    pub(super) fn front(&self) -> Option<DueReply> {
        // Bytes that answer what was not written are no answer.
        let run = self.runs.front().filter(|_| self.written > 0)?;
        Some(DueReply { mailbox: run.mailbox.clone(), number: run.next(), missing: run.missing() })
    }

    /// `whole` replies of the first run have been delivered, and perhaps a part of the next.
    #[inline]
    pub(super) fn replied(&mut self, whole: usize, partly: bool) {
        self.partly_delivered = partly;
        self.commands -= whole;
        let Some(run) = self.runs.front_mut() else {
            return;
        };
        run.replied += whole;
        if run.replied == run.commands {
            let bytes = run.bytes;
            self.runs.pop_front();
            self.forget(bytes);
        }
    }

    /// So many bytes at the front are answered.
    #[inline]
    fn forget(&mut self, bytes: usize) {
        self.bytes.advance(bytes);
        self.written = self.written.saturating_sub(bytes);
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT_BYTES {
            self.bytes = BytesMut::new();
        }
    }

    /// Takes out the command whose reply is at hand: that says that it is to be carried out elsewhere.
    pub(super) fn give_up(&mut self) -> Option<Stray> {
        let run = self.runs.front_mut()?;
        let requests = &self.bytes[..run.bytes];
        let start = length_of(requests, run.replied);
        let len = length_of(&requests[start..], 1);
        let stray = Stray {
            mailbox: run.mailbox.clone(),
            number: run.next(),
            request: Bytes::copy_from_slice(&requests[start..start + len]),
            reads: run.reads,
            course: run.course.unwrap_or_default(),
        };
        run.first = stray.number + 1;
        run.commands = run.missing() - 1;
        run.replied = 0;
        run.bytes -= start + len;
        if run.commands == 0 {
            self.runs.pop_front();
        }
        self.forget(start + len);
        self.commands -= 1;
        Some(stray)
    }

    /// Takes out all commands: none has been written.
    pub(super) fn take_apart(&mut self) -> Vec<Stray> {
        std::iter::from_fn(|| self.give_up()).collect()
    }

    /// Whether a command of this client without a reply is alike.
    pub(super) fn has_more(&self, mailbox: &Rc<Mailbox>, is_alike: impl Fn(&[u8]) -> bool) -> bool {
        let mut start = 0;
        self.runs.iter().any(|run| {
            let mut requests = &self.bytes[start..start + run.bytes];
            start += run.bytes;
            if !Rc::ptr_eq(&run.mailbox, mailbox) {
                return false;
            }
            requests = &requests[length_of(requests, run.replied)..];
            while !requests.is_empty() {
                let (request, rest) = requests.split_at(length_of(requests, 1));
                if is_alike(request) {
                    return true;
                }
                requests = rest;
            }
            false
        })
    }

    /// The clients to which the loss of its connection leaves no answer.
    pub(super) fn lost_clients(&self) -> impl Iterator<Item = &Rc<Mailbox>> {
        let mut start = 0;
        let lost = self.runs.iter().enumerate().filter(move |(number, run)| {
            let sent = start < self.written;
            start += run.bytes;
            sent && (!run.reads || run.retried || self.partly_delivered && *number == 0)
        });
        lost.map(|(_, run)| &run.mailbox)
    }

    /// Takes over what another one, whose connection was lost, holds for clients that can still be answered. How many commands
    /// are sent twice.
    pub(super) fn resume(&mut self, lost: Journal) -> usize {
        let (mut start, mut retries) = (0, 0);
        for mut run in lost.runs {
            let sent = start < lost.written;
            let bytes = &lost.bytes[start..start + run.bytes];
            start += run.bytes;
            if run.mailbox.state() != MailboxState::Open {
                continue;
            }
            let rest = &bytes[length_of(bytes, run.replied)..];
            run.first = run.next();
            run.commands = run.missing();
            run.replied = 0;
            run.bytes = rest.len();
            run.retried |= sent;
            retries += if sent { run.commands } else { 0 };
            self.commands += run.commands;
            self.bytes.extend_from_slice(rest);
            self.runs.push_back(run);
        }
        retries
    }

    /// Whether a part of the first reply has gone to its client.
    pub(super) fn is_cut(&self) -> bool {
        self.partly_delivered
    }

    /// Whose replies are missing, in the order of the commands.
    pub(super) fn missing(self) -> impl Iterator<Item = DueReply> {
        self.runs.into_iter().map(|run| {
            let (number, missing) = (run.next(), run.missing());
            DueReply { mailbox: run.mailbox, number, missing }
        })
    }
}

impl Run {
    /// Whether no command can be added to it, because one that was sent before is another matter.
    #[inline]
    fn is_apart(&self) -> bool {
        self.retried || self.course.is_some()
    }

    /// Whether a command of its client with this number is behind its last.
    #[inline]
    fn follows(&self, number: u64) -> bool {
        self.first + self.commands as u64 == number
    }

    /// The number of the first command without a reply.
    #[inline]
    fn next(&self) -> u64 {
        self.first + self.replied as u64
    }

    /// Commands without a reply.
    #[inline]
    fn missing(&self) -> usize {
        self.commands - self.replied
    }
}

/// The length of the first `count` requests of `journal`, which hold only what every server reads.
fn length_of(journal: &[u8], count: usize) -> usize {
    let limits = RequestLimits { max_arguments: usize::MAX, max_bulk_bytes: usize::MAX };
    let mut parser = RequestParser::new(limits);
    let mut length = 0;
    for _ in 0..count {
        match parser.parse(&journal[length..]) {
            Ok(Parsed::Request { len, .. }) => length += len,
            _ => return journal.len(),
        }
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer_pool::BufferPool;
    use crate::lanes::{Bounds, Noted};
    use std::cell::Cell;

    fn client() -> Rc<Mailbox> {
        Rc::new(Mailbox::new(Rc::new(Cell::new(1 << 20)), &Bounds::new(0, 0, 0), Rc::new(Noted::default())))
    }

    fn request(argument: &str) -> String {
        format!("*2\r\n$3\r\nGET\r\n${}\r\n{argument}\r\n", argument.len())
    }

    /// Sends these, each of one client, and says that all of it is written.
    fn sent(commands: &[(&Rc<Mailbox>, &str, bool)]) -> Journal {
        let mut journal = Journal::default();
        for (mailbox, argument, read) in commands {
            journal.add(
                Request::Raw(request(argument).as_bytes()),
                mailbox,
                mailbox.expect(None),
                *read,
                None,
            );
        }
        journal.wrote(journal.len());
        journal
    }

    fn front(journal: &Journal) -> Option<(u64, usize)> {
        journal.front().map(|front| (front.number, front.missing))
    }

    #[test]
    fn neighbours_of_one_client_are_one_run_as_long_as_their_numbers_follow_each_other() {
        let (one, other) = (client(), client());
        let mut journal = sent(&[(&one, "a", true), (&one, "b", true)]);
        one.expect(None); // on another lane
        for (mailbox, argument) in [(&one, "c"), (&other, "d")] {
            let number = mailbox.expect(None);
            journal.add(Request::Raw(request(argument).as_bytes()), mailbox, number, true, None);
        }
        assert_eq!((journal.commands(), front(&journal)), (4, Some((0, 2))));
        journal.replied(2, false);
        // What is not written has no answer.
        assert_eq!((front(&journal), journal.unwritten()), (None, (request("c") + &request("d")).as_bytes()));
        journal.wrote(journal.len());
        assert_eq!(front(&journal), Some((3, 1)));
        journal.replied(1, false);
        assert_eq!(front(&journal), Some((0, 1)));
        assert!(Rc::ptr_eq(&journal.front().unwrap().mailbox, &other));
    }

    #[test]
    fn what_is_lost_with_a_connection_keeps_its_number_on_the_next() {
        let (reader, writer) = (client(), client());
        let commands =
            [(&reader, "a", true), (&reader, "b", true), (&writer, "c", false), (&reader, "d", true)];
        let mut lost = sent(&commands);
        lost.replied(1, false);
        lost.add(Request::Raw(request("e").as_bytes()), &writer, writer.expect(None), false, None);
        let clients: Vec<_> = lost.lost_clients().cloned().collect();
        assert!(clients.len() == 1 && Rc::ptr_eq(&clients[0], &writer));
        writer.lose();
        let mut journal = Journal::default();
        assert_eq!((journal.resume(lost), journal.commands()), (2, 2));
        assert_eq!(journal.unwritten(), (request("b") + &request("d")).as_bytes());
        journal.wrote(journal.len());
        assert_eq!(front(&journal), Some((1, 1)));
        journal.replied(1, false);
        assert_eq!(front(&journal), Some((2, 1)));
        // Once is enough.
        assert_eq!(journal.lost_clients().count(), 1);
    }

    #[test]
    fn a_command_is_given_up_from_whatever_place_and_the_others_keep_theirs() {
        let (one, other) = (client(), client());
        let mut journal =
            sent(&[(&one, "a", true), (&one, "b", true), (&one, "c", true), (&other, "d", false)]);
        journal.replied(1, false);
        let is = |name: &'static str| move |bytes: &[u8]| bytes == request(name).as_bytes();
        assert!(journal.has_more(&one, is("b")) && journal.has_more(&one, is("c")));
        assert!(!journal.has_more(&one, is("a")) && !journal.has_more(&one, is("d")));
        let stray = journal.give_up().unwrap();
        assert_eq!((stray.number, stray.reads, &stray.request[..]), (1, true, request("b").as_bytes()));
        assert!(Rc::ptr_eq(&stray.mailbox, &one));
        assert_eq!(
            (front(&journal), journal.commands(), journal.len()),
            (Some((2, 1)), 2, 2 * request("c").len())
        );
        assert!(!journal.has_more(&one, is("b")) && journal.has_more(&other, is("d")));
        journal.replied(1, false);
        // One that was sent on is by itself.
        journal.add(Request::Raw(&stray.request), &one, stray.number, true, Some(stray.course));
        journal.add(Request::Raw(request("e").as_bytes()), &one, one.expect(None), true, None);
        assert_eq!(journal.give_up().map(|stray| (stray.number, stray.reads)), Some((0, false)));
        assert_eq!((front(&journal), journal.commands()), (None, 2), "they are not written");
        let numbers: Vec<_> = journal.take_apart().iter().map(|stray| stray.number).collect();
        assert_eq!((numbers, journal.commands(), journal.len()), (vec![1, 3], 0, 0));
    }

    #[test]
    fn a_reply_of_which_its_client_has_a_part_does_not_begin_again() {
        let reader = client();
        let mut journal = sent(&[(&reader, "a", true), (&reader, "b", true)]);
        journal.replied(1, true);
        reader.deliver(0, b"$1\r\na\r\n$1\r", 1, true, &BufferPool::default());
        assert!(journal.is_cut() && journal.lost_clients().count() == 1);
    }
}
