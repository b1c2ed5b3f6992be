//! Which reads over RESP are answered from memory, for whom, and which never are. That the answers are the right ones is
//! the subject of `resp_cached_differential`.

use std::time::{Duration, Instant};

use testkit::{RawClient, RedisServer, Reply, wait_until};

use crate::support::start_resp_in;

const MODES: [&str; 3] = ["ttl", "tracking", "strict"];
const SOON: Duration = Duration::from_secs(5);

/// Commands that Redis has been asked to read by.
fn reads(redis: &RedisServer) -> u64 {
    let names = "get mget strlen getrange getbit exists type ttl pttl hget hmget hgetall hexists hlen hkeys hvals hstrlen scard \
                 sismember llen lrange zcard zscore zrange bitcount";
    names.split_whitespace().map(|name| redis.command_calls(name)).sum()
}

/// Asks until Redis is not asked any more: a link may have to be made first, and a machine may stand still.
#[track_caller]
fn warm(redis: &RedisServer, client: &mut RawClient, line: &str, reply: &str) {
    wait_until(SOON, &format!("{line} from memory"), || {
        client.ask(line, reply);
        redis.reset_stats();
        client.ask(line, reply);
        reads(redis) == 0
    });
}

/// Asks each command once that others may tell: until Redis has answered it, that is not known to be its user's right.
fn ask_each(client: &mut RawClient) {
    let of_one = "STRLEN EXISTS TYPE TTL PTTL MGET HGETALL HKEYS HVALS HLEN SMEMBERS SCARD LLEN ZCARD";
    for name in of_one.split_whitespace() {
        client.send(format!("{name} unset\r\n")).reply();
    }
    let others = "GETRANGE unset 0 0|SUBSTR unset 0 0|GETBIT unset 0|HGET unset f|HMGET unset f|HEXISTS unset f|HSTRLEN unset f|\
                  ZSCORE unset m";
    for line in others.split('|') {
        client.send(format!("{line}\r\n")).reply();
    }
}

#[test]
fn a_value_and_a_whole_hash_answer_what_derives_from_them() {
    let (redis, proxy) = start_resp_in("tracking", &[]);
    redis.client().set("k", "value");
    redis.client().command(&["HSET", "h", "f", "v", "g", "ww"]);
    let (mut client, mut other) = (proxy.resp_client(), proxy.resp_client());
    other.resp3();
    warm(&redis, &mut client, "GET k", "$5\r\nvalue");
    warm(&redis, &mut other, "HGETALL h", "%2\r\n$1\r\nf\r\n$1\r\nv\r\n$1\r\ng\r\n$2\r\nww");
    warm(&redis, &mut client, "HLEN none", ":0");
    ask_each(&mut client);
    ask_each(&mut other);
    redis.reset_stats();
    client.ask("STRLEN k", ":5").ask("GETRANGE k 1 2", "$2\r\nal").ask("SUBSTR k -1 -1", "$1\r\ne");
    client.ask("GETBIT k 1", ":1").ask("EXISTS k", ":1").ask("TYPE k", "+string").ask("TTL k", ":-1");
    client.ask("MGET k k", "*2\r\n$5\r\nvalue\r\n$5\r\nvalue").ask("PTTL k", ":-1");
    client.ask("HGET h g", "$2\r\nww").ask("HMGET h f x", "*2\r\n$1\r\nv\r\n$-1").ask("HEXISTS h f", ":1");
    client.ask("HKEYS h", "*2\r\n$1\r\nf\r\n$1\r\ng").ask("HVALS h", "*2\r\n$1\r\nv\r\n$2\r\nww");
    client.ask("HLEN h", ":2").ask("HSTRLEN h g", ":2").ask("TTL h", ":-1");
    other.ask("HGET h x", "_").ask("GET none", "_").ask("TYPE none", "+none").ask("PTTL none", ":-2");
    other
        .ask("SMEMBERS none", "~0")
        .ask("LLEN none", ":0")
        .ask("ZSCORE none m", "_")
        .ask("GET k", "$5\r\nvalue");
    assert_eq!(reads(&redis), 0);
}

