//! The state that a client has on its own connection: as of what was sent there, and as of what Redis has said.

use bytes::Bytes;
use command::SubscriptionKind;

use super::expectations::ReplyMeaning;
use super::later::Later;
use super::subscriptions::{Announcement, Confirmation, Glimpse, Subscriptions};
use super::tracked::ClientTracking;
use super::transaction::Transaction;
use super::usage::Fate;
use crate::lanes::Destination;
use crate::session::expect::{Expect, Feed};
use crate::session::pause::Pause;
use crate::session::plan::Stage;
use crate::session::tracking::Redirect;

/// What the session is to learn from a reply.
pub(crate) enum Learned {
    Nothing,
    Selected(u32),
    /// A queued command, from which this follows.
    CarriedOut(Later),
    /// It is told of changes, as this client of ours is; itself if 0. No longer if none.
    Tracks(Option<u64>),
    Pause(Pause),
    /// From here on it is fed.
    Feed(Feed),
    /// Redis has said RESET, as the last of its replies.
    Reset,
    /// Whether Redis has granted what HELLO or AUTH asks for.
    Granted(bool),
    /// Redis has begun a transaction, or refuses it in these words.
    Begun(Option<Bytes>),
    /// What blocked there is to be carried out elsewhere, behind ASKING or not.
    SentOn(Destination, bool),
}

/// What holds a client on its own connection. It knows no bytes: what is sent and what has come is told to it.
pub(crate) struct PinState {
    pub(crate) transaction: Transaction,
    /// Once they are in play: only then replies are looked into.
    subscriptions: Option<Subscriptions>,
    tracking: ClientTracking,
    fate: Fate,
}

impl Default for PinState {
    fn default() -> Self {
        PinState {
            transaction: Transaction::default(),
            subscriptions: None,
            tracking: ClientTracking::default(),
            fate: Fate::Returned,
        }
    }
}

impl PinState {
    /// A command goes out whose reply means this.
    pub(super) fn sends(&mut self, awaited: &ReplyMeaning) {
        match awaited {
            ReplyMeaning::Planned(Expect::Multi | Expect::Begun) => self.transaction.asks(),
            ReplyMeaning::Planned(Expect::Exec | Expect::Discard) => self.transaction.asks_for_its_end(),
            ReplyMeaning::Planned(
                Expect::Subscribed(_) | Expect::Unsubscribed(_) | Expect::UnsubscribedAll(_),
            ) => {
                self.subscriptions.get_or_insert_default();
            }
            _ => self.transaction.sends(),
        }
    }

    /// What a whole reply tells that was awaited so and is of this kind.
    pub(super) fn learn(&mut self, awaited: ReplyMeaning, kind: u8) -> Learned {
        let is_error = is_error(kind);
        match awaited {
            ReplyMeaning::Planned(expect) => return self.learn_planned(expect, kind),
            ReplyMeaning::Queued(later) if self.transaction.is_open() => {
                if kind == b'+' {
                    self.transaction.queues(Some(*later));
                }
            }
            // It was carried out, then; what it has done is not known.
            ReplyMeaning::Queued(_) if !is_error => self.keep(),
            ReplyMeaning::Track(to) if !is_error => return self.tracks(ClientTracking::of(to)),
            ReplyMeaning::Queued(_)
            | ReplyMeaning::Track(_)
            | ReplyMeaning::Replaced
            | ReplyMeaning::Spoiled(_) => {}
        }
        Learned::Nothing
    }

    fn learn_planned(&mut self, expect: Expect, kind: u8) -> Learned {
        let is_error = is_error(kind);
        match expect {
            Expect::Reply if self.transaction.is_open() && kind == b'+' => {
                self.transaction.queues(None);
            }
            Expect::Multi | Expect::Begun if !is_error => self.transaction.opens(),
            // EXEC without MULTI leaves the watched keys watched; within it, any error discards all.
            Expect::Exec if !is_error || self.transaction.is_open() => self.transaction.ends(),
            Expect::Discard if !is_error => self.transaction.ends(),
            Expect::Watch if !is_error => self.transaction.watches(),
            Expect::Unwatch if !is_error => self.transaction.unwatches(),
            Expect::State if !is_error => self.keep(),
            Expect::Pause(pause) if !is_error => return Learned::Pause(pause),
            Expect::Feed(feed) if !is_error => return Learned::Feed(feed),
            Expect::Tracking(false) if !is_error => return self.tracks(ClientTracking::Off),
            Expect::Granted => return Learned::Granted(!is_error),
            Expect::Select(db) if !is_error => return Learned::Selected(db),
            _ => {}
        }
        Learned::Nothing
    }

