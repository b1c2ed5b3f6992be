//! A cluster whose slots and primaries move: the promise is that of one Redis, to the word of whoever has the slot. Where the owner changes
//! against the will of the old one, its word counts until it learns of that, which is measured for each change and is all that is allowed.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use mutant::Mutant;
use testkit::history::{Contract, History, ReadRecord, Verdict};
use testkit::{
    Cluster, ClusterBuilder, FailoverKind, HttpClient, Primary, Proxy, Random, Reply, Run, Server, Workload,
};
use testkit::{seed, wait_until};

use crate::event::{Change, Elected, Event, Happened, Scene, is_primary, kill_watches, wait_given_up};
use crate::outcome::{HEALED, record};
use crate::stand::{GLOBAL_EXPIRY, MAX_STALENESS, Mode, is_soak};

/// A mutant is noticed within so many histories.
const ROUNDS: usize = 20;
const PATIENCE: Duration = Duration::from_secs(60);
/// How many writes of a hundred go through the program.
const THROUGH_PERCENT: usize = 50;
/// No time to live of a workload is longer.
const LONGEST_TTL: Duration = Duration::from_millis(400);

/// A cluster, and the program before it.
struct Clustered {
    cluster: Arc<Cluster>,
    proxy: Proxy,
    mode: Mode,
    elected: Elected,
}

/// What came of a run.
struct Outcome {
    label: String,
    run: Run,
    verdict: Verdict,
    happened: Happened,
}

impl Clustered {
    /// `None` where the server cannot be had.
    fn start(builder: &ClusterBuilder, mode: Mode, settings: &[(&str, &str)]) -> Option<Clustered> {
        let cluster = Arc::new(builder.start()?);
        let proxy = program(&cluster, mode, settings);
        Some(Clustered { cluster, proxy, mode, elected: Elected::default() })
    }

    /// The same cluster behind a program in another mode.
    fn in_mode(self, mode: Mode) -> Clustered {
        let proxy = program(&self.cluster, mode, &[]);
        Clustered { proxy, mode, ..self }
    }

    /// Lets the event happen so often under load, from nothing on.
    fn run(&self, event: Event, times: usize, through_percent: usize) -> Outcome {
        let primaries = self.cluster.nodes().iter().filter(|node| is_primary(node));
        primaries.for_each(|node| node.client().flushall());
        wait_ready(&self.proxy, self.mode);
        // Nothing that was held before is proven any more.
        thread::sleep(2 * MAX_STALENESS);
        let mut workload = Workload { through_percent, ..Workload::in_cluster(seed()) };
        if !is_soak() {
            // Beside all other tests.
            (workload.readers, workload.resp_readers) = (2, 2);
            workload.read_pause = Duration::from_millis(2);
        }
        let (mut random, mut happened) = (Random::new(!workload.seed), Happened::default());
        let primary = Primary::of_cluster(&self.cluster);
        let scene = Scene::new(&self.cluster, &self.proxy, &primary, &self.elected, &workload);
        let mut run = workload.run(&primary, &self.proxy, || {
            for _ in 0..times {
                thread::sleep(Duration::from_millis(random.between(100, 300) as u64));
                event.happen(&scene, &mut random, &mut happened);
            }
            // What is stale for good shows now.
            thread::sleep(MAX_STALENESS + Duration::from_millis(100));
        });
        prolong(&mut run.history, &happened.travels);
        for read in &mut run.history.reads {
            read.strict |= self.mode == Mode::Strict;
        }
        let verdict = judge(&run.history, &happened.changes, self.mode);
        let label = format!("{} {event:?} x {times} SEED={}", self.mode.name(), workload.seed);
        Outcome { label, run, verdict, happened }
    }

    #[track_caller]
    fn assert_kept(&self, event: Event, soak: usize) {
        let times = match event {
            _ if is_soak() => soak,
            // Each waits for an election.
            Event::FailedOver(_) | Event::Killed | Event::StoodStill | Event::CutOff => 1,
            _ => 2,
        };
        // What goes past the cache to an owner that does not know that it is an old one is lost, as any client's.
        let through_percent = if event.is_forced() { 0 } else { THROUGH_PERCENT };
        let outcome = self.run(event, times, through_percent);
        record(&outcome);
        let Outcome { run, verdict, .. } = &outcome;
        let some: String =
            verdict.violations.iter().take(5).map(|violation| format!("\n  {violation}")).collect();
        let total = verdict.violations.len();
        assert!(
            total == 0,
            "{outcome}\n{total} reads broke {:?}, among them:{some}\nwhen the owner had changed: {:?}",
            verdict.broken(),
            outcome.happened.changes
        );
        assert!(run.history.reads.len() > 50 && run.hits * 30 > run.told, "{outcome}\ntoo few reads or hits");
        assert!(run.writes() > 20, "{outcome}\ntoo few writes");
        assert!(run.cut == 0, "{outcome}\nthe program cut its clients");
        assert!(!event.is_seamless() || run.refused.is_empty(), "{outcome}\nreads were refused");
        // Beside a dozen threads that read and write all the time.
        assert!(
            outcome.last_refusal_ns() <= (2 * HEALED).as_nanos(),
            "{outcome}\nreads are refused for too long"
        );
    }
}

