//! What a link delivers, applied strictly in wire order: the heart of the coherent modes.
//!
//! Everything here runs in the one task that reads the socket. A value is stored, an entry removed and the lease renewed
//! before the next byte is looked at, so whoever sees the lease renewed sees all that was applied before it.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cache::{Entry, Fill, Keep, Lease};
use resp::{Frame, Protocol};
use tokio::sync::{mpsc, oneshot};
use tracing::error;
use upstream::{Doubt, Hello, Incarnation, Loss, Sink, Tracking, is_about_credentials, no_right_to};

use super::promise::Promise;
use super::{Errand, Link, canary, count};
use crate::budget::Arriving;
use crate::clock::now_ns;
use crate::failure::Failure;
use crate::readthrough::aging;
use crate::readthrough::fetched::{self, Fetched, facts, pong};
use crate::readthrough::question::{Kind, Words};

pub(super) const MS: u64 = 1_000_000;

/// What travels with a command on a link and comes back with its reply.
pub(super) enum LinkTicket {
    /// The PTTL in front of a GET.
    Deadline,
    /// A GET.
    Get {
        /// The duty to answer those who wait.
        fill: Fill<Failure>,
        /// The lease that was current when it was stamped.
        lease: Arc<Lease>,
        errand: Errand,
    },
    /// A heartbeat, which also asks for the server's role.
    Beat { sent_ns: u64 },
    /// The PING that strict readers share.
    Barrier { sent_ns: u64 },
    /// A GET that compares an entry with what Redis holds.
    Audit { entry: Entry, sent_ns: u64 },
    /// A PING of the readiness probe.
    Probe { sender: oneshot::Sender<Result<(), Failure>>, sent_ns: u64 },
    /// A command of the task that tends the link.
    Told { sender: oneshot::Sender<Frame>, sent_ns: u64 },
}

/// What the task that tends a link is told.
#[derive(Debug)]
pub(super) enum News {
    /// There is a new connection; the promise tells what it is good for.
    Connected,
    /// The connection is gone.
    Lost,
    /// An invalidation named the canary, or everything.
    CanaryPushed { at_ns: u64 },
}

/// Applies what the link delivers.
pub(super) struct LinkSink {
    pub(super) link: Arc<Link>,
    pub(super) news: mpsc::UnboundedSender<News>,
    /// What the PTTL in front of the next GET said.
    deadline: Cell<Deadline>,
    /// Whether the server knows hash fields that expire by themselves.
    fields_expire: Cell<bool>,
    /// The generation of the node that the connection leads to.
    generation: Cell<u64>,
    arriving: Arriving,
}

/// What is known of a fetch beside its fill.
struct About {
    lease: Arc<Lease>,
    deadline: Deadline,
    errand: Errand,
}

/// What PTTL says of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deadline {
    /// Nothing that could be relied on.
    Unknown,
    /// There is no such key.
    Missing,
    /// The key does not expire.
    Never,
    /// The key expires in so many milliseconds.
    In(u64),
}

/// The time that a key may have left to be kept: above that no count of nanoseconds tells it.
const FARTHEST_MS: i64 = i64::MAX / 1_000_000;

impl Deadline {
    fn of(reply: &Frame) -> Deadline {
        match reply {
            Frame::Integer(-2) => Deadline::Missing,
            Frame::Integer(-1) => Deadline::Never,
            Frame::Integer(ms @ 0..=FARTHEST_MS) => Deadline::In(ms.unsigned_abs()),
            _ => Deadline::Unknown,
        }
    }
}

/// The time that a key has left, from the deadline that was made of what PTTL said.
pub(in crate::readthrough) fn time_left_ns(entry: &Entry, now_ns: u64) -> Option<u64> {
    let early = entry.deadline_ns()? - entry.sent_ns();
    // The inverse of `deadline_ns`, which took off one part in 1,024; exact but for a nanosecond or two.
    let whole = early.saturating_add(early / 1023);
    Some((whole.saturating_add(entry.sent_ns())).saturating_sub(now_ns))
}

/// The instant at which a key that was asked for at `sent_ns` and lives for `ms` more is over. It is early by 1 part in
/// 1,024, for two clocks that run at different rates.
fn deadline_ns(sent_ns: u64, ms: u64) -> u64 {
    let left = ms.saturating_mul(MS);
    sent_ns.saturating_add(left - left / 1024)
}

