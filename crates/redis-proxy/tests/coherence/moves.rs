//! A primary that moves, as its sentinels have it: what the program says is proven keeps the bound and one heartbeat more, and what
//! only the old primary knew ends with the move.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use testkit::history::{Contract, History, ReadRecord, Verdict};
use testkit::{
    HttpClient, Primary, Proxy, RawClient, RedisServer, Reply, Sentinels, SentinelsBuilder, Server, Workload,
    wait_until,
};
use testkit::{now_ns, seed};

use crate::outcome::HEALED;
use crate::stand::{GLOBAL_EXPIRY, MAX_STALENESS, Mode, is_soak};

/// Sentinels do nothing for half a minute once they were held up (TILT mode).
const PATIENCE: Duration = Duration::from_secs(90);
/// A failover that has come to nothing by then is asked for again.
const AGAIN: Duration = Duration::from_secs(5);
/// So long after its promotion sentinels tell of a new primary at the most: until then a Redis client that sentinels guide is with the
/// old one, and so are the reads that pass through.
const GUIDED: Duration = Duration::from_millis(2500);

/// How the primary is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    /// SENTINEL FAILOVER: the old primary goes on, and takes itself for one.
    Planned,
    /// kill -9; it starts again.
    Killed,
    /// SIGSTOP for longer than sentinels bear; SIGCONT.
    Stopped,
    /// As planned, while one of three sentinels stands still: it names the old primary when it goes on.
    Disagreed,
    /// kill -9 while one sentinel of three is there: they move nothing before the others are back.
    WithoutQuorum,
    /// As planned, after all sentinels were gone for a while.
    Unguided,
}

/// Sentinels, and the program that goes by them.
pub(crate) struct Moving {
    pub(crate) sentinels: Sentinels,
    pub(crate) proxy: Proxy,
    pub(crate) primary: Primary,
    mode: Mode,
    staleness: Duration,
}

impl Moving {
    pub(crate) fn start(
        mode: Mode,
        builder: SentinelsBuilder,
        settings: &[(&str, String)],
    ) -> Option<Moving> {
        Moving::start_with(MAX_STALENESS, mode, builder, settings)
    }

    /// With this for MAX_STALENESS.
    fn start_with(
        staleness: Duration,
        mode: Mode,
        builder: SentinelsBuilder,
        settings: &[(&str, String)],
    ) -> Option<Moving> {
        let sentinels = builder.start()?;
        let program = Proxy::builder(env!("CARGO_BIN_EXE_redis-proxy"))
            .set("REDIS_URL", sentinels.url())
            .set("WORKERS", "2")
            .set("RESP_PORT", "0")
            .set("HONOR_NO_CACHE", "on")
            .set("COHERENCE", mode.name())
            .set("RESP_COHERENCE", mode.name());
        let (bound, span) = match mode {
            Mode::Ttl => ("GLOBAL_EXPIRY", GLOBAL_EXPIRY),
            Mode::Tracking | Mode::Strict => ("MAX_STALENESS", staleness),
        };
        let program = program.set(bound, format!("{}ms", span.as_millis()));
        let program = settings.iter().fold(program, |program, (name, value)| program.set(name, value));
        let program = program.allow_warning("redis").allow_warning("coherence").allow_warning("lane");
        let proxy = program.allow_warning("primary").start();
        wait_until(PATIENCE, "readiness", || {
            let ready = HttpClient::connect(proxy.admin_address()).get("/readyz");
            ready.status == 200 && !ready.text().contains("not in force")
        });
        let primary = Primary::new(sentinels.primary());
        Some(Moving { sentinels, proxy, primary, mode, staleness })
    }

    /// Moves the primary between two writes, and returns the old one. The new one has all that was acknowledged.
    pub(crate) fn move_primary(&self, how: Move) -> &RedisServer {
        let (old, new) = self.nodes();
        self.primary.replace(new, || {
            wait_until(PATIENCE, "the replica to have everything", || {
                let offset = info(old, "master_repl_offset");
                !offset.is_empty() && offset == info(new, "slave_repl_offset")
            });
            let sentinels = self.sentinels.sentinels();
            match how {
                Move::Planned => self.sentinels.start_failover(),
                Move::Killed => old.kill(),
                Move::Stopped => old.pause_process(),
                Move::Disagreed => {
                    sentinels[2].pause_process();
                    self.ask_for_failover();
                }
                Move::WithoutQuorum => {
                    sentinels[1..].iter().for_each(RedisServer::kill);
                    old.kill();
                    thread::sleep(Duration::from_secs(3));
                    assert_ne!(info(new, "role"), "master", "one of three has moved the primary");
                    sentinels[1..].iter().for_each(RedisServer::restart);
                }
                Move::Unguided => {
                    sentinels.iter().for_each(RedisServer::kill);
                    thread::sleep(Duration::from_secs(2));
                    sentinels.iter().for_each(RedisServer::restart);
                    self.sentinels.wait_settled();
                    self.sentinels.start_failover();
                }
            }
            let mut begun = Instant::now();
            wait_until(PATIENCE, "the replica to be promoted", || {
                // On a machine that stands still sentinels give a failover up.
                let is_asked_for = matches!(how, Move::Planned | Move::Disagreed | Move::Unguided);
                if is_asked_for && begun.elapsed() > AGAIN {
                    begun = Instant::now();
                    self.ask_for_failover();
                }
                info(new, "role") == "master"
            });
        });
        old
    }

