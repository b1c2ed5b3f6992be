//! The layers inside the crates, which Cargo cannot see: who names whom (`ARCHITECTURE.md`, invariants).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Files that are test modules as a whole.
const TESTS: [&str; 2] = ["tests.rs", "stress.rs"];

/// The sources below a folder of the repository, without their test modules.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder);
    let mut found = Vec::new();
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !TESTS.iter().any(|tests| path.ends_with(tests))
            {
                let text = fs::read_to_string(&path).expect("a source");
                let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
                let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
                found.push((path.clone(), lines.collect::<Vec<_>>().join("\n")));
            }
        }
    }
    assert!(!found.is_empty(), "no sources in {folder}");
    found
}

fn none_names(folder: &str, forbidden: &[&str]) {
    for (path, code) in sources(folder) {
        for word in forbidden {
            assert!(!code.contains(word), "{} names {word}", path.display());
        }
    }
}

#[test]
fn the_cache_knows_no_socket_no_clock_and_no_task() {
    let forbidden =
        ["std::net", "tokio", "Instant::now", "SystemTime", "thread::spawn", "async fn", ".await", "std::fs"];
    none_names("crates/cache/src", &forbidden);
}

#[test]
fn insight_knows_no_socket_no_clock_and_no_task() {
    let forbidden = ["std::net", "tokio", "Instant", "SystemTime", "thread::spawn", "async fn", ".await"];
    none_names("crates/insight/src", &forbidden);
}

/// What is not under `sync` is not explored by the schedules.
#[test]
fn locks_that_schedules_explore_are_those_of_sync() {
    none_names("crates/cache/src", &["parking_lot", "std::sync::Mutex", "std::sync::atomic"]);
    none_names("crates/upstream/src", &["parking_lot", "std::sync::Mutex"]);
    none_names("crates/redis-proxy/src/readthrough", &["parking_lot", "std::sync::Mutex"]);
}

#[test]
fn resp_does_no_input_or_output() {
    none_names("crates/resp/src", &["std::net", "std::io", "tokio", "Instant", "async fn"]);
}

#[test]
fn commands_are_known_without_input_output_or_a_clock() {
    none_names(
        "crates/command/src",
        &["std::net", "std::io", "tokio", "Instant", "async fn", "upstream", "cache"],
    );
}

#[test]
fn fronts_name_neither_the_cache_nor_redis() {
    none_names("crates/redis-proxy/src/front", &["cache::", "upstream::", "use cache", "use upstream"]);
    none_names("crates/redis-proxy/src/front/http", &["resp::", "use resp", "lanes::"]);
    none_names("crates/redis-proxy/src/front/resp", &["lanes::", "readthrough::"]);
}

/// A third protocol needs nothing but a dialect of its own.
#[test]
fn the_loop_of_a_client_names_no_protocol() {
    none_names("crates/redis-proxy/src/front/client", &["http", "resp", "lanes", "Http", "Resp"]);
}

#[test]
fn sessions_know_no_socket_no_http_and_no_front() {
    let forbidden = ["front::", "TcpStream", "tokio::net", "tokio::io", "http", "cache::", "upstream::"];
    none_names("crates/redis-proxy/src/session", &forbidden);
}

/// What those above are given is of their own making.
#[test]
fn readthrough_and_lanes_hand_on_nothing_of_the_cache_or_of_redis() {
    let handed_on = ["pub(crate) use cache", "pub(crate) use upstream", "pub use cache", "pub use upstream"];
    for folder in ["crates/redis-proxy/src/readthrough", "crates/redis-proxy/src/lanes"] {
        none_names(folder, &handed_on);
        for (path, code) in sources(folder) {
            for shown in shown_to_the_crate(&code) {
                let foreign = foreign_words(shown, &code);
                assert!(foreign.is_empty(), "{}: {foreign:?} in\n{shown}", path.display());
            }
        }
    }
}

/// What the program builds, and gives what only it knows.
const BUILT: [&str; 3] = ["fn new(", "fn start(", "enum HttpReads {"];

