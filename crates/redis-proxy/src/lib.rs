//! redis-proxy: a read-through LRU cache in front of Redis, over HTTP and for Redis clients.
//!
//! [`run`] starts what a process has once: the log, its signals, a Redis of its own. `serve` joins the parts: the listener
//! accepts clients and gives them to workers, a worker's fronts turn bytes into reads, which readthrough answers from the
//! cache or from Redis, and into other commands, which lanes pass on; the admin port watches.

mod access;
mod activation;
mod admin;
mod budget;
mod buffer_pool;
mod clock;
mod coherence;
pub mod config;
mod error;
mod failure;
mod file_limit;
mod file_watch;
pub mod front;
mod health;
mod lanes;
mod listener;
mod live;
mod logging;
mod maintenance;
mod nodes;
mod oldest_ends;
mod peers;
mod places;
mod ports;
mod rare_line;
mod readthrough;
mod reload;
mod serve;
mod session;
mod shutdown;
mod slow_log;
mod socket;
mod stats;
mod store;
mod supervisor;
mod timer;
mod tls;
mod unacked;
mod unix_socket;
mod vanished;
mod vital;
pub mod with_redis;
mod worker;

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::runtime::Builder;
use tracing::{info, warn};
use upstream::RedisNode;

pub use crate::activation::ActivatedSockets;
use crate::config::{Settings, end_password_command};
pub use crate::error::{Ended, Error};
pub use crate::health::check_health;
use crate::live::{Live, LiveSettings};
pub use crate::logging::last_word;
use crate::ports::Ports;
use crate::reload::Reload;
pub use crate::reload::Reread;
use crate::serve::serve;
use crate::shutdown::signals;
use crate::socket::Listening;
use crate::supervisor::Supervisor;
use crate::tls::PortName;

/// Serves with `settings`, on `sockets` where there are some, until a signal ends it; at SIGHUP reads them once more by `reread`.
///
/// # Errors
/// [`Error`] when the program cannot start: an address in use, no thread, no redis-server to start.
pub fn run(settings: Settings, sockets: ActivatedSockets, reread: Reread) -> Result<Ended, Error> {
    logging::start(&settings.log, settings.log_format)
        .map_err(|error| Error::setting("LOG", &settings.log, &error.to_string()))?;
    // A panic of this thread has been told by then, as that of any other.
    let ended =
        catch_unwind(AssertUnwindSafe(|| start(settings, sockets.0, reread))).unwrap_or(Ok(Ended::Broken));
    logging::finish();
    ended
}

fn start(
    mut settings: Settings,
    sockets: Vec<(PortName, Listening)>,
    reread: Reread,
) -> Result<Ended, Error> {
    mutate()?;
    let as_read = settings.named.clone();
    let activated: Vec<_> = sockets.iter().map(|(port, socket)| (*port, socket.address())).collect();
    settings.listen_at(activated.clone()).map_err(|error| Error::Setting(error.to_string()))?;
    for name in &settings.injected {
        info!(
            name,
            "a variable that Kubernetes sets for a service of that name, and no port of ours: ignored"
        );
    }
    let allowed = file_limit::fit(&mut settings)?;
    // Lives as long as this function: dropping it ends the redis-server.
    let own_redis =
        if settings.with_redis { Some(with_redis::start().map_err(Error::OwnRedis)?) } else { None };
    if let Some(own) = &own_redis {
        settings.redis.node = RedisNode::at(own.address().clone());
    }
    let mut ports = Ports::open(&settings, sockets)?;
    // Removed when this function ends, however that may be.
    let _socket_files = std::mem::take(&mut ports.files);
    let runtime = Builder::new_current_thread().enable_all().build().map_err(Error::System)?;
    let (signals, others) = {
        let _runtime = runtime.enter();
        signals().map_err(Error::System)?
    };
    let supervisor = Supervisor::of(|name| std::env::var(name).ok());
    let live = Live::new(LiveSettings::of(&settings));
    runtime.spawn(vital::task("the log's filter", logging::follow(live.reader())));
    let reload = Reload::new(as_read, reread, live, allowed.room, settings.credentials(), activated);
    let ended =
        runtime.block_on(serve(&settings, reload, allowed.readers, ports, (signals, others), supervisor));
    end_password_command();
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