    fn tracks(&mut self, tracking: ClientTracking) -> Learned {
        self.tracking = tracking;
        if !self.tracking.is_on() {
            return Learned::Tracks(None);
        }
        // Keys are still noted for the connection: it is not for another client.
        self.worsen(Fate::Dropped);
        Learned::Tracks(Some(self.redirect().map_or(0, |redirect| redirect.own)))
    }

    /// Whom its invalidations go to, if that is another client.
    pub(super) fn redirect(&self) -> Option<Redirect> {
        self.tracking.redirect()
    }

    /// What is whole now, if it is a message or confirmation and no reply to another command. `awaited` if a confirmation is.
    pub(super) fn announcement(
        &self,
        glimpse: &Glimpse,
        is_push: bool,
        awaited: bool,
    ) -> Option<Announcement> {
        let subscriptions = self.subscriptions.as_ref()?;
        let announcement = glimpse.read()?;
        let is_one = match announcement {
            Announcement::Message => subscriptions.any(),
            // Unasked: a node of a cluster has no longer the slot.
            Announcement::Confirmed(Confirmation::Unsubscribed(SubscriptionKind::Shard), _) => {
                awaited || subscriptions.shards > 0
            }
            Announcement::Confirmed(..) => awaited,
        };
        (is_one || is_push).then_some(announcement)
    }

    /// Redis has confirmed a subscription, or its end: what there is now.
    pub(super) fn confirmed(&mut self, confirmation: Confirmation, left: i64) -> Subscriptions {
        let subscriptions = self.subscriptions.get_or_insert_default();
        subscriptions.count(confirmation, left);
        *subscriptions
    }

    /// What its client has begun; `resp3` if that is what the client speaks.
    pub(super) fn stage(&self, resp3: bool) -> Stage {
        match () {
            () if self.transaction.is_asked() => Stage::MultiAsked,
            () if self.is_in_multi() => Stage::Multi,
            () if resp3 || !self.has_subscribed() => Stage::Plain,
            () if self.is_subscribed() => Stage::Subscribed,
            () => Stage::Subscribing,
        }
    }

    /// Whether subscriptions are in play.
    pub(super) fn has_subscribed(&self) -> bool {
        self.subscriptions.is_some()
    }

    pub(super) fn is_subscribed(&self) -> bool {
        self.subscriptions.as_ref().is_some_and(Subscriptions::any)
    }

    /// Subscriptions to channels, patterns and shard channels, once they are in play.
    pub(crate) fn subscriptions(&self) -> Option<[i64; 3]> {
        let Subscriptions { channels, patterns, shards } = self.subscriptions?;
        Some([channels, patterns, shards])
    }

    /// Whether Redis is to queue the next command.
    pub(crate) fn is_in_multi(&self) -> bool {
        self.transaction.sent().is_some()
    }

    /// Whether nothing but a transaction is there, in which nothing is watched.
    pub(crate) fn is_transaction_alone(&self) -> bool {
        let is_used = self.transaction.is_watching() || self.is_subscribed() || self.tracking.is_on();
        !is_used && self.fate < Fate::Kept
    }

    /// Whether the client could do without the connection.
    pub(super) fn is_none(&self) -> bool {
        let state = !self.transaction.is_none() || self.is_subscribed() || self.tracking.is_on();
        !state && self.fate < Fate::Kept
    }

    /// Whether nothing of the client is left that another one might find.
    pub(super) fn is_clean(&self) -> bool {
        self.fate == Fate::Returned
    }

    /// It is one that only the connection's end undoes.
    pub(crate) fn keep(&mut self) {
        self.worsen(Fate::Kept);
    }

    pub(super) fn worsen(&mut self, fate: Fate) {
        self.fate = self.fate.max(fate);
    }
}

/// Whether a reply that begins so is an error.
pub(super) fn is_error(kind: u8) -> bool {
    matches!(kind, b'-' | b'!')
}
