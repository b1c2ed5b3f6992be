//! Limits of the RESP front, malformed input, big bulks and slow clients.

use std::thread;
use std::time::{Duration, Instant};

use testkit::{Proxy, RawClient, wait_until};

use crate::support::{start_resp, start_resp_in, start_with};

const MIB: usize = 1 << 20;

#[test]
fn malformed_input_is_answered_and_closed_as_redis_does() {
    let (redis, proxy) = start_resp(&[]);
    let long = format!("*1\r\n${}", "1".repeat(65_537));
    let inputs =
        ["*x\r\n", "*1\r\n$x\r\n", "*1\r\nPING\r\n", "\"a\r\n", "*2000000000000\r\n", &long, "*1\r\n$-5\r\n"];
    for input in inputs {
        let mut direct = testkit::RawClient::connect(redis.address());
        let mut client = proxy.resp_client();
        // What was asked before is answered before.
        let expected = direct.send(format!("INCR direct\r\n{input}")).line() + &direct.line();
        let found = client.send(format!("INCR proxied\r\n{input}")).line() + &client.line();
        assert_eq!(found, expected, "{input:.40}");
        assert!(client.at_end(), "{input:.40}");
    }
}

#[test]
fn a_browser_led_astray_is_closed_without_a_word() {
    let (_redis, proxy) = start_resp(&[]);
    for request in ["POST / HTTP/1.1\r\nHost: h\r\n\r\nSET k v\r\n", "GET / HTTP/1.1\r\nHost: h\r\n\r\n"] {
        let mut client = proxy.resp_client();
        client.send(request);
        if request.starts_with("GET") {
            client.expect("-ERR wrong number of arguments for 'get' command\r\n");
        }
        assert!(client.at_end(), "{request:?}");
    }
    proxy.resp_client().ask("GET k", "$-1");
}

#[test]
fn more_than_max_clients_are_told_at_once_whatever_they_speak() {
    let (_redis, proxy) = start_resp(&[("MAX_CLIENTS", "2"), ("CLIENT_WAIT", "60s")]);
    let mut http = proxy.client();
    assert_eq!(http.get("/k").status, 404);
    http.send("GET /k"); // an idle one would make room
    let mut one = proxy.resp_client();
    one.ask("PING", "+PONG");
    let begun = Instant::now();
    let mut two = proxy.resp_client();
    two.expect("-ERR max number of clients reached\r\n");
    assert!(two.at_end());
    assert!(begun.elapsed() < Duration::from_secs(5));
    drop(one);
    testkit::wait_until(Duration::from_secs(5), "a place", || {
        proxy.resp_client().send("PING\r\n").line() == "+PONG"
    });
}

#[test]
fn a_hundred_mebibytes_reach_a_slow_reader_and_stall_nobody() {
    let (redis, proxy) = start_resp(&[("WORKERS", "1")]);
    let mut direct = redis.client();
    direct.command(&["SETRANGE", "big", &(100 * MIB - 1).to_string(), "x"]);
    let mut slow = proxy.resp_client();
    slow.send("GET big\r\nPING\r\n").expect(format!("${}\r\n", 100 * MIB));
    let mut other = proxy.resp_client();
    for _ in 0..100 {
        let begun = Instant::now();
        other.ask("SET k v", "+OK");
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        slow.skip(10_000);
    }
    slow.skip(100 * MIB as u64 - 1_000_000).expect("\r\n+PONG\r\n");
}

#[test]
fn a_client_that_leaves_too_much_unread_is_closed() {
    let (redis, proxy) =
        start_resp(&[("RESP_OUTPUT_LIMIT_BYTES", "1MiB"), ("WORKERS", "1"), ("RESP_COHERENCE", "ttl")]);
    redis.client().set("k", vec![b'x'; 16 * 1024]);
    let slow = proxy.resp_client().with_small_buffer();
    let mut other = proxy.resp_client();
    let mut sender = slow.twin();
    let sending = thread::spawn(move || {
        for _ in 0..10_000 {
            if sender.try_send("GET k\r\n".repeat(100)).is_err() {
                return;
            }
        }
    });
    sending.join().expect("the sender ends, because the connection does");
    other.ask("PING", "+PONG").ask("GET none", "$-1");
    assert!(proxy.resident_bytes() < 200 * MIB as u64, "{}", proxy.resident_bytes());
    drop(slow);
}

