//! What we know of Redis' commands, held against a redis-server.
//!
//! `UPDATE_TABLE=1 cargo test -p command` writes `src/table.txt` anew from the installed redis-server. `COMMAND_SEED`
//! repeats a run of random requests, `COMMAND_CASES` lengthens it.

use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use bytes::BytesMut;
use command::{Commands, Key, Slot, Slots};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use resp::{Arguments, Decoder, Frame, FrameLimits, RequestLimits, RequestParser, encode_command};
use testkit::{RedisServer, Server};

/// The redis-server that `table.txt` was made from.
const VERSION: &str = "7.0.15";

/// A connection that speaks in frames.
struct Client {
    stream: UnixStream,
    decoder: Decoder,
    buffer: BytesMut,
}

impl Client {
    fn connect(redis: &RedisServer) -> Self {
        let limits = FrameLimits {
            max_bulk_bytes: 1 << 20,
            max_elements: 1 << 20,
            max_depth: 16,
            max_line_bytes: 1 << 16,
            max_frame_bytes: 1 << 24,
        };
        let stream = UnixStream::connect(redis.socket_path()).expect("the server of this test");
        Self { stream, decoder: Decoder::new(limits), buffer: BytesMut::new() }
    }

    fn send(&mut self, arguments: &[&[u8]]) {
        let mut out = BytesMut::new();
        encode_command(&mut out, arguments);
        self.stream.write_all(&out).expect("sent");
    }

    fn reply(&mut self) -> Frame {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.buffer).expect("RESP") {
                return frame;
            }
            let mut piece = [0; 65536];
            let read = self.stream.read(&mut piece).expect("read");
            assert!(read > 0, "redis-server closed");
            self.buffer.extend_from_slice(&piece[..read]);
        }
    }

    fn command(&mut self, arguments: &[&str]) -> Frame {
        self.send(&arguments.iter().map(|argument| argument.as_bytes()).collect::<Vec<_>>());
        self.reply()
    }

    /// Whether this is the server that the table was made from; says so if not.
    fn is_ours(&mut self) -> bool {
        let Frame::Bulk(info) = self.command(&["INFO", "server"]) else { panic!("INFO") };
        let ours = String::from_utf8_lossy(&info).contains(&format!("redis_version:{VERSION}\r\n"));
        if !ours {
            eprintln!("SKIPPED: the installed redis-server is not {VERSION}, which table.txt was made from");
        }
        ours
    }
}

#[test]
fn the_table_is_what_the_packaged_redis_says() {
    let redis = RedisServer::start();
    let mut client = Client::connect(&redis);
    if !client.is_ours() {
        return;
    }
    let table = Commands::of_reply(&client.command(&["COMMAND"])).expect("a COMMAND reply").to_string();
    let head = format!("# Made by `UPDATE_TABLE=1 cargo test -p command` from redis-server {VERSION}.\n");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/table.txt");
    if std::env::var_os("UPDATE_TABLE").is_some() {
        std::fs::write(&path, format!("{head}{table}")).expect("written");
        return;
    }
    let kept = std::fs::read_to_string(&path).expect("the table");
    for (kept, found) in kept.lines().zip(format!("{head}{table}").lines()) {
        assert_eq!(kept, found);
    }
    assert_eq!(kept, format!("{head}{table}"));
    assert_eq!(Commands::built_in().to_string(), table, "what is written is read");
}

#[test]
fn both_protocol_versions_tell_the_same() {
    let redis = RedisServer::start();
    let mut client = Client::connect(&redis);
    let resp2 = Commands::of_reply(&client.command(&["COMMAND"])).expect("a COMMAND reply");
    client.command(&["HELLO", "3"]);
    let resp3 = Commands::of_reply(&client.command(&["COMMAND"])).expect("a COMMAND reply");
    assert!(resp2.len() > 200);
    assert_eq!(resp2.to_string(), resp3.to_string());
}

/// A request of the table's commands with arguments of the words that options are made of.
fn request() -> impl Strategy<Value = Vec<String>> {
    let table = Commands::built_in().to_string();
    let commands: Vec<(String, i64)> = table
        .lines()
        .map(|line| {
            let mut words = line.split(' ');
            let name = words.next().expect("a name").replace('|', " ");
            (name, words.next().and_then(|arity| arity.parse().ok()).expect("an arity"))
        })
        .collect();
    let with_options = "sort sort_ro migrate georadius georadiusbymember xread xreadgroup set bitfield eval fcall \
                        zunionstore zunion zinterstore lmpop blmpop zmpop bzmpop sintercard bitop copy memory object xgroup";
    let with_options: Vec<_> = commands
        .iter()
        .filter(|(name, _)| {
            with_options.split_whitespace().any(|known| name.split(' ').next() == Some(known))
        })
        .cloned()
        .collect();
    let words = "store storedist STORE by get GET limit keys KEYS auth auth2 copy replace block count group noack \
                 streams STREAMS set incrby overflow weights aggregate match nx";
    let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
    let argument = prop_oneof![
        3 => "[a-d]",
        2 => (-1i64..6).prop_map(|number| number.to_string()),
        2 => select(words),
        1 => prop_oneof![Just(""), Just("+2"), Just("02"), Just("2x"), Just("99999999999999999999")].prop_map(str::to_owned),
    ];
    let command = prop_oneof![select(commands), select(with_options)];
    (command, vec(argument, 14), 0usize..8).prop_map(|((name, arity), arguments, more)| {
        let least = usize::try_from(arity.unsigned_abs()).expect("small");
        let total = if arity < 0 { least + more } else { least }.max(2); // what COMMAND GETKEYSANDFLAGS takes
        let mut request: Vec<String> = name.split(' ').map(str::to_owned).collect();
        request.extend(arguments.into_iter().take(total.saturating_sub(request.len())));
        request
    })
}