impl LinkSink {
    pub(super) fn new(link: Arc<Link>, news: mpsc::UnboundedSender<News>) -> Self {
        let arriving = Arriving::new(link.budget.clone());
        let deadline = Cell::new(Deadline::Unknown);
        LinkSink { link, news, deadline, fields_expire: Cell::new(true), generation: Cell::new(0), arriving }
    }

    /// A reply to a command sent at `sent_ns` has been processed.
    fn proves(&self, sent_ns: u64) {
        // Until the promise is in force nothing is proven; the next reply will do. Nor is anything by a connection to where Redis
        // was before.
        let is_of_now = self.link.node.generation() == self.generation.get();
        if self.link.standing.is_in_force() && !self.link.node.is_disputed() && mutant::is_of_now(is_of_now) {
            self.link.lease.renew(mutant::proves_as_of(sent_ns, now_ns));
        }
    }

    fn tell(&self, news: News) {
        // The tending task lives as long as this sink.
        let _ = self.news.send(news);
    }

    /// What may be kept of a fill's answer.
    fn keep(&self, lease: Arc<Lease>, sent_ns: u64, deadline: Deadline, missing: bool) -> Keep {
        let same_connection = self.link.lease.is_of_now(&lease);
        if !same_connection || !self.link.standing.keeps() || self.link.node.is_disputed() {
            return Keep::Not;
        }
        let from_ns = mutant::lives_from(sent_ns, now_ns);
        let deadline_ns = match (deadline, missing) {
            (Deadline::Missing, true) if self.link.placed.is_some() => {
                match self.link.settings.absence_ends_ns(sent_ns) {
                    None => return Keep::Not,
                    until_ns => until_ns,
                }
            }
            (Deadline::Never, false) | (Deadline::Missing, true) => None,
            (Deadline::In(ms), false) => Some(deadline_ns(from_ns, ms)),
            // The key came or went between the two commands.
            _ => return Keep::Not,
        };
        Keep::Leased { lease, deadline_ns }
    }

    fn commit(
        &self,
        fill: Fill<Failure>,
        lease: Arc<Lease>,
        errand: Errand,
        frame: Frame,
    ) -> Result<(), Doubt> {
        let (link, now_ns) = (&*self.link, now_ns());
        let sent_ns = fill.sent_ns().unwrap_or(0); // stamped before it was sent
        link.stats.redis_latency.record(now_ns.saturating_sub(sent_ns), 1);
        link.ended(errand);
        // Of the PTTL in front of it, if there was one.
        let deadline = self.deadline.replace(Deadline::Unknown);
        let Some((fill, frame)) = self.sent_on(fill, frame) else {
            self.proves(sent_ns);
            return Ok(());
        };
        let words = Words::of(fill.view());
        if !words.is_value() {
            let about = About { lease, deadline, errand };
            let kept_as = (words.protocol(), words.kind());
            return self.commit_reply(fill, about, frame, kept_as, now_ns);
        }
        let (failure, doubt) = match Fetched::of(frame) {
            Fetched::Value(value) if !fill.has_room_for(value.len()) => {
                let bytes = value.len();
                drop(value);
                self.link.take_later(fill, errand, bytes);
                self.proves(sent_ns);
                return Ok(());
            }
            Fetched::Value(value) => {
                link.large.note_size(&link.store, fill.key(), Words::VALUE, value.len(), now_ns);
                let keep = self.keep(lease, sent_ns, deadline, false);
                if let Some(budget) = &link.budget {
                    budget.fetched(value.len());
                }
                let facts = facts(&value, link.settings.over_http);
                mutant::stored_at_once(move || fill.found(&value, facts, keep, now_ns));
                self.proves(sent_ns);
                return Ok(());
            }
            Fetched::Missing => {
                fill.missing(self.keep(lease, sent_ns, deadline, true), now_ns);
                self.proves(sent_ns);
                return Ok(());
            }
            Fetched::Failed(failure) => {
                self.note_past(&fill, &failure, now_ns);
                (failure, Ok(()))
            }
            Fetched::Doubted(failure) => (failure, Err(Doubt::WRONG_TYPE)),
        };
        link.stats.failed(&failure);
        aging::end(fill, failure);
        if doubt.is_ok() {
            self.proves(sent_ns);
        }
        doubt
    }

