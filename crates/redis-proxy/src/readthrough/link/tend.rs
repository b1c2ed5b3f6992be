//! What runs for a link: its driver, and the task that tends it: heartbeats, the canary, the report to the operator, and
//! the keys that Redis must not take for idle.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tracing::{Instrument, error_span, info, warn};
use upstream::{Backend, Driver};

use super::canary::{CanaryVerdict, CanaryWriter, WriterSink, try_delivery};
use super::delivery::DeliveryState;
use super::sink::{LinkSink, LinkTicket, News};
use super::threads::LinkThreads;
use super::touch::Touch;
use super::{Link, LinkSettings, Promise, canary};
use crate::budget::Budget;
use crate::clock::now_ns;
use crate::readthrough::PlainTicket;
use crate::readthrough::cluster::Placed;
use crate::store::Store;
use crate::vital;

/// Heartbeats in the time that a hit may be old: the lease is renewed well before a hit would be refused.
pub(crate) const BEATS_A_BOUND: u32 = 4;
/// How often delivery is tried anew.
const CANARY_PERIOD: Duration = Duration::from_secs(60);
/// Not before there is another connection.
const UNTIL_CONNECTED: Duration = Duration::from_secs(365 * 24 * 3600);
/// From one line on a silent link to the next.
const CALM: Duration = Duration::from_secs(5);
const MS: Duration = Duration::from_millis(1);
/// When a try was not finished.
const CANARY_PAUSE: Duration = Duration::from_secs(1);
/// How long a link waits for what another one's canary finds, and from one look to the next.
const CANARY_PATIENCE: Duration = Duration::from_secs(5);
const CANARY_LOOK: Duration = Duration::from_millis(20);

/// What the links of one reader have in common.
pub(crate) struct LinkPlan<'a> {
    store: &'a Store,
    budget: Option<&'a Arc<Budget>>,
    tracked: &'a Arc<Backend>,
    plain: &'a Arc<Backend>,
    settings: LinkSettings,
}

impl<'a> LinkPlan<'a> {
    /// For links to `tracked`, a backend whose connections are tracked; the canary is written by way of `plain`, an ordinary one
    /// of the same server.
    pub(crate) fn new(
        store: &'a Store,
        budget: Option<&'a Arc<Budget>>,
        tracked: &'a Arc<Backend>,
        plain: &'a Arc<Backend>,
        settings: LinkSettings,
    ) -> Self {
        LinkPlan { store, budget, tracked, plain, settings }
    }

    /// Starts link number `number` on the thread of that number.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(crate) fn start(&self, number: usize, threads: &LinkThreads) -> io::Result<(Arc<Link>, RunningLink)> {
        self.start_at(number, None, threads)
    }

    /// The same in a cluster, at its node `placed`.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub(in crate::readthrough) fn start_at(
        &self,
        number: usize,
        placed: Option<Placed>,
        threads: &LinkThreads,
    ) -> io::Result<(Arc<Link>, RunningLink)> {
        let (upstream, driver) = upstream::connect(self.tracked);
        let (writer, writer_driver) = upstream::connect(self.plain);
        let (detour, detour_driver) = upstream::connect(self.plain);
        let (node, settings) = (self.tracked.node().clone(), self.settings.clone());
        let link =
            Link::new(self.store.clone(), self.budget.cloned(), (upstream, detour), node, placed, settings);
        let link = Arc::new(link);
        let watch = link.placed.as_ref().and_then(|placed| placed.watch.clone());
        let (writer, writer_driver) = match watch {
            Some(watch) => (CanaryWriter::Watch(watch), None),
            None => (CanaryWriter::Own(writer), Some(writer_driver)),
        };
        let ways = Ways { driver, writer, writer_driver, detour_driver };
        let (stop, stopped) = oneshot::channel();
        let runs = Arc::new(());
        let running = RunningLink { _stop: stop, runs: Arc::downgrade(&runs) };
        let life = {
            let link = link.clone();
            move || drop(spawn_local(vital::task("a link", live(number, link, ways, stopped, runs))))
        };
        threads.run(number, Box::new(life))?;
        Ok((link, running))
    }
}

/// A link that runs. Dropped, it ends, which may take a moment.
pub(crate) struct RunningLink {
    _stop: oneshot::Sender<()>,
    runs: Weak<()>,
}

/// What is left of one that was ended.
pub(crate) struct EndingLink(Weak<()>);

impl RunningLink {
    /// Ends it.
    pub(crate) fn stop(self) -> EndingLink {
        EndingLink(self.runs)
    }
}

impl EndingLink {
    /// Whether nothing of it can bring an answer any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.strong_count() == 0
    }
}

/// The connections of a link, to be driven.
struct Ways {
    driver: Driver<LinkTicket>,
    writer: CanaryWriter,
    /// Of one that is the link's own.
    writer_driver: Option<Driver<oneshot::Sender<resp::Frame>>>,
    detour_driver: Driver<PlainTicket>,
}