#[test]
fn slow_readers_together_leave_a_bounded_amount_unread() {
    let settings = [("RESP_UNREAD_BYTES", "40MiB"), ("WORKERS", "2"), ("RESP_COHERENCE", "off")];
    let (redis, proxy) = start_resp(&settings);
    redis.client().set("k", vec![b'x'; 16 * MIB]);
    let unread = || proxy.metrics().value("redis_proxy_resp_unread_bytes");
    let closed = || proxy.metrics().value("redis_proxy_resp_closed_clients_total{reason=\"unread\"}");
    let slow: Vec<_> = (0..6)
        .map(|_| {
            let mut client = proxy.resp_client().with_small_buffer();
            client.send("GET k\r\n");
            client
        })
        .collect();
    testkit::wait_until(Duration::from_secs(10), "clients that are closed", || closed() >= 2.0);
    assert!(unread() > 0.0 && unread() <= (40 * MIB) as f64, "{}", unread());
    proxy.resp_client().ask("PING", "+PONG").ask("STRLEN k", &format!(":{}", 16 * MIB));
    drop(slow);
    testkit::wait_until(Duration::from_secs(10), "nothing is unread", || unread() == 0.0);
    // Who reads gets more than all may leave.
    let mut client = proxy.resp_client();
    for _ in 0..4 {
        client.send("GET k\r\n").skip(16 * MIB as u64 + 13);
    }
    client.ask("PING", "+PONG");
}

/// Waits until the program has done what it can.
fn wait_still(proxy: &Proxy) {
    let mut last = (u64::MAX, Instant::now());
    wait_until(Duration::from_secs(60), "the program to stand still", || {
        let ticks = proxy.cpu_ticks();
        if ticks != last.0 {
            last = (ticks, Instant::now());
        }
        last.1.elapsed() > Duration::from_millis(300)
    });
}

/// Ten clients that send `requests` and read nothing: what they cost. They are given back.
#[track_caller]
fn ten_that_do_not_read(proxy: &Proxy, requests: &[u8]) -> Vec<RawClient> {
    let before = proxy.resident_bytes();
    let clients: Vec<_> = (0..10)
        .map(|_| {
            let mut client = proxy.resp_client().with_small_buffer();
            client.send(requests);
            client
        })
        .collect();
    wait_still(proxy);
    let grown = proxy.resident_bytes().saturating_sub(before);
    assert!(grown <= 64 << 20, "{} MiB", grown >> 20);
    clients
}