/// What a crate-visible item shows of its types: the signature of a function, the variants of an enum, a field.
fn shown_to_the_crate(code: &str) -> Vec<&str> {
    let visible = code.match_indices("pub(crate) ").map(|(at, mark)| &code[at + mark.len()..]);
    let shown = visible.filter_map(|item| {
        let line = item.lines().next().unwrap_or_default();
        let is_hidden = ["use ", "mod ", "struct "].iter().any(|kind| item.starts_with(kind));
        if is_hidden || BUILT.iter().any(|built| line.starts_with(built)) {
            None
        } else if line.contains("fn ") {
            item.split(['{', ';']).next()
        } else if line.ends_with('{') {
            item.split("\n}").next()
        } else {
            Some(line)
        }
    });
    shown.collect()
}

/// The types of the cache and of Redis' connections that stand in a piece of `code`.
fn foreign_words<'a>(piece: &'a str, code: &str) -> Vec<&'a str> {
    let words = |text: &'a str| text.split(|c: char| !c.is_alphanumeric() && c != '_');
    let imports = code.split("\nuse ").skip(1).filter_map(|import| import.split(';').next());
    let foreign: Vec<&str> =
        imports.filter(|import| import.starts_with("cache::") || import.starts_with("upstream::")).collect();
    let is_foreign = |word: &&str| {
        *word == "cache"
            || *word == "upstream"
            || word.starts_with(char::is_uppercase) && foreign.iter().any(|import| names(import, word))
    };
    words(piece).filter(is_foreign).collect()
}

fn names(import: &str, word: &str) -> bool {
    import.split(|c: char| !c.is_alphanumeric() && c != '_').any(|name| name == word)
}

#[test]
fn a_shown_type_of_the_cache_or_of_redis_is_found() {
    let code = "\nuse cache::{Entry, Need};\nuse upstream::Endpoint;\n\
        pub(crate) struct Own(Entry);\npub(crate) enum Known {\n    Value(Entry),\n}\n\
        pub(crate) struct Lent {\n    pub(crate) need: Need,\n    entry: Entry,\n}\n\
        pub(crate) fn new(endpoint: Endpoint) -> Own {}\n\
        pub(crate) fn of(\n    endpoint: &Endpoint,\n) -> Own {\n    Entry::default()\n}\n\
        fn hidden(need: Need) -> Entry {}\n";
    let found: Vec<_> =
        shown_to_the_crate(code).into_iter().map(|shown| foreign_words(shown, code)).collect();
    assert_eq!(found, [vec!["Entry"], vec!["Need"], vec!["Endpoint"]]);
}

#[test]
fn lanes_name_neither_the_cache_nor_the_fronts() {
    none_names(
        "crates/redis-proxy/src/lanes",
        &["cache::", "use cache", "readthrough", "session::", "front::"],
    );
}

#[test]
fn nodes_name_nobody_who_is_led_to_them() {
    none_names(
        "crates/redis-proxy/src/nodes",
        &["cache::", "readthrough", "lanes::", "session::", "front::", "coherence::", "admin::"],
    );
}

/// What both sides of the house stand on.
const GROUND: [&str; 19] = [
    "budget",
    "buffer_pool",
    "clock",
    "failure",
    "file_watch",
    "live",
    "oldest_ends",
    "peers",
    "places",
    "rare_line",
    "slow_log",
    "socket",
    "stats",
    "store",
    "supervisor",
    "timer",
    "unacked",
    "unix_socket",
    "vital",
];

#[test]
fn the_ground_names_nobody_who_stands_on_it() {
    let above =
        ["front::", "session::", "readthrough::", "lanes::", "admin::", "listener::", "worker::", "serve::"];
    let sources = sources("crates/redis-proxy/src");
    for name in GROUND {
        let path = format!("crates/redis-proxy/src/{name}.rs");
        let (_, code) = sources.iter().find(|(found, _)| found.ends_with(&path)).expect(name);
        for word in above {
            assert!(!code.contains(word), "{path} names {word}");
        }
    }
    none_names("crates/redis-proxy/src/access", &above);
}

#[test]
fn fills_are_committed_in_the_sinks_alone() {
    for (path, code) in sources("crates/redis-proxy/src") {
        if !path.ends_with("readthrough/aging.rs") && !path.ends_with("readthrough/link/sink.rs") {
            for word in ["fill.found(", "fill.missing("] {
                assert!(!code.contains(word), "{} names {word}", path.display());
            }
        }
    }
}

