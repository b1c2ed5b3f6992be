//! The program between its settings and its end: built, opened, run until a signal, ended.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use cache::Limits;
use insight::AllSamples;
use tokio::sync::watch;
use tokio::task;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};
use upstream::{Backend, RedisNode};

use crate::admin::{self, Watched};
use crate::budget::Budget;
use crate::clock::{Notice, nanos, now_ns};
use crate::coherence::{check_capacity, client_mode, client_reads, http_links, is_any_proven, witness_beat};
use crate::config::{Mode, Settings};
use crate::error::{Ended, Error};
use crate::front::http::HttpSettings;
use crate::front::{HandshakeSettings, Refusals, Speaks};
use crate::lanes::{Anonymous, Bounds};
use crate::listener::{Door, accept};
use crate::live::{LiveReader, LiveSettings};
use crate::maintenance::maintain;
use crate::nodes::Nodes;
use crate::oldest_ends::OldestEnds;
use crate::places::Places;
use crate::ports::{Ports, address_of, is_on_loopback};
use crate::readthrough::{
    ClusterLinks, Delivery, HttpReads, LinkPlan, LinkThreads, Links, PartitionTable, RunningLink, SlotWatches,
};
use crate::reload::{LimitHolders, Reload, most_handshakes};
use crate::session::{Registry, SessionSettings};
use crate::shutdown::{Draining, OtherSignals, Signals};
use crate::slow_log::SlowLog;
use crate::store::Store;
use crate::supervisor::Supervisor;
use crate::vital::{self, Alive};
use crate::worker::{FrontParts, Worker, clients};

/// Serves on `ports` until a signal ends it or a part of the program dies, `reload` what changes meanwhile; caches for `most_readers` users and databases.
///
/// # Errors
/// The system has no thread to give.
pub(crate) async fn serve(
    settings: &Settings,
    reload: Reload,
    most_readers: usize,
    ports: Ports,
    (mut signals, others): (Signals, OtherSignals),
    supervisor: Supervisor,
) -> Result<Ended, Error> {
    let alive = Alive::new("main");
    let status = status(&ports);
    let built = build(settings, reload.live(), most_readers, &ports);
    let mut live = reload.live();
    let attending = reload.attend(others, built.limited(), supervisor.clone());
    tokio::spawn(vital::task("signals", attending));
    let program = open(built, settings, ports)?;
    if let Some(keeping) = supervisor.keep_alive() {
        tokio::spawn(vital::task("the word to the supervisor", keeping));
    }
    // Beside its life: nobody who is slow to hear of it is waited for.
    let ready = async { supervisor.ready(&status).await };
    let ended = async { run(&alive, &mut signals).await };
    match tokio::join!(ready, ended).1 {
        Some(signal) => {
            let live = live.now().clone();
            supervisor.stopping(live.shutdown_delay + live.shutdown_timeout).await;
            Ok(end(program, &live, signal, &alive, signals).await)
        }
        None => Ok(Ended::Broken),
    }
}

/// What the program consists of, before anything of it runs.
struct Built {
    store: Store,
    budget: Option<Arc<Budget>>,
    redis: Arc<Backend>,
    delivery: Arc<Delivery>,
    link_threads: Arc<LinkThreads>,
    watches: Option<Arc<SlotWatches>>,
    door: Arc<Door>,
    places: Arc<Places>,
    parts: FrontParts,
}

impl Built {
    /// What a reload limits where it is.
    fn limited(&self) -> LimitHolders {
        LimitHolders {
            store: self.store.clone(),
            places: self.places.clone(),
            handshakes: self.parts.handshakes.all.clone(),
            registry: self.parts.registry.clone(),
            redis: self.redis.clone(),
            bounds: self.parts.bounds.clone(),
            anonymous: self.parts.anonymous.clone(),
            slow_log: self.parts.slow_log.clone(),
        }
    }
}

/// Up to so many workers a small cache has one lock, and its order of use is the order of that.
const FEW_WORKERS: usize = 4;

/// The shards of the cache; none if its capacity decides.
fn shards_for(workers: usize) -> Option<usize> {
    (workers > FEW_WORKERS).then_some(4 * workers)
}