#[test]
fn replies_from_memory_that_nobody_reads_are_not_built() {
    // However much of an output may be large.
    let settings = [("WORKERS", "1"), ("OUTPUT_BUFFER_BYTES", "16MiB")];
    let (redis, proxy) = start_resp_in("tracking", &settings);
    let (large, field) = (vec![b'x'; MIB - 1000], "v".repeat(15_000));
    redis.client().set("k", &large);
    redis.client().command(&["HSET", "h", "f", &field]);
    let half = String::from_utf8(vec![b'l'; MIB / 3]).expect("text");
    redis.client().command(&["RPUSH", "list", &half, &half]);
    let mut client = proxy.resp_client();
    let value = format!("${}\r\n{}\r\n", large.len(), "x".repeat(large.len()));
    let list = format!("*2\r\n${0}\r\n{half}\r\n${0}\r\n{half}\r\n", half.len());
    let reads = || {
        ["get", "hgetall", "hmget", "lrange", "mget", "getrange"]
            .iter()
            .map(|name| redis.command_calls(name))
            .sum::<u64>()
    };
    let warm = b"GET k\r\nLRANGE list 0 -1\r\nHGETALL h\r\n";
    wait_until(Duration::from_secs(20), "all in memory", || {
        redis.reset_stats();
        client.send(warm).expect(&value).expect(&list);
        client.expect(format!("*2\r\n$1\r\nf\r\n$15000\r\n{field}\r\n"));
        // Their user's right to these is known then.
        client.ask("GETRANGE k 0 0", "$1\r\nx").ask("HMGET h x", "*1\r\n$-1");
        reads() == 0
    });
    let mget = format!("MGET{}\r\n", " k".repeat(128));
    let words: Vec<&str> =
        ["HMGET", "h"].into_iter().chain(["f", "x"].into_iter().cycle().take(4_000)).collect();
    let hmget = command(&words);
    let ranges = b"GETRANGE k 1 -2\r\n".repeat(200);
    for requests in [mget.repeat(3).as_bytes(), &hmget, &warm.repeat(50), &ranges] {
        drop(ten_that_do_not_read(&proxy, requests));
    }
    // Who reads gets all of it, and in order.
    client.send(&hmget).expect("*4000\r\n");
    for _ in 0..2_000 {
        client.expect(format!("$15000\r\n{field}\r\n$-1\r\n"));
    }
    client.send(b"GETRANGE k 1 -2\r\nMGET k h none k\r\nPING\r\n");
    client.expect(format!("${}\r\n", MIB - 1002)).expect(&large[2..]).expect("\r\n");
    client.expect("*4\r\n").expect(&value).expect("$-1\r\n$-1\r\n").expect(&value).expect("+PONG\r\n");
    client.send(&mget).expect("*128\r\n");
    for _ in 0..128 {
        client.expect(&value);
    }
    client.ask("GET none", "$-1");
    assert_eq!(
        redis.command_calls("lrange") + redis.command_calls("getrange") + redis.command_calls("hmget"),
        0
    );
}

#[test]
fn an_mget_of_a_user_whose_right_to_it_is_not_known_is_not_built_either() {
    let keys: Vec<String> = (0..64).map(|n| format!("k{n}")).collect();
    let cached = keys.iter().map(|key| format!("GET {key}\r\n")).collect::<String>();
    let repeated = format!("MGET{}\r\n", " k0".repeat(128));
    let half = format!("MGET {0} missing:{1}\r\n", keys.join(" "), keys.join(" missing:"));
    for requests in [repeated, half] {
        let (redis, proxy) = start_resp_in("tracking", &[]);
        for key in &keys {
            redis.client().set(key, vec![b'x'; MIB - 1000]);
        }
        let mut client = proxy.resp_client();
        for _ in 0..2 {
            client.send(&cached);
            keys.iter().for_each(|_| _ = client.skip((MIB - 1000) as u64 + 12));
        }
        let slow = ten_that_do_not_read(&proxy, requests.as_bytes());
        // Who reads gets all of it.
        client.send(&requests).expect("*128\r\n$1047576\r\n");
        drop(slow);
    }
}

#[test]
fn what_shows_the_right_to_mget_is_not_held_for_its_client() {
    for mode in ["ttl", "tracking"] {
        // The value is heard once and sent once.
        let (redis, proxy) = start_resp_in(mode, &[("RESP_OUTPUT_LIMIT_BYTES", "24MiB")]);
        redis.client().set("large", vec![b'x'; 20 * MIB]);
        let mut client = proxy.resp_client();
        client.send("MGET large none\r\nPING\r\n").expect("*2\r\n$20971520\r\n");
        client.skip(20 * MIB as u64 + 2).expect("$-1\r\n+PONG\r\n");
    }
}

/// A command as bytes.
fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len());
    for word in words {
        bytes += &format!("${}\r\n{word}\r\n", word.len());
    }
    bytes.into_bytes()
}

