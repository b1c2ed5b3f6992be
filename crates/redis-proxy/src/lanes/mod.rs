//! Lanes: the connections to Redis on which commands of RESP clients pass through, as bytes.
//!
//! ```text
//!   client -> mailbox <- shared lane (quick, slow) <-> Redis     one for all clients of a worker with equal key
//!   client <-> pin <-> Redis                                     one for one client, as long as it has state there
//! ```
//!
//! A key is who the client is, its database and its protocol ([`LaneKey`]): two clients of one key cannot tell whose
//! connection they use. Everything here lives on one worker's thread; only the bounds are the process'.

mod anonymous;
mod apart;
mod bounds;
mod detours;
mod duties;
mod early;
mod elsewhere;
mod journal;
mod key;
mod keys;
mod link;
mod login;
mod mailbox;
mod merge;
mod numbers;
mod pin;
mod request;
mod shared;
mod spreads;
mod turns;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use resp::Frame;
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::Instant;
use upstream::{
    Credentials, Endpoint, Expected, Greeting, NodeNumber, OpenError, RawConnection, open_as_ourselves,
    open_raw,
};

pub(crate) use anonymous::{Admission, Anonymous, KeptOut};
pub(crate) use apart::{AskedApart, ask_apart};
pub(crate) use bounds::{Bounds, InputRoom};
use detours::Detours;
pub(crate) use detours::runs_script;
#[cfg(test)]
pub(crate) use duties::tests::Noted;
pub(crate) use duties::{Answer, Discharge, Duty};
pub(crate) use elsewhere::{Elsewhere, may_be_elsewhere};
pub(crate) use key::{Destination, Identity, LaneKey, Pace};
pub(crate) use keys::Keys;
pub(crate) use mailbox::{LARGE_REPLY, Mailbox, MailboxState};
pub(crate) use merge::{Fold, Merge};
pub(crate) use pin::{KEPT_PINS, NoPin, PinStream, Pinning};
pub(crate) use request::Request;
pub(crate) use shared::{LaneHandle, NoLane};
use shared::{SharedLane, limits_changed};

use crate::buffer_pool::BufferPool;
use crate::live::LaneLimits;
use crate::stats::LaneStats;
use crate::vital;

/// A command that Redis lets wait while it lets clients wait, and that nobody hears: nobody listens there.
pub(crate) const UNHEARD: &[&[u8]] = &[b"PUBLISH", b"__redis_proxy_wait__", b""];

/// A server that sent a command to another node is not tried again for this long: it may be another one by then.
const MOVED_MEMORY: Duration = Duration::from_secs(60);

/// What Redis says of itself on a new connection.
#[derive(Clone)]
pub(crate) struct HelloReply {
    /// The pairs of its answer to HELLO; an error's text if it gave none.
    pub(crate) hello: Result<Vec<(Frame, Frame)>, Bytes>,
}

impl HelloReply {
    fn new(hello: Result<Vec<(Frame, Frame)>, Bytes>) -> Self {
        HelloReply { hello }
    }

    /// The value of a field of HELLO's answer.
    pub(crate) fn field(&self, name: &[u8]) -> Option<&Frame> {
        let pairs = self.hello.as_ref().ok()?;
        pairs.iter().find(|(key, _)| matches!(key, Frame::Bulk(key) if key == name)).map(|(_, value)| value)
    }
}

/// The lanes of one worker.
pub(crate) struct Lanes {
    endpoint: Endpoint,
    /// Whether clients that have not logged in are the proxy's user.
    as_proxy: bool,
    /// Of this moment; each lane has them too.
    limits: Rc<Cell<LaneLimits>>,
    shared: RefCell<HashMap<(LaneKey, Pace), Rc<SharedLane>>>,
    spare_pins: pin::SparePins,
    /// Of those who ask for a pin.
    turns: Rc<turns::Turns>,
    bounds: Bounds,
    buffers: Rc<BufferPool>,
    stats: Arc<LaneStats>,
    anonymous: Arc<Anonymous>,
    opened: Notify,
    /// When and why what is there was found to be none that can be served from, where only its answers tell, and of which
    /// generation of the node that is said.
    moved: Cell<Option<(Instant, &'static str, u64)>>,
    /// Held by the lane that seeks a permit among those of others.
    seeking: tokio::sync::Mutex<()>,
    /// What is sent on between the nodes of a cluster.
    detours: Detours,
}

impl Lanes {
    /// No connection is made before somebody wants one.
    pub(crate) fn new(
        endpoint: Endpoint,
        as_proxy: bool,
        limits: LaneLimits,
        bounds: Bounds,
        anonymous: Arc<Anonymous>,
        buffers: Rc<BufferPool>,
        stats: Arc<LaneStats>,
    ) -> Rc<Self> {
        Rc::new(Lanes {
            endpoint,
            spare_pins: pin::SparePins::default(),
            turns: Rc::default(),
            as_proxy,
            limits: Rc::new(Cell::new(limits)),
            shared: RefCell::default(),
            buffers,
            stats,
            anonymous,
            opened: Notify::new(),
            moved: Cell::new(None),
            detours: Detours::new(&bounds),
            seeking: tokio::sync::Mutex::default(),
            bounds,
        })
    }

