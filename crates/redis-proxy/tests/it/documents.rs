//! What the documents name exists: tests, make targets, files, symbols, settings. A page that nothing checks rots.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Endings that make a word without a slash a file's name.
const ENDINGS: [&str; 6] = [".rs", ".md", ".toml", ".sh", ".yml", ".lock"];

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().expect("the repository")
}

/// All files of the repository but what is built, with their paths from the root.
fn files(root: &Path) -> Vec<String> {
    fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            let name = entry.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
            match entry.is_dir() {
                true if name == "target" || name == ".git" => {}
                true => walk(root, &entry, found),
                false => found.push(name),
            }
        }
    }
    let mut found = Vec::new();
    walk(root, root, &mut found);
    found
}

/// The text of all files with one of these endings.
fn texts(root: &Path, files: &[String], endings: &[&str]) -> Vec<(String, String)> {
    let wanted = files.iter().filter(|file| endings.iter().any(|ending| file.ends_with(ending)));
    wanted.filter_map(|file| Some((file.clone(), fs::read_to_string(root.join(file)).ok()?))).collect()
}

/// Whether `word` stands in `text` with no letter, digit or `_` on either side.
fn has_word(text: &str, word: &str) -> bool {
    let part = |character: char| character.is_alphanumeric() || character == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(part) && !text[at + word.len()..].starts_with(part))
}

