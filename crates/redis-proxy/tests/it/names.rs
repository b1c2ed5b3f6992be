//! One name, one meaning: no two types that others see have one name, and none is imported under another.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Names that more than one type has, and why that confuses nobody.
const SHARED: [(&str, &str); 9] = [
    (
        "Connection",
        "the field's word for one socket with the type that owns it; each crate has its own, and no file sees two",
    ),
    ("Cluster", "the one that the program follows, and one that tests start; no file sees both"),
    ("Error", "one error enum a crate; elsewhere it is named with its crate"),
    ("Answer", "being rebuilt"),
    ("Entry", "being rebuilt"),
    ("Hello", "being rebuilt"),
    ("Kind", "being rebuilt"),
    ("Said", "being rebuilt"),
    ("Target", "being rebuilt"),
];

/// Types whose names are plain words, or words that every programmer has.
const PLAIN: [&str; 12] = [
    "Answer",
    "Cache",
    "Counter",
    "Details",
    "Error",
    "Histogram",
    "Kind",
    "Limits",
    "Said",
    "Signals",
    "Stats",
    "Timer",
];

/// Where the sources of the workspace are; what only a test crate sees is not looked at.
const SOURCES: [&str; 4] = ["crates", "testkit/src", "fuzz/src", "bench/src"];

/// The sources below a folder of the repository, by their paths.
fn sources(root: &Path, folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
            let is_source = name.ends_with(".rs") && !name.contains("/tests/") && !name.contains("/benches/");
            match path.is_dir() {
                true => folders.push(path),
                false if is_source => found.push((name, fs::read_to_string(&path).expect("a source"))),
                false => {}
            }
        }
    }
    assert!(!found.is_empty(), "no sources in {folder}");
    found
}

fn all_sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository");
    SOURCES.iter().flat_map(|folder| sources(&root, folder)).collect()
}

/// The type that a line declares for others than its module, if it does.
fn declared(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("pub")?;
    let rest = match rest.strip_prefix('(') {
        Some(rest) => rest.split_once(')')?.1,
        None => rest,
    };
    let (keyword, rest) = rest.trim_start().split_once(' ')?;
    let end = rest.find(|part: char| !part.is_alphanumeric()).unwrap_or(rest.len());
    ["struct", "enum", "trait", "type", "union"].contains(&keyword).then_some(&rest[..end])
}

/// The other name that a line imports a type of ours under, if it does.
fn alias(line: &str) -> Option<&str> {
    line.split(" as ").skip(1).find_map(|rest| {
        let name = rest.split([',', ';', '}']).next()?;
        let is_type = name.starts_with(|first: char| first.is_ascii_uppercase());
        (is_type && name.chars().all(char::is_alphanumeric)).then_some(name)
    })
}

/// The `use` statements of a source, each in one line.
fn imports(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines().map(str::trim) {
        let begins = line.starts_with("use ") || line.starts_with("pub") && line.contains(" use ");
        if open.is_some() || begins {
            open.get_or_insert_default().push_str(line);
        }
        if line.ends_with(';') {
            found.extend(open.take());
        }
    }
    found
}

#[test]
fn no_two_types_that_others_see_have_one_name() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, text) in all_sources() {
        for (number, line) in text.lines().enumerate() {
            if let Some(name) = declared(line) {
                places.entry(name.to_owned()).or_default().push(format!("{path}:{}", number + 1));
            }
        }
    }
    assert!(places.len() > 300, "types were not found: {}", places.len());
    let homonyms: Vec<_> = places.iter().filter(|(_, places)| places.len() > 1).collect();
    let is_allowed = |name: &str| SHARED.iter().any(|(shared, _)| *shared == name);
    let new: Vec<_> = homonyms.iter().filter(|(name, _)| !is_allowed(name)).collect();
    assert!(new.is_empty(), "one name for several things: {new:#?}");
    let is_shared = |name: &str| homonyms.iter().any(|(homonym, _)| *homonym == name);
    let unused: Vec<_> =
        SHARED.iter().filter(|(name, why)| !is_shared(name) && *why != "being rebuilt").collect();
    assert!(unused.is_empty(), "no longer shared: {unused:#?}");
}

