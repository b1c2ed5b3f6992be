//! A program that ends by itself.
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

/// What a program left behind.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Runs a program with only these variables (and PATH) until it ends.
///
/// # Panics
/// When it still runs after `timeout`.
#[allow(unused_variables)]
pub fn run_to_end(
    program: impl AsRef<Path>,
    environment: &[(&str, &str)],
    arguments: &[&str],
    timeout: Duration,
) -> Output {
    unimplemented!()
}
