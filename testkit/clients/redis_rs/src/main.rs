//! redis-rs as its users use it, against the address given: HOST PORT DATABASE, and `cluster` for its client of a cluster. A line a step; restarts are asked for on stdout.

mod cluster;

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use redis::{
    Client, Commands, Connection, ErrorKind, RedisResult, Script, ServerErrorKind, pipe, transaction,
};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    for protocol in [2, 3] {
        if arguments.get(4).is_some_and(|kind| kind == "cluster") {
            let url = format!("redis://{}:{}", arguments[1], arguments[2]);
            let done = |step: &str| println!("ok resp{protocol} {step}");
            cluster::run(&url, protocol, done).expect("what the cluster answers");
            continue;
        }
        let url =
            format!("redis://{}:{}/{}?protocol=resp{protocol}", arguments[1], arguments[2], arguments[3]);
        let done = |step: &str| println!("ok resp{protocol} {step}");
        run(&Client::open(url).expect("an address"), done).expect("what Redis answers");
    }
}

fn run(client: &Client, done: impl Fn(&str)) -> RedisResult<()> {
    let mut redis = client.get_connection()?;
    let () = redis::cmd("FLUSHDB").query(&mut redis)?;
    assert_eq!(redis::cmd("PING").query::<String>(&mut redis)?, "PONG");
    let () = redis.set(b"bin\0\r\n\xff", b"\r\n\0")?;
    assert_eq!(redis.get::<_, Vec<u8>>(b"bin\0\r\n\xff")?, b"\r\n\0");
    assert_eq!(redis.get::<_, Option<String>>("none")?, None);
    let () = redis.hset_multiple("h", &[("f", 1), ("g", 2)])?;
    let expected = HashMap::from([("f".to_owned(), 1), ("g".to_owned(), 2)]);
    assert_eq!(redis.hgetall::<_, HashMap<String, i64>>("h")?, expected);
    let () = redis.zadd_multiple("z", &[(1.0, "a"), (2.5, "b")])?;
    let expected = [("a".to_owned(), 1.0), ("b".to_owned(), 2.5)];
    assert_eq!(redis.zrange_withscores::<_, Vec<(String, f64)>>("z", 0, -1)?, expected);
    done("commands");

    let big = vec![b'x'; 5 << 20];
    let () = redis.set("big", &big)?;
    assert_eq!(redis.get::<_, Vec<u8>>("big")?, big);
    done("a value of 5 MiB");

    let mut pipeline = pipe();
    for number in 0..10_000 {
        pipeline.set(format!("k{number}"), number).ignore().get(format!("k{number}"));
    }
    assert_eq!(pipeline.query::<Vec<i64>>(&mut redis)?, (0..10_000).collect::<Vec<_>>());
    done("a pipeline of 20,000");

    let mut other = client.get_connection()?;
    let mut attempts = 0;
    let counted: (i64,) = transaction(&mut redis, &["counter"], |redis, pipe| {
        attempts += 1;
        let seen: i64 = redis.get::<_, Option<i64>>("counter")?.unwrap_or(0);
        if attempts == 1 {
            let () = other.set("counter", 7)?;
        }
        pipe.set("counter", seen + 1).ignore().get("counter").query(redis)
    })?;
    assert_eq!((counted.0, attempts), (8, 2));
    done("a watched transaction that loses, and one that wins");

    let mut listener = client.get_connection()?;
    let mut channel = listener.as_pubsub();
    channel.subscribe("news")?;
    channel.psubscribe("new*")?;
    channel.set_read_timeout(Some(Duration::from_secs(10)))?;
    assert_eq!(redis.publish::<_, _, i64>("news", "hello")?, 2);
    for pattern in [None, Some("new*".to_owned())] {
        let message = channel.get_message()?;
        let heard: (String, Option<String>) = (message.get_payload()?, message.get_pattern()?);
        assert_eq!(heard, ("hello".to_owned(), pattern));
    }
    done("channels");

    let mut waiting = client.get_connection()?;
    let popped = thread::spawn(move || (waiting.blpop::<_, (String, String)>("list", 10.0), waiting));
    thread::sleep(Duration::from_millis(200));
    let () = redis.rpush("list", "element")?;
    let (popped, mut waiting) = popped.join().expect("no panic");
    assert_eq!(popped?, ("list".to_owned(), "element".to_owned()));
    assert_eq!(waiting.blpop::<_, Option<(String, String)>>("list", 0.05)?, None);
    done("a blocking pop");

    let () = redis::cmd("SCRIPT").arg("FLUSH").query(&mut redis)?;
    let script = Script::new("return {KEYS[1], ARGV[1], redis.call('GET', KEYS[1])}");
    for (key, argument, value) in [("k1", "a", "1"), ("k2", "b", "2")] {
        let found: Vec<String> = script.key(key).arg(argument).invoke(&mut redis)?;
        assert_eq!(found, [key, argument, value]);
    }
    done("a script by its digest");

    let wrong = redis.lpush::<_, _, i64>("k1", "x").expect_err("not a list");
    assert!(wrong.to_string().contains("WRONGTYPE"), "{wrong}");
    let cut = redis::cmd("GET").query::<String>(&mut redis).expect_err("no key");
    assert_eq!(cut.kind(), ErrorKind::Server(ServerErrorKind::ResponseError), "{cut}");
    done("errors of Redis");

    println!("restart");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    assert_eq!(line, "restarted\n");
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(error) =
        client.get_connection().and_then(|mut redis: Connection| redis.set::<_, _, ()>("after", "restart"))
    {
        assert!(Instant::now() < deadline, "{error}");
        thread::sleep(Duration::from_millis(50));
    }
    done("a restart of Redis");
    Ok(())
}