fn program(cluster: &Cluster, mode: Mode, settings: &[(&str, &str)]) -> Proxy {
    let program = Proxy::builder(env!("CARGO_BIN_EXE_redis-proxy"))
        .cluster(cluster)
        .set("WORKERS", "2")
        .set("RESP_PORT", "0")
        .set("HONOR_NO_CACHE", "on")
        .set("COHERENCE", mode.name())
        .set("RESP_COHERENCE", mode.name());
    let (bound, span) = match mode {
        Mode::Ttl => ("GLOBAL_EXPIRY", GLOBAL_EXPIRY),
        Mode::Tracking | Mode::Strict => ("MAX_STALENESS", MAX_STALENESS),
    };
    let program = program.set(bound, format!("{}ms", span.as_millis()));
    let program = settings.iter().fold(program, |program, (name, value)| program.set(name, value));
    let told = ["redis", "coherence", "slots", "lane", "a fault is switched on"];
    let proxy = told.iter().fold(program, |program, text| program.allow_warning(text)).start();
    wait_ready(&proxy, mode);
    proxy
}

/// Waits until all primaries answer, and what is read from each is kept by proof where the mode has one.
#[track_caller]
fn wait_ready(proxy: &Proxy, mode: Mode) {
    wait_until(PATIENCE, "links to all primaries", || {
        let ready = HttpClient::connect(proxy.admin_address()).get("/readyz");
        let text = ready.text();
        let mut nodes = text.lines().filter(|line| line.starts_with("node ")).peekable();
        let is_proven = nodes.peek().is_some() && nodes.all(|line| line.ends_with(", in force"));
        ready.status == 200 && (is_proven || mode == Mode::Ttl)
    });
}

/// A key that travels ends as much later as it took: MIGRATE sends what is left of its time to live.
fn prolong(history: &mut History, travels: &[(u64, u64)]) {
    for write in history.writes.iter_mut().flatten() {
        let Some(deadline) = &mut write.deadline else { continue };
        let set = deadline.earliest.saturating_sub(nanos(LONGEST_TTL));
        for (begin, end) in travels {
            if *begin <= deadline.latest && *end >= set {
                deadline.latest = deadline.latest.saturating_add(end - begin);
            }
        }
    }
}

/// Holds what was read while an old owner did not know that it is one to a bound of its own, and all else to the promise.
fn judge(history: &History, changes: &[Change], mode: Mode) -> Verdict {
    let promise = mode.promise();
    let is_of = |change: &Change, read: &ReadRecord| {
        let bound = if read.strict { 0 } else { nanos(promise.bound) };
        let is_its = change.keys.contains(&(read.key as usize));
        is_its && (change.from..=change.learned.saturating_add(bound)).contains(&read.start)
    };
    let check = |promise: &Contract, is_meant: &dyn Fn(&ReadRecord) -> bool| {
        let reads = history.reads.iter().filter(|read| is_meant(read)).copied().collect();
        History { writes: history.writes.clone(), reads }.check(promise)
    };
    let mut verdict = check(&promise, &|read| !changes.iter().any(|change| is_of(change, read)));
    for change in changes {
        let unaware = Duration::from_nanos(change.learned - change.since);
        let bound = promise.bound + unaware;
        let promise = Contract { bound, strict: Some(unaware), monotonic: false, ..promise };
        let of_it = check(&promise, &|read| is_of(change, read));
        verdict.plain.merge(&of_it.plain);
        verdict.strict.merge(&of_it.strict);
        verdict.violations.extend(of_it.violations);
    }
    verdict
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).expect("a short time")
}

