//! A primary with replicas, and the sentinels that watch them: for everything that happens when the primary moves.
//!
//! Nodes and sentinels are [`RedisServer`]s, each to be killed, paused and started again by itself. Each has a configuration file, so
//! that it knows after a restart what sentinels have made of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::redis_server::KeptPort;
use crate::wait::wait_for;
use crate::{RedisServer, RedisServerBuilder, Reply, Server};

/// What the sentinels call the primary.
const NAME: &str = "mymaster";
/// Sentinels ask nodes every 10 s, and make a replica of a former primary some time after that.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who may log in.
type Login = (Option<String>, String);

/// Running nodes and sentinels, killed when dropped.
pub struct Sentinels {
    /// Dropped first, so that they see no node die.
    sentinels: Vec<RedisServer>,
    nodes: Vec<RedisServer>,
    node_login: Option<Login>,
    sentinel_login: Option<Login>,
    has_tls: bool,
}

/// How [`Sentinels`] are to be started; without a word three of them, with one replica, no logins and no TLS.
#[derive(Clone)]
pub struct SentinelsBuilder {
    server: Server,
    sentinels: usize,
    replicas: usize,
    quorum: usize,
    down_after: Duration,
    failover_timeout: Duration,
    node_login: Option<Login>,
    sentinel_login: Option<Login>,
    /// Certificate, key and authority.
    tls: Option<[PathBuf; 3]>,
    is_quick: bool,
}

impl SentinelsBuilder {
    /// The nodes are this server; the sentinels are the redis-server of this machine always.
    #[must_use]
    pub fn server(self, server: Server) -> Self {
        SentinelsBuilder { server, ..self }
    }

    /// So many sentinels, of which `quorum` must agree that the primary is down.
    #[must_use]
    pub fn sentinels(self, sentinels: usize, quorum: usize) -> Self {
        SentinelsBuilder { sentinels, quorum, ..self }
    }

    /// So many replicas.
    #[must_use]
    pub fn replicas(self, replicas: usize) -> Self {
        SentinelsBuilder { replicas, ..self }
    }

    /// So long a node may be silent before a sentinel takes it for down; 1 s without a word.
    #[must_use]
    pub fn down_after(self, down_after: Duration) -> Self {
        SentinelsBuilder { down_after, ..self }
    }

    /// After so long a failover is given up; twice as long after its begin another may begin by itself. 3 s without a word.
    #[must_use]
    pub fn failover_timeout(self, failover_timeout: Duration) -> Self {
        SentinelsBuilder { failover_timeout, ..self }
    }

    /// The nodes want this password, and with a user nobody else is let in.
    #[must_use]
    pub fn node_login(self, user: Option<&str>, password: &str) -> Self {
        SentinelsBuilder { node_login: Some((user.map(str::to_owned), password.to_owned())), ..self }
    }

    /// The sentinels want this password, and with a user nobody else is let in.
    #[must_use]
    pub fn sentinel_login(self, user: Option<&str>, password: &str) -> Self {
        SentinelsBuilder { sentinel_login: Some((user.map(str::to_owned), password.to_owned())), ..self }
    }

    /// All talk TLS with these PEM files, and every address that they tell is one with TLS. Clients need no certificate.
    #[must_use]
    pub fn tls(self, certificate: &Path, key: &Path, authority: &Path) -> Self {
        SentinelsBuilder { tls: Some([certificate, key, authority].map(Path::to_owned)), ..self }
    }

    /// Sentinels ask and tell every quarter of a second what they ask every ten and tell every two: a former primary becomes a
    /// replica after a second or two instead of eleven or more. One that is started again is as slow as any.
    #[must_use]
    pub fn quick(self) -> Self {
        SentinelsBuilder { is_quick: true, ..self }
    }

    /// Starts all and waits until they [know each other](Sentinels::wait_settled). `None` where the server cannot be had: the
    /// caller's test counts as [not run](crate::not_run).
    ///
    /// # Panics
    /// When one of them does not start.
    #[track_caller]
    pub fn start(&self) -> Option<Sentinels> {
        let program = self.server.program()?;
        let mut nodes: Vec<RedisServer> = Vec::new();
        for _ in 0..=self.replicas {
            let lines = self.node_lines(nodes.first().map(RedisServer::announced));
            let node = self.part(&self.node_login, lines).program(&program);
            nodes.push(node.config("repl-diskless-sync-delay", "0").start());
        }
        let ports: Vec<Arc<KeptPort>> = (0..self.sentinels).map(|_| Arc::default()).collect();
        let sentinels = (0..self.sentinels).map(|number| {
            let lines = self.sentinel_lines(number, &ports, &nodes);
            self.part(&self.sentinel_login, lines).sentinel(ports[number].clone()).start()
        });
        let started = Sentinels {
            sentinels: sentinels.collect(),
            nodes,
            node_login: self.node_login.clone(),
            sentinel_login: self.sentinel_login.clone(),
            has_tls: self.tls.is_some(),
        };
        for sentinel in started.sentinels.iter().filter(|_| self.is_quick) {
            let command = ["SENTINEL", "DEBUG", "info-period", "250", "publish-period", "250"];
            assert_eq!(sentinel.client().command(&command), Reply::Simple("OK".to_owned()), "a reply");
        }
        started.wait_settled();
        Some(started)
    }

