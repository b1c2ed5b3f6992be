//! Packages of PyPI that tests judge the program by, each in an environment of its own below the target folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use testkit::not_run;

/// The Python of an environment with this package, `name==version`; `None` where it cannot be had.
pub(crate) fn python_with(package: &str) -> Option<PathBuf> {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients").join(package.replace("==", "-"));
    let ready = home.join("ready");
    if !ready.exists() {
        let environment = home.to_str().expect("a path that is text");
        let installed = run(Path::new("python3"), &["-m", "venv", environment])
            .and_then(|()| run(&home.join("bin/pip"), &["install", "--quiet", package]));
        if let Err(why) = installed {
            assert!(std::env::var_os("CLIENTS_REQUIRED").is_none(), "{package} cannot be had: {why}");
            not_run(&format!("{package} cannot be had: {why}"));
            return None;
        }
        fs::write(ready, "").expect("a file in a folder of ours");
    }
    Some(home.join("bin/python"))
}

fn run(program: &Path, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}