/// What stands between backticks in a line.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// `K1`, `F13`: a letter and a number.
fn is_rule(word: &str) -> bool {
    let number = word.strip_prefix(|first: char| first.is_ascii_uppercase()).unwrap_or_default();
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[test]
fn every_rule_of_the_http_contract_has_a_test_and_every_test_named_exists() {
    let root = root();
    let read = |name: &str| fs::read_to_string(root.join(name)).expect(name);
    let (contract, testing) = (read("docs/http.md"), read("docs/testing.md"));
    let rules: Vec<&str> = contract.split("**").skip(1).step_by(2).filter(|word| is_rule(word)).collect();
    let mut wrong = Vec::new();
    let mut rows = BTreeMap::new();
    for (number, line) in testing.lines().enumerate() {
        let mut cells = line.split('|').map(str::trim);
        let Some(rule) = cells.nth(1).filter(|cell| is_rule(cell)) else { continue };
        let tests: Vec<&str> = spans(line).filter(|span| span.contains("::")).collect();
        if tests.is_empty() || rows.insert(rule, tests).is_some() {
            wrong.push(format!("docs/testing.md:{}: {rule} has no test, or is there twice", number + 1));
        }
    }
    for rule in &rules {
        if !rows.contains_key(rule) || rules.iter().filter(|other| *other == rule).count() != 1 {
            wrong.push(format!("docs/http.md: {rule} is not in docs/testing.md, or is there twice"));
        }
    }
    wrong.extend(rows.keys().filter(|row| !rules.contains(row)).map(|row| format!("{row} is no rule")));

    // A test may stand in a module's own file or in the folder of its name.
    let sources = texts(&root, &files(&root), &[".rs"]);
    // Tests are named in other tables of the page too.
    let cells = testing.lines().filter(|line| line.starts_with("| "));
    let others = cells.flat_map(spans).filter(|span| span.split("::").count() == 2);
    for test in rows.values().flatten().copied().chain(others) {
        let (module, name) = test.rsplit_once("::").expect("module::test");
        let file = format!("/{}", module.replace("::", "/"));
        let is_in = |path: &str| path.ends_with(&format!("{file}.rs")) || path.contains(&format!("{file}/"));
        let found = sources.iter().any(|(path, text)| is_in(path) && text.contains(&format!("fn {name}()")));
        if !found {
            wrong.push(format!("docs/testing.md names {test}, which no source has"));
        }
    }
    assert!(rules.len() > 50, "{} rules in docs/http.md", rules.len());
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_promise_of_the_resp_contract_names_tests_that_exist() {
    let root = root();
    let contract = fs::read_to_string(root.join("docs/resp.md")).expect("docs/resp.md");
    let sources = texts(&root, &files(&root), &[".rs"]);
    let mut wrong = Vec::new();
    let mut promises = 0;
    for (number, line) in contract.lines().enumerate().filter(|(_, line)| line.starts_with("| ")) {
        let tests: Vec<&str> = spans(line).filter(|span| span.contains("::")).collect();
        if line.starts_with("| ---") || line.starts_with("| promise") {
            continue;
        }
        promises += 1;
        if tests.is_empty() {
            wrong.push(format!("docs/resp.md:{}: no test", number + 1));
        }
        for test in tests {
            let (module, name) = test.split_once("::").unwrap_or((test, ""));
            let is_in = |path: &str| path.ends_with(&format!("/it/{module}.rs"));
            if !sources.iter().any(|(path, text)| is_in(path) && text.contains(&format!("fn {name}()"))) {
                wrong.push(format!("docs/resp.md:{} names {test}, which no source has", number + 1));
            }
        }
    }
    assert!(promises > 20, "{promises} promises in docs/resp.md");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// What a name in a document is held against.
struct Repository {
    root: PathBuf,
    files: Vec<String>,
    /// Rust files, scripts and the Makefile, in one.
    sources: String,
    make_targets: BTreeSet<String>,
    settings: BTreeSet<String>,
}

impl Repository {
    fn read() -> Self {
        let root = root();
        let files = files(&root);
        let read = |name: &str| fs::read_to_string(root.join(name)).unwrap_or_default();
        let make = read("Makefile");
        let is_target = |name: &&str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        let make_targets = make.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name);
        let table = read("docs/configuration.md");
        let rows = table.lines().filter(|line| line.starts_with("| `"));
        let rust = texts(&root, &files, &[".rs"]).into_iter().map(|(_, text)| text);
        let scripts = files.iter().filter(|file| file.starts_with("scripts/")).map(|file| read(file));
        Repository {
            make_targets: make_targets.filter(is_target).map(str::to_owned).collect(),
            settings: rows.filter_map(|line| Some(spans(line).next()?.to_owned())).collect(),
            sources: rust.chain(scripts).chain([make.clone()]).collect::<Vec<_>>().join("\n"),
            root,
            files,
        }
    }

    fn has_path(&self, document: &str, path: &str) -> bool {
        let path = path.split(['#', ':']).next().unwrap_or_default().trim_end_matches('/');
        let beside = self.root.join(document).parent().expect("a folder").join(path);
        let end = format!("/{path}");
        self.root.join(path).exists() || beside.exists() || self.files.iter().any(|file| file.ends_with(&end))
    }

    /// Whether a span is meant as a path of this repository: `a/b` and `text/plain` are not.
    fn is_path(&self, span: &str) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./#:".contains(&byte);
        let first = span.split('/').next().unwrap_or_default();
        !first.is_empty()
            && span.bytes().all(plain)
            && !span.contains("::")
            && !span.contains("//")
            && first != "target"
            && (ENDINGS.iter().any(|ending| span.ends_with(ending))
                || span.contains('/') && self.root.join(first).exists())
    }

    /// Whether `Type::method`, `module::function()`, `Enum::Variant`, a field or a function is in the sources.
    fn has_symbol(&self, symbol: &str) -> bool {
        symbol.trim_end_matches("()").split("::").all(|name| {
            let defined = ["fn", "struct", "enum", "trait", "type", "const", "static", "mod", "macro_rules!"]
                .iter()
                .any(|keyword| has_word(&self.sources, &format!("{keyword} {name}")));
            let variant =
                || self.sources.lines().any(|line| line.trim().split(['(', ',', ' ']).next() == Some(name));
            let module = || self.files.iter().any(|file| file.split(['/', '.']).any(|part| part == name));
            let field = || has_word(&self.sources, &format!("{name}:"));
            defined
                || module()
                || field()
                || name.starts_with(|first: char| first.is_uppercase()) && variant()
        })
    }

    fn has_setting(&self, name: &str) -> bool {
        self.settings.contains(name) || has_word(&self.sources, name)
    }
}

/// `Type::method`, `function()`, `a_name_with_blanks`; nothing else between the backticks.
fn is_symbol(span: &str) -> bool {
    let name = span.trim_end_matches("()");
    let is_name =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let says_so = span.contains("::") || span.ends_with("()");
    (says_so || span.contains('_') && !is_setting(span)) && name.split("::").all(is_name)
}

/// `CAPACITY_BYTES`: capitals with a `_`. Without one it may be a verb or a word of Redis.
fn is_setting(span: &str) -> bool {
    let capitals = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    span.contains('_') && !span.starts_with('_') && !span.ends_with('_') && span.bytes().all(capitals)
}

/// The word after `make` where a command begins with it, settings before it left out.
fn make_target(command: &str) -> Option<&str> {
    let mut words = command.trim_start_matches("$ ").split_whitespace().skip_while(|word| word.contains('='));
    (words.next() == Some("make"))
        .then(|| words.find(|word| !word.contains('=') && !word.starts_with('-')))?
}

#[test]
fn whatever_the_documents_name_exists() {
    let repository = Repository::read();
    let is_document = |file: &&String| {
        let in_docs =
            file.strip_prefix("docs/").is_some_and(|name| name.ends_with(".md") && !name.contains('/'));
        in_docs || ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].contains(&file.as_str())
    };
    let mut missing = Vec::new();
    for document in repository.files.iter().filter(is_document) {
        let text = fs::read_to_string(repository.root.join(document)).expect("a text");
        let mut in_fence = false;
        for (number, line) in text.lines().enumerate() {
            let mut miss = |what: &str, name: &str| {
                missing.push(format!("{document}:{}: no {what} `{name}`", number + 1));
            };
            in_fence ^= line.starts_with("```");
            let commands: Vec<&str> = match in_fence || line.starts_with("    ") {
                true => vec![line.trim()],
                false => spans(line).collect(),
            };
            for target in commands.into_iter().filter_map(make_target) {
                let target = target.trim_end_matches(';');
                if !repository.make_targets.contains(target) {
                    miss("make target", target);
                }
            }
            if in_fence {
                continue;
            }
            let links = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            for link in links.filter(|link| !link.contains("://") && !link.starts_with('#')) {
                if !repository.has_path(document, link) {
                    miss("file", link);
                }
            }
            for span in spans(line) {
                let setting = span.split('=').next().unwrap_or_default();
                if repository.is_path(span) && !repository.has_path(document, span) {
                    miss("file", span);
                }
                if document == "ARCHITECTURE.md" && is_symbol(span) && !repository.has_symbol(span) {
                    miss("symbol", span);
                }
                if is_setting(setting) && !repository.has_setting(setting) {
                    miss("setting", setting);
                }
            }
        }
    }
    assert!(missing.is_empty(), "\n{}", missing.join("\n"));
}

