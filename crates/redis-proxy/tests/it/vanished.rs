//! Clients that are gone without a word, as one whose machine has lost its power: their packets are dropped in a network
//! of the test's own. And one that is there and does not read, which is no such client.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use testkit::{
    HttpClient, Proxy, RawClient, RedisClient, RedisServer, Reply, find_program, not_run, wait_until,
};

const PATIENCE: Duration = Duration::from_secs(60);
const SERVER: &str = "10.211.7.1";
const CLIENT: &str = "10.211.7.2";

/// Two network namespaces with a cable between them; gone when dropped.
struct Network {
    server: String,
    client: String,
}

impl Network {
    /// `None` where the system has none to give: only root may make them.
    fn new() -> Option<Network> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("rp-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let network = Network { server: format!("{name}-s"), client: format!("{name}-c") };
        if let Err(why) = network.lay() {
            not_run(&format!("network namespaces cannot be had: {why}"));
            return None;
        }
        Some(network)
    }

    fn lay(&self) -> Result<(), String> {
        let Network { server, client } = self;
        for name in [server, client] {
            ip(&["netns", "add", name])?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
        }
        ip(&[
            "-n", server, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", client,
        ])?;
        for (name, address) in [(server, SERVER), (client, CLIENT)] {
            ip(&["-n", name, "address", "add", &format!("{address}/24"), "dev", "cable"])?;
            ip(&["-n", name, "link", "set", "cable", "up"])?;
        }
        Ok(())
    }

    /// The program at the server's end.
    fn start(&self, redis: &RedisServer, settings: &[(&str, &str)]) -> Proxy {
        let ip = find_program("ip").unwrap();
        let program = Proxy::builder(ip).arg("netns").arg("exec").arg(&self.server);
        let program =
            program.arg(env!("CARGO_BIN_EXE_redis-proxy")).set("RESP_PORT", "0").set("WORKERS", "1");
        // No link, whose silence under load would be a warning.
        let program = program.set("HOST", SERVER).set("RESP_HOST", SERVER).set("RESP_COHERENCE", "ttl");
        // Redis is outside, and reached by its file.
        let program = program.set("REDIS_URL", format!("unix://{}", redis.socket_path().display()));
        settings.iter().fold(program, |program, (name, value)| program.set(name, value)).start()
    }

    /// Connects from the client's end.
    fn connect<T: Send>(&self, address: SocketAddr, connect: impl FnOnce(SocketAddr) -> T + Send) -> T {
        within(&self.client, || connect(address))
    }

    /// From now on no packet of the client arrives, and none reaches it.
    fn cut(&self) {
        ip(&["-n", &self.client, "link", "set", "cable", "down"]).unwrap();
    }

    /// Connections of the client's end that are open at this port, as the server's kernel sees it (proc_net_tcp(5)).
    fn connections_at(&self, port: u16) -> usize {
        let table = within(&self.server, || fs::read_to_string("/proc/thread-self/net/tcp")).unwrap();
        let local = format!(":{port:04X}");
        let client = "0207D30A:";
        let open = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        open.filter(|line| {
            line.len() > 3 && line[1].ends_with(&local) && line[2].starts_with(client) && line[3] == "01"
        })
        .count()
    }

    fn gauge(&self, proxy: &Proxy, name: &str) -> f64 {
        within(&self.server, || proxy.metrics().value(name))
    }

    #[track_caller]
    fn wait_gauge(&self, proxy: &Proxy, name: &str, value: f64) {
        wait_until(PATIENCE, name, || self.gauge(proxy, name) == value);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in [&self.server, &self.client] {
            // It may not have come to be.
            let _ = ip(&["netns", "delete", name]);
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let program = find_program("ip").ok_or("there is no ip(8)")?;
    let output = Command::new(program).args(arguments).output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// Runs this in a network namespace; sockets made there stay of it.
fn within<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let working = scope.spawn(|| {
            let namespace = File::open(format!("/run/netns/{name}")).unwrap();
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        });
        working.join().unwrap()
    })
}

fn blocked_clients(redis: &RedisServer) -> usize {
    let Reply::Bulk(info) = redis.client().command(&["INFO", "clients"]) else { panic!("no INFO") };
    let info = String::from_utf8(info).unwrap();
    info.lines().find_map(|line| line.strip_prefix("blocked_clients:")).unwrap().trim().parse().unwrap()
}

const RESP_CLIENTS: &str = "redis_proxy_resp_clients";
const CLIENTS: &str = "redis_proxy_clients";

