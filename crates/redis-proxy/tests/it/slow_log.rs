//! The slow log: what took long, where its time went, and nothing that is a secret.

use std::time::Duration;

use serde_json::Value;
use testkit::{HttpClient, Proxy, Reply, wait_until};

use crate::support::start_resp;

const PATIENCE: Duration = Duration::from_secs(20);

fn slow_log(proxy: &Proxy) -> Vec<Value> {
    let told = HttpClient::connect(proxy.admin_address()).get("/insight.json?count=512");
    let told: Value = serde_json::from_str(told.text()).expect("JSON");
    told["slow_log"].as_array().expect("a list").clone()
}

/// The commands in it, each a text.
fn commands(proxy: &Proxy) -> Vec<String> {
    let text = |line: &Value| {
        let arguments = line["arguments"].as_array().expect("arguments").iter();
        arguments.filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
    };
    slow_log(proxy).iter().map(text).collect()
}

#[test]
fn what_is_slow_is_kept_with_where_its_time_went() {
    let settings = [("SLOWLOG_THRESHOLD", "60ms"), ("RESP_PROXY_ADMIN", "all"), ("WORKERS", "1")];
    let (redis, proxy) = start_resp(&[&settings[..], &[("RESP_IDENTITY", "proxy")]].concat());
    redis.client().set("k", "value");
    let mut client = proxy.redis_client();
    client.command(&["GET", "k"]);
    // By script, so that it is this very command that takes its time.
    let slow = "local t = redis.call('TIME') local b = t[1] * 1000000 + t[2] repeat t = redis.call('TIME') \
        until t[1] * 1000000 + t[2] > b + 150000 return 1";
    assert_eq!(client.command(&["EVAL", slow, "0"]), Reply::Integer(1));
    wait_until(PATIENCE, "the script in the log", || {
        commands(&proxy).iter().any(|line| line.starts_with("EVAL local t"))
    });
    let line = slow_log(&proxy).into_iter().find(|line| line["arguments"][0] == "EVAL").expect("it");
    let micros = |name: &str| line[name].as_u64().unwrap_or_else(|| panic!("{name} of {line}"));
    assert!(micros("redis_us") >= 150_000 && micros("total_us") >= micros("redis_us"), "{line}");
    assert!(micros("redis_us") > micros("queued_us") + micros("delivered_us"), "{line}");
    assert!(line["arguments"][1].as_str().is_some_and(|text| text.ends_with("more bytes)")), "{line}");
    assert!(line["client"].as_str().is_some_and(|client| client.starts_with("127.0.0.1:")), "{line}");
    // Those behind it were quick by themselves; a hit was never slow.
    let before = commands(&proxy).len();
    let mut pipeline = proxy.resp_client();
    pipeline.send_command(&["EVAL", slow, "0"]);
    for _ in 0..20 {
        pipeline.send_command(&["ECHO", "behind"]);
    }
    pipeline.line();
    for _ in 0..20 {
        assert_eq!((pipeline.line(), pipeline.line()), ("$6".into(), "behind".into()));
    }
    wait_until(PATIENCE, "the second script", || commands(&proxy).len() > before);
    let behind = commands(&proxy).into_iter().filter(|line| line.starts_with("ECHO")).count();
    assert!(behind <= 1, "{behind} that stood behind a slow one are called slow");
    // One that goes to Redis as it comes takes its time from its beginning, and is told as far as it was known then.
    let pinned = || proxy.metrics().value("redis_proxy_resp_commands_total{lane=\"pinned\"}");
    let (before, mut upload) = (pinned(), proxy.resp_client());
    upload.send("*3\r\n$3\r\nSET\r\n$5\r\nlarge\r\n$200000\r\n");
    upload.send("x".repeat(100_000));
    wait_until(PATIENCE, "its beginning", || pinned() > before);
    std::thread::sleep(Duration::from_millis(100));
    upload.send(format!("{}\r\n", "x".repeat(100_000)));
    assert_eq!(upload.line(), "+OK");
    wait_until(PATIENCE, "the upload", || commands(&proxy).iter().any(|line| line.starts_with("SET large")));
    // A command that blocks is meant to take long.
    assert_eq!(client.command(&["BLPOP", "nothing", "0.2"]), Reply::Nil);
    // Over HTTP.
    let blocker = std::thread::spawn({
        let mut blocker = redis.client();
        let slow = slow.to_owned();
        move || blocker.command(&["EVAL", &slow.replace("150000", "600000"), "0"])
    });
    wait_until(PATIENCE, "a slow request", || {
        proxy.get("/absent%00");
        commands(&proxy).iter().any(|line| line == "GET absent\\x00")
    });
    blocker.join().expect("a reply");
    assert!(!commands(&proxy).iter().any(|line| line.starts_with("BLPOP")), "{:?}", commands(&proxy));
    let line = slow_log(&proxy).into_iter().find(|line| line["client"] == "http").expect("it");
    assert_eq!(line["delivered_us"], Value::Null);
    // A client sees what its own user did in its own database.
    let Reply::Array(shown) = client.command(&["PROXY", "SLOWLOG", "GET", "100"]) else { panic!("no list") };
    let Reply::Integer(count) = client.command(&["PROXY", "SLOWLOG", "LEN"]) else { panic!("no number") };
    assert_eq!((shown.len(), count > 0), (usize::try_from(count).unwrap(), true));
    assert!(!format!("{shown:?}").contains("absent"), "{shown:?}");
    client.command(&["SELECT", "1"]);
    assert_eq!(client.command(&["PROXY", "SLOWLOG", "LEN"]), Reply::Integer(0));
    client.command(&["SELECT", "0"]);
    assert_eq!(client.command(&["PROXY", "SLOWLOG", "RESET"]), Reply::Simple("OK".into()));
    assert_eq!(client.command(&["PROXY", "SLOWLOG", "LEN"]), Reply::Integer(0));
    assert!(
        commands(&proxy).iter().any(|line| line.starts_with("GET absent")),
        "that was no client's of its"
    );
    assert!(matches!(client.command(&["PROXY", "SLOWLOG", "GET", "-1"]), Reply::Error(_)));
}