#[test]
fn a_big_hash_answers_for_itself_alone() {
    let (redis, proxy) = start_resp_in("tracking", &[]);
    let value = "v".repeat(20_000);
    redis.client().command(&["HSET", "h", "f", &value]);
    let mut client = proxy.resp_client();
    let whole = format!("*2\r\n$1\r\nf\r\n$20000\r\n{value}");
    warm(&redis, &mut client, "HGETALL h", &whole);
    redis.reset_stats();
    for _ in 0..3 {
        client.ask("HGET h g", "$-1").ask("HMGET h g x", "*2\r\n$-1\r\n$-1").ask("HGETALL h", &whole);
    }
    assert_eq!((redis.command_calls("hget"), redis.command_calls("hmget")), (1, 1));
    assert_eq!(redis.command_calls("hgetall"), 0);
}

#[test]
fn in_ttl_mode_a_value_answers_what_needs_no_deadline_and_collections_are_asked_for() {
    let (redis, proxy) = start_resp_in("ttl", &[]);
    redis.client().set("k", "value");
    redis.client().command(&["HSET", "h", "f", "v"]);
    let mut client = proxy.resp_client();
    warm(&redis, &mut client, "GET k", "$5\r\nvalue");
    ask_each(&mut client);
    redis.reset_stats();
    client
        .ask("STRLEN k", ":5")
        .ask("GETRANGE k 1 2", "$2\r\nal")
        .ask("GETBIT k 1", ":1")
        .ask("EXISTS k", ":1");
    client.ask("TYPE k", "+string").ask("MGET k", "*1\r\n$5\r\nvalue");
    assert_eq!(reads(&redis), 0);
    for _ in 0..3 {
        client.ask("TTL k", ":-1").ask("HGET h f", "$1\r\nv").ask("GET none", "$-1").ask("STRLEN h2", ":0");
    }
    assert_eq!(reads(&redis), 12);
}

#[test]
fn the_time_a_key_has_left_is_told_to_two_milliseconds_and_never_too_long() {
    let (redis, proxy) = start_resp_in("tracking", &[]);
    let mut direct = redis.client();
    let mut left = |command: &str, key: &str| match direct.command(&[command, key]) {
        Reply::Integer(left) => left,
        other => panic!("{other:?}"),
    };
    let number = |client: &mut RawClient, line: &str| -> i64 {
        client.send(format!("{line}\r\n")).line()[1..].parse().expect("a number")
    };
    let mut client = proxy.resp_client();
    for (ms, primer) in [
        (900_i64, "GET"),
        (50_000, "STRLEN"),
        (1_000_000, "GET"),
        (31_536_000_000, "EXISTS"),
        (70_000, "PTTL"),
        (80_000, "TTL"),
    ] {
        let key = format!("k{ms}");
        redis.client().command(&["SET", &key, "v", "PX", &ms.to_string()]);
        let asked = Instant::now();
        client.send(format!("{primer} {key}\r\n")).reply();
        // Redis cuts its own clock to milliseconds, the proxy what is left; and the answer was on its way.
        let late = i64::try_from(asked.elapsed().as_millis()).expect("little") + 2;
        for _ in 0..50 {
            let before = left("PTTL", &key);
            let found = number(&mut client, &format!("PTTL {key}"));
            let after = left("PTTL", &key);
            assert!(found <= before && found >= after - late, "{key}: {before} {found} {after}, late {late}");
            let (before, found) = (left("TTL", &key), number(&mut client, &format!("TTL {key}")));
            let after = (left("PTTL", &key) - late + 500) / 1000;
            assert!(found <= before && found >= after, "{key}: {before} {found} {after}");
        }
        client.ask(&format!("GET {key}"), "$1\r\nv");
        redis.reset_stats();
        client.send(format!("PTTL {key}\r\nTTL {key}\r\n")).line();
        client.line();
        assert_eq!(reads(&redis), 0, "{key}");
    }
    // A year that no nanoseconds can tell.
    redis.client().command(&["SET", "far", "v", "PXAT", "99999999999999999"]);
    for _ in 0..3 {
        client.ask("GET far", "$1\r\nv").ask("PEXPIRETIME far", ":99999999999999999");
        let (before, found) = (left("PTTL", "far"), number(&mut client, "PTTL far"));
        assert!(found <= before && found >= left("PTTL", "far") - 1000, "{found} of {before}");
    }
    client.ask("PTTL none", ":-2").ask("GET none", "$-1").ask("PTTL none", ":-2").ask("TTL none", ":-2");
    redis.client().set("stays", "v");
    client
        .ask("PTTL stays", ":-1")
        .ask("GET stays", "$1\r\nv")
        .ask("PTTL stays", ":-1")
        .ask("TTL stays", ":-1");
}

