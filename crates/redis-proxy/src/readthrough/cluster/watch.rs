//! The watch of a node of a cluster: a second connection to it, on which it says which of its slots it has no longer.
//!
//! A node cancels a subscription to a channel of a slot (`SSUBSCRIBE`, Redis 7.0) the moment that it drops the slot, with the push
//! `sunsubscribe`, in front of whatever it says afterwards. So a reply on this connection proves that at the instant its command was sent the
//! node still had every slot that is watched and was not cancelled by then. The command is a read of a key of one of them: a node that is cut off
//! from the others answers PING, and no read.
//!
//! It is a connection of the proxy's own user, shared by all who read from the node. A slot is watched from the first fetch of one of its
//! keys on; what is fetched before the node has confirmed that waits for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cache::{Ends, Lease};
use command::Slot;
use resp::Frame;
use sync::Mutex;
use sync::atomic::AtomicBool;
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};
use upstream::{Cluster, Doubt, Incarnation, Loss, NodeNumber, Sink, SlotRedirection, Tracking, Upstream};

use crate::clock::now_ns;
use crate::readthrough::link::{BEATS_A_BOUND, Barrier, BarrierPing, Round};

/// Beats are at least so far apart.
const SHORTEST_BEAT: Duration = Duration::from_millis(1);
/// A node that does not watch is tried again after this long.
const AFTER_REFUSAL: Duration = Duration::from_secs(60);
/// Fetches that may wait for slots to be watched: further ones are sent at once, and not kept.
const MOST_PARKED: usize = 10_000;
/// Of the channels that are subscribed to, and of the key that is read where there is no canary.
const NAME: &str = "redis-proxy:";

/// What travels with a command on a watch and comes back with its reply.
pub(in crate::readthrough) enum WatchTicket {
    /// SSUBSCRIBE to a channel of this slot.
    Slot(u16),
    /// The read of a key.
    Beat { sent_ns: u64 },
    /// The same for strict readers.
    Barrier { sent_ns: u64 },
    /// A command of a canary.
    Told(oneshot::Sender<Frame>),
}

/// What is to happen once it is known whether a slot is watched: with its lease if it is.
type Parked = Box<dyn FnOnce(Option<Arc<Lease>>) + Send>;

/// How the watch of a node stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    /// There is no connection.
    Lost(String),
    /// There is one, and nothing has been proven on it.
    Trying,
    /// It has confirmed a slot and answered a read.
    InForce,
    /// It does not watch, for this reason.
    Refused(String),
}

enum SlotState {
    Asked(Vec<Parked>),
    Watched(Arc<Lease>),
}

struct State {
    standing: Standing,
    slots: BTreeMap<u16, SlotState>,
    /// The slot whose key is read.
    beat: Option<Slot>,
    /// From which one on another is looked for.
    next_beat: u16,
    /// Fetches that wait.
    parked: usize,
}

/// What a watch counts.
#[derive(Debug, Default)]
pub(crate) struct SlotWatchCounts {
    /// Slots that the node has dropped while they were watched.
    pub(crate) slots_lost: AtomicU64,
}

/// The watch of one node, as all share it who read from there.
pub(crate) struct SlotWatch {
    id: NodeNumber,
    cluster: Cluster,
    upstream: Upstream<WatchTicket>,
    /// The lease of the connection that is up, or of the next one: under it are those of slots.
    lease: Mutex<Arc<Lease>>,
    /// Of the leases that say what is proven of the node, also those of its links.
    ends: Ends,
    // A short lock, on the miss path.
    state: Mutex<State>,
    /// Written under the lock of the state; relaxed, because what they guard is guarded by the order of the wire.
    in_force: AtomicBool,
    refused: AtomicBool,
    beat_out: AtomicBool,
    barrier: Barrier,
    max_staleness_ns: u64,
    pub(crate) counts: SlotWatchCounts,
}

impl SlotWatch {
    pub(super) fn new(
        id: NodeNumber,
        cluster: Cluster,
        upstream: Upstream<WatchTicket>,
        max_staleness_ns: u64,
    ) -> Arc<SlotWatch> {
        let standing = Standing::Lost("there is no watch of the node yet".into());
        let ends = Ends::default();
        Arc::new(SlotWatch {
            id,
            cluster,
            upstream,
            lease: Mutex::new(Arc::new(Lease::counted(&ends))),
            ends,
            state: Mutex::new(State {
                standing,
                slots: BTreeMap::new(),
                beat: None,
                next_beat: 0,
                parked: 0,
            }),
            in_force: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            beat_out: AtomicBool::new(false),
            barrier: Barrier::default(),
            max_staleness_ns,
            counts: SlotWatchCounts::default(),
        })
    }