#[test]
fn no_secret_is_in_it_and_hits_are_never() {
    let settings = [("SLOWLOG_THRESHOLD", "1us"), ("RESP_PROXY_ADMIN", "all"), ("WORKERS", "1")];
    let (redis, proxy) = start_resp(&settings);
    redis.client().set("k", "value");
    let mut client = proxy.redis_client();
    for command in [
        &["AUTH", "default", "planted-one"][..],
        &["AUTH", "planted-too", "many", "planted-words"],
        &["HELLO", "3", "AUTH", "default", "planted-two"],
        &["CONFIG", "SET", "masterauth", "planted-three"],
        &["ACL", "SETUSER", "eve", "on", ">planted-four"],
        &["MIGRATE", "127.0.0.1", "1", "none", "0", "10", "AUTH", "planted-five"],
        &["letmein", "planted-six"],
        &["PING"],
    ] {
        client.command(command);
    }
    wait_until(PATIENCE, "all of it kept", || commands(&proxy).first().is_some_and(|line| line == "PING"));
    let kept = commands(&proxy);
    assert!(!kept.iter().any(|line| line.contains("planted")), "{kept:?}");
    assert!(kept.contains(&"CONFIG SET masterauth (redacted)".to_owned()), "{kept:?}");
    assert!(kept.contains(&"letmein (redacted)".to_owned()), "{kept:?}");
    // 128 are kept.
    for number in 0..200 {
        client.command(&["ECHO", &number.to_string()]);
    }
    wait_until(PATIENCE, "the last", || commands(&proxy).first().is_some_and(|line| line == "ECHO 199"));
    assert_eq!(commands(&proxy).len(), 128);
    // A hit is not measured.
    let hits = || proxy.metrics().value("redis_proxy_lookups_total{result=\"hit\"}");
    wait_until(PATIENCE, "a hit", || {
        client.command(&["GET", "k"]);
        hits() > 0.0
    });
    let gets = |commands: Vec<String>| commands.iter().filter(|line| line.starts_with("GET")).count();
    let (before, of_hits) = (gets(commands(&proxy)), hits());
    (0..5).for_each(|_| drop(client.command(&["GET", "k"])));
    client.command(&["ECHO", "last"]);
    wait_until(PATIENCE, "what came last", || commands(&proxy)[0] == "ECHO last");
    assert_eq!((gets(commands(&proxy)), hits()), (before, of_hits + 5.0));
}

#[test]
fn where_it_is_off_nothing_is_kept_and_who_may_not_look_is_told_so() {
    let (redis, proxy) = start_resp(&[("SLOWLOG_THRESHOLD", "off"), ("RESP_PROXY_ADMIN", "off")]);
    redis.client().set("k", "value");
    let mut client = proxy.redis_client();
    client.command(&["GET", "k"]);
    client.command(&["DEBUG", "SLEEP", "0.05"]);
    assert_eq!(slow_log(&proxy), Vec::<Value>::new());
    for command in ["GET", "LEN", "RESET"] {
        let refused = client.command(&["PROXY", "SLOWLOG", command]);
        assert!(matches!(&refused, Reply::Error(text) if text.starts_with("NOPERM")), "{refused:?}");
    }
}
