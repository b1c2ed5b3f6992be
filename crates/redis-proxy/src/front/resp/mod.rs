//! The RESP front: Redis clients, unmodified, on a port of their own. The contract is `docs/resp.md`.
//!
//! [`connection`] is one of them, with all that is due for it. Which way a command goes, the session layer plans
//! ([`plan`](crate::session::plan)): it is answered by [`local`], goes along a shared lane as bytes, or on a connection of
//! the client's own, whose state [`pin`](crate::session::pin) follows.

mod clients;
mod connection;
mod exec;
mod local;
mod rights;
mod visibility;

use std::cell::{Cell, RefCell};
use std::hash::RandomState;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use command::{Commands, Key};
use resp::{Frame, RequestLimits};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

pub(crate) use crate::session::Registry;
pub(crate) use connection::serve;

use self::rights::Rights;
use crate::buffer_pool::BufferPool;
use crate::clock::{nanos, now_ns};
use crate::config::{Mode, ProxyAdmin, Settings};
use crate::front::client::{Drain, PATIENCE, linger};
use crate::lanes::{Bounds, Credentials, Identity, LaneSettings, Lanes, Password};
use crate::readthrough::Readers;
use crate::session::changes::may_change;
use crate::session::pause::Paused;
use crate::session::recall::Recall;
use crate::session::steward::Effects;
use crate::session::{answers, client as session, registry, reply};
use crate::stats::LaneStats;

/// Between two looks at what commands there are.
const LEARNING_PAUSE: Duration = Duration::from_secs(1);
/// The same where the proxy's user may not ask.
const DENIED_PAUSE: Duration = Duration::from_secs(600);

/// Replies are made from memory only while less than this is unsent, whatever OUTPUT_BUFFER_BYTES is.
const UNSENT_MAX: usize = 256 * 1024;

/// The settings of the front, in the types that the loop wants.
#[derive(Clone, Debug)]
pub(crate) struct RespSettings {
    limits: RequestLimits,
    /// A request above this is streamed to Redis on a connection of its own.
    big_request_bytes: usize,
    /// A request that must be whole before it is understood ends its connection above this.
    query_buffer_bytes: usize,
    /// Whether reads are answered from the cache.
    cache: bool,
    /// What hits promise, as the operator calls it.
    coherence: &'static str,
    /// How long a right is believed in that Redis has shown.
    rights_life_ns: u64,
    /// Commands of one client on their way.
    pipeline: usize,
    output_bytes: usize,
    output_limit_bytes: usize,
    idle_timeout_ns: u64,
    write_timeout_ns: u64,
    /// Who clients are before they log in, and the user's name for CLIENT LIST.
    login: Credentials,
    /// Whether they are the proxy's user, which needs no proof.
    as_proxy: bool,
    /// Which clients may empty the cache.
    admin: ProxyAdmin,
    user: Bytes,
    pub(crate) lanes: LaneSettings,
}

impl RespSettings {
    pub(crate) fn new(settings: &Settings) -> Self {
        let redis = &settings.redis;
        let user = redis.username.as_ref().filter(|_| settings.resp_as_proxy).cloned();
        let password = redis.password.as_ref().filter(|_| settings.resp_as_proxy);
        let password = password.map(|secret| Password(Bytes::copy_from_slice(secret.expose().as_bytes())));
        let login = match (user.clone(), password) {
            (Some(user), Some(password)) => Credentials::User(user.into(), password),
            (None, Some(password)) => Credentials::Password(password),
            (_, None) => Credentials::None,
        };
        RespSettings {
            limits: RequestLimits {
                max_arguments: settings.resp_max_arguments,
                max_bulk_bytes: settings.resp_max_bulk_bytes,
            },
            big_request_bytes: settings.resp_big_request_bytes,
            query_buffer_bytes: settings.resp_query_buffer_bytes,
            cache: settings.resp_coherence.is_some(),
            coherence: settings.resp_coherence.map_or("off", Mode::name),
            rights_life_ns: nanos(settings.global_expiry),
            pipeline: settings.resp_pipeline,
            output_bytes: settings.output_buffer_bytes.min(UNSENT_MAX),
            output_limit_bytes: settings.resp_output_limit_bytes,
            idle_timeout_ns: match nanos(settings.resp_idle_timeout) {
                0 => u64::MAX,
                idle => idle,
            },
            write_timeout_ns: nanos(settings.write_timeout),
            login,
            as_proxy: settings.resp_as_proxy,
            admin: settings.resp_proxy_admin,
            user: user.map_or(Bytes::from_static(b"default"), Bytes::from),
            lanes: LaneSettings {
                as_proxy: settings.resp_as_proxy,
                in_flight: settings.resp_lane_inflight,
                journal_bytes: settings.resp_lane_bytes,
                timeout: settings.resp_lane_timeout,
                idle: settings.resp_lane_idle,
            },
        }
    }
}