impl Outcome {
    /// How long after what had happened was over a read began that was refused.
    fn last_refusal_ns(&self) -> u128 {
        let since = |refused: &Range<u64>| {
            let begun = self.happened.over.iter().rev().find(|(begun, _)| *begun <= refused.end);
            u128::from(refused.start.saturating_sub(begun.map_or(0, |(_, over)| *over)))
        };
        self.run.refused.iter().map(since).max().unwrap_or(0)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { label, run, verdict: Verdict { plain, strict, violations }, happened } = self;
        let unaware: Vec<String> = happened
            .changes
            .iter()
            .map(|change| format!("{:.1}", (change.learned - change.since.max(change.from)) as f64 / 1e6))
            .collect();
        write!(f, "cluster {label}: plain {plain}; strict {strict}; {} of {} hits,", run.hits, run.told)?;
        write!(
            f,
            " {} writes, {} violations, old owners unaware for {unaware:?} ms,",
            run.writes(),
            violations.len()
        )?;
        write!(f, " {} given up, {} closed, errors {:?}", run.given_up, run.closed, run.errors)?;
        write!(f, " until {:.1} ms after", self.last_refusal_ns() as f64 / 1e6)
    }
}

/// Without replicas, so that a primary that stands still is missed by nobody.
fn primaries() -> ClusterBuilder {
    Cluster::builder()
}

fn with_replicas() -> ClusterBuilder {
    Cluster::builder().nodes(3, 1)
}

#[track_caller]
fn on_this_machine(builder: &ClusterBuilder, mode: Mode) -> Clustered {
    Clustered::start(builder, mode, &[]).expect("the redis-server of this machine")
}

#[test]
fn kept_while_slots_move() {
    let clustered = on_this_machine(&primaries(), Mode::Tracking);
    for event in [Event::Migrated, Event::LeftHalfWay, Event::Taken] {
        clustered.assert_kept(event, 40);
    }
    let clustered = clustered.in_mode(Mode::Strict);
    for event in [Event::Migrated, Event::LeftHalfWay, Event::Taken] {
        clustered.assert_kept(event, 40);
    }
    let clustered = clustered.in_mode(Mode::Ttl);
    for event in [Event::Migrated, Event::Taken] {
        clustered.assert_kept(event, 20);
    }
}

#[test]
fn kept_while_connections_and_nodes_fail() {
    let clustered = on_this_machine(&primaries().node_timeout(Duration::from_secs(1)), Mode::Tracking);
    let events = [Event::LinksLost, Event::WatchesLost, Event::Flushed, Event::ProxyHeldUp, Event::HeldUp];
    for event in events {
        clustered.assert_kept(event, 100);
    }
    clustered.assert_kept(Event::CutOff, 10);
}

#[test]
fn kept_in_strict_while_connections_and_nodes_fail() {
    let clustered = on_this_machine(&primaries().node_timeout(Duration::from_secs(1)), Mode::Strict);
    for event in [Event::LinksLost, Event::WatchesLost, Event::Flushed, Event::HeldUp] {
        clustered.assert_kept(event, 100);
    }
}

#[test]
fn kept_while_replicas_take_over() {
    let clustered = on_this_machine(&with_replicas(), Mode::Tracking);
    for kind in [FailoverKind::Planned, FailoverKind::Forced, FailoverKind::Takeover] {
        clustered.assert_kept(Event::FailedOver(kind), 20);
    }
    let clustered = clustered.in_mode(Mode::Strict);
    for kind in [FailoverKind::Planned, FailoverKind::Takeover] {
        clustered.assert_kept(Event::FailedOver(kind), 20);
    }
}

#[test]
fn kept_while_primaries_die_and_stand_still() {
    let clustered = on_this_machine(&with_replicas(), Mode::Tracking);
    for event in [Event::Killed, Event::StoodStill] {
        clustered.assert_kept(event, 10);
    }
}

/// What differs from server to server: how slots and primaries move.
#[track_caller]
fn assert_kept_before(server: Server) {
    let builder = with_replicas().server(server);
    let Some(clustered) = Clustered::start(&builder, Mode::Tracking, &[]) else { return };
    if server == Server::Valkey91 {
        clustered.assert_kept(Event::MigratedAtOnce, 20);
    }
    let failover = Event::FailedOver(FailoverKind::Planned);
    for event in [Event::Migrated, Event::Taken, failover] {
        clustered.assert_kept(event, 20);
    }
}

#[test]
fn kept_before_redis_8_2() {
    assert_kept_before(Server::Redis82);
}

#[test]
fn kept_before_valkey_8_1() {
    assert_kept_before(Server::Valkey81);
}

#[test]
fn kept_before_valkey_9_1() {
    assert_kept_before(Server::Valkey91);
}

