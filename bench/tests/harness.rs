//! The harness in Python, as far as it can be tested without the peers.

use std::path::Path;
use std::process::Command;

/// Runs python3 in the harness' folder. Where there is none, nothing can be measured and nothing is tested.
fn python(arguments: &[&str]) -> Option<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("python3").arg("-B").args(arguments).current_dir(folder).output();
    let Ok(output) = output else {
        eprintln!("python3 is not installed: the harness is not tested");
        return None;
    };
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    Some(printed)
}

#[test]
fn what_the_harness_computes_is_right() {
    python(&["-m", "unittest", "discover"]);
}

#[test]
fn every_workload_is_listed() {
    if let Some(printed) = python(&["run.py", "--list"]) {
        for name in ["depth-1", "depth-16", "miss", "zipf", "workers", "keys"] {
            assert!(printed.lines().any(|line| line.starts_with(name)), "{name} in\n{printed}");
        }
    }
}