async fn live(number: usize, link: Arc<Link>, ways: Ways, stopped: oneshot::Receiver<()>, _runs: Arc<()>) {
    let Ways { driver, writer, writer_driver, detour_driver } = ways;
    let span = error_span!("link", number);
    let (news, told) = mpsc::unbounded_channel();
    let mut parts = JoinSet::new();
    let driving = driver.run(span.clone(), LinkSink::new(link.clone(), news));
    parts.spawn_local(vital::task("a link's connection to redis", driving));
    if let (Some(writer_driver), true) = (writer_driver, link.settings.canary_key.is_some()) {
        let writing = writer_driver.run(error_span!("canary", number), WriterSink);
        parts.spawn_local(vital::task("a canary's connection to redis", writing));
    }
    parts.spawn_local(vital::task(
        "a link's way for large replies",
        detour(number, link.clone(), detour_driver),
    ));
    parts.spawn_local(vital::task("the heartbeat of a link", beat(link.clone())));
    parts.spawn_local(vital::task("the touches of a link", Touch::default().run(link.clone())));
    tokio::select! {
        _ = stopped => {}
        () = tend(&link, &writer, told).instrument(span) => {}
    }
    // None of them has a turn any more.
    parts.abort_all();
    // Nobody will be told of changes to what it has brought: another link may take its place at once.
    link.lease.revoke();
    parts.shutdown().await;
}

/// NodeDrivers the connection past the link once somebody wants it.
async fn detour(number: usize, link: Arc<Link>, driver: Driver<PlainTicket>) {
    link.detour_wanted.notified().await;
    driver.run(error_span!("detour", number), link.detour_sink()).await;
}

/// Heartbeats, one at a time: they renew the lease of an idle link and tell the server's role.
async fn beat(link: Arc<Link>) {
    let bound = Duration::from_nanos(link.settings.max_staleness_ns);
    let mut ticks = interval((bound / BEATS_A_BOUND).max(MS));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        link.send_beat();
    }
}

/// Follows the connections: tries delivery, and tells the operator what is in force.
async fn tend(link: &Link, writer: &CanaryWriter, mut told: mpsc::UnboundedReceiver<News>) {
    let mut report = Reporter::default();
    let mut try_at = Instant::now() + CANARY_PERIOD;
    // A link that fell silent tells nothing; it is seen by looking.
    let watch = (Duration::from_nanos(link.settings.max_staleness_ns) / BEATS_A_BOUND).max(MS);
    let mut changes = 0;
    loop {
        tokio::select! {
            // The news first: a try on a connection that is gone is worth nothing.
            biased;
            news = told.recv() => match news {
                None => return,
                Some(News::Connected) => try_at = Instant::now(),
                Some(News::Lost | News::CanaryPushed { .. }) => {}
            },
            () = sleep_until(try_at) => {
                try_at = Instant::now() + try_out(link, writer, &mut told, &mut report).await;
            }
            () = sleep(watch) => {}
        }
        if link.settings.relies
            && std::mem::replace(&mut changes, link.settings.delivery.changes()) != changes
        {
            try_at = Instant::now();
        }
        report.tell(link);
    }
}

/// Tries delivery, if there is a connection that it may be expected of, and draws the conclusion. When to try again.
pub(super) async fn try_out(
    link: &Link,
    writer: &CanaryWriter,
    told: &mut mpsc::UnboundedReceiver<News>,
    report: &mut Reporter,
) -> Duration {
    let delivery = &link.settings.delivery;
    let Some(incarnation) = link.standing.tracked() else {
        // Those who go by this link need not wait for what it cannot find out.
        if link.standing.is_refused() && link.settings.canary_key.is_some() {
            delivery.tell(DeliveryState::Trusted);
        }
        return CANARY_PERIOD;
    };
    if link.settings.relies {
        return go_by(link, incarnation, report);
    }
    if link.settings.canary_key.is_none() {
        trust(link, incarnation);
        return CANARY_PERIOD;
    }
    // In a cluster it is of a slot that the node is known to have.
    let Some(key) = canary::key(link) else { return CANARY_PAUSE };
    // One that was made with the link before this one may lead to a primary of old.
    if report.tried.replace(incarnation).is_some_and(|before| before != incarnation) {
        writer.renew();
    }
    // What comes of it concerns this connection, and no other that has come meanwhile.
    match try_delivery(link, writer, &key, told).await {
        CanaryVerdict::Delivered { proof_ns } => {
            delivery.tell(DeliveryState::Trusted);
            if link.standing.found(incarnation, Promise::InForce) {
                link.lease.renew(proof_ns);
            }
        }
        CanaryVerdict::NotWritten(why) if why.starts_with("READONLY") => {
            fails(link, incarnation, "the server takes no writes (READONLY): it is not a primary");
        }
        CanaryVerdict::NotWritten(why) => {
            report.canary_refused(&why);
            // Nothing is known, so what was found out before stands.
            trust(link, incarnation);
            if delivery.found() == DeliveryState::Nothing {
                delivery.tell(DeliveryState::Trusted);
            }
            // Redis keeps a log of what a user may not: asked once a connection.
            if why.starts_with("NOPERM") {
                return UNTIL_CONNECTED;
            }
        }
        CanaryVerdict::NoDeadline(why) => {
            link.standing.found(incarnation, Promise::Distrusted(why));
            delivery.tell(DeliveryState::Trusted);
            return UNTIL_CONNECTED;
        }
        CanaryVerdict::NotDelivered => {
            fails(link, incarnation, "the server accepts tracking and delivers no invalidations");
        }
        CanaryVerdict::Unfinished => return CANARY_PAUSE,
    }
    CANARY_PERIOD
}