#[test]
fn fetched_values_that_nobody_reads_count_as_unread() {
    let settings = [("RESP_UNREAD_BYTES", "40MiB"), ("WORKERS", "2")];
    let (redis, proxy) = start_resp_in("ttl", &settings);
    for n in 0..24 {
        redis.client().set(format!("k{n}"), vec![b'x'; 8 * MIB]);
    }
    let unread = || proxy.metrics().value("redis_proxy_resp_unread_bytes");
    let closed = || proxy.metrics().value("redis_proxy_resp_closed_clients_total{reason=\"unread\"}");
    let slow: Vec<_> = (0..24)
        .map(|n| {
            let mut client = proxy.resp_client().with_small_buffer();
            client.send(format!("GET k{n}\r\n"));
            client
        })
        .collect();
    wait_until(Duration::from_secs(60), "clients that are closed", || closed() >= 2.0);
    assert!(unread() > 0.0 && unread() <= (40 * MIB) as f64, "{}", unread());
    drop(slow);
    wait_until(Duration::from_secs(60), "nothing is unread", || unread() == 0.0);
    // Who reads gets more than all may leave.
    let mut client = proxy.resp_client();
    let gets: String = (0..16).map(|n| format!("GET k{n}\r\n")).collect();
    client.send(&gets);
    for _ in 0..16 {
        client.expect(format!("${}\r\n", 8 * MIB)).skip(8 * MIB as u64).expect("\r\n");
    }
    client.ask("PING", "+PONG");
}

#[test]
fn many_large_values_behind_one_that_nobody_reads_are_not_held() {
    let (redis, proxy) = start_resp_in("ttl", &[("WORKERS", "1"), ("WRITE_TIMEOUT", "600s")]);
    for n in 0..32 {
        redis.client().set(format!("k{n}"), vec![b'a' + n % 26; 4 * MIB]);
    }
    let mut client = proxy.resp_client();
    client.send("GET none\r\n".repeat(300));
    for _ in 0..300 {
        client.expect("$-1\r\n");
    }
    let before = proxy.resident_bytes();
    let gets: String = (0..32).map(|n| format!("GET k{n}\r\n")).collect();
    client.send(&gets);
    wait_still(&proxy);
    let grown = proxy.resident_bytes().saturating_sub(before);
    assert!(grown <= 64 << 20, "{} MiB", grown >> 20);
    for n in 0..32 {
        client.expect(format!("${}\r\n", 4 * MIB)).expect(vec![b'a' + n % 26; 4 * MIB]).expect("\r\n");
    }
    assert!(redis.command_calls("get") <= 300 + 2 * 32, "{}", redis.command_calls("get"));
}

#[test]
fn what_a_pin_or_a_tunnel_has_brought_counts_as_unread() {
    let (redis, proxy) = start_resp(&[("WORKERS", "1")]);
    let unread = || proxy.metrics().value("redis_proxy_resp_unread_bytes");
    let mut publisher = redis.client();
    for command in ["SUBSCRIBE c\r\n", "MONITOR\r\n"] {
        // How much of a read is left over is the kernel's to say, and 16 KiB of it are not counted.
        let mut sizes = (0..50).map(|n| 100_000 + n * 7_919);
        let mut counted = |size| {
            let mut client = proxy.resp_client().with_small_buffer();
            client.send(command).line();
            let text = "x".repeat(size);
            let most = (0..200).map(|_| {
                publisher.command(&["PUBLISH", "c", &text]);
                unread()
            });
            let most = most.take_while(|bytes| *bytes == 0.0).count();
            assert!(unread() <= 64.0 * 1024.0, "{}", unread());
            drop(client);
            wait_until(Duration::from_secs(60), "nothing is unread", || unread() == 0.0);
            most < 200
        };
        assert!(sizes.any(&mut counted), "{command}");
    }
}