    /// A node or a sentinel with its login and TLS.
    fn part(&self, login: &Option<Login>, mut lines: String) -> RedisServerBuilder {
        let mut part = RedisServer::builder();
        match login {
            Some((Some(user), password)) => {
                lines += &format!("user default off\nuser {user} on >{password} ~* &* +@all\n");
                part = part.user(user, password);
            }
            Some((None, password)) => part = part.password(password),
            None => {}
        }
        if let Some([certificate, key, authority]) = &self.tls {
            part = part.tls(certificate, key, authority).config("tls-replication", "yes");
        }
        part.config_file(lines)
    }

    fn node_lines(&self, primary: Option<SocketAddr>) -> String {
        let mut lines = String::new();
        if let Some(primary) = primary {
            lines += &format!("replicaof {} {}\n", primary.ip(), primary.port());
        }
        if let Some((user, password)) = &self.node_login {
            lines += &user.iter().map(|user| format!("masteruser {user}\n")).collect::<String>();
            lines += &format!("masterauth {password}\n");
        }
        lines
    }

    /// What a sentinel would learn by itself in some seconds: replicas and other sentinels.
    fn sentinel_lines(&self, number: usize, ports: &[Arc<KeptPort>], nodes: &[RedisServer]) -> String {
        let id = |number: usize| format!("{:040x}", number + 1);
        let (quorum, primary) = (self.quorum, nodes[0].announced());
        let mut lines = vec![
            format!("myid {}", id(number)),
            format!("monitor {NAME} {} {} {quorum}", primary.ip(), primary.port()),
            format!("down-after-milliseconds {NAME} {}", self.down_after.as_millis()),
            format!("failover-timeout {NAME} {}", self.failover_timeout.as_millis()),
            format!("parallel-syncs {NAME} {}", nodes.len()),
        ];
        if let Some((user, password)) = &self.node_login {
            lines.extend(user.iter().map(|user| format!("auth-user {NAME} {user}")));
            lines.push(format!("auth-pass {NAME} {password}"));
        }
        if let Some((user, password)) = &self.sentinel_login {
            lines.extend(user.iter().map(|user| format!("sentinel-user {user}")));
            lines.push(format!("sentinel-pass {password}"));
        }
        let replicas = nodes[1..].iter().map(RedisServer::announced);
        lines.extend(
            replicas.map(|replica| format!("known-replica {NAME} {} {}", replica.ip(), replica.port())),
        );
        let others = ports.iter().enumerate().filter(|(other, _)| *other != number);
        lines.extend(
            others.map(|(other, port)| {
                format!("known-sentinel {NAME} 127.0.0.1 {} {}", port.number, id(other))
            }),
        );
        lines.iter().map(|line| format!("sentinel {line}\n")).collect()
    }
}

impl Sentinels {
    /// Three sentinels, a primary and a replica, of the redis-server of this machine.
    ///
    /// # Panics
    /// When one of them does not start.
    #[track_caller]
    pub fn start() -> Sentinels {
        Sentinels::builder().start().expect("a redis-server")
    }

    /// With choices.
    pub fn builder() -> SentinelsBuilder {
        SentinelsBuilder {
            server: Server::Redis70,
            sentinels: 3,
            replicas: 1,
            quorum: 2,
            down_after: Duration::from_secs(1),
            failover_timeout: Duration::from_secs(3),
            node_login: None,
            sentinel_login: None,
            tls: None,
            is_quick: false,
        }
    }

    /// The sentinels, each to be killed, paused and started again.
    pub fn sentinels(&self) -> &[RedisServer] {
        &self.sentinels
    }

