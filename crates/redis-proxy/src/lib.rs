//! redis-proxy: a read-through LRU cache in front of Redis, over HTTP and for Redis clients.
//!
//! [`run`] joins the parts: the listener accepts clients and gives them to workers, a worker's fronts turn bytes into
//! reads, which readthrough answers from the cache or from Redis, and into other commands, which lanes pass on; the admin
//! port watches.

mod admin;
mod budget;
mod buffer_pool;
mod clock;
pub mod config;
mod error;
mod failure;
mod files;
pub mod front;
mod health;
mod lanes;
mod listener;
mod logging;
mod maintenance;
mod places;
mod readthrough;
mod reload;
mod session;
mod shutdown;
mod stats;
mod store;
mod timer;
mod unacked;
mod vanished;
mod vital;
pub mod with_redis;
mod worker;

use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use cache::Limits;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};
use upstream::Backend;

use crate::admin::Watched;
use crate::budget::Budget;
use crate::clock::{Notice, nanos};
use crate::config::{Coherence, Mode, Settings};
pub use crate::error::{Ended, Error};
use crate::front::http::HttpSettings;
use crate::front::resp::{Registry, RespSettings};
use crate::front::{Refusals, Speaks};
pub use crate::health::check_health;
use crate::lanes::{Anonymous, Bounds};
use crate::listener::{Door, accept, bind};
pub use crate::logging::last_word;
use crate::maintenance::maintain;
use crate::places::Places;
use crate::readthrough::{ClientReads, Delivery, Link, LinkSettings, LinkThread, PartitionTable};
pub use crate::reload::Reread;
use crate::reload::attend;
use crate::shutdown::{Draining, Signals, signals};
use crate::store::Store;
use crate::vanished::{Patience, Present};
use crate::vital::Alive;
use crate::worker::{Plan, Way, Worker, clients};

/// Redis' default of `tracking-table-max-keys`.
const TRACKED_KEYS: usize = 1_000_000;

/// Serves with `settings` until a signal ends it; at SIGHUP reads them once more by `reread`.
///
/// # Errors
/// [`Error`] when the program cannot start: an address in use, no thread, no redis-server to start.
pub fn run(settings: Settings, reread: Reread) -> Result<Ended, Error> {
    logging::start(&settings.log, settings.log_format)
        .map_err(|error| Error::setting("LOG", &settings.log, &error.to_string()))?;
    // A panic of this thread has been told by then, as that of any other.
    let ended = catch_unwind(AssertUnwindSafe(|| start(settings, reread))).unwrap_or(Ok(Ended::Broken));
    logging::finish();
    ended
}

fn start(mut settings: Settings, reread: Reread) -> Result<Ended, Error> {
    mutate()?;
    let as_read = settings.named.clone();
    for name in &settings.injected {
        info!(
            name,
            "a variable that Kubernetes sets for a service of that name, and no port of ours: ignored"
        );
    }
    let files = files::raise_limit();
    let needed = files::needed(&settings);
    if files < needed {
        return Err(Error::Files { limit: files, needed });
    }
    let mut links = 0;
    if settings.resp_port.is_some() {
        (settings.max_pinned, settings.max_lanes) =
            files::fit_links(files, settings.max_pinned, settings.max_lanes);
        links = settings.max_pinned + settings.max_lanes + settings.workers * lanes::KEPT_PINS;
    }
    let (most_readers, of_readers) = files::readers(files, &settings);
    links += of_readers;
    (settings.max_clients, settings.max_waiting) =
        files::fit(files.saturating_sub(links), settings.workers, settings.max_clients, settings.max_waiting);
    // Lives as long as this function: dropping it ends the redis-server.
    let own_redis =
        if settings.with_redis { Some(with_redis::start().map_err(Error::OwnRedis)?) } else { None };
    if let Some(own) = &own_redis {
        settings.redis.address = own.address().clone();
    }
    let listen = |names, host, port| listen(names, host, port, settings.client_keepalive);
    let data = listen("HOST and PORT", &settings.host, settings.port)?;
    let admin = listen("ADMIN_HOST and ADMIN_PORT", &settings.admin_host, settings.admin_port)?;
    let resp = listen("RESP_HOST and RESP_PORT", &settings.resp_host, settings.resp_port)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::System)?;
    let (signals, notices) = {
        let _runtime = runtime.enter();
        signals().map_err(Error::System)?
    };
    runtime.spawn(vital::task("signals", attend(notices, as_read, reread)));
    let ended =
        runtime.block_on(serve(&settings, most_readers, Listeners { http: data, resp, admin }, signals));
    // A reload that waits for a file would hold us.
    runtime.shutdown_background();
    ended
}