    /// From now on these are the limits of all lanes, for what is waited for too.
    pub(crate) fn set_limits(&self, limits: LaneLimits) {
        if self.limits.replace(limits) == limits {
            return;
        }
        self.shared.borrow().values().for_each(|lane| limits_changed(lane));
    }

    /// The shared lane of `key`, for a client's commands or, without one, for a look at what Redis says.
    pub(crate) fn shared(
        self: &Rc<Self>,
        key: &LaneKey,
        pace: Pace,
        client: Option<&Rc<Mailbox>>,
    ) -> LaneHandle {
        if let Some(lane) = self.shared.borrow().get(&(key.clone(), pace)) {
            return LaneHandle::new(lane.clone(), client);
        }
        let endpoint = self.endpoint.at(key.to.node());
        let known = self.bounds.known_lanes.take();
        let lane = SharedLane::new(key.clone(), pace, endpoint, self.limits.clone(), known);
        let held = LaneHandle::new(lane.clone(), client);
        self.shared.borrow_mut().insert((key.clone(), pace), lane.clone());
        let driving = link::drive(lane, self.clone());
        spawn_local(vital::task("a shared lane", driving));
        held
    }

    /// Whether there is a cluster behind them.
    pub(crate) fn are_of_cluster(&self) -> bool {
        self.endpoint.cluster.is_some()
    }

    /// The node that has a slot, as far as is known; home where there is no cluster.
    pub(crate) fn owner(&self, slot: u16) -> Destination {
        let cluster = self.endpoint.cluster.as_ref();
        cluster.map_or(Destination::home(), |cluster| Destination::of(cluster.owner(slot)))
    }

    /// The primaries of a cluster, first the one that is home, each with the address that we reach it by; none where there is no cluster.
    /// Looks at all slots.
    pub(crate) fn primaries(&self) -> Vec<(Destination, String)> {
        let Some(cluster) = &self.endpoint.cluster else { return Vec::new() };
        let place = |node: NodeNumber| cluster.node(node).place().to_string();
        let primaries = cluster.primaries().into_iter();
        let mut primaries: Vec<_> = primaries.map(|(node, _)| (Destination::of(node), place(node))).collect();
        let home = place(NodeNumber::HOME);
        primaries.sort_by_key(|(_, address)| *address != home);
        primaries
    }

    /// A slot that a node of a cluster has, looked for from this one on.
    pub(crate) fn slot_at(&self, node: Destination, from: u16) -> Option<u16> {
        (from..upstream::SLOTS).chain(0..from).find(|slot| self.owner(*slot) == node)
    }

    /// Gives a way to tell the slot of a request's keys, `None` if it has none: what is sent on goes to the owner of then.
    pub(crate) fn tell_slots(&self, slot_of: impl Fn(&[u8]) -> Option<u16> + 'static) {
        self.detours.tell_slots(Box::new(slot_of));
    }

    /// A connection to `endpoint`, home or another node, for a lane or a pin.
    async fn open(&self, endpoint: &Endpoint, greeting: &Greeting) -> Result<RawConnection, OpenError> {
        match self.moved.get() {
            Some((at, why, generation))
                if at.elapsed() < MOVED_MEMORY && generation == self.endpoint.node.generation() =>
            {
                Err(OpenError::Unfit(why.into()))
            }
            // Its password may be another one than at the start.
            _ if self.is_ourselves(greeting) => open_as_ourselves(endpoint, greeting, Expected::Redis).await,
            _ => open_raw(endpoint, greeting).await,
        }
    }

