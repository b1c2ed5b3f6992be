//! What all sessions of one worker share, and what is done for them all.

use std::cell::{Cell, RefCell};
use std::hash::RandomState;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use command::{Commands, Key, Slot, Slots};
use resp::{Arguments, Frame};
use tokio::task::spawn_local;
use tokio::time::sleep;

use super::changes::{duty, duty_of_part, may_change};
use super::emulated::{Disguise, EmulatedNode};
use super::pause::Paused;
use super::plan::{Call, gets_are_reads};
use super::recall::Recall;
use super::registry::Registry;
use super::rights::Rights;
use super::steward::Effects;
use super::words::parsed;
use crate::buffer_pool::BufferPool;
use crate::clock::{nanos, now_ns};
use crate::config::{Mode, Settings};
use crate::lanes::{Bounds, Duty, Identity, LaneKey, Lanes};
use crate::live::{RequestSizes, SessionLimits};
use crate::readthrough::Readers;
use crate::slow_log::SlowLog;
use crate::stats::LaneStats;

/// Between two looks at what commands there are.
const LEARNING_PAUSE: Duration = Duration::from_secs(1);
/// The same where the proxy's user may not ask.
const DENIED_PAUSE: Duration = Duration::from_secs(600);

/// The settings of sessions, in the types that they want.
#[derive(Clone, Debug)]
pub(crate) struct SessionSettings {
    /// How large requests may be at first, and what else is limited.
    pub(crate) sizes: RequestSizes,
    pub(crate) limits: SessionLimits,
    /// Whether reads are answered from the cache.
    pub(crate) cache: bool,
    /// What hits promise, as the operator calls it.
    pub(crate) coherence: &'static str,
    /// Who clients are before they log in, and the user's name for CLIENT LIST.
    pub(crate) login: Identity,
    /// Whether they are the proxy's user, which needs no proof.
    pub(crate) as_proxy: bool,
    pub(crate) user: Bytes,
    /// What clients are told of clusters.
    pub(crate) emulated: Option<EmulatedNode>,
    /// Where commands are kept that take long.
    pub(crate) slow_log: Arc<SlowLog>,
}

impl SessionSettings {
    pub(crate) fn new(settings: &Settings, slow_log: Arc<SlowLog>) -> Self {
        let redis = &settings.redis;
        let user = redis.login.username.as_ref().filter(|_| settings.resp_as_proxy).cloned();
        let password = redis.login.password.as_ref().filter(|_| settings.resp_as_proxy);
        let login = password.map_or_else(Identity::nobody, |secret| {
            Identity::new(user.clone().map(Bytes::from), Bytes::copy_from_slice(secret.expose().as_bytes()))
        });
        SessionSettings {
            sizes: RequestSizes::of(settings),
            limits: SessionLimits::of(settings),
            cache: settings.resp_coherence.is_some(),
            coherence: settings.resp_coherence.map_or("off", Mode::name),
            login,
            as_proxy: settings.resp_as_proxy,
            user: user.map_or(Bytes::from_static(b"default"), Bytes::from),
            emulated: settings
                .resp_emulates_cluster
                .then(|| EmulatedNode::new(settings.resp_announce.clone())),
            slow_log,
        }
    }
}

/// The limits of this moment, where all look who go by them.
pub(crate) struct CurrentLimits {
    now: Cell<SessionLimits>,
    /// What a client may leave unread, as mailboxes have it.
    pub(super) unread_bytes: Rc<Cell<usize>>,
    lanes: Rc<Lanes>,
}

impl CurrentLimits {
    fn new(limits: SessionLimits, lanes: Rc<Lanes>) -> CurrentLimits {
        CurrentLimits { now: Cell::new(limits), unread_bytes: Rc::new(Cell::new(limits.unread_bytes)), lanes }
    }

    /// From now on these are in force, for open clients too.
    pub(crate) fn set(&self, limits: SessionLimits) {
        self.now.set(limits);
        self.unread_bytes.set(limits.unread_bytes);
        self.lanes.set_limits(limits.lanes);
    }

    #[inline]
    pub(super) fn get(&self) -> SessionLimits {
        self.now.get()
    }
}

/// What all sessions of one worker share. Lives on that worker's thread.
pub(crate) struct Sessions {
    pub(super) lanes: Rc<Lanes>,
    /// Whether there is a cluster behind them.
    pub(super) in_cluster: bool,
    /// What clients are told that they are at.
    pub(super) disguise: Disguise,
    pub(super) bounds: Bounds,
    /// Who clients are before they log in.
    pub(super) identity: Identity,
    pub(crate) settings: SessionSettings,
    /// How large requests may be, of this moment.
    pub(crate) sizes: Cell<RequestSizes>,
    /// What else is limited.
    pub(crate) limits: CurrentLimits,
    pub(crate) registry: Arc<Registry>,
    pub(crate) buffers: Rc<BufferPool>,
    pub(crate) stats: Arc<LaneStats>,
    pub(super) recall: Recall,
    pub(super) commands: RefCell<Commands>,
    /// See [`gets_are_reads`](super::plan::gets_are_reads).
    pub(super) gets_are_reads: Cell<bool>,
    /// Whether Redis has said what commands it has.
    pub(super) is_live: Cell<bool>,
    pub(super) rights: Rights,
    pub(super) effects: Rc<Effects>,
    /// The ways to what is cached.
    pub(crate) readers: Readers,
    /// Room for the words of a question, and for the keys of a write.
    pub(super) words: RefCell<BytesMut>,
    pub(super) keys: RefCell<Vec<Key>>,
    /// For keys that a connection waits for.
    pub(super) hasher: RandomState,
}