/// Switches on the fault that REDIS_PROXY_MUTANT names, in builds for tests.
fn mutate() -> Result<(), Error> {
    let Some(name) = std::env::var_os("REDIS_PROXY_MUTANT") else { return Ok(()) };
    let name = name.to_string_lossy();
    if !mutant::switch_on(&name) {
        return Err(Error::setting("REDIS_PROXY_MUTANT", &name, "no such fault, or not a build for tests"));
    }
    warn!(%name, "a fault is switched on");
    Ok(())
}

fn listen(
    names: &'static str,
    host: &str,
    port: Option<u16>,
    keepalive: Duration,
) -> Result<Option<TcpListener>, Error> {
    let Some(port) = port else {
        return Ok(None);
    };
    bind(host, port, keepalive).map(Some).map_err(|cause| Error::Bind {
        names,
        address: format!("{host}:{port}"),
        cause,
    })
}

/// The ports that are on.
struct Listeners {
    http: Option<TcpListener>,
    resp: Option<TcpListener>,
    admin: Option<TcpListener>,
}

async fn serve(
    settings: &Settings,
    most_readers: usize,
    listeners: Listeners,
    mut signals: Signals,
) -> Result<Ended, Error> {
    let alive = Alive::new("main");
    let store = Store::new(Limits {
        capacity: settings.capacity,
        capacity_bytes: settings.capacity_bytes,
        expiry: settings.global_expiry,
        max_value_bytes: settings.max_value_bytes,
        shards: None,
    });
    let budget = settings.capacity_bytes.map(|bytes| Budget::new(store.clone(), bytes));
    let delivery = Arc::default();
    let redis = Backend::new(settings.redis.clone(), settings.max_inflight);
    let reads = client_reads(settings, most_readers, &delivery);
    let registry = Arc::new(Registry::default());
    let clients_of = registry.clone();
    let throw_out = Arc::new(move |user: &str| clients_of.throw_out(user));
    let partitions = PartitionTable::new(
        store.clone(),
        budget.clone(),
        settings.redis.clone(),
        redis.clone(),
        reads,
        throw_out,
    );
    let notice = Arc::<Notice>::default();
    let places = Places::new(settings.max_clients, notice.clone());
    let plan = Plan {
        partitions: partitions.clone(),
        http: HttpSettings::new(settings, notice),
        resp: RespSettings::new(settings),
        endpoint: settings.redis.clone(),
        registry,
        bounds: Bounds::new(settings.max_pinned, settings.max_lanes, settings.resp_unread_bytes),
        anonymous: Arc::new(Anonymous::new(settings.anonymous_proof)),
        present: Present::new(Patience {
            http: settings.client_unacked_timeout.max(settings.write_timeout),
            resp: settings.client_unacked_timeout,
        }),
    };
    let started = start_links(settings, &store, budget.as_ref(), &redis, &delivery)?;
    let (links, link_threads): (Vec<_>, Vec<_>) = started.into_iter().unzip();
    let links: Arc<[Arc<Link>]> = links.into();
    let way = match settings.coherence.mode {
        Mode::Ttl => Way::Own(redis),
        mode => Way::Linked { links: links.clone(), strict: mode == Mode::Strict },
    };
    let started = (0..settings.workers)
        .map(|number| Worker::start(number, &store, budget.as_ref(), &way, &plan))
        .collect::<Result<Vec<_>, _>>()
        .map_err(Error::System)?;
    let (workers, threads): (Vec<_>, Vec<_>) = started.into_iter().unzip();
    let workers: Arc<[Worker]> = workers.into();
    let door = Arc::new(Door::new(places, settings.max_waiting, settings.client_wait));
    let draining = Arc::new(Draining::default());

    info!(
        http = bound(listeners.http.as_ref()),
        resp = bound(listeners.resp.as_ref()),
        admin = bound(listeners.admin.as_ref()),
        redis = %settings.redis.address,
        capacity = settings.capacity,
        coherence = settings.coherence.mode.name(),
        resp_coherence = client_mode(settings).map_or("off", Mode::name),
        global_expiry = ?settings.global_expiry,
        workers = settings.workers,
        max_clients = settings.max_clients,
        "listening"
    );
    if let Some(listener) = listeners.admin {
        let (store, workers) = (store.clone(), workers.clone());
        let (door, draining) = (door.clone(), draining.clone());
        let watched = Watched {
            store,
            workers,
            links,
            partitions: partitions.clone(),
            door,
            draining,
            registry: plan.registry.clone(),
            bounds: plan.bounds.clone(),
        };
        admin::start(listener, watched).map_err(Error::System)?;
    }
    tokio::spawn(vital::task("the maintenance of the cache", maintain(store, workers.clone(), budget)));
    let port = |listener: &TcpListener| listener.local_addr().ok().map(|address| address.port());
    let ports = [&listeners.http, &listeners.resp].into_iter().flatten().filter_map(port).collect();
    tokio::spawn(vital::task("the watch for clients that are gone", plan.present.clone().watch(ports)));
    let tending = partitions.clone().tend(readthrough::period(settings.resp_lane_idle));
    tokio::spawn(vital::task("the partitions", tending));
    let (stop, _) = watch::channel(());
    let refusals = Refusals(Arc::new(plan.http.clone()));
    let ports = [(listeners.http, Speaks::Http), (listeners.resp, Speaks::Resp)];
    let acceptors: Vec<_> = ports
        .into_iter()
        .filter_map(|(listener, speaks)| {
            let mut stopped = stop.subscribe();
            let stopped = async move {
                // An error too is the sender's end.
                let _ = stopped.changed().await;
            };
            let (door, workers, refusals) = (door.clone(), workers.clone(), refusals.clone());
            let accepting = accept(listener?, speaks, door, workers, refusals, stopped);
            Some(tokio::spawn(vital::task("an acceptor", async {
                if let Err(error) = accepting.await {
                    vital::lost("an acceptor", error);
                }
            })))
        })
        .collect();

    let (signal, _) = tokio::select! {
        signal = alive.during(signals.next()) => signal,
        () = vital::death() => return Ok(Ended::Broken),
    };
    info!(signal, delay = ?settings.shutdown_delay, "shutting down");
    draining.start();
    let end = async {
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
        for thread in threads {
            // One that panicked has said so, and ends the program by that.
            let _ = thread.join();
        }
        link_threads.into_iter().for_each(LinkThread::end);
        partitions.end();
        Ended::Drained
    };
    tokio::select! {
        ended = alive.during(end) => Ok(ended),
        () = vital::death() => Ok(Ended::Broken),
        (signal, number) = signals.next() => {
            warn!(signal, "second signal: ending at once");
            Ok(Ended::Signalled(number))
        }
    }
}