    /// Where the leases of links to its node count their ends.
    pub(in crate::readthrough) fn ends(&self) -> &Ends {
        &self.ends
    }

    /// The number of its node.
    pub(crate) fn node(&self) -> u16 {
        self.id.number()
    }

    /// The lease of `slot` if it is watched.
    pub(in crate::readthrough) fn lease_of(&self, slot: Slot) -> Option<Arc<Lease>> {
        match self.state.lock().slots.get(&slot.number()) {
            Some(SlotState::Watched(lease)) => Some(lease.clone()),
            _ => None,
        }
    }

    /// Calls `parked` once it is known whether `slot` is watched: perhaps now, else on the thread of the watch. It is asked for
    /// if it was not.
    pub(in crate::readthrough) fn watch(
        &self,
        slot: Slot,
        parked: impl FnOnce(Option<Arc<Lease>>) + Send + 'static,
    ) {
        let mut state = self.state.lock();
        let may_wait = !matches!(state.standing, Standing::Refused(_)) && state.parked < MOST_PARKED;
        state.parked += 1;
        let known = match state.slots.get_mut(&slot.number()) {
            Some(SlotState::Watched(lease)) => Some(lease.clone()),
            Some(SlotState::Asked(waiting)) if may_wait => {
                waiting.push(Box::new(parked));
                return;
            }
            None if may_wait && self.ask(slot) => {
                if !mutant::watched_when_asked() {
                    state.slots.insert(slot.number(), SlotState::Asked(vec![Box::new(parked)]));
                    return;
                }
                let lease = Arc::new(Lease::under([self.lease.lock().clone()]));
                state.slots.insert(slot.number(), SlotState::Watched(lease.clone()));
                Some(lease)
            }
            _ => None,
        };
        state.parked -= 1;
        drop(state);
        parked(known);
    }

    fn ask(&self, slot: Slot) -> bool {
        let channel = format!("{NAME}{{{}}}", slot.tag());
        self.upstream
            .subscribe(&[b"SSUBSCRIBE", channel.as_bytes()], WatchTicket::Slot(slot.number()))
            .is_ok()
    }

    /// The node has said that a slot is another's.
    pub(in crate::readthrough) fn lost(&self, slot: u16) {
        let mut state = self.state.lock();
        // What was asked for is answered by itself.
        if matches!(state.slots.get(&slot), Some(SlotState::Watched(_)))
            && let Some(SlotState::Watched(lease)) = state.slots.remove(&slot)
        {
            lease.end();
            self.counts.slots_lost.fetch_add(1, Ordering::Relaxed);
        }
        if state.beat.is_some_and(|beat| beat.number() == slot) {
            state.beat = None;
        }
    }

    /// The slot whose key is read, one that the node is known to have.
    fn beat_slot(&self) -> Option<Slot> {
        let mut state = self.state.lock();
        let has = |slot: &Slot| self.cluster.owner(slot.number()) == self.id;
        let next = state.next_beat;
        let mut slots = (next..Slot::COUNT).chain(0..next).filter_map(Slot::new);
        let beat = state.beat.filter(has).or_else(|| slots.find(has));
        if let Some(slot) = beat
            && !state.slots.contains_key(&slot.number())
            && self.ask(slot)
        {
            state.slots.insert(slot.number(), SlotState::Asked(Vec::new()));
        }
        state.beat = beat;
        beat
    }

    /// The key by which the canary of the node is tried, if `canary` is one's beginning; of a slot that it has.
    pub(in crate::readthrough) fn canary_key(&self, canary: &[u8]) -> Option<Box<[u8]>> {
        let slot = self.beat_slot()?;
        Some([canary, b"{", slot.tag().as_bytes(), b"}"].concat().into())
    }

    /// Sends commands that belong together, as [`Upstream::send_all`].
    ///
    /// # Errors
    /// As that.
    pub(in crate::readthrough) fn send_all(
        &self,
        commands: Vec<(&[&[u8]], oneshot::Sender<Frame>)>,
    ) -> Result<(), Loss> {
        let commands = commands.into_iter().map(|(command, sender)| (command, WatchTicket::Told(sender)));
        self.upstream.send_all(commands.collect())
    }

    /// Sends the read of a key with `ticket`; whether it was.
    fn send_read(&self, ticket: WatchTicket) -> bool {
        if !mutant::names_key() {
            return self.upstream.send(&[b"PING"], ticket).is_ok();
        }
        let Some(slot) = self.beat_slot() else { return false };
        let key = format!("{NAME}{{{}}}", slot.tag());
        self.upstream.send(&[b"EXISTS", key.as_bytes()], ticket).is_ok()
    }