#[test]
fn a_name_that_does_not_exist_is_seen() {
    let repository = Repository::read();
    for path in
        ["docs/http.md", "http.md", "crates/redis-proxy/src/front/http/", "connection.rs", "scripts/run"]
    {
        assert!(repository.is_path(path) && repository.has_path("docs/testing.md", path), "{path}");
    }
    for path in ["docs/nothing.md", "nothing.rs", "crates/nothing/src", "scripts/nothing"] {
        assert!(repository.is_path(path) && !repository.has_path("README.md", path), "{path}");
    }
    for text in ["a/b", "/foo.json", "text/plain", "HTTP/1.1", "target/release/redis-proxy", "http://h/x.md"]
    {
        assert!(!repository.is_path(text), "{text}");
    }
    for symbol in ["key_of()", "find_end", "ReadThrough::get", "head::parse()", "Lookup::Hit", "front::http"]
    {
        assert!(is_symbol(symbol) && repository.has_symbol(symbol), "{symbol}");
    }
    // Put together here, or these names would stand in a source.
    for symbol in [format!("key_of{}()", 7), format!("ReadThrough::got{}", 7), format!("Lookup::Hit{}", 7)] {
        assert!(is_symbol(&symbol) && !repository.has_symbol(&symbol), "{symbol}");
    }
    assert!(is_setting("CAPACITY_BYTES") && repository.has_setting("CAPACITY_BYTES"));
    assert!(!repository.has_setting(&format!("CAPACITY_BYTES_{}", 7)));
    assert_eq!(make_target("$ PORT=1 make -s run X=1"), Some("run"));
    assert_eq!((make_target("make"), make_target("cmake x")), (None, None));
    assert!(repository.make_targets.contains("run") && !repository.make_targets.contains("walk"));
}