/// What all RESP connections of one worker share. Lives on that worker's thread.
pub(crate) struct RespFront {
    lanes: Rc<Lanes>,
    bounds: Bounds,
    /// Who clients are before they log in.
    identity: Identity,
    settings: RespSettings,
    registry: Arc<Registry>,
    buffers: Rc<BufferPool>,
    stats: Arc<LaneStats>,
    drain: Drain,
    recall: Recall,
    /// Clients whose end is waited for, without a place.
    farewells: Cell<usize>,
    commands: RefCell<Commands>,
    /// Whether Redis has said what commands it has.
    is_live: Cell<bool>,
    rights: Rights,
    effects: Rc<Effects>,
    /// The ways to what is cached.
    readers: Readers,
    /// Room for the words of a question, and for the keys of a write.
    words: RefCell<BytesMut>,
    keys: RefCell<Vec<Key>>,
    /// For keys that a connection waits for.
    hasher: RandomState,
}

impl RespFront {
    pub(crate) fn new(
        lanes: Rc<Lanes>,
        bounds: Bounds,
        settings: RespSettings,
        registry: Arc<Registry>,
        buffers: Rc<BufferPool>,
        stats: Arc<LaneStats>,
        readers: Readers,
    ) -> Rc<Self> {
        let effects = Effects::new(readers.own().clone(), lanes.clone(), registry.rights_changed.clone());
        let identity = Rc::new(settings.login.clone());
        let (drain, commands) = (Drain::default(), RefCell::new(Commands::built_in()));
        let is_live = Cell::new(false);
        Rc::new(RespFront {
            lanes,
            bounds,
            identity,
            rights: Rights::new(registry.clone(), settings.rights_life_ns),
            effects,
            settings,
            registry,
            buffers,
            stats,
            drain,
            recall: Recall::default(),
            farewells: Cell::new(0),
            commands,
            is_live,
            readers,
            words: RefCell::default(),
            keys: RefCell::default(),
            hasher: RandomState::new(),
        })
    }

    /// Keeps the table of commands that of the Redis at hand. Never ends.
    pub(crate) async fn learn(&self) {
        loop {
            let Some(reply) = self.lanes.commands().await else {
                continue;
            };
            let mut commands = self.commands.borrow().clone();
            if commands.merge(&reply).is_ok() {
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
        let idle = self.settings.lanes.idle;
        let mut called_ns = 0;
        loop {
            self.readers.beat().await;
            let now_ns = now_ns();
            self.readers.let_go(now_ns, nanos(idle));
            // Each wakes all who have a way, so they are few.
            if self.readers.links_follow_reads() && now_ns.saturating_sub(called_ns) >= nanos(idle) / 4 {
                called_ns = now_ns;
                self.recall.call();
            }
        }
    }

    /// Whether bytes that go through a tunnel may change anything.
    fn may_change(&self, bytes: &[u8]) -> bool {
        may_change(&self.commands.borrow(), self.settings.limits, bytes)
    }

    /// Whether Redis lets clients wait, as far as it was asked to through this proxy.
    #[inline]
    pub(super) fn is_paused(self: &Rc<Self>) -> bool {
        match self.registry.pauses.now() {
            Paused::No => false,
            Paused::Yes => true,
            Paused::Ask => {
                let (front, number) = (self.clone(), self.registry.pauses.number());
                spawn_local(async move {
                    if !front.lanes.would_wait().await {
                        front.registry.pauses.denied(number);
                    }
                });
                true
            }
        }
    }

    /// From now on a connection ends once all it was asked is answered.
    pub(crate) fn start_draining(&self) {
        self.drain.start();
    }
}

/// Tells a client above MAX_CLIENTS so and closes, as Redis does: at once, with its words.
pub(crate) async fn refuse(mut stream: TcpStream) {
    let text = b"-ERR max number of clients reached\r\n";
    if matches!(timeout(PATIENCE, stream.write_all(text)).await, Ok(Ok(()))) {
        linger(&mut stream).await;
    }
}
