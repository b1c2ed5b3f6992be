//! A node: where a Redis is at this moment, and what is held against it. Both may change while the program runs.
//!
//! Whoever has a connection to a node has it to one *generation* of it. When the node moves, all of them end ([`Tenure`]), and what
//! they proved before is void ([`RedisNode::void_ns`]).

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use sync::Mutex;
use sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::{Notify, watch};

use crate::endpoint::Address;

/// A node, as all share it who connect to it: a clone is the same one.
#[derive(Clone)]
pub struct RedisNode(Arc<Shared>);

struct Shared {
    // Read at each attempt to connect, and by those who report.
    now: Mutex<Now>,
    /// The generation, for those who only compare it.
    generation: AtomicU64,
    /// Whether another node may be the primary in its place.
    disputed: AtomicBool,
    void_ns: AtomicU64,
    /// The generation once more, for those who wait.
    moves: watch::Sender<u64>,
    /// Shared by the nodes of a cluster.
    doubt: Arc<Notify>,
}

struct Now {
    address: Result<Address, Arc<str>>,
    dispute: Option<Arc<str>>,
}

/// Where a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Its address, or why none is known.
    pub address: Result<Address, Arc<str>>,
    /// Which place of the node this is; they are numbered from 1.
    pub generation: u64,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Ok(address) => address.fmt(f),
            Err(why) => f.write_str(why),
        }
    }
}

impl RedisNode {
    /// A node at `address`.
    pub fn at(address: Address) -> RedisNode {
        RedisNode::new(Ok(address), Arc::default())
    }

    /// A node of which is to be found out where it is; until then nobody gets a connection, for the reason `why`.
    pub fn unknown(why: &str) -> RedisNode {
        RedisNode::new(Err(why.into()), Arc::default())
    }

    /// Another node, at `address`: who doubts it doubts this one too.
    pub fn beside(&self, address: Address) -> RedisNode {
        RedisNode::new(Ok(address), self.0.doubt.clone())
    }

    fn new(address: Result<Address, Arc<str>>, doubt: Arc<Notify>) -> RedisNode {
        RedisNode(Arc::new(Shared {
            now: Mutex::new(Now { address, dispute: None }),
            generation: AtomicU64::new(1),
            disputed: AtomicBool::new(false),
            void_ns: AtomicU64::new(0),
            moves: watch::Sender::new(1),
            doubt,
        }))
    }

    /// Where it is now.
    pub fn place(&self) -> Location {
        let now = self.0.now.lock();
        Location { address: now.address.clone(), generation: self.generation() }
    }

    /// The generation of now. Costs one load.
    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    /// It is at `address` from now on, which may be the one it had: every connection of before ends. `clock` is that of
    /// [`void_ns`](Self::void_ns). To be called by one task alone.
    pub fn move_to(&self, address: Address, clock: impl FnOnce() -> u64) {
        {
            let mut now = self.0.now.lock();
            now.address = Ok(address);
            // A connection that looks at the generation after this is one of before, and proves nothing.
            self.0.generation.fetch_add(1, Ordering::SeqCst);
        }
        self.void(clock);
        self.0.moves.send_replace(self.generation());
    }

    /// Why it is not known where it is; nothing changes where it is known.
    pub fn explain(&self, why: String) {
        let mut now = self.0.now.lock();
        if now.address.is_err() {
            now.address = Err(why.into());
        }
    }

    /// A connection to it was lost: it may be elsewhere.
    pub fn doubt(&self) {
        self.0.doubt.notify_one();
    }

    /// Returns once there is reason to look where it is. For one task alone.
    pub async fn doubted(&self) {
        self.0.doubt.notified().await;
    }

    /// Another node may be the primary in its place, for the reason `why`: nothing is proven until the dispute has ended.
    pub fn dispute(&self, why: Arc<str>, clock: impl FnOnce() -> u64) {
        self.0.now.lock().dispute = Some(why);
        self.0.disputed.store(true, Ordering::SeqCst);
        self.void(clock);
    }

    /// No other is.
    pub fn settle(&self, clock: impl FnOnce() -> u64) {
        self.void(clock);
        self.0.now.lock().dispute = None;
        self.0.disputed.store(false, Ordering::SeqCst);
    }

