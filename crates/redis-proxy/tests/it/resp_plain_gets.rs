//! GETs in their plainest form, which are answered without a look at anything else where nothing else counts: among all that does.

use testkit::{Random, RawClient, seed, wait_until};

use crate::support::{start_resp, start_resp_in};

/// Commands that decide what becomes of the GETs behind them. No write changes anything, so that one order of all is as good as another.
const OTHERS: &str = "SELECT 1|SELECT 0|MULTI|EXEC|DISCARD|CLIENT REPLY SKIP|CLIENT REPLY OFF|CLIENT REPLY ON|SET a 1|MGET a none large|PING\
                      |HELLO 3|HELLO 2|RESET|WATCH a|AUTH narrow pw|AUTH default x|STRLEN large|GET a b|TYPE a|CLIENT TRACKING OFF|XYZ";
const KEYS: [&str; 6] = ["a", "b", "none", "large", "largest", "list"];
/// After these a client is answered whatever it has said before.
const END: &str = "CLIENT REPLY ON|DISCARD|CLIENT REPLY ON|ECHO end";

/// A pipeline of more GETs than are looked ahead at.
fn pipeline(random: &mut Random) -> Vec<String> {
    let others: Vec<&str> = OTHERS.split('|').collect();
    let mut lines = Vec::new();
    let mut is_in_multi = false;
    for _ in 0..random.between(1, 60) {
        let other = others[random.below(others.len())];
        match other {
            _ if random.percent(80) => {
                let (name, key) = (["GET", "get", "Get"][random.below(3)], KEYS[random.below(KEYS.len())]);
                lines.push(format!("{name} {key}"));
                continue;
            }
            // EXEC would tell of more answers than come.
            other if is_in_multi && other.starts_with("CLIENT REPLY") => continue,
            "MULTI" => is_in_multi = true,
            "EXEC" | "DISCARD" | "RESET" => is_in_multi = false,
            _ => {}
        }
        lines.push(other.to_owned());
    }
    lines.extend(END.split('|').map(str::to_owned));
    lines
}

fn encoded(lines: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        bytes.extend(format!("*{}\r\n", words.len()).into_bytes());
        words.iter().for_each(|word| bytes.extend(format!("${}\r\n{word}\r\n", word.len()).into_bytes()));
    }
    bytes
}

/// What a new client is answered to a pipeline that comes in pieces of so many bytes.
fn answers(mut client: RawClient, pipeline: &[u8], piece: usize) -> Vec<String> {
    for piece in pipeline.chunks(piece) {
        client.send(piece);
    }
    let mut answers = Vec::new();
    while answers.last().is_none_or(|last| last != "$3\r\nend\r\n") {
        let answer = String::from_utf8_lossy(&client.reply()).into_owned();
        // Who says HELLO is told of the server.
        answers.push(if answer.contains("version") { "hello".into() } else { answer });
    }
    answers
}

#[test]
fn among_other_commands_they_are_answered_as_redis_answers() {
    for mode in ["ttl", "tracking", "strict"] {
        let (redis, proxy) = start_resp_in(mode, &[]);
        proxy.allow_warning("coherence is not in force");
        proxy.allow_warning("the canary cannot be written");
        let mut direct = redis.client();
        direct.command(&["ACL", "SETUSER", "narrow", "on", ">pw", "~a", "~none", "+@all"]);
        direct.set("large", "l".repeat(20_000));
        direct.set("largest", "m".repeat(100_000));
        ["a", "b"].iter().for_each(|key| direct.set(key, "1"));
        direct.command(&["RPUSH", "list", "x"]);
        RawClient::connect(redis.address()).ask("SELECT 1", "+OK").ask("SET a 1", "+OK");
        let seed = seed();
        let mut random = Random::new(seed);
        for case in 0..60 {
            let lines = pipeline(&mut random);
            let pipeline = encoded(&lines);
            println!("{mode}, seed {seed}, case {case}: {}", lines.join("|"));
            let piece = if random.percent(50) { pipeline.len() } else { random.between(1, 200) };
            let (ours, theirs) = (
                answers(proxy.resp_client(), &pipeline, piece),
                answers(RawClient::connect(redis.address()), &pipeline, piece),
            );
            let differs = ours.iter().zip(&theirs).find(|(ours, theirs)| ours != theirs);
            assert_eq!(differs, None);
            assert_eq!(ours.len(), theirs.len());
        }
    }
}

#[test]
fn each_is_counted_and_told_of_as_any_command() {
    let (redis, proxy) = start_resp(&[("RESP_COHERENCE", "ttl")]);
    redis.client().set("k", "v");
    let (mut client, mut other) = (proxy.resp_client(), proxy.resp_client());
    client.ask("CLIENT SETNAME reader", "+OK");
    let get = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
    client.send(get).expect("$1\r\nv\r\n");
    let counted = || {
        let metrics = proxy.metrics();
        ["redis_proxy_lookups_total{result=\"hit\"}", "redis_proxy_resp_commands_total{lane=\"cached\"}"]
            .map(|name| metrics.value(name))
    };
    let before = counted();
    client.ask("PING", "+PONG").send(get.repeat(100)).expect("$1\r\nv\r\n".repeat(100));
    wait_until(std::time::Duration::from_secs(5), "100 hits", || {
        counted() == before.map(|count| count + 100.0)
    });
    let list = String::from_utf8(other.send("CLIENT LIST\r\n").bulk()).expect("text");
    let line = list.lines().find(|line| line.contains("name=reader")).expect("the reader");
    assert!(line.contains(" cmd=get "), "{line}");
    assert_eq!(redis.command_calls("get"), 1);
}