#[test]
fn the_load_generator_knows_nothing_of_the_server() {
    none_names("crates/loadgen/src", &["cache::", "upstream::", "redis_proxy", "tokio"]);
    for (path, code) in sources("crates/redis-proxy/src") {
        let is_top = path.ends_with("main.rs") || path.to_string_lossy().contains("/config/");
        assert!(is_top || !code.contains("loadgen"), "{} names loadgen", path.display());
    }
}

#[test]
fn what_asks_a_running_program_knows_its_ports_alone() {
    none_names("crates/cli/src", &["cache::", "upstream::", "redis_proxy::", "loadgen", "std::env"]);
    for (path, code) in sources("crates/redis-proxy/src") {
        let is_top = path.ends_with("main.rs") || path.to_string_lossy().contains("/config/");
        assert!(is_top || !code.contains("cli::"), "{} names cli", path.display());
    }
}

/// Methods that a type may have: more, and nobody holds it in the head.
const MOST_METHODS: usize = 30;

/// The type whose own methods an `impl` block has; none if the block is a trait's.
fn type_of_impl(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("impl")?;
    let rest = match rest.strip_prefix('<') {
        // Its parameters may have some of their own.
        Some(_) => {
            let mut depth = 0;
            let end = rest.find(|part| {
                depth += i32::from(part == '<') - i32::from(part == '>');
                depth == 0
            })?;
            &rest[end + 1..]
        }
        None => rest,
    };
    let name = rest.trim_start();
    let end = name.find(|part: char| !part.is_alphanumeric() && part != '_')?;
    (!line.contains(" for ")).then_some(&name[..end])
}

/// Whether a line begins a method of an `impl` block that stands at the margin.
fn is_method(line: &str) -> bool {
    let Some(words) = line.strip_prefix("    ").filter(|words| !words.starts_with(' ')) else { return false };
    let before = words.split_once("fn ").map(|(before, _)| before.trim_end());
    before.is_some_and(|before| {
        before
            .split(' ')
            .all(|word| word.is_empty() || word.starts_with("pub") || word == "const" || word == "async")
    })
}

/// How many methods each type has, over all of its `impl` blocks but those of traits: by its folder and its name.
fn count_methods<'a>(folder: &str, code: &'a str, methods: &mut BTreeMap<(String, String), usize>) {
    let mut of: Option<&'a str> = None;
    for line in code.lines() {
        match () {
            () if line.starts_with("impl") => of = type_of_impl(line),
            () if line.starts_with('}') => of = None,
            () if is_method(line) => {
                if let Some(name) = of {
                    *methods.entry((folder.to_owned(), name.to_owned())).or_default() += 1;
                }
            }
            () => {}
        }
    }
}

#[test]
fn no_type_has_more_methods_than_a_reader_holds_in_the_head() {
    let mut methods = BTreeMap::new();
    for (path, code) in sources("crates/redis-proxy/src") {
        let path = path.to_string_lossy();
        let folder =
            path.rsplit_once("/src/").and_then(|(_, path)| path.split('/').next()).unwrap_or_default();
        count_methods(folder, &code, &mut methods);
    }
    assert!(methods.len() > 150, "types were not found: {}", methods.len());
    methods.retain(|_, count| *count > MOST_METHODS);
    assert!(methods.is_empty(), "more than {MOST_METHODS} methods: {methods:?}");
}

#[test]
fn methods_of_a_type_are_counted_wherever_they_stand() {
    let code = "impl<'a, R: Into<Vec<u8>>> Queue<'a, R> {\n    pub(crate) fn one(&self) {\n        fn inner() {}\n    }\n\n    \
                async fn two() {}\n}\n\nimpl<R> Drop for Queue<R> {\n    fn drop(&mut self) {}\n}\n\n\
                impl Queue<u8> {\n    const fn three() {}\n    const FN: u8 = 0;\n}\n\nfn free() {\n    fn inner() {}\n}\n";
    let mut methods = BTreeMap::new();
    count_methods("lanes", code, &mut methods);
    assert_eq!(methods, BTreeMap::from([(("lanes".to_owned(), "Queue".to_owned()), 3)]));
}