#[test]
fn the_nil_of_mget_is_not_that_of_get() {
    for mode in MODES {
        let (redis, proxy) = start_resp_in(mode, &[]);
        redis.client().command(&["RPUSH", "list", "e"]);
        redis.client().command(&["RPUSH", "other", "e"]);
        redis.client().set("k", "v");
        let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value";
        let mut client = proxy.resp_client();
        for _ in 0..3 {
            client.ask("MGET list k none", "*3\r\n$-1\r\n$1\r\nv\r\n$-1").ask("GET list", wrong);
            client.ask("EXISTS list none", ":1").ask("TYPE list", "+list").ask("EXISTS list", ":1");
            client.ask("GET other", wrong).ask("MGET other", "*1\r\n$-1").ask("STRLEN other", wrong);
            client.ask("GET none", "$-1").ask("GET k", "$1\r\nv");
        }
        client.send("MGET list k\r\nGET list\r\nMGET list\r\n").expect("*2\r\n$-1\r\n$1\r\nv\r\n");
        client.expect(format!("{wrong}\r\n*1\r\n$-1\r\n"));
    }
}

#[test]
fn an_error_is_never_kept() {
    for mode in MODES {
        let (redis, proxy) = start_resp_in(mode, &[]);
        redis.client().command(&["RPUSH", "k", "e"]);
        let mut client = proxy.resp_client();
        let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value";
        for line in ["GET k", "HGET k f", "HGETALL k", "STRLEN k", "GETRANGE k 0 -1", "ZRANGE k 0 -1"] {
            client.ask(line, wrong);
            redis.reset_stats();
            client.ask(line, wrong).ask(line, wrong);
            assert!(reads(&redis) >= 2, "{line} in {mode}");
        }
        let mut direct = redis.client();
        direct.del("k");
        direct.set("k", "v");
        if mode == "tracking" {
            wait_until(SOON, "the new value", || client.send("STRLEN k\r\n").line() == ":1");
        }
        client.ask("GET k", "$1\r\nv");
    }
}

#[test]
fn one_user_never_sees_what_only_another_may_read() {
    for mode in MODES {
        let (redis, proxy) = start_resp_in(mode, &[("WORKERS", "1")]);
        for name in ["ann", "bob"] {
            redis.client().command(&["ACL", "SETUSER", name, "on", ">pw", &format!("~{name}:*"), "+@all"]);
            redis.client().set(format!("{name}:k"), name);
            redis.client().command(&["HSET", &format!("{name}:h"), "f", name]);
        }
        let (mut ann, mut bob, mut nobody) = (proxy.resp_client(), proxy.resp_client(), proxy.resp_client());
        ann.ask("AUTH ann pw", "+OK").resp3();
        bob.ask("AUTH bob pw", "+OK");
        let denied = "-NOPERM this user has no permissions to access one of the keys used as arguments";
        // Known to ann and to the default user before bob asks, and then again.
        for _ in 0..4 {
            ann.ask("GET ann:k", "$3\r\nann").ask("GET ann:none", "_").ask("STRLEN ann:k", ":3");
            ann.ask("HGETALL ann:h", "%1\r\n$1\r\nf\r\n$3\r\nann").ask("HGET ann:h f", "$3\r\nann");
            nobody.ask("GET ann:k", "$3\r\nann").ask("GET ann:none", "$-1").ask("HGET ann:h f", "$3\r\nann");
            for key in ["ann:k", "ann:none", "ann:h"] {
                let one_key = "GET|MGET|STRLEN|EXISTS|TYPE|TTL|PTTL|HGETALL|HLEN|HKEYS|HVALS|SMEMBERS|SCARD|LLEN|ZCARD|BITCOUNT";
                for command in one_key.split('|') {
                    bob.ask(&format!("{command} {key}"), denied);
                }
                for question in
                    ["GETRANGE KEY 0 -1", "GETBIT KEY 0", "HGET KEY f", "HMGET KEY f", "ZSCORE KEY f"]
                {
                    bob.ask(&question.replace("KEY", key), denied);
                }
                bob.ask(&format!("MGET bob:k {key}"), denied);
            }
            bob.ask("GET bob:k", "$3\r\nbob").ask("GET bob:none", "$-1").ask("HGET bob:h f", "$3\r\nbob");
            ann.ask("GET bob:k", denied).ask("GET bob:none", denied).ask("HGET bob:h f", denied);
            assert_eq!(proxy.get("/bob:k").text(), "bob");
        }
    }
}