/// A server was found not to deliver: nobody goes on relying on it.
fn fails(link: &Link, incarnation: u64, why: &str) {
    link.settings.delivery.tell(DeliveryState::Fails(why.into()));
    link.distrust(incarnation, why.into());
}

/// Draws the conclusion from what another link has found. When to look again.
fn go_by(link: &Link, incarnation: u64, report: &mut Reporter) -> Duration {
    match link.settings.delivery.found() {
        DeliveryState::Fails(why) => {
            link.distrust(incarnation, why.clone());
            report.distrusted_for = Some(why);
        }
        DeliveryState::Trusted => {
            // What else is held against this connection stands.
            let why = report.distrusted_for.take();
            if why.is_some_and(|why| link.standing.promise() == Promise::Distrusted(why)) {
                link.standing.found(incarnation, Promise::Trying);
            }
            trust(link, incarnation);
        }
        // The proxy's own user may not get as far as to try.
        DeliveryState::Nothing
            if report.waits_since.get_or_insert_with(Instant::now).elapsed() < CANARY_PATIENCE =>
        {
            return CANARY_LOOK;
        }
        DeliveryState::Nothing => {
            report.canary_refused("the proxy's own user has no connection to try it on");
            trust(link, incarnation);
        }
    }
    CANARY_PERIOD
}

/// A connection of which nothing bad is known is trusted untried.
fn trust(link: &Link, incarnation: u64) {
    if link.standing.promise() == Promise::Trying && link.standing.found(incarnation, Promise::InForce) {
        link.send_beat();
    }
}

/// Tells the operator once what has changed.
#[derive(Default)]
pub(super) struct Reporter {
    told: Option<Result<(), String>>,
    /// Whether it was told of silence, and when silence or its end last was.
    silent: bool,
    silence_at: Option<Instant>,
    canary_refused: bool,
    /// The connection that delivery was last tried for.
    tried: Option<u64>,
    /// When a link that goes by another's canary began to wait for it.
    waits_since: Option<Instant>,
    /// What that one has found, if it was bad.
    distrusted_for: Option<String>,
}

impl Reporter {
    fn tell(&mut self, link: &Link) {
        if link.standing.promise().is_open() {
            return;
        }
        let now = link.holds(now_ns());
        let up = link.is_in_force();
        let silent = up && now.is_err();
        // A link that nothing has renewed yet has just begun; one that is silent tells how long, which changes.
        let known = self.told.as_ref() == Some(&now) || (silent && !matches!(self.told, Some(Ok(()))));
        // Silence may come and go many times a second: the metrics follow it, the log does not.
        let of_silence = silent || (up && self.silent);
        if known || (of_silence && self.silence_at.is_some_and(|at| at.elapsed() < CALM)) {
            return;
        }
        if of_silence {
            self.silence_at = Some(Instant::now());
        }
        self.silent = silent;
        let mode = link.mode();
        match &now {
            Ok(()) => info!(mode, "coherence is in force"),
            // Nobody helps it by another server: it comes back by itself, or the reason says with what.
            Err(reason) if !link.is_refused() || link.node.is_disputed() => {
                warn!(
                    mode,
                    reason,
                    "coherence is not in force: reads are fetched, or passed through for Redis clients"
                )
            }
            Err(reason) => warn!(
                mode,
                reason,
                "coherence is not in force: reads are fetched, or passed through for Redis clients. It needs a Redis \
                 (6.2.11, 7.0.9, 7.2 or later) or Valkey that is a primary and whose ACL allows CLIENT TRACKING and PTTL; \
                 COHERENCE=ttl and RESP_COHERENCE=ttl ask for none of that"
            ),
        }
        self.told = Some(now);
    }

    fn canary_refused(&mut self, why: &str) {
        if !std::mem::replace(&mut self.canary_refused, true) {
            warn!(
                reason = why,
                "the canary cannot be written, so delivery is trusted untried: allow MULTI, EXEC, and GET, SET and DEL on \
                 CANARY_KEY, or set it to off"
            );
        }
    }
}
