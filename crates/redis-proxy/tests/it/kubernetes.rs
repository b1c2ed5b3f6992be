//! The manifests of `deploy/kubernetes/`, as the schemas of Kubernetes and the program itself judge them.
#![allow(clippy::unwrap_used, reason = "a broken part ends the test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use testkit::{HttpClient, RedisServer};

use crate::python_package::python_with;
use crate::support::program;

const MANIFESTS: [&str; 2] = ["deployment.yaml", "sidecar.yaml"];
/// With its schemas of Kubernetes 1.25 to 1.37.
const PACKAGE: &str = "kubernetes-validate==1.37.0";
/// The oldest with containers such as the sidecar, and the newest.
const VERSIONS: [&str; 2] = ["1.29", "1.37"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kubernetes")
}

/// The documents of a manifest.
fn documents(python: &Path, manifest: &str) -> Vec<Value> {
    let script = "import json, sys, yaml; json.dump(list(yaml.safe_load_all(open(sys.argv[1]))), sys.stdout)";
    let output = Command::new(python).args(["-c", script, manifest]).current_dir(folder()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The container of the program in a pod.
fn container(pod: &Value) -> &Value {
    let all = ["initContainers", "containers"].into_iter().filter_map(|kind| pod[kind].as_array()).flatten();
    all.into_iter().find(|container| container["name"] == "redis-proxy").unwrap()
}

fn settings(container: &Value) -> Vec<(&str, &str)> {
    let variables = container["env"].as_array().unwrap().iter();
    variables
        .map(|variable| (variable["name"].as_str().unwrap(), variable["value"].as_str().unwrap()))
        .collect()
}

fn port(container: &Value, name: &str) -> u64 {
    let ports = container["ports"].as_array().unwrap();
    ports.iter().find(|port| port["name"] == name).unwrap()["containerPort"].as_u64().unwrap()
}

/// A number with a unit that `bytes` knows.
fn bytes(text: &str) -> u64 {
    let digits = text.trim_end_matches(|part: char| part.is_ascii_alphabetic());
    let unit = ["Ki", "Mi", "Gi"].iter().position(|unit| text[digits.len()..].starts_with(unit)).unwrap();
    digits.parse::<u64>().unwrap() << (10 * (unit + 1))
}

#[test]
fn the_manifests_are_valid_and_say_what_the_program_accepts() {
    let Some(python) = python_with(PACKAGE) else { return };
    for version in VERSIONS {
        let mut validate = Command::new(python.with_file_name("kubernetes-validate"));
        validate.args(["--strict", "-k", version]).args(MANIFESTS).current_dir(folder());
        let output = validate.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{version}: {output:?}");
    }
    for manifest in MANIFESTS {
        let documents = documents(&python, manifest);
        let of = |kind: &str| documents.iter().find(|document| document["kind"] == kind);
        let deployment = of("Deployment").unwrap();
        let pod = &deployment["spec"]["template"]["spec"];
        let container = container(pod);
        judge(pod, container);
        for kind in ["Service", "PodDisruptionBudget"] {
            let Some(other) = of(kind) else {
                assert_eq!(manifest, "sidecar.yaml");
                continue;
            };
            let selector = &other["spec"]["selector"];
            let labels = &deployment["spec"]["template"]["metadata"]["labels"];
            assert!(
                selector == labels || selector["matchLabels"] == *labels,
                "{kind} is of others: {selector}"
            );
            for named in other["spec"]["ports"].as_array().into_iter().flatten() {
                assert_eq!(
                    port(container, named["targetPort"].as_str().unwrap()),
                    named["port"].as_u64().unwrap()
                );
            }
        }
    }
}

/// What a pod says of the program holds for it.
fn judge(pod: &Value, container: &Value) {
    let redis = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "correct-horse").unwrap();
    let settings = settings(container);
    let value = |name: &str| settings.iter().find(|(of, _)| *of == name).unwrap().1;

    // Who has a password takes it from where the secret is mounted.
    let mounted = container["volumeMounts"][0]["mountPath"].as_str().unwrap();
    assert!(value("REDIS_PASSWORD_FILE").starts_with(mounted));
    let limit = bytes(container["resources"]["limits"]["memory"].as_str().unwrap());
    assert!(bytes(value("CAPACITY_BYTES")) * 2 <= limit, "{container}");
    let seconds = |text: &str| text.trim_end_matches('s').parse::<u64>().unwrap();
    let wait = container["lifecycle"]["preStop"]["exec"]["command"][1].as_str().map_or(0, seconds);
    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(wait + seconds(value("SHUTDOWN_TIMEOUT")) < grace, "{grace} s are too few");

    // All but where it listens here, and Redis.
    let instead = ["HOST", "RESP_HOST", "REDIS_HOST", "REDIS_PASSWORD_FILE"];
    let own = settings.iter().filter(|(name, _)| !instead.contains(name));
    let proxy = own.fold(program(), |program, (name, value)| program.set(name, value));
    let proxy = proxy.redis(&redis).start();
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let Some(asked) = container[probe]["httpGet"].as_object() else { continue };
        assert_eq!(asked["port"], "admin");
        let path = asked["path"].as_str().unwrap();
        assert_eq!(HttpClient::connect(proxy.admin_address()).get(path).status, 200, "{probe}");
    }

    let printed = Command::new(env!("CARGO_BIN_EXE_redis-proxy"))
        .arg("--print-config")
        .envs(settings.iter().copied())
        .env("REDIS_PASSWORD_FILE", &password)
        .output()
        .unwrap();
    assert!(printed.status.success(), "{printed:?}");
    let printed = String::from_utf8(printed.stdout).unwrap();
    for (name, setting) in [("http", "PORT"), ("resp", "RESP_PORT"), ("admin", "ADMIN_PORT")] {
        let has_it = container["ports"].as_array().unwrap().iter().any(|port| port["name"] == name);
        if has_it {
            let line = format!("{setting} = {}", port(container, name));
            assert!(printed.lines().any(|printed| printed.starts_with(&line)), "no {line} in {printed}");
        }
    }
}