    /// In a cluster: a fetch that the node has not answered goes to the one that it names, and what comes of that is not kept. The fetch and
    /// its reply, if it is one.
    fn sent_on(&self, fill: Fill<Failure>, frame: Frame) -> Option<(Fill<Failure>, Frame)> {
        let Some(placed) = &self.link.placed else { return Some((fill, frame)) };
        let redirect = match &frame {
            Frame::Error(text) => placed.redirect(text, fill.key()),
            _ => None,
        };
        let Some(redirect) = redirect else { return Some((fill, frame)) };
        if Words::of(fill.view()).is_value() {
            placed.ways.follow(fill, redirect, 0);
        } else {
            // Asked by Redis clients alone: they have lanes for what cannot be answered so.
            fill.fail(Failure::TooLarge(0));
        }
        None
    }

    /// The same for the reply to a question.
    fn commit_reply(
        &self,
        fill: Fill<Failure>,
        About { lease, deadline, errand }: About,
        frame: Frame,
        (protocol, kind): (Protocol, Kind),
        now_ns: u64,
    ) -> Result<(), Doubt> {
        let sent_ns = fill.sent_ns().unwrap_or(0);
        let reply = fetched::reply(&frame, protocol);
        // It is as large as the reply, and larger.
        drop(frame);
        match reply {
            Ok(reply) if !fill.has_room_for(reply.len()) => {
                let bytes = reply.len();
                drop(reply);
                self.link.take_later(fill, errand, bytes);
            }
            Ok(reply) => {
                let words = Words::of(fill.view());
                self.link.large.note_size(&self.link.store, fill.key(), words, reply.len(), now_ns);
                let missing = deadline == Deadline::Missing;
                let keep = match (kind, self.keep(lease, sent_ns, deadline, missing)) {
                    (Kind::Time, _) => Keep::Not,
                    // Fields that expire by themselves are told of late, or never.
                    (Kind::Hash, _) if self.fields_expire.get() => Keep::Not,
                    (_, keep) => keep,
                };
                if missing {
                    fill.replied_missing(&reply, keep, now_ns);
                } else {
                    fill.replied(&reply, keep, now_ns);
                }
                if let Some(budget) = &self.link.budget {
                    budget.fetched(reply.len());
                }
            }
            Err(failure) => {
                self.note_past(&fill, &failure, now_ns);
                self.link.stats.failed(&failure);
                aging::end(fill, failure);
            }
        }
        self.proves(sent_ns);
        Ok(())
    }

    /// What is too large for the link, or not for its user, goes past it from now on.
    fn note_past(&self, fill: &Fill<Failure>, failure: &Failure, now_ns: u64) {
        let past = match failure {
            Failure::TooLarge(_) => &self.link.large,
            Failure::Redis(text) if text.starts_with("NOPERM ") => &self.link.denied,
            _ => return,
        };
        past.note(fill.key(), Words::of(fill.view()), now_ns, self.link.store.entry_limits().expiry_ns());
    }

    fn beat(&self, frame: &Frame, sent_ns: u64) -> Result<(), Doubt> {
        let Some(hello) = Hello::read(frame) else {
            // LOADING and the like: alive, and no word of its role.
            return if matches!(frame, Frame::Error(_)) { Ok(()) } else { Err(Doubt::WRONG_TYPE) };
        };
        match (self.link.standing.promise(), hello.is_primary()) {
            (promise, false) if mutant::wants_primary(promise.is_tracked()) => {
                return Err(Doubt("the server is no primary any more"));
            }
            (Promise::Replica, true) => return Err(Doubt("the server has become a primary")),
            _ => {}
        }
        self.link.counts.round_trip_ns.store(now_ns().saturating_sub(sent_ns), Ordering::Relaxed);
        self.proves(sent_ns);
        Ok(())
    }

    /// A user who lost the right to PTTL while the connection was up: nothing can be kept, and that is to be said.
    fn note_refusal(&self, pttl: &Frame) {
        if let Frame::Error(text) = pttl
            && let Some(why) = no_right_to(text)
            && let Some(incarnation) = self.link.standing.tracked()
        {
            self.link.standing.found(incarnation, Promise::Distrusted(why));
        }
    }