    fn ask_for_failover(&self) {
        let sentinel = &self.sentinels.sentinels()[0];
        sentinel.client().command(&["SENTINEL", "FAILOVER", self.sentinels.name()]);
    }

    fn nodes(&self) -> (&RedisServer, &RedisServer) {
        let old = self.sentinels.primary();
        (old, self.sentinels.replicas()[0])
    }

    /// The old primary is back, and a replica.
    pub(crate) fn settle(&self, how: Move, old: &RedisServer) {
        if how == Move::Disagreed {
            self.sentinels.sentinels()[2].resume_process();
        }
        self.sentinels.wait_moved(old);
        match how {
            Move::Planned | Move::Disagreed | Move::Unguided => {}
            Move::Killed | Move::WithoutQuorum => old.restart(),
            Move::Stopped => old.resume_process(),
        }
        self.sentinels.wait_settled();
    }

    /// Moves the primary so often under load; what was read that the program said is proven, and when reads were refused that
    /// began this long after the first sentinel had told of the move.
    fn run(&self, how: Move, times: usize) -> (Verdict, usize, Vec<Duration>) {
        let workload = Workload { proven_only: true, resp_readers: 2, ..Workload::new(seed()) };
        let mut switched = Vec::new();
        let run = workload.run(&self.primary, &self.proxy, || {
            for _ in 0..times {
                let (mut heard, begun) = (Heard::listen(&self.sentinels), now_ns());
                let old = self.move_primary(how);
                if how == Move::Unguided {
                    // They were started again.
                    heard = Heard::listen(&self.sentinels);
                }
                switched.push((begun, heard.switch_ns()));
                thread::sleep(Duration::from_secs(1));
                self.settle(how, old);
            }
            thread::sleep(self.staleness + Duration::from_millis(100));
        });
        let promise = self.mode.promise();
        let of = |is_client: bool, bound: Duration| {
            let of_front = |read: &&ReadRecord| run.clients.contains(&read.connection) == is_client;
            let reads = run.history.reads.iter().filter(of_front).copied().collect();
            let history = History { writes: run.history.writes.clone(), reads };
            history.check(&Contract { bound, strict: Some(bound), monotonic: false, ..promise })
        };
        let mut verdict = of(
            false,
            match self.mode {
                // What is held for its age was the old primary's until sentinels had told of the new one.
                Mode::Ttl => promise.bound + GUIDED,
                // A strict read is proven by a primary that takes itself for one until a witness is heard.
                Mode::Tracking | Mode::Strict => self.staleness + self.staleness / 4,
            },
        );
        // Redis clients are told nothing of a promise: what they read is as old as with a direct client at worst.
        let of_clients = of(true, promise.bound.max(self.staleness) + GUIDED);
        verdict.violations.extend(of_clients.violations);
        let late = run.refused.iter().filter_map(|refused| {
            let (_, switch) = switched.iter().rev().find(|(begun, _)| *begun <= refused.start)?;
            Some(Duration::from_nanos(refused.start.checked_sub(*switch)?))
        });
        let (late, reads): (Vec<_>, _) = (late.collect(), run.history.reads.len());
        eprintln!(
            "{} {how:?} x {times}: {reads} reads, {} over HTTP of which are proven: plain {}, strict {}; of Redis clients {}; \
             {} violations, {} refused after a switch, the last {:?} after it, of all {:?}",
            self.mode.name(),
            reads - run.history.reads.iter().filter(|read| run.clients.contains(&read.connection)).count(),
            verdict.plain,
            verdict.strict,
            of_clients.plain,
            verdict.violations.len(),
            late.len(),
            late.iter().max(),
            run.errors
        );
        (verdict, reads, late)
    }
}

/// Connections to all sentinels that hear of the first switch.
struct Heard(Vec<RawClient>);

impl Heard {
    fn listen(sentinels: &Sentinels) -> Heard {
        let subscribed =
            sentinels.addresses().into_iter().filter(|at| TcpStream::connect(at).is_ok()).map(|at| {
                let mut client = RawClient::connect(at);
                if let Some((user, password)) = sentinels.sentinel_login() {
                    client.send_command(&["AUTH", user.unwrap_or("default"), password]).expect("+OK\r\n");
                }
                client.send_command(&["SUBSCRIBE", "+switch-master"]).reply();
                client
            });
        Heard(subscribed.collect())
    }