#[test]
fn a_user_who_may_do_no_more_than_read_is_served_all_the_same() {
    for mode in MODES {
        let (redis, proxy) = start_resp_in(mode, &[]);
        redis.client().command(&["ACL", "SETUSER", "few", "on", ">pw", "~*", "-@all", "+get", "+strlen"]);
        proxy.allow_warning("coherence is not in force");
        let mut few = proxy.resp_client();
        few.ask("AUTH few pw", "+OK");
        for value in ["one", "two"] {
            proxy.resp_client().ask(&format!("SET k {value}"), "+OK");
            for _ in 0..3 {
                few.ask("GET k", &format!("$3\r\n{value}")).ask("STRLEN k", ":3").ask("GET none", "$-1");
            }
        }
    }
}

#[test]
fn rights_taken_away_through_the_proxy_are_gone_at_once() {
    for mode in MODES {
        let (redis, proxy) = start_resp_in(mode, &[]);
        redis.client().command(&["ACL", "SETUSER", "ann", "on", ">pw", "~*", "+@all"]);
        redis.client().set("k", "v");
        let (mut ann, mut admin) = (proxy.resp_client(), proxy.resp_client());
        ann.ask("AUTH ann pw", "+OK");
        for _ in 0..3 {
            ann.ask("GET k", "$1\r\nv").ask("GET none", "$-1").ask("STRLEN k", ":1");
        }
        admin.ask("ACL SETUSER ann resetkeys ~other:*", "+OK");
        let denied = "-NOPERM this user has no permissions to access one of the keys used as arguments";
        ann.ask("GET k", denied).ask("STRLEN k", denied).ask("GET none", denied).ask("GET other:k", "$-1");
        admin.ask("GET k", "$1\r\nv");
    }
}

#[test]
fn each_database_has_its_own_answers() {
    for mode in MODES {
        let (redis, proxy) = start_resp_in(mode, &[]);
        let mut direct = redis.client();
        for (db, value) in [("5", "five"), ("0", "zero")] {
            direct.command(&["SELECT", db]);
            direct.set("k", value);
        }
        let (mut zero, mut five, mut seven) = (proxy.resp_client(), proxy.resp_client(), proxy.resp_client());
        five.ask("SELECT 5", "+OK");
        seven.ask("SELECT 7", "+OK").resp3();
        for _ in 0..4 {
            zero.ask("GET k", "$4\r\nzero").ask("EXISTS k", ":1").ask("GETRANGE k 0 0", "$1\r\nz");
            five.ask("GET k", "$4\r\nfive").ask("EXISTS k", ":1").ask("GETRANGE k 0 0", "$1\r\nf");
            seven.ask("GET k", "_").ask("EXISTS k", ":0").ask("GETRANGE k 0 0", "$0\r\n");
            assert_eq!(proxy.get("/k").text(), "zero");
        }
        // One client, from one to the next, in one pipeline.
        zero.send("GET k\r\nSELECT 5\r\nGET k\r\nSELECT 7\r\nGET k\r\nSELECT 0\r\nGET k\r\n");
        zero.expect("$4\r\nzero\r\n+OK\r\n$4\r\nfive\r\n+OK\r\n$-1\r\n+OK\r\n$4\r\nzero\r\n");
        five.ask("SET k FIVE", "+OK").ask("GET k", "$4\r\nFIVE");
        zero.ask("GET k", "$4\r\nzero");
    }
}

#[test]
fn a_hit_waits_for_nothing_upstream() {
    for (mode, wait) in [("tracking", Duration::ZERO), ("ttl", Duration::from_millis(700))] {
        let (redis, proxy) = start_resp_in(mode, &[]);
        redis.client().set("k", "value");
        redis.client().set("large", vec![b'x'; 100_000]);
        let (mut client, mut large) = (proxy.resp_client(), proxy.resp_client());
        ask_each(&mut client);
        warm(&redis, &mut client, "GET k", "$5\r\nvalue");
        large.send("GET large\r\n").reply();
        redis.pause_process();
        std::thread::sleep(wait);
        let asked = Instant::now();
        for _ in 0..20 {
            client.ask("GET k", "$5\r\nvalue").ask("STRLEN k", ":5").ask("MGET k", "*1\r\n$5\r\nvalue");
            large.send("GET large\r\n").skip(100_011);
        }
        let elapsed = asked.elapsed();
        redis.resume_process();
        assert!(elapsed < Duration::from_secs(2), "{elapsed:?}");
    }
}