/// How many cases a random test has, without a word `usual`, and its seed.
fn cases(usual: u32) -> (u32, u64) {
    let given = |name: &str| std::env::var(name).ok();
    let cases = given("COMMAND_CASES").map_or(usual, |text| text.parse().expect("a number"));
    let seed = given("COMMAND_SEED").map(|text| text.parse().expect("a number"));
    let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("COMMAND_SEED={seed}, {cases} cases");
    (cases, seed)
}

fn runner(cases: u32, seed: u64) -> TestRunner {
    let rng_seed = RngSeed::Fixed(seed);
    TestRunner::new(Config { cases, rng_seed, failure_persistence: None, ..Config::default() })
}

/// What we find: the keys, and whether those are all.
fn ours(commands: &Commands, request: &[String]) -> (Vec<Key>, bool) {
    with_arguments(request, |arguments| {
        let mut keys = Vec::new();
        let complete = commands.find(arguments).is_none_or(|command| command.keys(arguments, &mut keys));
        (keys, complete)
    })
}

fn with_arguments<R>(request: &[String], look: impl FnOnce(Arguments<'_>) -> R) -> R {
    let mut input = BytesMut::new();
    encode_command(&mut input, &request.iter().map(String::as_bytes).collect::<Vec<_>>());
    let mut parser = RequestParser::new(RequestLimits::REDIS);
    parser.parse(&input).expect("a request");
    look(parser.arguments(&input))
}

#[test]
fn keys_are_those_that_redis_finds() {
    let redis = RedisServer::start();
    let mut client = Client::connect(&redis);
    if !client.is_ours() {
        return;
    }
    let commands = Commands::built_in();
    let (cases, seed) = cases(20_000);
    let (with_keys, client) = (std::cell::Cell::new(0), std::cell::RefCell::new(client));
    let outcome = runner(cases, seed).run(&request(), |request| {
        let asked: Vec<&str> =
            ["COMMAND", "GETKEYSANDFLAGS"].into_iter().chain(request.iter().map(String::as_str)).collect();
        let reply = client.borrow_mut().command(&asked);
        let (keys, complete) = ours(&commands, &request);
        let found: Vec<String> = keys
            .iter()
            .map(|key| format!("{} {}", request[key.argument], sorted(&key.access.to_string())))
            .collect();
        match reply {
            Frame::Array(keys) => {
                with_keys.set(with_keys.get() + 1);
                let told: Vec<String> = keys.iter().map(told).collect();
                if let Some(key) = told.iter().find(|key| !found.contains(key)) {
                    // Redis' second way of finding keys is less strict than its commands are.
                    let request: Vec<&str> = request.iter().map(String::as_str).collect();
                    let refused = matches!(client.borrow_mut().command(&request), Frame::Error(_));
                    assert!(refused, "{key:?} is not among {found:?}");
                    return Ok(());
                }
                // We follow these as they execute: the last STORE, and STREAMS where a group is not called that.
                let ours_is_better = "georadius georadiusbymember xread xreadgroup"
                    .split(' ')
                    .any(|known| known == request[0]);
                assert!(found.len() == told.len() || ours_is_better, "{found:?} and not {told:?}");
            }
            // "The command has no key arguments", "Invalid arguments specified for command", arity.
            Frame::Error(text) => {
                let no_keys =
                    text.starts_with(b"ERR The command has no key") || text.starts_with(b"ERR Invalid");
                assert!(no_keys, "{text:?}");
                assert!(
                    found.is_empty() || !complete || text.starts_with(b"ERR Invalid"),
                    "{found:?} and not {text:?}"
                );
            }
            other => panic!("{other:?}"),
        }
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("COMMAND_SEED={seed}: {failure}");
    }
    assert!(with_keys.get() * 3 > cases, "few requests had keys: {}", with_keys.get());
}

/// A node of a cluster that has all slots but that of this key, so that it refuses whatever touches a key.
fn node_without(key: &[u8]) -> RedisServer {
    let node =
        RedisServer::builder().cluster_node().config("cluster-allow-pubsubshard-when-down", "no").start();
    let missing = Slot::of(key).number().to_string();
    let slots = (0..Slot::COUNT).map(|number| number.to_string()).filter(|slot| *slot != missing);
    let add: Vec<_> = ["CLUSTER", "ADDSLOTS"].map(str::to_owned).into_iter().chain(slots).collect();
    let add: Vec<_> = add.iter().map(String::as_str).collect();
    assert_eq!(Client::connect(&node).command(&add), Frame::Simple("OK".into()));
    node
}

#[test]
fn a_key_is_in_the_slot_that_a_node_of_a_cluster_says() {
    let node = node_without(b"");
    let client = std::cell::RefCell::new(Client::connect(&node));
    let (cases, seed) = cases(2_000);
    let byte = prop_oneof![4 => any::<u8>(), 1 => Just(b'{'), 1 => Just(b'}')];
    let outcome = runner(cases, seed).run(&vec(byte, 0..24), |key| {
        client.borrow_mut().send(&[b"CLUSTER", b"KEYSLOT", &key]);
        let told = client.borrow_mut().reply();
        assert_eq!(told, Frame::Integer(Slot::of(&key).number().into()), "{key:?}");
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("COMMAND_SEED={seed}: {failure}");
    }
}

#[test]
fn keys_are_in_several_slots_where_a_node_of_a_cluster_says_so() {
    let node = node_without(b"in no request");
    let mut client = Client::connect(&node);
    if !client.is_ours() {
        return;
    }
    let commands = Commands::built_in();
    let (cases, seed) = cases(20_000);
    let (across, client) = (std::cell::Cell::new(0), std::cell::RefCell::new(client));
    let outcome = runner(cases, seed).run(&request(), |request| {
        let slots = with_arguments(&request, |arguments| {
            let command = commands.find(arguments).filter(|command| command.takes(arguments.len()));
            command.map_or(Slots::NoKeys, |command| command.slots(arguments, &mut Vec::new()))
        });
        if slots == Slots::NoKeys {
            return Ok(()); // it would be carried out
        }
        let asked: Vec<&str> = request.iter().map(String::as_str).collect();
        let reply = client.borrow_mut().command(&asked);
        let Frame::Error(text) = &reply else { panic!("{request:?} is not refused: {reply:?}") };
        let is_across = text.starts_with(b"CROSSSLOT");
        across.set(across.get() + u32::from(is_across));
        // Where an option is repeated we name the key of each.
        let are_more_ours =
            ["georadius", "georadiusbymember", "migrate"].contains(&request[0].as_str()) && !is_across;
        assert!((slots == Slots::Several) == is_across || are_more_ours, "{slots:?} and not {text:?}");
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("COMMAND_SEED={seed}: {failure}");
    }
    assert!(across.get() * 20 > cases, "few requests had keys in several slots: {}", across.get());
}

/// A key of the reply with its flags.
fn told(key: &Frame) -> String {
    let Frame::Array(pair) = key else { panic!("{key:?}") };
    let [Frame::Bulk(name), Frame::Array(flags)] = &pair[..] else { panic!("{pair:?}") };
    let flags: Vec<_> = flags
        .iter()
        .map(|flag| match flag {
            Frame::Simple(flag) => String::from_utf8_lossy(flag).into_owned(),
            other => panic!("{other:?}"),
        })
        .collect();
    format!("{} {}", String::from_utf8_lossy(name), sorted(&flags.join(",")))
}

fn sorted(flags: &str) -> String {
    let mut flags: Vec<_> = flags.split(',').collect();
    flags.sort_unstable();
    flags.join(",")
}

/// Of the commands that the table has tips for: what other servers say otherwise.
#[test]
fn other_servers_give_the_same_tips_or_others_that_are_known() {
    let with_tips = |commands: &Commands| -> Vec<(String, String)> {
        let text = commands.to_string();
        let tips = text.lines().filter_map(|line| {
            let tips = line.split(' ').find(|word| word.starts_with("tips/"))?;
            Some((line.split(' ').next()?.to_owned(), tips.to_owned()))
        });
        tips.collect()
    };
    let ours = with_tips(&Commands::built_in());
    assert!(ours.len() > 40, "{}", ours.len());
    for server in [Server::Redis62, Server::Redis82, Server::Valkey81, Server::Valkey91] {
        let Some(program) = server.program() else { continue };
        let redis = RedisServer::builder().program(&program).start();
        let mut commands = Commands::built_in();
        commands.merge(&Client::connect(&redis).command(&["COMMAND"])).expect("a COMMAND reply");
        let theirs = with_tips(&commands);
        let differ: Vec<String> = ours
            .iter()
            .filter(|known| !theirs.contains(known))
            .map(|(name, tips)| {
                let other = theirs.iter().find(|(other, _)| other == name);
                format!("{name}: {tips}, {}", other.map_or("none", |(_, tips)| tips))
            })
            .collect();
        let known = [
            "latency|reset: tips/all_nodes/all_succeeded, tips/all_nodes/agg_sum",
            // It is not split by any version of ours.
            "msetnx: tips/multi_shard/agg_min, none",
            "randomkey: tips/all_shards/-, tips/all_shards/special",
            "scan: tips/special/-, tips/special/special",
        ];
        let is_known = |difference: &&String| !known.contains(&difference.as_str());
        assert_eq!(differ.iter().filter(is_known).collect::<Vec<_>>(), [""; 0], "{server:?}");
        assert!(server != Server::Redis62 || differ.is_empty(), "{differ:?}");
    }
}
