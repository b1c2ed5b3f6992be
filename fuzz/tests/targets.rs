//! Runs every fuzz target on stable: its corpus, then inputs made from it at random.
//!
//! `FUZZ_CASES` (20,000) is the number of random inputs for each target. `FUZZ_SEED` repeats a run; a failure prints it
//! with the smallest input that still fails.

use std::fmt::Debug;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::str::FromStr;

use fuzz::{TARGETS, Target};
use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngSeed, TestRunner};

#[test]
fn resp_decoder_holds() {
    run("resp_decoder");
}

#[test]
fn reply_scanner_holds() {
    run("reply_scanner");
}

#[test]
fn request_parser_holds() {
    run("request_parser");
}

#[test]
fn http_head_holds() {
    run("http_head");
}

#[test]
fn key_decoder_holds() {
    run("key_decoder");
}

#[test]
fn every_target_is_run_here() {
    let source = include_str!("targets.rs");
    for target in TARGETS {
        assert!(source.contains(&format!("run(\"{}\")", target.name)), "{} has no test", target.name);
    }
}

fn run(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of that name");
    let corpus = corpus(target);
    for (file, sample) in &corpus {
        println!("{name}: corpus/{}/{file}", target.corpus); // shown if it fails
        (target.run)(sample);
    }
    let seed = setting("FUZZ_SEED").unwrap_or_else(|| RandomState::new().hash_one(name));
    let cases = setting("FUZZ_CASES").unwrap_or(20_000);
    println!("{name}: {cases} cases, FUZZ_SEED={seed}");
    let config = Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None, // a failure is kept as a corpus file with a name
        max_shrink_iters: 20_000,
        ..Config::default()
    };
    let samples = corpus.into_iter().map(|(_, sample)| sample).collect();
    let outcome = TestRunner::new(config).run(&input(target, samples), |Input(data)| {
        (target.run)(&data);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{name} fails with FUZZ_SEED={seed}: {failure}");
    }
}

/// The target's samples and their file names, in the order of the names.
fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.corpus);
    let mut samples: Vec<_> = fs::read_dir(&folder)
        .expect("the corpus folder")
        .map(|file| file.expect("a corpus file"))
        .map(|file| {
            (file.file_name().to_string_lossy().into_owned(), fs::read(file.path()).expect("readable"))
        })
        .collect();
    samples.sort();
    assert!(!samples.is_empty(), "no corpus in {}", folder.display());
    samples
}

fn setting<T: FromStr<Err: Debug>>(name: &str) -> Option<T> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Bytes that print as one can read and paste them.
struct Input(Vec<u8>);

impl Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

/// Bytes of any kind, sentences of the target's tokens, and samples with damage done to them.
fn input(target: &Target, samples: Vec<Vec<u8>>) -> impl Strategy<Value = Input> {
    let token = select(target.tokens).prop_map(<[u8]>::to_vec);
    let sentence = vec(token.clone(), 0..40).prop_map(|tokens| tokens.concat());
    let sample = select(samples);
    let two = (sample.clone(), sample.clone()).prop_map(|(first, second)| [first, second].concat());
    let damaged = (prop_oneof![sample, two, sentence.clone()], vec(damage(token), 1..6));
    prop_oneof![
        1 => vec(any::<u8>(), 0..200),
        3 => sentence,
        6 => damaged.prop_map(|(sample, all)| all.into_iter().fold(sample, |data, damage| damage.done_to(data))),
    ]
    .prop_map(Input)
}

#[derive(Debug, Clone)]
enum Damage {
    Replace(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize),
    Cut(Index),
}

fn damage(token: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Damage> {
    let place = any::<Index>;
    prop_oneof![
        2 => (place(), any::<u8>()).prop_map(|(at, byte)| Damage::Replace(at, byte)),
        4 => (place(), token).prop_map(|(at, token)| Damage::Insert(at, token)),
        2 => (place(), 1usize..20).prop_map(|(at, length)| Damage::Remove(at, length)),
        1 => (place(), 1usize..40).prop_map(|(at, length)| Damage::Repeat(at, length)),
        1 => place().prop_map(Damage::Cut),
    ]
}

impl Damage {
    fn done_to(&self, mut data: Vec<u8>) -> Vec<u8> {
        let (Self::Replace(at, _)
        | Self::Insert(at, _)
        | Self::Remove(at, _)
        | Self::Repeat(at, _)
        | Self::Cut(at)) = self;
        let at = at.index(data.len() + 1);
        match self {
            Self::Replace(_, byte) => data.iter_mut().skip(at).take(1).for_each(|place| *place = *byte),
            Self::Insert(_, token) => drop(data.splice(at..at, token.iter().copied())),
            Self::Remove(_, length) => drop(data.drain(at..data.len().min(at + length))),
            Self::Repeat(_, length) => data.extend_from_within(at..data.len().min(at + length)),
            Self::Cut(_) => data.truncate(at),
        }
        data
    }
}