fn build(settings: &Settings, live: LiveReader, most_readers: usize, ports: &Ports) -> Built {
    let store = Store::new(Limits {
        capacity: settings.capacity,
        capacity_bytes: settings.capacity_bytes,
        expiry: settings.global_expiry,
        max_value_bytes: settings.max_value_bytes,
        shards: shards_for(settings.workers),
    });
    let budget = settings.capacity_bytes.map(|bytes| Budget::new(store.clone(), bytes));
    let redis = Backend::new(settings.redis.clone(), settings.max_inflight);
    let delivery = Arc::default();
    let link_threads = Arc::<LinkThreads>::default();
    let watches =
        settings.redis.cluster.as_ref().map(|_| {
            SlotWatches::new(&settings.redis, &redis, &link_threads, settings.coherence.max_staleness)
        });
    let samples = AllSamples::new(now_ns());
    let registry = Arc::new(Registry::default());
    registry.rights_life_ns.store(nanos(settings.global_expiry), Ordering::Relaxed);
    let clients = registry.clone();
    let partitions = PartitionTable::new(
        store.clone(),
        budget.clone(),
        settings.redis.clone(),
        redis.clone(),
        client_reads(settings, most_readers, &delivery, &samples),
        link_threads.clone(),
        watches.clone(),
        Arc::new(move |user: &str, closed_ns| clients.throw_out(user, closed_ns)),
    );
    let notice = Arc::<Notice>::default();
    let places = Places::new(settings.max_clients, notice.clone());
    let slow_log = Arc::new(SlowLog::new(settings.slowlog_threshold));
    let parts = FrontParts {
        live,
        partitions,
        http: HttpSettings::new(
            notice,
            slow_log.clone(),
            is_on_loopback(ports.http.as_ref()),
            settings.coherence.mode.is_proven(),
        ),
        session: SessionSettings::new(settings, slow_log.clone()),
        slow_log,
        handshakes: HandshakeSettings {
            a_turn: settings.tls_handshakes,
            all: OldestEnds::new(most_handshakes(settings.max_clients)),
        },
        endpoint: settings.redis.clone(),
        registry,
        bounds: Bounds::new(settings.max_pinned, settings.max_lanes, settings.resp_unread_bytes),
        anonymous: Arc::new(Anonymous::new(settings.anonymous_proof, settings.redis.node.clone())),
        present: Arc::default(),
    };
    let door = Arc::new(Door::new(places.clone()));
    Built { store, budget, redis, delivery, link_threads, watches, door, places, parts }
}

/// The program while it serves.
struct Open {
    workers: Arc<[Worker]>,
    worker_threads: Vec<JoinHandle<()>>,
    /// Of the HTTP front.
    links: Vec<RunningLink>,
    link_threads: Arc<LinkThreads>,
    door: Arc<Door>,
    draining: Arc<Draining>,
    /// Dropped, it ends the acceptors.
    stop: watch::Sender<()>,
    acceptors: Vec<task::JoinHandle<()>>,
}

/// Starts every thread and task, and lets clients in last.
fn open(built: Built, settings: &Settings, ports: Ports) -> Result<Open, Error> {
    let (links, running_links) = start_links(&built, settings)?;
    built.parts.partitions.beside(links.clone());
    let (workers, worker_threads): (Vec<_>, _) = start_workers(&built, settings, &links)?.into_iter().unzip();
    let workers: Arc<[_]> = workers.into();
    let Built { store, budget, door, parts, link_threads, .. } = built;
    let nodes = Nodes::start(settings, witness_beat(settings)).map_err(Error::System)?;
    if is_any_proven(settings) {
        let watching = nodes.clone().watch_tracking_table(settings.redis.clone());
        tokio::spawn(vital::task("the watch of redis' tracking table", watching));
    }
    let draining = Arc::new(Draining::default());
    tell(settings, &ports);
    let data_ports = ports.data_numbers();
    if let Some(listener) = ports.admin {
        let watched = Watched {
            store: store.clone(),
            workers: workers.clone(),
            links,
            partitions: parts.partitions.clone(),
            nodes,
            door: door.clone(),
            draining: draining.clone(),
            registry: parts.registry.clone(),
            slow_log: parts.slow_log.clone(),
            bounds: parts.bounds.clone(),
            live: parts.live.clone(),
        };
        admin::start(listener, watched).map_err(Error::System)?;
    }
    let maintaining = maintain(store, workers.clone(), budget, parts.live.clone());
    tokio::spawn(vital::task("the maintenance of the cache", maintaining));
    let watching = parts.present.clone().watch(data_ports, parts.live.clone());
    tokio::spawn(vital::task("the watch for clients that are gone", watching));
    let tending = parts.partitions.clone().tend(parts.live.clone());
    tokio::spawn(vital::task("the partitions", tending));

    let elsewhere = forget_rights(settings.redis.node.clone(), parts.registry.clone());
    tokio::spawn(vital::task("the rights of users where redis has moved", elsewhere));

    let (stop, stopped) = watch::channel(());
    let refusals = Refusals { http: Arc::new(parts.http), live: parts.live };
    let acceptors = [(ports.http, Speaks::Http), (ports.resp, Speaks::Resp)].into_iter().filter_map(
        |(listener, speaks)| {
            let (door, workers, refusals) = (door.clone(), workers.clone(), refusals.clone());
            let accepting = accept(listener?, speaks, door, workers, refusals, until(stopped.clone()));
            Some(tokio::spawn(vital::task("an acceptor", async {
                if let Err(error) = accepting.await {
                    vital::lost("an acceptor", error);
                }
            })))
        },
    );
    let acceptors = acceptors.collect();
    let links = running_links;
    Ok(Open { workers, worker_threads, links, link_threads, door, draining, stop, acceptors })
}

/// What users may do was said by the Redis of before, each time that it is elsewhere. Never ends.
async fn forget_rights(node: RedisNode, registry: Arc<Registry>) {
    let mut generation = node.generation();
    loop {
        node.left(generation).await;
        generation = node.generation();
        registry.rights_changed.fetch_add(1, Ordering::Relaxed);
    }
}

