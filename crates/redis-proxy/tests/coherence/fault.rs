//! What can happen to Redis, to the network before it, and to the program.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use testkit::history::Contract;
use testkit::{Random, RedisServer, Reply, wait_until};

use crate::stand::{MAX_STALENESS, Mode, Replica, Stand};

const PATIENCE: Duration = Duration::from_secs(10);

/// A fault that begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing happens.
    Calm,
    /// Every byte takes longer.
    Delay,
    /// Every piece takes its own time.
    Jitter,
    /// Bytes come one by one.
    Chunks,
    /// Nothing passes, connections stay.
    Stall,
    /// Every byte takes longer, then nothing passes.
    LateThenSilent,
    /// Replies and pushes do not pass.
    StallReplies,
    /// Commands do not pass.
    StallCommands,
    /// Connections are reset.
    Reset,
    /// Connections are reset and refused.
    Outage,
    /// Redis closes the program's connections.
    KillLink,
    /// CLIENT PAUSE ALL.
    PauseAll,
    /// CLIENT PAUSE WRITE.
    PauseWrites,
    /// SIGSTOP of Redis.
    StopRedis,
    /// SIGSTOP of the program.
    StopProxy,
    /// kill -9 of Redis, which starts again with all that it acknowledged.
    KillRedis,
    /// The primary becomes a replica of another that takes over.
    Demote,
    /// Redis may track 4 keys.
    TinyTable,
    /// FLUSHALL, directly and through the program.
    Flush,
    /// Redis evicts all keys.
    Evict,
}

impl Fault {
    /// What is promised under this fault.
    pub(crate) fn promise(self, mode: Mode) -> Contract {
        let promise = mode.promise();
        match self {
            // An old primary is believed until a heartbeat asks for its role or a witness's tells of the new one, and what one server has
            // shown the other may not know yet.
            Fault::Demote => {
                let bound = promise.bound + MAX_STALENESS / 4;
                Contract { bound, strict: Some(bound), monotonic: false, ..promise }
            }
            Fault::Evict => Contract { may_vanish: true, ..promise },
            _ => promise,
        }
    }

    /// One injection, from its begin to its end; most last up to twice the bound.
    pub(crate) fn inject(self, stand: &Stand, random: &mut Random) {
        let bound = stand.mode.scale();
        let most = usize::try_from(2 * bound.as_millis()).unwrap_or(1000);
        let length = Duration::from_millis(random.between(10, most) as u64);
        let Stand { redis, link, proxy, primary, .. } = stand;
        let admin = |command: &[&str]| {
            let reply = redis.client().command(command);
            assert!(!matches!(reply, Reply::Error(_)), "the reply to {command:?}: {reply:?}");
        };
        let millis = length.as_millis().to_string();
        match self {
            Fault::Calm => thread::sleep(length),
            Fault::Delay => {
                link.delay(length / 10);
                thread::sleep(length);
                link.pass();
            }
            Fault::Jitter => {
                link.jitter(length / 5);
                thread::sleep(length);
                link.pass();
            }
            Fault::Chunks => {
                link.chunk(1);
                thread::sleep(length);
                link.pass();
            }
            Fault::Stall | Fault::StallReplies | Fault::StallCommands => {
                match self {
                    Fault::Stall => link.stall(),
                    Fault::StallReplies => link.stall_replies(),
                    _ => link.stall_commands(),
                }
                thread::sleep(length);
                link.pass();
            }
            Fault::LateThenSilent => {
                link.delay(bound / 4);
                thread::sleep(bound);
                link.stall();
                thread::sleep(bound + length);
                link.pass();
            }
            Fault::Reset => link.reset(),
            Fault::Outage => {
                link.refuse();
                link.reset();
                thread::sleep(length);
                link.accept();
            }
            // Writers come over the unix socket.
            Fault::KillLink => admin(&["CLIENT", "KILL", "LADDR", &redis.address().to_string()]),
            Fault::PauseAll => {
                admin(&["CLIENT", "PAUSE", &millis, "ALL"]);
                thread::sleep(length);
            }
            Fault::PauseWrites => {
                admin(&["CLIENT", "PAUSE", &millis, "WRITE"]);
                thread::sleep(length);
            }
            Fault::StopRedis => {
                redis.pause_process();
                thread::sleep(length);
                redis.resume_process();
            }
            Fault::StopProxy => {
                proxy.pause_process();
                thread::sleep(length);
                proxy.resume_process();
            }
            Fault::KillRedis => {
                redis.kill();
                thread::sleep(length / 4);
                redis.restart();
            }
            Fault::Demote => demote(stand, length),
            Fault::TinyTable => {
                admin(&["CONFIG", "SET", "tracking-table-max-keys", "4"]);
                thread::sleep(length);
                admin(&["CONFIG", "SET", "tracking-table-max-keys", "1000000"]);
            }
            Fault::Flush => {
                for _ in 0..random.between(1, 30) {
                    match random.percent(50) {
                        true => primary.flush(|| redis.client().flushall()),
                        false => primary.flush_through(|| proxy.redis_client().flushall()),
                    }
                    thread::sleep(Duration::from_millis(3));
                }
            }
            Fault::Evict => {
                admin(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru", "maxmemory", "1"]);
                thread::sleep(length / 10);
                admin(&["CONFIG", "SET", "maxmemory", "0"]);
            }
        }
    }
}

/// The replica takes over from the primary, as an operator does it: nothing acknowledged is lost, and where the program
/// connects to next is the new one. The old one serves what it has and for a while hears of no write.
fn demote(stand: &Stand, deaf: Duration) {
    let Replica { redis: second, replication } = stand.second.as_ref().expect("a second server");
    let (old, new) = match is_primary(&stand.redis) {
        true => (&stand.redis, second),
        false => (second, &stand.redis),
    };
    stand.primary.replace(new, || {
        wait_until(PATIENCE, "the replica to have everything", || {
            // WAIT would tell of the writes of its own connection alone.
            info(old, "master_repl_offset") == info(new, "slave_repl_offset")
        });
        assert_eq!(new.client().command(&["REPLICAOF", "NO", "ONE"]), Reply::Simple("OK".to_owned()));
        // Whoever moves the address takes a moment for it.
        thread::sleep(deaf / 5);
        stand.link.retarget(new.address());
        replication.retarget(new.address());
        replication.stall();
        make_replica(old, replication.address());
    });
    thread::sleep(deaf);
    replication.pass();
    wait_until(PATIENCE, "the old primary to follow", || info(old, "master_link_status") == "up");
}

/// Makes it a replica of the primary at this address.
pub(crate) fn make_replica(replica: &RedisServer, primary: SocketAddr) {
    let port = primary.port().to_string();
    let reply = replica.client().command(&["REPLICAOF", "127.0.0.1", &port]);
    assert_eq!(reply, Reply::Simple("OK".to_owned()), "the reply to REPLICAOF");
}

fn is_primary(redis: &RedisServer) -> bool {
    info(redis, "role") == "master"
}

/// A field of INFO replication.
fn info(redis: &RedisServer, field: &str) -> String {
    let Reply::Bulk(info) = redis.client().command(&["INFO", "replication"]) else {
        panic!("INFO is refused")
    };
    let info = String::from_utf8(info).expect("INFO is text");
    let line = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}