#[test]
fn clients_that_are_gone_are_let_go_and_a_blocked_one_takes_no_job_with_it() {
    let Some(network) = Network::new() else { return };
    let redis = RedisServer::start();
    // No other limit of ours ends them in the time of the test.
    let settings = [("CLIENT_KEEPALIVE", "1s"), ("IDLE_TIMEOUT", "10m"), ("ADMIN_HOST", SERVER)];
    let proxy = network.start(&redis, &settings);
    let mut admin = network.connect(proxy.admin_address(), HttpClient::connect);
    assert_eq!(admin.get("/livez").status, 200);
    let on_admin_port = || network.connections_at(proxy.admin_address().port());
    assert_eq!(on_admin_port(), 1);
    let resp = || network.connect(proxy.resp_address(), RedisClient::connect);
    let (mut idle, mut subscribed, mut in_multi) = (resp(), resp(), resp());
    idle.command(&["PING"]);
    subscribed.command(&["SUBSCRIBE", "news"]);
    in_multi.command(&["MULTI"]);
    let mut blocked = network.connect(proxy.resp_address(), RawClient::connect);
    blocked.send("*3\r\n$5\r\nBLPOP\r\n$4\r\njobs\r\n$1\r\n0\r\n");
    let mut http = network.connect(proxy.address(), HttpClient::connect);
    assert_eq!(http.get("/k").status, 404);
    wait_until(PATIENCE, "a blocked client", || blocked_clients(&redis) == 1);
    network.wait_gauge(&proxy, RESP_CLIENTS, 4.0);

    network.cut();
    network.wait_gauge(&proxy, RESP_CLIENTS, 0.0);
    network.wait_gauge(&proxy, CLIENTS, 0.0);
    wait_until(PATIENCE, "nobody on the admin port", || on_admin_port() == 0);
    wait_until(PATIENCE, "nobody to be blocked", || blocked_clients(&redis) == 0);
    redis.client().command(&["RPUSH", "jobs", "x"]);
    assert_eq!(redis.client().command(&["LLEN", "jobs"]), Reply::Integer(1));
}

#[test]
fn clients_to_whom_answers_go_out_in_vain_are_let_go() {
    let Some(network) = Network::new() else { return };
    let redis = RedisServer::start();
    redis.client().set("k", "v");
    let settings = [("CLIENT_UNACKED_TIMEOUT", "2s"), ("WRITE_TIMEOUT", "1s"), ("UPSTREAM_TIMEOUT", "60s")];
    let proxy = network.start(&redis, &settings);
    let mut subscribed = network.connect(proxy.resp_address(), RedisClient::connect);
    subscribed.command(&["SUBSCRIBE", "news"]);
    let mut http = network.connect(proxy.address(), HttpClient::connect);
    wait_until(PATIENCE, "redis", || http.get("/k").status == 200);
    network.cut();
    let told = Instant::now();
    redis.client().command(&["PUBLISH", "news", "nobody hears it"]);
    network.wait_gauge(&proxy, RESP_CLIENTS, 0.0);
    assert!(told.elapsed() >= Duration::from_secs(2), "{:?}", told.elapsed());
    // Idle, and by default asked after a minute whether it is there.
    assert_eq!(network.gauge(&proxy, CLIENTS), 1.0);
}

#[test]
fn an_http_client_that_does_not_acknowledge_its_answer_is_let_go() {
    let Some(network) = Network::new() else { return };
    let redis = RedisServer::start();
    redis.client().set("k", "v");
    let settings = [("CLIENT_UNACKED_TIMEOUT", "1s"), ("WRITE_TIMEOUT", "2s"), ("UPSTREAM_TIMEOUT", "60s")];
    let proxy = network.start(&redis, &settings);
    let mut http = network.connect(proxy.address(), HttpClient::connect);
    wait_until(PATIENCE, "redis", || http.get("/k").status == 200);
    redis.pause_process();
    http.send("GET /other HTTP/1.1\r\nHost: h\r\n\r\n");
    network.wait_gauge(&proxy, "redis_proxy_fills_in_flight", 1.0);
    network.cut();
    let answered = Instant::now();
    redis.resume_process();
    network.wait_gauge(&proxy, CLIENTS, 0.0);
    assert!(
        answered.elapsed() >= Duration::from_secs(2),
        "WRITE_TIMEOUT is the least: {:?}",
        answered.elapsed()
    );
}

#[test]
fn a_client_that_is_there_and_does_not_read_is_not_taken_for_gone() {
    let Some(network) = Network::new() else { return };
    let redis = RedisServer::start();
    let value = vec![b'x'; 12 << 20];
    redis.client().set("large", &value);
    let timeout = Duration::from_secs(2);
    let settings = [
        ("CLIENT_UNACKED_TIMEOUT", "2s"),
        ("WRITE_TIMEOUT", "60s"),
        ("MAX_VALUE_BYTES", "16MiB"),
        ("RESP_OUTPUT_LIMIT_BYTES", "64MiB"),
    ];
    let proxy = network.start(&redis, &settings);
    let mut stopped = network.connect(proxy.resp_address(), RawClient::connect);
    stopped.ask("PING", "+PONG");
    stopped.send_command(&["GET", "large"]);
    // Twice the time, and then that of the probes, whose pauses double.
    thread::sleep(timeout * 4);
    assert_eq!(network.gauge(&proxy, RESP_CLIENTS), 1.0);
    assert!(stopped.bulk() == value, "the whole value");
}