    pub(super) fn send_beat(&self) {
        if !self.beat_out.swap(true, Ordering::Relaxed)
            && !self.send_read(WatchTicket::Beat { sent_ns: now_ns() })
        {
            self.beat_out.store(false, Ordering::Relaxed);
        }
    }

    /// As [`Link::prove`](crate::readthrough::link::Link::prove).
    pub(in crate::readthrough) fn prove(&self, since_ns: u64) -> Round {
        let (round, to_send) = self.barrier.join(since_ns, now_ns);
        self.send_barrier(to_send);
        round
    }

    fn send_barrier(&self, mut to_send: Option<BarrierPing>) {
        while let Some(ping) = to_send {
            let is_sent = self.send_read(WatchTicket::Barrier { sent_ns: ping.sent_ns });
            to_send = if is_sent { None } else { self.barrier.ended(now_ns) };
        }
    }

    /// Whether it vouches for slots at this moment. Costs one load.
    pub(in crate::readthrough) fn is_in_force(&self) -> bool {
        self.in_force.load(Ordering::Relaxed)
    }

    /// Whether the node is there and will not watch.
    pub(in crate::readthrough) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether it vouches for slots at this moment, or why it does not.
    ///
    /// # Errors
    /// The reason, for an operator.
    pub(in crate::readthrough) fn holds(&self, now_ns: u64) -> Result<(), String> {
        match &self.state.lock().standing {
            Standing::InForce => {}
            Standing::Trying => return Err("the watch of its slots is being tried".into()),
            Standing::Lost(why) | Standing::Refused(why) => return Err(why.clone()),
        }
        let age_ns = now_ns.saturating_sub(self.lease.lock().sync_ns());
        if age_ns > self.max_staleness_ns {
            return Err(format!("the watch of its slots has been silent for {} ms", age_ns / 1_000_000));
        }
        Ok(())
    }

    /// Slots that are watched.
    pub(crate) fn watched(&self) -> usize {
        self.state.lock().slots.values().filter(|slot| matches!(slot, SlotState::Watched(_))).count()
    }

    /// Fetches that wait.
    #[cfg(all(test, feature = "shuttle"))]
    pub(super) fn parked(&self) -> usize {
        self.state.lock().parked
    }

    fn enter(&self, state: &mut State, standing: Standing) {
        self.in_force.store(standing == Standing::InForce, Ordering::Relaxed);
        self.refused.store(matches!(standing, Standing::Refused(_)), Ordering::Relaxed);
        state.standing = standing;
    }
}

/// Heartbeats, one at a time.
pub(super) async fn beat(watch: Arc<SlotWatch>) {
    let mut ticks =
        interval((Duration::from_nanos(watch.max_staleness_ns) / BEATS_A_BOUND).max(SHORTEST_BEAT));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut refused_at: Option<Instant> = None;
    loop {
        ticks.tick().await;
        watch.send_beat();
        // Rights may have been given meanwhile.
        match watch.is_refused() {
            false => refused_at = None,
            true if refused_at.get_or_insert_with(Instant::now).elapsed() > AFTER_REFUSAL => {
                refused_at = None;
                watch.upstream.renew();
            }
            true => {}
        }
    }
}

/// Applies what a watch delivers, in wire order.
pub(super) struct SlotWatchSink(pub(super) Arc<SlotWatch>);

impl SlotWatchSink {
    /// The confirmation of a subscription, or why there is none.
    fn subscribed(&self, slot: u16, frame: &Frame) {
        let watch = &*self.0;
        let mut state = watch.state.lock();
        let lease = match frame {
            Frame::Error(text) => {
                self.note_refusal(&mut state, text);
                None
            }
            _ => Some(Arc::new(Lease::under([watch.lease.lock().clone()]))),
        };
        let waiting = match (state.slots.remove(&slot), &lease) {
            (Some(SlotState::Asked(waiting)), Some(lease)) => {
                state.slots.insert(slot, SlotState::Watched(lease.clone()));
                waiting
            }
            (Some(SlotState::Asked(waiting)), None) => waiting,
            // The mutant's.
            (Some(watched), _) => {
                state.slots.insert(slot, watched);
                Vec::new()
            }
            (None, _) => Vec::new(),
        };
        state.parked -= waiting.len();
        drop(state);
        waiting.into_iter().for_each(|parked| parked(lease.clone()));
    }