#[test]
fn no_type_of_ours_is_imported_under_another_name() {
    let ours = [
        "crate::",
        "self::",
        "super::",
        "cache::",
        "command::",
        "loadgen::",
        "resp::",
        "upstream::",
        "testkit::",
    ];
    for (path, text) in all_sources() {
        for import in imports(&text) {
            let from = import.trim_start_matches(|part| part != ' ');
            let from = from.trim_start().trim_start_matches("use ");
            let is_ours = ours.iter().any(|crate_| from.starts_with(crate_)) || !from.contains("::");
            assert!(!is_ours || alias(&import).is_none(), "{path}: {import}");
        }
    }
}

#[test]
fn a_homonym_and_an_alias_would_be_seen() {
    assert_eq!(declared("pub(in crate::front) struct Hello<'a> {"), Some("Hello"));
    assert_eq!(declared("    pub enum Mode {"), Some("Mode"));
    assert_eq!(declared("pub type Store = Cache<Failure>;"), Some("Store"));
    assert_eq!(declared("pub(crate) fn struct_of() {"), None);
    assert_eq!(declared("struct Private;"), None);
    let statement = "use crate::lanes::{\n    Facts,\n    Login as Credentials,\n};\nlet x = y as Z;";
    assert_eq!(imports(statement), ["use crate::lanes::{Facts,Login as Credentials,};"]);
    assert_eq!(alias(&imports(statement)[0]), Some("Credentials"));
    assert_eq!(alias("use std::io::Write as _;"), None);
}

/// Whether the lexicon has a type's name, in one number or the other.
fn is_in(words: &BTreeSet<String>, name: &str) -> bool {
    let name = name.to_lowercase();
    let one = name.strip_suffix("ies").map(|stem| format!("{stem}y"));
    let one = one.or_else(|| name.strip_suffix('s').map(str::to_owned));
    words.contains(&name) || one.is_some_and(|one| words.contains(&one))
}

/// The words of the first column.
fn lexicon() -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/lexicon.md");
    let text = fs::read_to_string(path).expect("the lexicon");
    let cells = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    cells.flat_map(|cell| cell.split(',')).map(|word| word.trim().to_lowercase()).collect()
}

/// Of the cache what it shows, of the program what one folder shows to others. A name of several words says what it is.
#[test]
fn a_word_of_ours_that_is_a_type_is_in_the_lexicon() {
    let words = lexicon();
    let is_deep = |path: &str| {
        let program = path.strip_prefix("crates/redis-proxy/src/");
        let below = |folder: &str| program.is_some_and(|path| path.starts_with(folder));
        let is_ground = program.is_some_and(|path| !path.contains('/'));
        path.starts_with("crates/cache/src/")
            || is_ground
            || below("readthrough/")
            || below("lanes/")
            || below("session/")
    };
    let is_one_word = |name: &str| name.chars().filter(|part| part.is_ascii_uppercase()).count() == 1;
    let mut missing = Vec::new();
    for (path, text) in all_sources().into_iter().filter(|(path, _)| is_deep(path)) {
        let shown = if path.starts_with("crates/cache/") { "pub " } else { "pub" };
        let lines = text.lines().filter(|line| line.starts_with(shown) && !line.starts_with("pub(super)"));
        let names = lines.filter_map(declared).filter(|name| is_one_word(name));
        missing.extend(
            names
                .filter(|name| !PLAIN.contains(name) && !is_in(&words, name))
                .map(|name| format!("{path}: {name}")),
        );
    }
    assert!(missing.is_empty(), "not in docs/lexicon.md: {missing:#?}");
}
