//! What a history is made on: a Redis, faults before it, the program, and the primary that writers write to.

use std::env;
use std::thread;
use std::time::{Duration, Instant};

use testkit::history::{Contract, History, ReadRecord};
use testkit::{
    FaultProxy, HttpClient, Primary, Proxy, ProxyBuilder, Random, RedisServer, RedisServerBuilder, Reply,
    Workload,
};
use testkit::{now_ns, seed, wait_until};

use crate::fault::{Fault, make_replica};
use crate::outcome::Outcome;

const PATIENCE: Duration = Duration::from_secs(10);
/// The bound in `tracking`: small, so that little time shows what is beyond it.
pub(crate) const MAX_STALENESS: Duration = Duration::from_millis(200);
/// The bound in `ttl`.
pub(crate) const GLOBAL_EXPIRY: Duration = Duration::from_millis(250);

/// The modes of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Ttl,
    Tracking,
    Strict,
}

/// What Redis clients are promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clients {
    In(Mode),
    /// Their reads go to Redis.
    Off,
}

impl Clients {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Clients::In(mode) => mode.name(),
            Clients::Off => "off",
        }
    }

    /// The mode whose promise it is to keep.
    fn kept(self) -> Mode {
        match self {
            Clients::In(mode) => mode,
            Clients::Off => Mode::Strict,
        }
    }
}

/// What a stand is made for.
#[derive(Clone)]
pub(crate) struct Setup {
    /// Over HTTP.
    pub(crate) mode: Mode,
    /// Of Redis clients, if it is another one.
    pub(crate) clients: Option<Clients>,
    pub(crate) fault: Fault,
    /// Redis deletes what has expired only when it is asked for, and says so no sooner.
    pub(crate) lazy_expiry: bool,
    /// Further settings.
    pub(crate) settings: Vec<(&'static str, String)>,
    /// The server to start.
    pub(crate) redis: RedisServerBuilder,
}

/// Everything that a history needs, running.
pub(crate) struct Stand {
    pub(crate) mode: Mode,
    pub(crate) clients: Option<Clients>,
    pub(crate) fault: Fault,
    pub(crate) redis: RedisServer,
    pub(crate) second: Option<Replica>,
    pub(crate) link: FaultProxy,
    pub(crate) proxy: Proxy,
    pub(crate) primary: Primary,
}

/// Takes over at a demotion.
pub(crate) struct Replica {
    pub(crate) redis: RedisServer,
    /// What is written to the one reaches the other through this.
    pub(crate) replication: FaultProxy,
}

/// How long a run takes at least.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Enough {
    pub(crate) time: Duration,
    pub(crate) injections: usize,
    pub(crate) reads: usize,
}

impl Enough {
    /// Seconds in `make test`, minutes in `make soak`: there, all runs together read more than 5,000,000 times.
    pub(crate) fn for_a_fault() -> Enough {
        match is_soak() {
            true => Enough { time: Duration::from_secs(110), injections: 100, reads: 80_000 },
            false => Enough { time: Duration::from_millis(1500), injections: 3, reads: 1_000 },
        }
    }
}

impl Mode {
    /// What this mode promises to readers.
    pub(crate) fn promise(self) -> Contract {
        let (bound, is_coherent) = match self {
            Mode::Ttl => (GLOBAL_EXPIRY, false),
            Mode::Tracking => (MAX_STALENESS, true),
            Mode::Strict => (Duration::ZERO, true),
        };
        // In `ttl`, a read that asks for the newest value is a new fetch.
        let strict = Some(Duration::ZERO);
        Contract { bound, strict, monotonic: is_coherent, deadlines: is_coherent, may_vanish: false }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Ttl => "ttl",
            Mode::Tracking => "tracking",
            Mode::Strict => "strict",
        }
    }

    /// What the length of faults is measured by.
    pub(crate) fn scale(self) -> Duration {
        match self {
            Mode::Ttl => GLOBAL_EXPIRY,
            Mode::Tracking | Mode::Strict => MAX_STALENESS,
        }
    }

    /// The settings of this mode.
    fn set(self, program: ProxyBuilder, clients: Option<Clients>) -> ProxyBuilder {
        let millis = |span: Duration| format!("{}ms", span.as_millis());
        let clients = clients.unwrap_or(Clients::In(self));
        let modes = [self, clients.kept()];
        let mut program = program
            .set("COHERENCE", self.name())
            .set("RESP_COHERENCE", clients.name())
            .set("HONOR_NO_CACHE", "on");
        if modes.contains(&Mode::Ttl) {
            program = program.set("GLOBAL_EXPIRY", millis(GLOBAL_EXPIRY));
        }
        if modes != [Mode::Ttl; 2] {
            program = program.set("MAX_STALENESS", millis(MAX_STALENESS));
        }
        program
    }
}