    /// The node refuses what a watch needs: that passes if the slot is another's, or nobody's for now.
    fn note_refusal(&self, state: &mut State, text: &[u8]) {
        let watch = &*self.0;
        if let Some(redirection) = watch.cluster.redirect(text, watch.id) {
            let beat = state.beat.take();
            // One that is on its way stays that for as long as it has keys. Slots often leave in their order, and in front of the rest.
            if let (SlotRedirection::Ask(_), Some(beat)) = (redirection, beat) {
                state.next_beat = (beat.number() + 1) % Slot::COUNT;
            }
            return;
        }
        let text = String::from_utf8_lossy(text);
        if !text.starts_with("NOPERM") && !text.contains("unknown command") {
            return;
        }
        let why = format!(
            "{text}: nothing of a cluster is kept without a watch of its slots, which needs Redis 7.0 and a user with +ssubscribe \
             &redis-proxy:* +exists ~redis-proxy:*"
        );
        if state.standing != Standing::Refused(why.clone()) {
            warn!(node = %watch.cluster.node(watch.id).place(), why, "the slots of a node cannot be watched");
            watch.enter(state, Standing::Refused(why));
        }
    }

    /// The reply to the read of a key that was sent at `sent_ns`.
    fn proven(&self, frame: &Frame, sent_ns: u64) {
        let watch = &*self.0;
        let mut state = watch.state.lock();
        if let Frame::Error(text) = frame {
            return self.note_refusal(&mut state, text);
        }
        if matches!(state.standing, Standing::Refused(_)) {
            return;
        }
        let is_watched = |slot: &SlotState| matches!(slot, SlotState::Watched(_));
        if state.standing == Standing::Trying && state.slots.values().any(is_watched) {
            watch.enter(&mut state, Standing::InForce);
        }
        drop(state);
        watch.lease.lock().renew(sent_ns);
    }
}

impl Sink for SlotWatchSink {
    type Ticket = WatchTicket;

    fn reply(&self, ticket: WatchTicket, frame: Frame) -> Result<(), Doubt> {
        let watch = &*self.0;
        match ticket {
            WatchTicket::Slot(slot) => self.subscribed(slot, &frame),
            WatchTicket::Beat { sent_ns } => {
                watch.beat_out.store(false, Ordering::Relaxed);
                self.proven(&frame, sent_ns);
            }
            // Whoever asked may have lost patience.
            WatchTicket::Told(sender) => drop(sender.send(frame)),
            WatchTicket::Barrier { sent_ns } => {
                self.proven(&frame, sent_ns);
                watch.send_barrier(watch.barrier.ended(now_ns));
            }
        }
        Ok(())
    }

    fn push(&self, items: Vec<Frame>) {
        let [Frame::Bulk(kind), Frame::Bulk(channel), ..] = &items[..] else { return };
        if &kind[..] == b"sunsubscribe" {
            self.0.lost(Slot::of(channel).number());
            self.0.cluster.doubt(Some(self.0.id));
        }
    }

    fn lost(&self, ticket: WatchTicket, _loss: &Loss) {
        match ticket {
            // With all others: see `disconnected`; or it came after that, and waits for none.
            WatchTicket::Slot(slot) => {
                let mut state = self.0.state.lock();
                let waiting = match state.slots.remove(&slot) {
                    Some(SlotState::Asked(waiting)) => waiting,
                    _ => return,
                };
                state.parked -= waiting.len();
                drop(state);
                waiting.into_iter().for_each(|parked| parked(None));
            }
            WatchTicket::Beat { .. } => self.0.beat_out.store(false, Ordering::Relaxed),
            WatchTicket::Barrier { .. } => self.0.send_barrier(self.0.barrier.ended(now_ns)),
            // The receiver learns it by the sender's end.
            WatchTicket::Told(_) => {}
        }
    }

    fn connected(&self, _incarnation: Incarnation, _tracking: &Tracking) {
        let watch = &*self.0;
        watch.enter(&mut watch.state.lock(), Standing::Trying);
        watch.send_beat();
    }

    fn disconnected(&self, loss: &Loss) {
        let watch = &*self.0;
        let mut waiting = Vec::new();
        {
            let mut state = watch.state.lock();
            watch.enter(&mut state, Standing::Lost(loss.to_string()));
            state.beat = None;
            mutant::watch_ended(|| {
                let mut lease = watch.lease.lock();
                lease.end();
                *lease = Arc::new(Lease::counted(&watch.ends));
                for slot in std::mem::take(&mut state.slots).into_values() {
                    match slot {
                        SlotState::Asked(parked) => waiting.extend(parked),
                        // Proven up to the last read that was answered.
                        SlotState::Watched(_) => {}
                    }
                }
            });
            state.parked -= waiting.len();
        }
        waiting.into_iter().for_each(|parked| parked(None));
        info!(node = %watch.cluster.node(watch.id).place(), why = %loss, "the watch of a node's slots is lost");
    }
}