    /// Whether it is the proxy's own user that a connection is to be for.
    fn is_ourselves(&self, greeting: &Greeting) -> bool {
        self.as_proxy && greeting.login == Credentials::of(&self.endpoint)
    }

    /// A command was sent to another node.
    fn note_moved(&self, why: &'static str) {
        self.moved.set(Some((Instant::now(), why, self.endpoint.node.generation())));
    }

    /// What Redis says of its commands, each time a lane has been opened: it may be another version then. `None` if it says
    /// nothing.
    pub(crate) async fn commands(&self) -> Option<Frame> {
        self.opened.notified().await;
        upstream::ask_once(&self.endpoint, &[b"COMMAND"]).await.ok()
    }

    /// Whether Redis lets commands wait that may change something: it does not answer one within the connect time-out. What
    /// the proxy's user may not ask is turned down before it would wait (server.c, `processCommand`) and tells nothing.
    pub(crate) async fn would_wait(&self) -> bool {
        tells_nothing(&upstream::ask_once(&self.endpoint, UNHEARD).await)
    }

    /// A permit for a connection of a shared lane: a free one, or that of the lane which has been idle for longest among
    /// those whose clients could have another.
    async fn lane_permit(&self) -> Result<bounds::Permit, NoLane> {
        if let Some(permit) = self.bounds.lanes.take() {
            return Ok(permit);
        }
        // In the order of their coming: looking takes its time, and what is free then is whose turn it is.
        let _turn = self.seeking.lock().await;
        if let Some(permit) = self.bounds.lanes.take() {
            return Ok(permit);
        }
        let mut idle: Vec<_> = {
            let shared = self.shared.borrow();
            shared.values().filter_map(|lane| Some((lane.idle_since_ns()?, lane.clone()))).collect()
        };
        idle.sort_by_key(|(since_ns, _)| *since_ns);
        for (_, lane) in idle {
            let may_close = !lane.is_held() || link::opens_another(self, &lane.key).await?;
            // It may have been used meanwhile, or another may have taken its permit.
            let permit = if may_close && lane.idle_since_ns().is_some() { lane.retire() } else { None };
            if let Some(permit) = permit.or_else(|| self.bounds.lanes.take()) {
                return Ok(permit);
            }
        }
        Err(NoLane::TooMany)
    }

    /// Whether the rights that Redis grants may have changed since the connection of this lane was opened.
    fn is_suspect(&self, lane: &SharedLane) -> bool {
        lane.rights() != self.anonymous.voided()
    }

    /// Drops a lane that nobody holds.
    fn forget(&self, lane: &SharedLane) {
        self.shared.borrow_mut().remove(&(lane.key.clone(), lane.pace));
    }
}

/// Of what Redis says to [`UNHEARD`]: whether a pause may go on.
fn tells_nothing<E>(answer: &Result<Frame, E>) -> bool {
    match answer {
        Ok(Frame::Error(text)) => text.starts_with(b"NOPERM"),
        Ok(_) => false,
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use upstream::ask_once;

    use super::*;
    use crate::config::{Invocation, load};

    #[test]
    fn a_user_who_may_not_ask_does_not_end_a_pause_and_one_who_may_does() {
        let redis = testkit::RedisServer::start();
        let mut admin = redis.client();
        admin.command(&["ACL", "SETUSER", "mute", "on", ">pw", "+@all", "-publish", "~*", "&*"]);
        admin.command(&["ACL", "SETUSER", "loud", "on", ">pw", "+@all", "~*", "&*"]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let waits = |user: &str| {
            let url = format!("redis://{user}:pw@{}", redis.address());
            let loaded =
                load(["redis-proxy".into()], |name| (name == "REDIS_URL").then(|| url.clone().into()));
            let Ok(Invocation::Run(settings)) = loaded else { panic!("no settings") };
            tells_nothing(&runtime.block_on(ask_once(&settings.redis, UNHEARD)))
        };
        assert_eq!((waits("mute"), waits("loud")), (true, false));
        admin.command(&["CLIENT", "PAUSE", "100000", "WRITE"]);
        assert_eq!((waits("mute"), waits("loud")), (true, true));
        admin.command(&["CLIENT", "UNPAUSE"]);
        assert_eq!((waits("mute"), waits("loud")), (true, false));
    }
}