    fn flushed(&self) {
        self.link.forget_all();
        count(&self.link.counts.flushes, 1);
        self.tell(News::CanaryPushed { at_ns: now_ns() });
    }

    /// A hit was read again: what is still held must be what Redis holds.
    fn audit(&self, entry: &Entry, frame: &Frame) {
        let same = match frame {
            Frame::Bulk(value) => !entry.is_missing() && entry.value() == &value[..],
            Frame::Null => entry.is_missing(),
            // WRONGTYPE tells of a change too; other errors tell nothing.
            Frame::Error(text) => !text.starts_with(b"WRONGTYPE"),
            _ => return,
        };
        count(&self.link.counts.audits, 1);
        // Under a lease that was revoked it is held and served no more.
        let is_served = entry.lease().is_some_and(|lease| lease.is_live());
        if !same && is_served && self.link.store.still_holds(entry, now_ns()) {
            count(&self.link.counts.violations, 1);
            error!(
                value_bytes = entry.value().len(),
                "coherence violated: a value was served that redis does not hold; please report this"
            );
        }
    }
}

impl Sink for LinkSink {
    type Ticket = LinkTicket;

    fn announced(&self, bytes: usize) {
        self.arriving.announced(bytes);
    }

    fn reply(&self, ticket: LinkTicket, frame: Frame) -> Result<(), Doubt> {
        self.arriving.ended();
        match ticket {
            LinkTicket::Deadline => {
                self.deadline.set(Deadline::of(&frame));
                self.note_refusal(&frame);
                Ok(())
            }
            LinkTicket::Get { fill, lease, errand } => self.commit(fill, lease, errand, frame),
            LinkTicket::Beat { sent_ns } => {
                self.link.beat_out.store(false, Ordering::Relaxed);
                self.beat(&frame, sent_ns)
            }
            LinkTicket::Barrier { sent_ns } => {
                let (_, doubt) = pong(&frame);
                if doubt.is_ok() {
                    self.proves(sent_ns);
                }
                self.link.barrier_ended();
                doubt
            }
            LinkTicket::Audit { entry, sent_ns } => {
                self.audit(&entry, &frame);
                self.proves(sent_ns);
                Ok(())
            }
            LinkTicket::Probe { sender, sent_ns } => {
                let (answer, doubt) = pong(&frame);
                if doubt.is_ok() {
                    self.proves(sent_ns);
                }
                let _ = sender.send(answer);
                doubt
            }
            LinkTicket::Told { sender, sent_ns } => {
                self.proves(sent_ns);
                let _ = sender.send(frame);
                Ok(())
            }
        }
    }

    fn push(&self, items: Vec<Frame>) {
        let [Frame::Bulk(kind), keys] = &items[..] else { return };
        if &kind[..] != b"invalidate" {
            return;
        }
        // A key above MAX_REPLY_BYTES comes without its name: then it may be any.
        let names = |key: &Frame| matches!(key, Frame::Bulk(_));
        match keys {
            Frame::Array(keys) if keys.iter().all(names) => {
                for key in keys {
                    let Frame::Bulk(key) = key else { continue };
                    if self.link.store.invalidate_leased(key) && self.link.samples.chooses_invalidation() {
                        self.link.samples.invalidated(key, now_ns());
                    }
                    count(&self.link.counts.invalidations, 1);
                    if canary::is_key(&self.link, key) {
                        self.tell(News::CanaryPushed { at_ns: now_ns() });
                    }
                }
            }
            // Without keys it means all: FLUSHALL, FLUSHDB, a reload.
            _ => mutant::flushed(|| self.flushed()),
        }
    }