    /// The clock is read after whoever renews a proof can see that it may not: what was renewed before was sent before.
    fn void(&self, clock: impl FnOnce() -> u64) {
        self.0.void_ns.fetch_max(clock(), Ordering::SeqCst);
    }

    /// Why another node may be the primary in its place, if so.
    pub fn disputed(&self) -> Option<Arc<str>> {
        self.0.now.lock().dispute.clone()
    }

    /// Whether another node may be the primary in its place. Costs one load.
    pub fn is_disputed(&self) -> bool {
        self.0.disputed.load(Ordering::Acquire)
    }

    /// Nothing that was said before this instant proves anything: it was of another generation, or disputed. Costs one load.
    pub fn void_ns(&self) -> u64 {
        self.0.void_ns.load(Ordering::Acquire)
    }

    /// Whether a connection of `generation` may prove anything by what it brings at this moment.
    pub fn is_trusted(&self, generation: u64) -> bool {
        self.generation() == generation && !self.is_disputed()
    }

    /// Returns once the node is none of `generation` any more.
    pub fn left(&self, generation: u64) -> impl Future<Output = ()> + Send + 'static {
        let mut moves = self.0.moves.subscribe();
        async move {
            // An error is the end of the last handle: nobody moves it any more.
            if moves.wait_for(|now| *now != generation).await.is_err() {
                std::future::pending().await
            }
        }
    }
}

impl fmt::Debug for RedisNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place().fmt(f)
    }
}

/// The time that a connection's node stays where the connection leads.
pub struct Tenure {
    node: RedisNode,
    generation: u64,
    left: Pin<Box<dyn Future<Output = ()> + Send>>,
    told: Option<Waker>,
}

impl Tenure {
    /// For a connection that was opened to the `generation` of `node`.
    pub fn new(node: &RedisNode, generation: u64) -> Tenure {
        Tenure { node: node.clone(), generation, left: Box::pin(node.left(generation)), told: None }
    }

    /// Whether the node has moved. Costs one load.
    pub fn is_over(&self) -> bool {
        self.node.generation() != self.generation
    }

    /// Ready once it has, for one that is polled by one task alone. While it has not, two loads.
    pub fn poll_over_by_its_task(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_over() || self.told.is_none() {
            return self.poll_over(cx);
        }
        Poll::Pending
    }

    /// Ready once it has. While it has not, one load and a comparison of wakers.
    pub fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_over() {
            return Poll::Ready(());
        }
        if self.told.as_ref().is_some_and(|told| told.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        self.told = Some(cx.waker().clone());
        ready!(self.left.as_mut().poll(cx));
        Poll::Ready(())
    }
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use super::*;

    fn address(port: u16) -> Address {
        Address::Tcp { host: "h".into(), port }
    }

    #[test]
    fn a_move_ends_what_was_and_voids_what_it_proved() {
        let node = RedisNode::unknown("nobody has said");
        assert_eq!(node.place().to_string(), "nobody has said");
        let was = node.generation();
        assert!(node.is_trusted(was));
        node.move_to(address(1), || 7);
        assert!(!node.is_trusted(was) && node.is_trusted(node.generation()));
        assert_eq!((node.place().to_string(), node.void_ns()), ("h:1".into(), 7));
        // The same address is another place all the same.
        let was = node.generation();
        node.move_to(address(1), || 9);
        assert!(node.generation() != was && node.void_ns() == 9);
    }

    #[test]
    fn while_it_is_disputed_nothing_is_proven_and_afterwards_what_is_said_from_then_on() {
        let node = RedisNode::at(address(1));
        let generation = node.generation();
        node.dispute("another".into(), || 5);
        assert_eq!((node.is_trusted(generation), node.void_ns()), (false, 5));
        assert_eq!(node.disputed().as_deref(), Some("another"));
        node.settle(|| 8);
        assert_eq!((node.is_trusted(generation), node.void_ns(), node.disputed()), (true, 8, None));
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_by_a_move() {
        let node = RedisNode::at(address(1));
        let mut stay = Tenure::new(&node, node.generation());
        assert!(!stay.is_over());
        let waiting = tokio::spawn(std::future::poll_fn(move |cx| stay.poll_over(cx)));
        let left = node.left(node.generation());
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        node.move_to(address(2), || 0);
        waiting.await.unwrap();
        left.await;
        assert!(Tenure::new(&node, 1).is_over());
    }
}