#[test]
fn lanes_are_bounded_and_an_idle_one_makes_room() {
    let (redis, proxy) = start_resp(&[("MAX_LANES", "2"), ("WORKERS", "1"), ("RESP_COHERENCE", "off")]);
    let lanes = || proxy.metrics().value("redis_proxy_open_lanes");
    let mut clients: Vec<_> = (0..5)
        .map(|db| {
            let mut client = proxy.resp_client();
            client.ask(&format!("SELECT {db}"), "+OK").ask("SET k v", "+OK");
            client
        })
        .collect();
    assert!(lanes() <= 2.0, "{}", lanes());
    for client in &mut clients {
        client.ask("GET k", "$1\r\nv");
    }
    assert!(lanes() <= 2.0, "{}", lanes());
    redis.client().command(&["CLIENT", "PAUSE", "1000", "WRITE"]);
    clients[0].send("SET k w\r\n");
    clients[1].send("SET k w\r\n");
    testkit::wait_until(Duration::from_secs(5), "both lanes are in use", || {
        clients[2].send("GET k\r\n").line() == "-ERR proxy: too many lanes" || {
            clients[2].line();
            false
        }
    });
    clients[0].expect("+OK\r\n");
    clients[1].expect("+OK\r\n");
    clients[2].ask("GET k", "$1\r\nv");
}

#[test]
fn a_lane_that_nobody_uses_is_closed() {
    let (_redis, proxy) = start_resp(&[("RESP_LANE_IDLE", "100ms")]);
    let mut client = proxy.resp_client();
    for _ in 0..3 {
        client.ask("SET k v", "+OK");
        testkit::wait_until(Duration::from_secs(5), "no lane", || {
            proxy.metrics().value("redis_proxy_open_lanes") == 0.0
        });
    }
}

#[test]
fn a_slow_uploader_stalls_nobody() {
    let (redis, proxy) = start_resp(&[("WORKERS", "1")]);
    let mut slow = proxy.resp_client();
    slow.ask("SET before 1", "+OK").send(format!("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n${}\r\n", 10 * MIB));
    let mut other = proxy.resp_client();
    let piece = vec![b'y'; MIB];
    for n in 0..10 {
        slow.send(&piece);
        other.ask(&format!("SET k {n}"), "+OK").ask("GET k", &format!("$1\r\n{n}"));
    }
    slow.send("\r\nSTRLEN big\r\n").expect(format!("+OK\r\n:{}\r\n", 10 * MIB));
    slow.ask("GET k", "$1\r\n9");
    assert_eq!(redis.client().get("big").map(|value| value.len()), Some(10 * MIB));
    // One that stops half-way leaves nothing behind.
    slow.send(format!("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n${}\r\nonly this", 10 * MIB));
    drop(slow);
    testkit::wait_until(Duration::from_secs(5), "the pin is gone", || {
        proxy.metrics().value("redis_proxy_pinned_connections") == 0.0
    });
    other.ask("STRLEN big", &format!(":{}", 10 * MIB));
}

#[test]
fn big_requests_of_every_kind_arrive_whole() {
    let (_redis, proxy) = start_resp(&[]);
    let mut client = proxy.resp_client();
    let big = vec![b'z'; 3 * MIB];
    for _ in 0..3 {
        client
            .send_command(&[&b"ECHO"[..], &big])
            .expect(format!("${}\r\n", big.len()))
            .expect(&big)
            .expect("\r\n");
        client.send_command(&[&b"SET"[..], b"k", &big]).expect("+OK\r\n").ask("STRLEN k", ":3145728");
    }
    // Many small arguments are as big as a few large ones.
    let mut words = vec!["RPUSH".to_owned(), "list".to_owned()];
    words.extend((0..50_000).map(|n| n.to_string()));
    client.send_command(&words).expect(":50000\r\n").ask("LLEN list", ":50000");
    // It may have closed before all of that is sent.
    let _ = client.try_send([b"*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$3145728\r\n", &big[..]].concat());
    assert!(client.at_end(), "what must be whole to be understood has a limit");
}