    /// When one was heard of first.
    fn switch_ns(&mut self) -> u64 {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let mut is_told = false;
            // One that is gone tells nothing.
            self.0.retain_mut(|client| {
                let says = !client.is_silent_for(Duration::from_millis(2));
                let is_gone = says && client.at_end();
                is_told |= says && !is_gone;
                !is_gone
            });
            if is_told {
                return now_ns();
            }
        }
        panic!("no sentinel tells of a switch");
    }
}

/// A field of INFO replication; nothing of one that is being promoted, which closes its clients' connections.
fn info(redis: &RedisServer, field: &str) -> String {
    let Ok(Reply::Bulk(info)) = redis.client().try_command(&["INFO", "replication"]) else {
        return String::new();
    };
    let info = String::from_utf8(info).expect("INFO is text");
    let line = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

/// Seconds in `make test`, minutes in `make soak`.
fn times(soak: usize) -> usize {
    if is_soak() { soak } else { 2 }
}

#[track_caller]
fn assert_kept(mode: Mode, how: Move, builder: SentinelsBuilder, soak: usize) {
    // In `make soak` the bound is so small that a witness that is heard late shows; beside all other tests a machine may stand still
    // for longer than that.
    let staleness = if is_soak() { MAX_STALENESS } else { 5 * MAX_STALENESS };
    let Some(moving) = Moving::start_with(staleness, mode, builder, &[]) else { return };
    let (verdict, reads, late) = moving.run(how, times(soak));
    assert!(verdict.violations.is_empty(), "{:?}", &verdict.violations[..verdict.violations.len().min(3)]);
    assert!(reads > 1_000, "too few proven reads: {reads}");
    // Beside a dozen threads that read and write all the time.
    let most = 2 * HEALED;
    assert!(late.iter().all(|late| *late <= most), "refused {late:?} after sentinels have told of the move");
}

fn quick() -> SentinelsBuilder {
    Sentinels::builder().quick()
}

#[test]
fn kept_while_sentinels_move_the_primary_as_planned() {
    assert_kept(Mode::Tracking, Move::Planned, quick(), 20);
}

#[test]
fn kept_in_strict_while_sentinels_move_the_primary_as_planned() {
    assert_kept(Mode::Strict, Move::Planned, quick(), 20);
}

#[test]
fn kept_in_ttl_while_sentinels_move_the_primary_as_planned() {
    assert_kept(Mode::Ttl, Move::Planned, quick(), 20);
}

#[test]
fn kept_while_sentinels_disagree() {
    assert_kept(Mode::Tracking, Move::Disagreed, quick(), 20);
}

#[test]
#[ignore = "minutes: a sentinel that was started again takes its time; in `make soak`"]
fn kept_while_the_primary_is_killed_and_sentinels_have_no_quorum() {
    assert_kept(Mode::Tracking, Move::WithoutQuorum, quick(), 3);
}

#[test]
#[ignore = "minutes: a sentinel that was started again takes its time; in `make soak`"]
fn kept_after_all_sentinels_were_gone() {
    assert_kept(Mode::Tracking, Move::Unguided, quick(), 3);
}

#[test]
fn kept_while_the_primary_is_killed() {
    assert_kept(Mode::Tracking, Move::Killed, quick(), 20);
}

#[test]
fn kept_while_the_primary_stands_still() {
    assert_kept(Mode::Tracking, Move::Stopped, quick(), 20);
}

#[test]
fn kept_before_redis_6_2_while_sentinels_move_the_primary() {
    assert_kept(Mode::Tracking, Move::Planned, quick().server(Server::Redis62), 5);
}

#[test]
fn kept_before_redis_8_2_while_sentinels_move_the_primary() {
    assert_kept(Mode::Tracking, Move::Planned, quick().server(Server::Redis82), 5);
}

#[test]
fn kept_before_valkey_8_1_while_sentinels_move_the_primary() {
    assert_kept(Mode::Tracking, Move::Planned, quick().server(Server::Valkey81), 5);
}

#[test]
fn kept_before_valkey_9_1_while_sentinels_move_the_primary() {
    assert_kept(Mode::Tracking, Move::Planned, quick().server(Server::Valkey91), 5);
}

#[test]
fn kept_where_sentinels_and_nodes_want_passwords() {
    let builder = quick().node_login(None, "secret").sentinel_login(None, "watch");
    // Redis clients of the workload do not log in.
    let settings = [("REDIS_SENTINEL_PASSWORD", "watch".to_owned()), ("RESP_IDENTITY", "proxy".to_owned())];
    let moving = Moving::start(Mode::Tracking, builder, &settings).expect("Debian's redis-server");
    let (verdict, reads, _) = moving.run(Move::Planned, 1);
    assert!(verdict.violations.is_empty() && reads > 500, "{reads}: {:?}", verdict.violations.first());
}

/// What only the old primary had acknowledged is not served any more once the primary is another one.
fn what_the_old_one_knew_ends_with_the_move(mutant: Option<&str>) -> bool {
    // So that it is held when the primary moves, and would be for long.
    let mut settings = vec![("REDIS_WITNESSES", "off".to_owned()), ("MAX_STALENESS", "20s".to_owned())];
    settings.extend(mutant.map(|name| ("REDIS_PROXY_MUTANT", name.to_owned())));
    let moving =
        Moving::start(Mode::Tracking, Sentinels::builder(), &settings).expect("Debian's redis-server");
    moving.proxy.allow_warning("a fault is switched on");
    moving.sentinels.primary().client().set("k", "kept");
    let mut heard = Heard::listen(&moving.sentinels);
    let old = moving.move_primary(Move::Planned);
    // Nobody has told it yet.
    old.client().set("k", "lost");
    let mut client = moving.proxy.client();
    while client.get("/k").text() != "lost" {}
    assert_eq!(client.get("/k").text(), "lost");
    heard.switch_ns();
    thread::sleep(HEALED);
    client.get("/k").text() == "kept"
}

#[test]
fn what_only_the_old_primary_knew_is_not_served_after_the_move() {
    assert!(what_the_old_one_knew_ends_with_the_move(None));
}

/// Who has a connection of its own at the old primary is closed when the primary is another one.
fn pins_end_with_the_move(mutant: Option<&str>) -> bool {
    let settings: Vec<_> = mutant.map(|name| ("REDIS_PROXY_MUTANT", name.to_owned())).into_iter().collect();
    let moving =
        Moving::start(Mode::Tracking, Sentinels::builder(), &settings).expect("Debian's redis-server");
    moving.proxy.allow_warning("a fault is switched on");
    let mut subscriber = moving.proxy.resp_client();
    subscriber.send_command(&["SUBSCRIBE", "channel"]).reply();
    let mut blocked = moving.proxy.resp_client();
    blocked.send_command(&["BLPOP", "list", "0"]);
    let mut heard = Heard::listen(&moving.sentinels);
    moving.move_primary(Move::Planned);
    heard.switch_ns();
    // Long before the old primary closes them itself.
    [&mut subscriber, &mut blocked].into_iter().all(|client| {
        let begun = Instant::now();
        while begun.elapsed() < 2 * HEALED && client.is_silent_for(Duration::from_millis(20)) {}
        begun.elapsed() < 2 * HEALED && client.at_end()
    })
}

#[test]
fn clients_with_connections_of_their_own_end_with_the_move() {
    assert!(pins_end_with_the_move(None));
}

/// What the new primary has acknowledged is read soon after sentinels have told of it.
fn the_new_one_is_read(mutant: Option<&str>) -> bool {
    let settings: Vec<_> = mutant.map(|name| ("REDIS_PROXY_MUTANT", name.to_owned())).into_iter().collect();
    let moving =
        Moving::start(Mode::Tracking, Sentinels::builder(), &settings).expect("Debian's redis-server");
    moving.proxy.allow_warning("a fault is switched on");
    let mut heard = Heard::listen(&moving.sentinels);
    let (_, new) = moving.nodes();
    moving.move_primary(Move::Planned);
    heard.switch_ns();
    new.client().set("k", "new");
    thread::sleep(HEALED);
    let resp = moving.proxy.redis_client().get("k");
    moving.proxy.get("/k").text() == "new" && resp == Some(b"new".to_vec())
}

#[test]
fn the_new_primary_is_read_soon_after_sentinels_have_told_of_it() {
    assert!(the_new_one_is_read(None));
}

/// What `mutants` asks of each.
pub(crate) fn is_noticed(mutant: mutant::Mutant) -> bool {
    let name = Some(mutant.name());
    match mutant {
        mutant::Mutant::LeaseFrozen => !what_the_old_one_knew_ends_with_the_move(name),
        mutant::Mutant::PinStays => !pins_end_with_the_move(name),
        mutant::Mutant::OldAddress => !the_new_one_is_read(name),
        _ => {
            let settings = [("REDIS_PROXY_MUTANT", mutant.name().to_owned())];
            let moving = Moving::start(Mode::Tracking, Sentinels::builder(), &settings)
                .expect("Debian's redis-server");
            moving.proxy.allow_warning("a fault is switched on");
            !moving.run(Move::Planned, 1).0.violations.is_empty()
        }
    }
}