impl Sessions {
    pub(crate) fn new(
        lanes: Rc<Lanes>,
        bounds: Bounds,
        settings: SessionSettings,
        registry: Arc<Registry>,
        buffers: Rc<BufferPool>,
        stats: Arc<LaneStats>,
        readers: Readers,
    ) -> Rc<Self> {
        let effects = Effects::new(readers.own().clone(), lanes.clone(), registry.rights_changed.clone());
        let identity = settings.login.clone();
        let gets_are_reads = Cell::new(gets_are_reads(&Commands::built_in(), false));
        let (commands, is_live) = (RefCell::new(Commands::built_in()), Cell::new(false));
        let in_cluster = lanes.are_of_cluster();
        let limits = CurrentLimits::new(settings.limits, lanes.clone());
        let sessions = Rc::new(Sessions {
            lanes,
            in_cluster,
            disguise: Disguise::of(in_cluster, settings.emulated.is_some()),
            bounds,
            identity,
            rights: Rights::new(registry.clone()),
            effects,
            sizes: Cell::new(settings.sizes),
            limits,
            settings,
            registry,
            buffers,
            stats,
            recall: Recall::default(),
            commands,
            gets_are_reads,
            is_live,
            readers,
            words: RefCell::default(),
            keys: RefCell::default(),
            hasher: RandomState::new(),
        });
        if in_cluster {
            let known = Rc::downgrade(&sessions);
            let slot_of = move |request: &[u8]| known.upgrade()?.slot_of(request).map(Slot::number);
            sessions.lanes.tell_slots(slot_of);
        }
        sessions
    }

    /// The key of a connection to the node that has `slot`, or home.
    pub(super) fn key_at(&self, slot: Option<Slot>, home: &LaneKey) -> LaneKey {
        slot.map_or_else(|| home.clone(), |slot| home.at(self.lanes.owner(slot.number())))
    }

    /// The slot of the keys of a whole request; none if it has none, or where there is no cluster.
    pub(super) fn slot_of(&self, request: &[u8]) -> Option<Slot> {
        if !self.in_cluster {
            return None;
        }
        self.slot_of_part(parsed(request).arguments(request))
    }

    /// The same of a request of which only the first arguments may be here.
    pub(super) fn slot_of_part(&self, arguments: Arguments<'_>) -> Option<Slot> {
        if !self.in_cluster {
            return None;
        }
        let commands = self.commands.borrow();
        match commands.find(arguments)?.slots(arguments, &mut self.keys.borrow_mut()) {
            Slots::One(slot) => Some(slot),
            Slots::NoKeys | Slots::Several => None,
        }
    }

    /// Keeps the table of commands that of the Redis at hand. Never ends.
    pub(crate) async fn learn(&self) {
        loop {
            let Some(reply) = self.lanes.commands().await else {
                continue;
            };
            let mut commands = self.commands.borrow().clone();
            if commands.merge(&reply).is_ok() {
                self.gets_are_reads.set(gets_are_reads(&commands, true));
                self.commands.replace(commands);
                self.is_live.set(true);
            }
            // Redis keeps a log of what a user may not.
            let is_denied = matches!(&reply, Frame::Error(text) if text.starts_with(b"NOPERM"));
            sleep(if is_denied { DENIED_PAUSE } else { LEARNING_PAUSE }).await;
        }
    }

    /// Gives back what is cached for those who have gone. Never ends.
    pub(crate) async fn tend_readers(&self) {
        let mut called_ns = 0;
        loop {
            self.readers.beat().await;
            let idle = self.limits.get().lanes.idle;
            let now_ns = now_ns();
            self.readers.let_go(now_ns, nanos(idle));
            // Each wakes all who have a way, so they are few.
            if self.readers.links_follow_reads() && now_ns.saturating_sub(called_ns) >= nanos(idle) / 4 {
                called_ns = now_ns;
                self.recall.call();
            }
        }
    }

    /// Whether so much is cached that [`look_ahead`](Self::look_ahead) is worth its cost.
    #[inline]
    pub(crate) fn is_worth_looking_ahead(&self) -> bool {
        self.readers.own().is_worth_looking_ahead()
    }

    /// Commands about these keys are about to be taken up, by one of the sessions.
    pub(crate) fn look_ahead<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) {
        self.readers.own().look_ahead(keys);
    }

    /// What is to be done before the answer to a command is delivered.
    pub(super) fn duty(&self, call: &Call<'_>) -> Option<Duty> {
        duty(call.command, call.arguments, &mut self.keys.borrow_mut())
    }

    /// The same of a whole request by itself.
    pub(super) fn duty_of(&self, arguments: Arguments<'_>) -> Option<Duty> {
        duty(self.commands.borrow().find(arguments), arguments, &mut self.keys.borrow_mut())
    }

    /// The same of a request of which only the first arguments are here.
    pub(super) fn duty_of_part(&self, arguments: Arguments<'_>) -> Option<Duty> {
        duty_of_part(&self.commands.borrow(), arguments, &mut self.keys.borrow_mut())
    }

    /// Whether bytes that go through a tunnel may change anything.
    pub(super) fn may_change(&self, bytes: &[u8]) -> bool {
        may_change(&self.commands.borrow(), self.sizes.get().limits(), bytes)
    }

    /// Whether Redis lets clients wait, as far as it was asked to through this proxy.
    #[inline]
    pub(super) fn is_paused(self: &Rc<Self>) -> bool {
        match self.registry.pauses.now() {
            Paused::No => false,
            Paused::Yes => true,
            Paused::Ask => {
                self.ask_whether_paused();
                true
            }
        }
    }

    #[cold]
    fn ask_whether_paused(self: &Rc<Self>) {
        let (sessions, number) = (self.clone(), self.registry.pauses.number());
        spawn_local(async move {
            if !sessions.lanes.would_wait().await {
                sessions.registry.pauses.denied(number);
            }
        });
    }
}