/// What `mutants` asks of each.
pub(crate) fn is_noticed(mutant: Mutant) -> bool {
    let settings = [("REDIS_PROXY_MUTANT", mutant.name())];
    let builder = primaries().node_timeout(Duration::from_secs(1));
    let clustered =
        Clustered::start(&builder, Mode::Tracking, &settings).expect("the redis-server of this machine");
    let event = match mutant {
        Mutant::BeatWithoutKey => return clustered.serves_once_a_primary_has_given_up(),
        Mutant::WatchLossIgnored => return clustered.serves_once_a_lost_watch_would_have_told(),
        Mutant::SentOnTwice => return !clustered.counts_what_is_sent_on_once(),
        Mutant::NegativeRenewed => Event::LeftHalfWay,
        _ => Event::Taken,
    };
    (1..=ROUNDS).any(|round| {
        let broken = clustered.run(event, 1, 0).verdict.broken();
        eprintln!("{}: {broken:?} in round {round}", mutant.name());
        !broken.is_empty()
    })
}

impl Clustered {
    /// A key with a tag, held by the program.
    fn hold(&self, key: &str) {
        self.cluster.client().command(&["SET", key, "before"]);
        let is_hit = || {
            let answer = self.proxy.get(&format!("/{key}"));
            answer.header("cache-status").is_some_and(|status| status.contains("; hit"))
        };
        wait_until(PATIENCE, "a hit", is_hit);
    }

    /// Whether writes of Redis clients that are sent on from node to node are carried out once each: of one key, and of several nodes.
    fn counts_what_is_sent_on_once(&self) -> bool {
        let slot = self.cluster.slot_of("{t}");
        let mut client = self.proxy.redis_client();
        (1..=4).all(|round| {
            let from = self.cluster.node_of(slot).port();
            let to = self.cluster.nodes().iter().find(|node| node.port() != from).expect("another primary");
            // The program learns of it by what it is answered: behind ASK, and then MOVED.
            let migration = self.cluster.begin_migration(slot, to);
            let counted = client.command(&["INCR", &format!("{{t}}half{round}")]);
            let in_half = self.cluster.client().command(&["GET", &format!("{{t}}half{round}")]);
            migration.finish();
            let key = format!("{{t}}whole{round}");
            client.command(&["INCR", &key]);
            let set = client.command(&["MSET", &format!("{{t}}{round}"), "v", &format!("{{u}}{round}"), "v"]);
            let deleted =
                client.command(&["DEL", &format!("{{t}}{round}"), &format!("{{u}}{round}"), "{v}nothing"]);
            counted == Reply::Integer(1)
                && in_half == Reply::Bulk(b"1".to_vec())
                && self.cluster.client().command(&["GET", &key]) == Reply::Bulk(b"1".to_vec())
                && set == Reply::Simple("OK".to_owned())
                && deleted == Reply::Integer(2)
        })
    }

    /// Whether it answers from memory what a primary has said that has given up since, for it was cut off. That cannot become another's
    /// here without its learning of it: `it` has the same test of the program as it is.
    fn serves_once_a_primary_has_given_up(&self) -> bool {
        self.hold("{t}k");
        let node = self.cluster.node_of(self.cluster.slot_of("{t}"));
        self.cluster.isolate(node);
        wait_given_up(node, "{t}");
        thread::sleep(2 * MAX_STALENESS);
        let answer = self.proxy.get("/{t}k");
        self.cluster.resume_all();
        answer.status == 200
    }

    /// Whether it answers what was there before the slot was taken, whose watch was closed before that.
    fn serves_once_a_lost_watch_would_have_told(&self) -> bool {
        self.hold("{t}k");
        kill_watches(&self.cluster);
        wait_ready(&self.proxy, self.mode);
        let slot = self.cluster.slot_of("{t}");
        let from = self.cluster.node_of(slot).port();
        let to = self.cluster.nodes().iter().find(|node| node.port() != from).expect("another primary");
        self.cluster.take_slots(slot, slot, to);
        self.cluster.wait_owner(slot, to);
        self.cluster.client().command(&["SET", "{t}k", "after"]);
        thread::sleep(2 * MAX_STALENESS);
        self.proxy.get("/{t}k").text() == "before"
    }
}

#[test]
fn what_is_sent_on_is_carried_out_once() {
    let clustered = on_this_machine(&primaries(), Mode::Tracking);
    assert!(clustered.counts_what_is_sent_on_once());
}

#[test]
fn what_a_lost_watch_would_have_told_of_is_not_served() {
    let clustered = on_this_machine(&primaries(), Mode::Tracking);
    assert!(!clustered.serves_once_a_lost_watch_would_have_told());
}
