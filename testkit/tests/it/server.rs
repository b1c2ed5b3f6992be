use std::process::Command;

use testkit::{Reply, Server};

#[test]
fn each_server_starts_and_is_the_version_it_is_named_for() {
    let versions = [
        (Server::Redis62, "Redis server v=6.2."),
        (Server::Redis70, "Redis server v="),
        (Server::Redis82, "Redis server v=8.2."),
        (Server::Valkey81, "Valkey server v=8.1."),
        (Server::Valkey91, "Valkey server v=9.1."),
    ];
    assert_eq!(versions.map(|(server, _)| server), Server::ALL);
    for (server, version) in versions {
        let Some(program) = server.program() else { continue };
        let told = Command::new(&program).arg("--version").output().expect("a program that runs").stdout;
        let told = String::from_utf8_lossy(&told).into_owned();
        assert!(told.starts_with(version), "{server}: {told}");
        let running = server.builder().expect("the same program").start();
        assert_eq!(running.client().command(&["PING"]), Reply::Simple("PONG".into()), "{server}");
    }
}