/// The tracked links that the HTTP front needs; none in mode `ttl`.
fn start_links(built: &Built, settings: &Settings) -> Result<(Links, Vec<RunningLink>), Error> {
    check_capacity(settings);
    let Some(link) = http_links(settings, &built.delivery, built.parts.partitions.samples()) else {
        return Ok((Links::none(), Vec::new()));
    };
    let (store, budget, plain) = (&built.store, built.budget.as_ref(), &built.redis);
    if let Some(watches) = &built.watches {
        let links = ClusterLinks::new(store, budget, plain, settings.redis.clone(), link, watches, None);
        return Ok((Links::OfCluster(links.map_err(Error::System)?), Vec::new()));
    }
    let tracked = plain.tracked_beside(settings.redis.clone());
    let links = link.links;
    let plan = LinkPlan::new(store, budget, &tracked, plain, link);
    let started = (0..links).map(|number| plan.start(number, &built.link_threads));
    let started = started.collect::<Result<Vec<_>, _>>().map_err(Error::System)?;
    let (links, running): (Vec<_>, Vec<_>) = started.into_iter().unzip();
    Ok((Links::OfOne(links.into()), running))
}

fn start_workers(
    built: &Built,
    settings: &Settings,
    links: &Links,
) -> Result<Vec<(Worker, JoinHandle<()>)>, Error> {
    let reads = match settings.coherence.mode {
        Mode::Ttl if settings.redis.cluster.is_some() => {
            HttpReads::OwnNodes(built.redis.clone(), Box::new(settings.redis.clone()))
        }
        Mode::Ttl => HttpReads::Own(built.redis.clone()),
        mode => HttpReads::Linked { links: links.clone(), strict: mode == Mode::Strict },
    };
    (0..settings.workers)
        .map(|number| Worker::start(number, &built.store, built.budget.as_ref(), &reads, &built.parts))
        .collect::<Result<_, _>>()
        .map_err(Error::System)
}

fn tell(settings: &Settings, ports: &Ports) {
    info!(
        http = address_of(ports.http.as_ref()),
        resp = address_of(ports.resp.as_ref()),
        admin = address_of(ports.admin.as_ref()),
        redis = settings.nodes.place(&settings.redis),
        capacity = settings.capacity,
        coherence = settings.coherence.mode.name(),
        resp_coherence = client_mode(settings).map_or("off", Mode::name),
        global_expiry = ?settings.global_expiry,
        workers = settings.workers,
        max_clients = settings.max_clients,
        "listening"
    );
}

/// The same, for whoever supervises us.
fn status(ports: &Ports) -> String {
    let ports = [("http", &ports.http), ("redis clients", &ports.resp), ("admin", &ports.admin)];
    let texts = ports.map(|(name, port)| format!("{name} {}", address_of(port.as_ref())));
    format!("listening: {}", texts.join(", "))
}

/// Ready once the other half is dropped.
async fn until(mut stopped: watch::Receiver<()>) {
    // An error is the sender's end.
    let _ = stopped.changed().await;
}

/// Serves until a signal asks for the end; none where a part of the program has died.
async fn run(alive: &Alive, signals: &mut Signals) -> Option<&'static str> {
    tokio::select! {
        (signal, _) = alive.during(signals.next()) => Some(signal),
        () = vital::death() => None,
    }
}

/// Lets all clients go, as long as that may take; at once after a second signal.
async fn end(
    program: Open,
    settings: &LiveSettings,
    signal: &str,
    alive: &Alive,
    mut signals: Signals,
) -> Ended {
    info!(signal, delay = ?settings.shutdown_delay, "shutting down");
    program.draining.start();
    tokio::select! {
        () = alive.during(drain(program, settings)) => Ended::Drained,
        () = vital::death() => Ended::Broken,
        (signal, number) = signals.next() => {
            warn!(signal, "second signal: ending at once");
            Ended::Signalled(number)
        }
    }
}

async fn drain(program: Open, settings: &LiveSettings) {
    let Open { workers, worker_threads, links, link_threads, door, stop, acceptors, .. } = program;
    sleep(settings.shutdown_delay).await;
    drop(stop);
    let all_left = async {
        for acceptor in acceptors {
            // It ends by itself once told.
            let _ = acceptor.await;
        }
        workers.iter().for_each(Worker::drain);
        door.all_left().await;
    };
    if timeout(settings.shutdown_timeout, all_left).await.is_ok() {
        info!("all clients answered");
    } else {
        warn!(clients = clients(&workers), "clients left unanswered after SHUTDOWN_TIMEOUT");
    }
    // Before a Redis of our own ends, so that nobody misses it.
    workers.iter().for_each(Worker::end);
    for thread in worker_threads {
        // One that panicked has said so, and ends the program by that.
        let _ = thread.join();
    }
    drop(links);
    link_threads.end();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_four_workers_have_four_shards_each() {
        assert_eq!([1, 2, 4, 5, 16].map(shards_for), [None, None, None, Some(20), Some(64)]);
    }
}