/// The tracked links that the HTTP front needs; none in mode `ttl`.
fn start_links(
    settings: &Settings,
    store: &Store,
    budget: Option<&Arc<Budget>>,
    plain: &Arc<Backend>,
    delivery: &Arc<Delivery>,
) -> Result<Vec<(Arc<Link>, LinkThread)>, Error> {
    let modes = [Some(settings.coherence.mode), client_mode(settings)];
    if settings.capacity > TRACKED_KEYS && modes.iter().flatten().any(|mode| mode.is_proven()) {
        warn!(
            capacity = settings.capacity,
            "CAPACITY is above the keys that Redis tracks by default: raise its tracking-table-max-keys as well"
        );
    }
    let Some(link) = link_settings(settings, settings.coherence.mode, delivery) else {
        return Ok(Vec::new());
    };
    let tracked = plain.tracked_beside(settings.redis.clone());
    (0..link.links)
        .map(|number| LinkThread::start(number, store, budget, &tracked, plain, link.clone()))
        .collect::<Result<_, _>>()
        .map_err(Error::System)
}

/// What Redis clients are promised; none if nobody asks or all is passed on.
fn client_mode(settings: &Settings) -> Option<Mode> {
    settings.resp_coherence.filter(|_| settings.resp_port.is_some())
}

fn client_reads(settings: &Settings, most_readers: usize, delivery: &Arc<Delivery>) -> ClientReads {
    let mode = client_mode(settings);
    ClientReads {
        linked: mode.and_then(|mode| link_settings(settings, mode, delivery)),
        most_readers,
        strict: mode == Some(Mode::Strict),
        shared: mode.is_some_and(|mode| mode.is_proven() == settings.coherence.mode.is_proven()),
    }
}

/// What links for this mode are to keep; none in mode `ttl`.
fn link_settings(settings: &Settings, mode: Mode, delivery: &Arc<Delivery>) -> Option<LinkSettings> {
    let Coherence { mode: of_http, max_staleness, links, canary_key, .. } = &settings.coherence;
    let by_age = [Some(*of_http), client_mode(settings)].contains(&Some(Mode::Ttl));
    mode.is_proven().then(|| LinkSettings {
        links: *links,
        mode: mode.name(),
        apart: by_age,
        max_staleness_ns: nanos(*max_staleness),
        canary_key: canary_key.as_ref().map(|key| key.as_bytes().into()),
        delivery: delivery.clone(),
        relies: false,
        large_bytes: settings.max_value_bytes,
        large_life_ns: nanos(settings.global_expiry),
        _part: None,
        thrown_out: Default::default(),
    })
}

/// The address that a port was bound to, for the log.
fn bound(listener: Option<&TcpListener>) -> String {
    match listener.map(TcpListener::local_addr) {
        None => "off".into(),
        Some(Ok(address)) => address.to_string(),
        Some(Err(error)) => error.to_string(),
    }
}