#[test]
fn with_resp_coherence_off_everything_goes_to_redis() {
    for mode in MODES {
        let (redis, proxy) = start_resp_in(mode, &[("RESP_COHERENCE", "off")]);
        redis.client().set("k", "v");
        // Known to the other front.
        assert_eq!((proxy.get("/k").text(), proxy.get("/k").text()), ("v", "v"));
        let mut client = proxy.resp_client();
        redis.reset_stats();
        for _ in 0..5 {
            client
                .ask("GET k", "$1\r\nv")
                .ask("STRLEN k", ":1")
                .ask("GET none", "$-1")
                .ask("HGETALL none", "*0");
        }
        assert_eq!(reads(&redis), 20, "{mode}");
    }
}

#[test]
fn users_and_databases_beyond_64_are_served_by_redis() {
    let redis = RedisServer::builder().config("databases", "80").start();
    let proxy = crate::support::program().redis(&redis).set("RESP_PORT", "0").set("WORKERS", "1");
    let proxy = proxy.set("RESP_COHERENCE", "ttl").allow_warning("too many users and databases").start();
    let (mut client, mut direct) = (proxy.resp_client(), redis.client());
    for db in 0..70 {
        direct.command(&["SELECT", &db.to_string()]);
        direct.set(format!("k{db}"), format!("{db:03}"));
    }
    redis.reset_stats();
    for _ in 0..3 {
        for db in 0..70 {
            client.ask(&format!("SELECT {db}"), "+OK").ask(&format!("GET k{db}"), &format!("$3\r\n{db:03}"));
        }
    }
    assert_eq!(redis.command_calls("get"), 64 + 3 * 6);
}

#[test]
fn a_key_has_at_most_16_answers_and_the_oldest_makes_room() {
    let (redis, proxy) = start_resp_in("tracking", &[]);
    redis.client().command(&["RPUSH", "list", "e"]);
    let mut client = proxy.resp_client();
    warm(&redis, &mut client, "LINDEX list 0", "$1\r\ne");
    for start in 0..17 {
        client.ask(&format!("LRANGE list {start} 0"), if start == 0 { "*1\r\n$1\r\ne" } else { "*0" });
    }
    redis.reset_stats();
    for start in 2..17 {
        client.ask(&format!("LRANGE list {start} 0"), "*0");
    }
    assert_eq!(reads(&redis), 0, "the last 15 beside the first");
    client.ask("LRANGE list 1 0", "*0");
    assert_eq!(redis.command_calls("lrange"), 1);
}

#[test]
fn clients_that_watch_or_are_in_a_transaction_read_from_redis() {
    let (redis, proxy) = start_resp_in("ttl", &[]);
    redis.client().set("k", "old");
    let (mut client, mut other) = (proxy.resp_client(), proxy.resp_client());
    warm(&redis, &mut client, "GET k", "$3\r\nold");
    redis.client().set("k", "new");
    client.ask("MULTI", "+OK").ask("GET k", "+QUEUED").ask("EXEC", "*1\r\n$3\r\nnew");
    client.ask("WATCH k", "+OK").ask("GET k", "$3\r\nnew").ask("STRLEN k", ":3").ask("UNWATCH", "+OK");
    // Read behind the proxy's back, it is still what was fetched.
    other.ask("GET k", "$3\r\nold");
}

#[test]
fn a_read_of_a_client_that_is_not_logged_in_is_refused_whatever_is_known() {
    for mode in MODES {
        let redis = RedisServer::builder().password("secret").start();
        let proxy = crate::support::program().redis(&redis).set("RESP_PORT", "0");
        let proxy = proxy.set("COHERENCE", mode).set("RESP_COHERENCE", mode).start();
        redis.client().set("k", "v");
        for _ in 0..3 {
            assert_eq!(proxy.get("/k").text(), "v");
            let (mut stranger, mut known) = (proxy.resp_client(), proxy.resp_client());
            stranger.ask("GET k", "-NOAUTH Authentication required.");
            known.ask("AUTH secret", "+OK").ask("GET k", "$1\r\nv").ask("RESET", "+RESET");
            known.ask("GET k", "-NOAUTH Authentication required.");
        }
    }
}
