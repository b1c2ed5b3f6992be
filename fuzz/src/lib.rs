//! Fuzz targets as plain functions over bytes: they return when the code under test held, and panic when it did not.
//!
//! `tests/targets.rs` runs every target on stable, with inputs made by proptest from the corpus; README.md tells how to
//! run one under cargo-fuzz. To add a target: write the function in a module of its own, add a line to [`TARGETS`] and
//! a folder to `corpus/`. A crash found anywhere becomes a corpus file with a speaking name, which is then run for ever.

mod heads;
mod keys;
mod naive;
mod replies;
mod requests;
mod scans;

pub use heads::http_head;
pub use keys::key_decoder;
pub use replies::resp_decoder;
pub use requests::request_parser;
pub use scans::reply_scanner;

/// A target and what the drivers need to know to feed it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The function's name.
    pub name: &'static str,
    /// Holds the code under test against its promises; panics if one is broken.
    pub run: fn(&[u8]),
    /// The folder of its samples, below `corpus/`.
    pub corpus: &'static str,
    /// Pieces of its language, for making inputs that get past the first check.
    pub tokens: &'static [&'static [u8]],
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "resp_decoder", run: resp_decoder, corpus: "resp", tokens: replies::TOKENS },
    Target { name: "reply_scanner", run: reply_scanner, corpus: "resp", tokens: replies::TOKENS },
    Target { name: "request_parser", run: request_parser, corpus: "request", tokens: requests::TOKENS },
    Target { name: "http_head", run: http_head, corpus: "head", tokens: heads::TOKENS },
    Target { name: "key_decoder", run: key_decoder, corpus: "key", tokens: keys::TOKENS },
];
