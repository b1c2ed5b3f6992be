//! The container stacks, as far as they can be tried without containers.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use testkit::{RedisServer, Reply, Stack, wait_until};

use crate::support::program;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn create_cluster(nodes: &[String]) -> Output {
    let script = repository().join("scripts/create-cluster");
    Command::new(script).args(nodes).output().expect("a shell")
}

/// What the init service of `compose.cluster.yaml` does.
#[test]
fn the_init_service_makes_a_cluster_of_nodes_by_name_and_finds_it_the_next_time() {
    let node = || {
        let node = RedisServer::builder().cluster_node().config("cluster-announce-hostname", "localhost");
        node.config("cluster-preferred-endpoint-type", "hostname").start()
    };
    let nodes: Vec<RedisServer> = (0..6).map(|_| node()).collect();
    let names: Vec<_> = nodes.iter().map(|node| format!("localhost:{}", node.port())).collect();
    for _ in 0..2 {
        let output = create_cluster(&names);
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.ends_with("create-cluster: the cluster is well\n"), "{said}");
    }
    // Who is whose replica is told from node to node.
    wait_until(Duration::from_secs(20), "all to know three primaries and three replicas, by name", || {
        nodes.iter().all(|node| {
            let Reply::Bulk(told) = node.client().command(&["CLUSTER", "NODES"]) else { return false };
            let told = String::from_utf8(told).expect("text");
            let count = |word: &str| told.lines().filter(|line| line.contains(word)).count();
            (count("master "), count("slave "), count(",localhost ")) == (3, 3, 6)
        })
    });

    let output = create_cluster(&names[..3]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

/// Of the service `proxy` of a stack: its settings, with what stands for a variable that is not set.
fn settings(stack: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(repository().join(stack)).expect("the stack");
    let (_, proxy) = text.split_once("\n  proxy:\n").expect("the service");
    let (_, environment) = proxy.split_once("    environment:\n").expect("its settings");
    let lines = environment.lines().take_while(|line| line.starts_with("      "));
    let settings = lines.filter(|line| !line.trim_start().starts_with('#')).map(|line| {
        let (name, value) = line.trim().split_once(": ").expect("a name and a value");
        let value = value.trim_matches('"');
        let variable = value.strip_prefix("${").and_then(|value| value.strip_suffix('}'));
        let value = variable.map_or(value, |variable| variable.split_once(":-").expect("a default").1);
        (name.to_owned(), value.to_owned())
    });
    settings.collect()
}

#[test]
fn the_program_accepts_the_settings_of_the_stacks() {
    for stack in ["compose.yaml", "compose.cluster.yaml"] {
        let settings = settings(stack);
        assert!(settings.len() > 5, "{settings:?}");
        let program = env!("CARGO_BIN_EXE_redis-proxy");
        let output = Command::new(program).arg("--print-config").envs(settings.clone()).output();
        let output = output.expect("the program");
        assert!(output.status.success(), "{stack}: {output:?}");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        for (name, _) in settings {
            let of_it = |line: &&str| line.starts_with(&format!("{name} = ")) && !line.ends_with("# default");
            assert!(printed.lines().any(|line| of_it(&line)), "{stack}: {name}: {printed}");
        }
    }
}

/// What `make test-compose` does: the tests of the stack, with its settings, by a name that it allows.
#[test]
fn the_tests_of_the_stack_pass_with_its_settings() {
    const NOT_HERE: [&str; 1] = ["REDIS_HOST"];
    let redis = RedisServer::start();
    let settings =
        settings("compose.yaml").into_iter().filter(|(name, _)| !NOT_HERE.contains(&name.as_str()));
    let program = settings.fold(program(), |program, (name, value)| program.set(&name, value));
    let proxy = program.redis(&redis).set("CAPACITY", "10").set("GLOBAL_EXPIRY", "2s").start();
    let stack = Stack {
        proxy: format!("localhost:{}", proxy.address().port()),
        redis: redis.address().to_string(),
        capacity: 10,
        expiry: Duration::from_secs(2),
    };
    assert_eq!(stack.test(), 0);
    assert_eq!(proxy.stop().code(), Some(0));
}
