//! The same as a client of a cluster, which asks for its nodes.

use std::thread;
use std::time::{Duration, Instant};

use redis::cluster::{ClusterClient, ClusterConnection, cluster_pipe};
use redis::{Commands, ProtocolVersion, RedisResult, Script};

pub fn run(url: &str, protocol: u32, done: impl Fn(&str)) -> RedisResult<()> {
    let protocol = if protocol == 3 { ProtocolVersion::RESP3 } else { ProtocolVersion::RESP2 };
    let client = ClusterClient::builder(vec![url]).use_protocol(protocol).build()?;
    let mut redis = client.get_connection()?;
    let () = redis::cmd("FLUSHDB").query(&mut redis)?;
    let () = redis.set(b"bin\0\r\n\xff", b"\r\n\0")?;
    assert_eq!(redis.get::<_, Vec<u8>>(b"bin\0\r\n\xff")?, b"\r\n\0");
    // Any slots: to this client all are of one node.
    let () = redis.mset(&[("a", 1), ("b", 2), ("c", 3)])?;
    assert_eq!(redis.mget::<_, Vec<i64>>(&["a", "b", "c"])?, [1, 2, 3]);
    assert_eq!(redis.del::<_, i64>(&["a", "b", "c"])?, 3);
    let () = redis.hset_multiple("h", &[("f", 1), ("g", 2)])?;
    assert_eq!(redis.hlen::<_, i64>("h")?, 2);
    done("commands");

    let mut pipeline = cluster_pipe();
    for number in 0..1_000 {
        pipeline.set(format!("k{number}"), number).ignore().get(format!("k{number}"));
    }
    assert_eq!(pipeline.query::<Vec<i64>>(&mut redis)?, (0..1_000).collect::<Vec<_>>());
    done("a pipeline of 2,000");

    let script = Script::new("return {KEYS[1], ARGV[1], redis.call('GET', KEYS[1])}");
    for (key, argument, value) in [("k1", "a", "1"), ("k2", "b", "2")] {
        let found: Vec<String> = script.key(key).arg(argument).invoke(&mut redis)?;
        assert_eq!(found, [key, argument, value]);
    }
    done("a script");

    let wrong = redis.lpush::<_, _, i64>("k1", "x").expect_err("not a list");
    assert!(wrong.to_string().contains("WRONGTYPE"), "{wrong}");
    done("errors of Redis");

    println!("restart");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    assert_eq!(line, "restarted\n");
    let deadline = Instant::now() + Duration::from_secs(20);
    let again = |mut redis: ClusterConnection| redis.set::<_, _, ()>("after", "restart");
    while let Err(error) = client.get_connection().and_then(again) {
        assert!(Instant::now() < deadline, "{error}");
        thread::sleep(Duration::from_millis(50));
    }
    done("a restart of Redis");
    Ok(())
}
