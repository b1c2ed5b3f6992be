//! The deployment of `docs/security.md`, as it stands there.
#![allow(clippy::unwrap_used, reason = "a broken part ends the test")]

use std::fs;
use std::io::pipe;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use testkit::RedisServer;

use crate::bare_program::{BareProgram, address, read_to};

/// The shell blocks of the document.
fn blocks() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/security.md");
    let text = fs::read_to_string(path).unwrap();
    let blocks = text.split("```sh\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

fn shell(folder: &Path, script: &str) -> Command {
    let mut shell = Command::new("bash");
    // What is last takes the place of the shell: it ends with whoever started it.
    shell.args(["-ec", script]).current_dir(folder);
    shell
}

#[test]
fn the_deployment_of_the_document_works_word_for_word() {
    let redis = RedisServer::start();
    redis.client().set("greeting", "hello");
    let folder = tempfile::tempdir().unwrap();
    let [make, run, ask] = blocks().try_into().expect("three blocks");
    let made = shell(folder.path(), &make).output().unwrap();
    assert!(made.status.success(), "{made:?}");

    // Its name is that of the one under test, and its ports are free ones.
    symlink(env!("CARGO_BIN_EXE_redis-proxy"), folder.path().join("redis-proxy")).unwrap();
    let search = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let last = run.rfind("redis-proxy").unwrap();
    let run = format!("export {}\nexec redis-proxy", run[..last].replace("\\\n", " ").trim());
    let settings = [("PATH", search.as_str()), ("RESP_PORT", "0"), ("ALLOWED_HOSTS", "localhost")];
    let (mut log, stderr) = pipe().unwrap();
    let _program = BareProgram::start_by(
        shell(folder.path(), &run),
        &redis,
        &settings,
        std::process::Stdio::null(),
        stderr,
    );
    let (line, _) = read_to("listening", &mut log);
    let port = |name: &str| address(&line, name).unwrap().port().to_string();

    let ask = ask
        .replace(":5000", &format!(":{}", port("http")))
        .replace("-p 6380", &format!("-p {}", port("resp")));
    let asked = shell(folder.path(), &ask).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&asked.stdout), "hellohello\n", "{asked:?}");
    // And not without any of what it says.
    let ask = ask.replace("\\\n", " ");
    for needed in [
        "--cert access/client.pem --key access/client.key",
        "-H \"Authorization: Bearer $(cat access/read.token)\"",
    ] {
        assert!(ask.contains(needed));
        let http = ask.lines().next().unwrap().replace(needed, "");
        let refused = shell(folder.path(), &http).output().unwrap();
        assert!(!String::from_utf8_lossy(&refused.stdout).contains("hello"), "{http}: {refused:?}");
    }
    let resp = ask.lines().nth(1).unwrap().replace("--cert access/client.pem --key access/client.key", "");
    let refused = shell(folder.path(), &resp).output().unwrap();
    assert!(!String::from_utf8_lossy(&refused.stdout).contains("hello"), "{resp}: {refused:?}");
}