    /// The nodes likewise, the first primary first.
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// The addresses of the sentinels.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sentinels.iter().map(RedisServer::announced).collect()
    }

    /// What the sentinels call the primary.
    pub fn name(&self) -> &'static str {
        NAME
    }

    /// `redis+sentinel://user:password@host:port,.../name`, with the login of the nodes.
    pub fn url(&self) -> String {
        let scheme = if self.has_tls { "rediss" } else { "redis" };
        let login = self.node_login.as_ref().map(|(user, password)| {
            let user = user.as_deref().unwrap_or_default();
            format!("{user}:{password}@")
        });
        let addresses: Vec<_> = self.addresses().iter().map(SocketAddr::to_string).collect();
        format!("{scheme}+sentinel://{}{}/{NAME}", login.unwrap_or_default(), addresses.join(","))
    }

    /// The user and the password that sentinels want.
    pub fn sentinel_login(&self) -> Option<(Option<&str>, &str)> {
        self.sentinel_login.as_ref().map(|(user, password)| (user.as_deref(), password.as_str()))
    }

    /// The node that the sentinels name as the primary, once all that are up name the same.
    #[track_caller]
    pub fn primary(&self) -> &RedisServer {
        wait_for(PATIENCE, "sentinels that agree", || self.agreed())
    }

    /// The other nodes, whatever they think of themselves.
    #[track_caller]
    pub fn replicas(&self) -> Vec<&RedisServer> {
        let primary = self.primary().announced();
        self.nodes.iter().filter(|node| node.announced() != primary).collect()
    }

    /// Has the sentinels make a replica the primary, and waits until all that are up say so. The old primary, which goes on, learns of
    /// it some seconds later: [`wait_settled`](Self::wait_settled).
    #[track_caller]
    pub fn failover(&self) -> &RedisServer {
        let old = self.primary();
        self.start_failover();
        self.wait_moved(old)
    }

    /// As [`failover`](Self::failover), and waits for nothing but the word of one sentinel that it has begun.
    #[track_caller]
    pub fn start_failover(&self) {
        let sentinel = self.up().next().expect("a sentinel that is up");
        // One that the sentinel has not heard of for long is no good replica.
        wait_for(PATIENCE, "a failover to begin", || {
            let reply = sentinel.client().command(&["SENTINEL", "FAILOVER", NAME]);
            (reply == Reply::Simple("OK".to_owned())).then_some(())
        });
    }

    /// Waits until all sentinels that are up name the same primary, another than `old`.
    #[track_caller]
    pub fn wait_moved(&self, old: &RedisServer) -> &RedisServer {
        let is_other = |primary: &&RedisServer| primary.announced() != old.announced();
        wait_for(PATIENCE, "another primary", || self.agreed().filter(is_other))
    }

    /// Waits until all that are up know each other: sentinels one primary, each other and the replicas, which are connected to it.
    ///
    /// # Panics
    /// When they do not in a minute.
    #[track_caller]
    pub fn wait_settled(&self) {
        wait_for(PATIENCE, "sentinels that know all", || self.is_settled().then_some(()));
    }

    fn up(&self) -> impl Iterator<Item = &RedisServer> {
        self.sentinels.iter().filter(|sentinel| sentinel.is_up())
    }

    /// The primary by the word of all sentinels that are up; none while they differ.
    fn agreed(&self) -> Option<&RedisServer> {
        let mut named = self.up().map(named_port);
        let first = named.next()??;
        named.all(|other| other == Some(first)).then_some(())?;
        self.nodes.iter().find(|node| node.announced().port() == first)
    }

    fn is_settled(&self) -> bool {
        let Some(primary) = self.agreed().map(|primary| primary.announced().port()) else { return false };
        let nodes = self.nodes.iter().filter(|node| node.is_up()).map(|node| node.announced().port());
        let replicas: Vec<u16> = nodes.filter(|port| *port != primary).collect();
        let others = self.up().count() - 1;
        self.up().all(|sentinel| knows_all(sentinel, primary, &replicas, others).unwrap_or(false))
    }
}

/// The port of the primary by the word of a sentinel; none if it has died by now.
fn named_port(sentinel: &RedisServer) -> Option<u16> {
    match ask(sentinel, &["GET-MASTER-ADDR-BY-NAME", NAME])? {
        Reply::Array(address) => text(address.get(1)?).parse().ok(),
        other => panic!("the reply to SENTINEL GET-MASTER-ADDR-BY-NAME: {other:?}"),
    }
}

/// Whether a sentinel sees the primary at its port, so many `others` and these replicas, and nothing wrong with any of them.
fn knows_all(sentinel: &RedisServer, primary: u16, replicas: &[u16], others: usize) -> Option<bool> {
    let is = |fields: &BTreeMap<String, String>, name: &str, value: &str| {
        fields.get(name).is_some_and(|found| found == value)
    };
    let master = fields(&ask(sentinel, &["MASTER", NAME])?);
    let each = |command: &str| match ask(sentinel, &[command, NAME])? {
        Reply::Array(all) => Some(all.iter().map(fields).collect::<Vec<_>>()),
        other => panic!("the reply to SENTINEL {command}: {other:?}"),
    };
    let good_replicas = each("REPLICAS")?.into_iter().filter(|replica| {
        is(replica, "flags", "slave")
            && is(replica, "master-link-status", "ok")
            && is(replica, "master-port", &primary.to_string())
    });
    let ports: Vec<_> =
        good_replicas.filter_map(|replica| replica.get("port")?.parse::<u16>().ok()).collect();
    let good_others = each("SENTINELS")?.into_iter().filter(|other| is(other, "flags", "sentinel")).count();
    Some(
        is(&master, "flags", "master")
            && is(&master, "port", &primary.to_string())
            && replicas.iter().all(|port| ports.contains(port))
            && good_others >= others,
    )
}

fn ask(sentinel: &RedisServer, arguments: &[&str]) -> Option<Reply> {
    let command: Vec<_> = ["SENTINEL"].iter().chain(arguments).collect();
    sentinel.try_client().ok()?.try_command(&command).ok()
}

/// Names and values in turn.
fn fields(reply: &Reply) -> BTreeMap<String, String> {
    let Reply::Array(parts) = reply else { return BTreeMap::new() };
    parts.chunks_exact(2).map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
}

fn text(reply: &Reply) -> String {
    match reply {
        Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => panic!("a sentinel says {other:?}"),
    }
}