#[test]
fn half_a_command_is_no_sign_of_life() {
    let (redis, proxy) = start_with(&[("RESP_PORT", "0"), ("RESP_IDLE_TIMEOUT", "300ms")]);
    redis.client().set("k", "v");
    let big = format!("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n${}\r\n{}", 10 * MIB, "x".repeat(MIB));
    let long = format!("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$40000\r\n{}", "x".repeat(10_000));
    for half in ["*", "*2\r\n$3\r\nGET\r\n$1", "GET k", "GET k\r", &long, &big] {
        for before in ["", "GET k\r\n", "MULTI\r\n", "WATCH k\r\n"] {
            let mut client = proxy.resp_client();
            if !before.is_empty() {
                client.send(before).reply();
            }
            let begun = Instant::now();
            client.send(half);
            let half = &half[..half.len().min(30)];
            assert!(client.at_end(), "{before:?} {half:?}");
            let waited = begun.elapsed();
            assert!(waited >= Duration::from_millis(250), "{before:?} {half:?} {waited:?}");
            assert!(waited < Duration::from_secs(15), "{before:?} {half:?} {waited:?}");
        }
    }
}

/// As at Redis, whose time counts from the last byte too (networking.c, `readQueryFromClient`).
#[test]
fn a_command_that_comes_a_byte_at_a_time_is_not_cut_until_its_last_byte_is_old() {
    let (redis, proxy) = start_with(&[("RESP_PORT", "0"), ("RESP_IDLE_TIMEOUT", "1s")]);
    redis.client().set("k", "v");
    let command = "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
    let mut client = proxy.resp_client();
    // More than twice its time, and a third of it between two bytes.
    let slowly = |client: &mut RawClient, bytes: &str| {
        for byte in bytes.bytes() {
            client.send([byte]);
            thread::sleep(Duration::from_millis(150));
        }
    };
    slowly(&mut client, command);
    client.expect("$1\r\nv\r\n");
    slowly(&mut client, &command[..command.len() - 2]);
    let last = Instant::now();
    assert!(client.at_end());
    let waited = last.elapsed();
    assert!(waited >= Duration::from_millis(700), "{waited:?}");
    assert!(waited < Duration::from_secs(2), "RESP_IDLE_TIMEOUT and a second: {waited:?}");
}

#[test]
fn who_waits_for_a_reply_is_not_idle_when_it_comes() {
    let (redis, proxy) = start_with(&[("RESP_PORT", "0"), ("RESP_IDLE_TIMEOUT", "500ms")]);
    let mut client = proxy.resp_client();
    let mut subscriber = proxy.resp_client();
    subscriber.send("SUBSCRIBE c\r\n").reply();
    client.ask("PING", "+PONG");
    redis.client().command(&["CLIENT", "PAUSE", "1500", "ALL"]);
    client.send("SET k v\r\n").expect("+OK\r\n");
    let answered = Instant::now();
    assert!(client.at_end());
    assert!(answered.elapsed() >= Duration::from_millis(400), "{:?}", answered.elapsed());
    let mut blocked = proxy.resp_client();
    blocked.send("BLPOP list 1.5\r\n").expect("*-1\r\n");
    subscriber.ask("PING", "*2\r\n$4\r\npong\r\n$0\r\n");
}

#[test]
fn an_idle_client_stays_unless_told_otherwise() {
    let (_redis, proxy) = start_with(&[("RESP_PORT", "0"), ("IDLE_TIMEOUT", "100ms")]);
    let mut client = proxy.resp_client();
    client.ask("PING", "+PONG");
    assert!(client.is_silent_for(Duration::from_millis(400)));
    client.ask("PING", "+PONG");
    let (_redis, proxy) = start_with(&[("RESP_PORT", "0"), ("RESP_IDLE_TIMEOUT", "100ms")]);
    let mut client = proxy.resp_client();
    client.ask("PING", "+PONG");
    assert!(client.at_end());
}