impl Setup {
    pub(crate) fn new(mode: Mode, fault: Fault) -> Setup {
        Setup {
            mode,
            clients: None,
            fault,
            lazy_expiry: false,
            settings: Vec::new(),
            redis: RedisServer::builder(),
        }
    }

    /// Starts it; Redis has no key.
    pub(crate) fn start(self) -> Stand {
        let Setup { mode, clients, fault, lazy_expiry, settings, redis } = self;
        // A replica that asks for everything gets it at once.
        let redis = redis.config("repl-diskless-sync-delay", "0");
        // Not every server knows it.
        let redis = if lazy_expiry { redis.config("enable-debug-command", "yes") } else { redis };
        // A ping between a look at the offsets and the demotion would cost the old primary its data (a full resync).
        let redis = redis.config("repl-ping-replica-period", "3600").config("repl-timeout", "7200");
        let redis = match fault {
            Fault::KillRedis => redis.config("appendonly", "yes").config("appendfsync", "always"),
            _ => redis,
        };
        let second = (fault == Fault::Demote).then(|| redis.clone().start());
        let redis = redis.start();
        let second = second.map(|second| {
            let replication = FaultProxy::start(redis.address());
            make_replica(&second, replication.address());
            Replica { redis: second, replication }
        });
        if lazy_expiry {
            let reply = redis.client().command(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]);
            assert_eq!(reply, Reply::Simple("OK".to_owned()), "the reply to DEBUG SET-ACTIVE-EXPIRE");
        }
        let link = FaultProxy::start(redis.address());
        let program = Proxy::builder(env!("CARGO_BIN_EXE_redis-proxy"));
        let program = program.redis_at(link.address()).set("WORKERS", "2").set("RESP_PORT", "0");
        let program = mode.set(program, clients);
        let program = settings.iter().fold(program, |program, (name, value)| program.set(name, value));
        // Faults are told, each in its own words.
        let proxy = program.allow_warning("redis").allow_warning("coherence").allow_warning("lane").start();
        wait_until(PATIENCE, "readiness", || {
            let ready = HttpClient::connect(proxy.admin_address()).get("/readyz");
            ready.status == 200 && !ready.text().contains("not in force")
        });
        let primary = Primary::new(&redis);
        Stand { mode, clients, fault, redis, second, link, proxy, primary }
    }
}

impl Stand {
    /// The workload, with the fault injected again and again until it is enough. Once in the life of a stand.
    pub(crate) fn run(&self, workload: &Workload, enough: Enough) -> Outcome {
        let mut random = Random::new(!workload.seed);
        let mut injections = Vec::new();
        let mut run = workload.run(&self.primary, &self.proxy, || {
            let begun = Instant::now();
            while begun.elapsed() < enough.time || injections.len() < enough.injections {
                thread::sleep(Duration::from_millis(random.between(30, 250) as u64));
                let begin = now_ns();
                self.fault.inject(self, &mut random);
                injections.push(begin..now_ns());
            }
            // What is stale for good shows now.
            thread::sleep(self.mode.scale() + Duration::from_millis(100));
        });
        let of_clients = self.clients.map_or(self.mode, Clients::kept);
        for read in &mut run.history.reads {
            let mode = if run.clients.contains(&read.connection) { of_clients } else { self.mode };
            read.strict |= mode == Mode::Strict;
        }
        let verdict = match self.clients {
            None => run.history.check(&self.fault.promise(self.mode)),
            Some(_) => {
                let of = |is_client| {
                    let of_front = |read: &&ReadRecord| run.clients.contains(&read.connection) == is_client;
                    let reads = run.history.reads.iter().filter(of_front).copied().collect();
                    History { writes: run.history.writes.clone(), reads }
                };
                let mut verdict = of(false).check(&self.fault.promise(self.mode));
                verdict.violations.extend(of(true).check(&self.fault.promise(of_clients)).violations);
                verdict
            }
        };
        let (mode, clients, fault, seed) = (self.mode, self.clients, self.fault, workload.seed);
        let cached = self.proxy.metrics().value("redis_proxy_resp_commands_total{lane=\"cached\"}");
        Outcome { mode, clients, fault, run, verdict, injections, cached, seed, enough }
    }
}

/// A workload on both fronts with a seed of its own, or that of `SEED`.
pub(crate) fn workload() -> Workload {
    Workload::on_both_fronts(seed())
}

/// Whether to run for minutes.
pub(crate) fn is_soak() -> bool {
    env::var_os("SOAK").is_some_and(|soak| soak != "0")
}