    fn lost(&self, ticket: LinkTicket, loss: &Loss) {
        let link = &self.link;
        match ticket {
            LinkTicket::Get { fill, errand: Errand::First, .. } if matches!(loss, Loss::Closed(_)) => {
                link.stats.retries.add(1);
                link.send_fill(fill, Errand::Retry, &link.stats, now_ns());
            }
            LinkTicket::Get { fill, errand, .. } if *loss == Loss::Departed => {
                link.send_fill(fill, errand, &link.stats, now_ns());
            }
            LinkTicket::Get { fill, errand, .. } => {
                link.give_up(fill, errand, Failure::from_loss(loss), &link.stats);
            }
            LinkTicket::Barrier { .. } => {
                link.barrier_ended();
            }
            LinkTicket::Probe { sender, .. } => {
                let _ = sender.send(Err(Failure::from_loss(loss)));
            }
            LinkTicket::Beat { .. } => link.beat_out.store(false, Ordering::Relaxed),
            LinkTicket::Deadline | LinkTicket::Audit { .. } | LinkTicket::Told { .. } => {}
        }
    }

    fn connected(&self, incarnation: Incarnation, tracking: &Tracking) {
        self.generation.set(incarnation.generation);
        self.link.stats.connects.add(1);
        self.link.closed_by_redis_ns.store(0, Ordering::Relaxed);
        self.deadline.set(Deadline::Unknown);
        let promise = match tracking {
            Tracking::On { fields_expire } => {
                self.fields_expire.set(*fields_expire);
                Promise::Trying
            }
            Tracking::Replica => Promise::Replica,
            Tracking::Refused(why) => Promise::Untracked(why.to_string()),
            Tracking::NotAsked => unreachable!("a link asks"),
        };
        self.link.standing.changed(Some(incarnation.number), promise);
        self.tell(News::Connected);
    }

    fn disconnected(&self, loss: &Loss) {
        self.arriving.ended();
        let link = &*self.link;
        link.stats.disconnects.add(1);
        // By the link's own thread alone.
        match loss {
            Loss::Closed(_) => link.closed_by_redis_ns.store(now_ns(), Ordering::Relaxed),
            // Its user is let in no longer. A server that is full, say, tells nothing of that.
            Loss::Refused(why) => {
                let closed_ns = link.closed_by_redis_ns.swap(0, Ordering::Relaxed);
                if closed_ns > 0
                    && is_about_credentials(why.as_bytes())
                    && let Some(thrown_out) = &link.settings.thrown_out.0
                {
                    thrown_out(closed_ns);
                }
            }
            _ => link.closed_by_redis_ns.store(0, Ordering::Relaxed),
        }
        link.standing.changed(
            None,
            match loss {
                // A link to where Redis is now has just begun.
                Loss::Departed => Promise::not_yet(),
                _ => Promise::Lost(loss.to_string()),
            },
        );
        // It may lead to a primary that is none any more, and nothing on it would tell.
        link.detour.renew();
        match loss {
            // What it proved was of another node, or may be.
            Loss::Departed => mutant::revoked(|| link.lease.revoke(), || link.lease.end()),
            _ => mutant::ended(|| link.lease.end()),
        }
        if let Some(placed) = &link.placed {
            placed.forget_leases();
        }
        self.tell(News::Lost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_counts_from_the_command_and_is_early_rather_than_late() {
        assert_eq!(deadline_ns(5, 0), 5);
        assert_eq!(deadline_ns(5, 1), 5 + 1_000_000 - 976);
        assert_eq!(deadline_ns(0, 1024), 1023 * MS);
        for ms in [1, 5, 1023, 1024, 86_400_000, 1 << 40] {
            let back = deadline_ns(0, ms) + deadline_ns(0, ms) / 1023;
            assert!(back.abs_diff(ms * MS) <= 2, "{ms}: {back}");
        }
        assert_eq!(deadline_ns(7, u64::MAX), u64::MAX - u64::MAX / 1024 + 7);
    }

    #[test]
    fn only_a_number_of_milliseconds_is_a_deadline() {
        let of = |number| Deadline::of(&Frame::Integer(number));
        assert_eq!((of(-2), of(-1)), (Deadline::Missing, Deadline::Never));
        assert_eq!((of(0), of(9), of(-3)), (Deadline::In(0), Deadline::In(9), Deadline::Unknown));
        assert_eq!(
            (of(FARTHEST_MS), of(FARTHEST_MS + 1)),
            (Deadline::In(9_223_372_036_854), Deadline::Unknown)
        );
        assert_eq!(Deadline::of(&Frame::Error("ERR".into())), Deadline::Unknown);
    }
}
