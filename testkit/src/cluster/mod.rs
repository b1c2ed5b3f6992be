//! A Redis Cluster: primaries with replicas that know each other, for everything that happens when slots and primaries move.
//!
//! Nodes are [`RedisServer`]s, each to be killed, paused and started again by itself. What one has learnt of the cluster it knows after
//! a restart, and users too; keys are gone then.

mod client;
mod events;
mod view;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

pub use client::ClusterClient;
pub use events::{FailoverKind, SlotMigration};

use crate::wait::wait_for;
use crate::{RedisServer, RedisServerBuilder, Reply, Server};

/// How many slots there are.
const SLOTS: u16 = 16_384;
/// More than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// From one look at all of them to the next.
const PAUSE: Duration = Duration::from_millis(20);

/// Running nodes, killed when dropped.
pub struct Cluster {
    /// The first primaries first, then their replicas.
    nodes: Vec<RedisServer>,
    /// By which nodes know each other, in the order of `nodes`.
    ids: Vec<String>,
    login: Option<(Option<String>, String)>,
    has_tls: bool,
}

/// How a [`Cluster`] is to be started; without a word three primaries without replicas, no login and no TLS.
#[derive(Clone)]
pub struct ClusterBuilder {
    server: Server,
    primaries: usize,
    replicas: usize,
    node_timeout: Duration,
    login: Option<(Option<String>, String)>,
    /// Certificate, key and authority.
    tls: Option<[PathBuf; 3]>,
    config: Vec<(String, String)>,
}

impl ClusterBuilder {
    /// The nodes are this server.
    #[must_use]
    pub fn server(self, server: Server) -> Self {
        ClusterBuilder { server, ..self }
    }

    /// So many primaries, with so many replicas each. A failover that nobody asks for needs three primaries.
    #[must_use]
    pub fn nodes(self, primaries: usize, replicas: usize) -> Self {
        ClusterBuilder { primaries, replicas, ..self }
    }

    /// So long a node may be silent before others take it for failing, and without the majority of them before it refuses commands
    /// itself (`cluster-node-timeout`); 2 s without a word.
    #[must_use]
    pub fn node_timeout(self, node_timeout: Duration) -> Self {
        ClusterBuilder { node_timeout, ..self }
    }

    /// All want this password, and with a user nobody else is let in.
    #[must_use]
    pub fn login(self, user: Option<&str>, password: &str) -> Self {
        ClusterBuilder { login: Some((user.map(str::to_owned), password.to_owned())), ..self }
    }

    /// All talk TLS with these PEM files, with each other too. Clients need no certificate.
    #[must_use]
    pub fn tls(self, certificate: &Path, key: &Path, authority: &Path) -> Self {
        ClusterBuilder { tls: Some([certificate, key, authority].map(Path::to_owned)), ..self }
    }

    /// Adds `--name value` to the command line of each node.
    #[must_use]
    pub fn config(mut self, name: &str, value: &str) -> Self {
        self.config.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts all nodes, makes a cluster of them and waits until it is [settled](Cluster::wait_settled), which takes two or three seconds: a
    /// primary takes no writes in its first two. `None` where the server cannot be had: the caller's test counts as
    /// [not run](crate::not_run).
    ///
    /// # Panics
    /// When one of them does not start.
    #[track_caller]
    pub fn start(&self) -> Option<Cluster> {
        let program = self.server.program()?;
        let count = self.primaries * (1 + self.replicas);
        let nodes: Vec<_> = (0..count).map(|_| self.node(&program).start()).collect();
        let ids = nodes.iter().map(|node| view::text(&ask(node, &["CLUSTER", "MYID"]))).collect();
        let cluster = Cluster { nodes, ids, login: self.login.clone(), has_tls: self.tls.is_some() };
        cluster.assemble(self.primaries);
        cluster.wait_settled();
        Some(cluster)
    }

    fn node(&self, program: &Path) -> RedisServerBuilder {
        let mut node = RedisServer::builder().cluster_node().program(program);
        let mut lines = String::new();
        if let Some((user, password)) = &self.login {
            lines += &format!("masterauth {password}\n");
            node = match user {
                Some(user) => {
                    lines += &format!("masteruser {user}\nuser default off\n");
                    lines += &format!("user {user} on >{password} ~* &* +@all\n");
                    node.user(user, password)
                }
                None => node.password(password),
            };
        }
        if let Some([certificate, key, authority]) = &self.tls {
            node = node.tls(certificate, key, authority);
            node = node.config("tls-replication", "yes").config("tls-cluster", "yes");
        }
        let timeout = self.node_timeout.as_millis().to_string();
        node = node.config("cluster-node-timeout", &timeout).config("repl-diskless-sync-delay", "0");
        // Nobody tells of a replica before the stream of its primary has begun (`isReplicaAvailable`, cluster.c, 7.0.15).
        node = node.config("repl-ping-replica-period", "1");
        // A replica stays with its primary, whatever becomes of others.
        node = node.config("cluster-migration-barrier", "100");
        let config = self.config.iter();
        config.fold(node, |node, (name, value)| node.config(name, value)).config_file(lines)
    }
}

impl Cluster {
    /// Three primaries without replicas, of the redis-server of this machine.
    ///
    /// # Panics
    /// When one of them does not start.
    #[track_caller]
    pub fn start() -> Cluster {
        Cluster::builder().start().expect("a redis-server")
    }

    /// With choices.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder {
            server: Server::Redis70,
            primaries: 3,
            replicas: 0,
            node_timeout: Duration::from_secs(2),
            login: None,
            tls: None,
            config: Vec::new(),
        }
    }

    /// Has the nodes know each other, gives each primary its part of the slots, and has the others replicate them in turn.
    fn assemble(&self, primaries: usize) {
        let slots = usize::from(SLOTS);
        for (number, primary) in self.nodes[..primaries].iter().enumerate() {
            // Different from the start: nodes of one epoch take a while to agree on who is to have another.
            self.tell(primary, &["SET-CONFIG-EPOCH", &(number + 1).to_string()]);
            let own = number * slots / primaries..(number + 1) * slots / primaries;
            let own: Vec<String> = own.map(|slot| slot.to_string()).collect();
            let words: Vec<&str> = ["ADDSLOTS"].into_iter().chain(own.iter().map(String::as_str)).collect();
            self.tell(primary, &words);
        }
        for (number, node) in self.nodes.iter().enumerate() {
            // Each with each: what they would tell of others takes seconds to get around.
            for other in &self.nodes[number + 1..] {
                let address = other.announced();
                self.tell(node, &["MEET", &address.ip().to_string(), &address.port().to_string()]);
            }
        }
        for (number, replica) in self.nodes[primaries..].iter().enumerate() {
            let primary = &self.ids[number % primaries];
            wait_for(PATIENCE, "a replica to know its primary", || {
                let reply = ask(replica, &["CLUSTER", "REPLICATE", primary]);
                (reply == Reply::Simple("OK".to_owned())).then_some(())
            });
        }
    }

    /// The nodes, each to be killed, paused and started again: first primaries first, then the replicas that they began with, one of
    /// each primary in turn.
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// The addresses of all nodes, with TLS where they have it.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(RedisServer::announced).collect()
    }

    /// `redis+cluster://user:password@host:port,...`, with all nodes.
    pub fn url(&self) -> String {
        let scheme = if self.has_tls { "rediss" } else { "redis" };
        let login = self.login.as_ref().map(|(user, password)| {
            let user = user.as_deref().unwrap_or_default();
            format!("{user}:{password}@")
        });
        let addresses: Vec<_> = self.addresses().iter().map(SocketAddr::to_string).collect();
        format!("{scheme}+cluster://{}{}", login.unwrap_or_default(), addresses.join(","))
    }

    /// A client of the whole cluster, that goes by no program of ours.
    pub fn client(&self) -> ClusterClient<'_> {
        self.client_at(0)
    }

    /// One that begins with the node at this place.
    pub(crate) fn client_at(&self, place: usize) -> ClusterClient<'_> {
        ClusterClient::new(self, place)
    }

    /// The slot of a key, by the word of a node.
    #[track_caller]
    pub fn slot_of(&self, key: impl AsRef<[u8]>) -> u16 {
        let node = self.up().next().expect("a node that is up");
        match node.client().command(&[b"CLUSTER", b"KEYSLOT", key.as_ref()]) {
            Reply::Integer(slot) => u16::try_from(slot).expect("a slot"),
            other => panic!("the reply to CLUSTER KEYSLOT: {other:?}"),
        }
    }

    /// The primary that has the slot, once all nodes that are up name the same.
    #[track_caller]
    pub fn node_of(&self, slot: u16) -> &RedisServer {
        let what = format!("nodes that agree on who has slot {slot}");
        wait_for(PATIENCE, &what, || self.agreed(slot))
    }

    /// The replicas of a primary that has slots, as the first node that is up tells.
    #[track_caller]
    pub fn replicas_of(&self, primary: &RedisServer) -> Vec<&RedisServer> {
        let told = self.up().find_map(view::ranges).expect("a node that is up");
        let of_it = told.iter().filter(|range| self.at(range.primary).is_some_and(|at| is_same(at, primary)));
        let ports: Vec<u16> = of_it.flat_map(|range| range.replicas.iter().copied()).collect();
        self.nodes.iter().filter(|node| ports.iter().any(|port| is_at(node, *port))).collect()
    }

    /// Runs `ACL SETUSER` with these words (the user's name, its rules) at each node that is up.
    #[track_caller]
    pub fn set_user(&self, words: &[&str]) {
        let command = [&["ACL", "SETUSER"][..], words].concat();
        for node in self.up() {
            for command in [&command[..], &["CONFIG", "REWRITE"]] {
                assert_eq!(ask(node, command), Reply::Simple("OK".to_owned()), "the reply to {command:?}");
            }
        }
    }

    /// Waits until all nodes that are up agree on who has which slot, all slots are had by nodes that are up, these take commands, and
    /// their replicas are connected to them.
    ///
    /// # Panics
    /// When that does not come true in a minute.
    #[track_caller]
    pub fn wait_settled(&self) {
        let start = Instant::now();
        while let Err(why) = self.settled() {
            assert!(start.elapsed() < PATIENCE, "no settled cluster: {why}");
            thread::sleep(PAUSE);
        }
    }

    /// Waits until all nodes that are up say that it has the slot.
    #[track_caller]
    pub fn wait_owner(&self, slot: u16, owner: &RedisServer) {
        let what = format!("slot {slot} to be had by {}", owner.announced());
        wait_for(PATIENCE, &what, || self.agreed(slot).filter(|node| is_same(node, owner)).map(drop));
    }

    fn up(&self) -> impl Iterator<Item = &RedisServer> {
        self.nodes.iter().filter(|node| node.is_up())
    }

    fn agreed(&self, slot: u16) -> Option<&RedisServer> {
        let mut told = self.up().map(|node| view::owner(&view::ranges(node)?, slot));
        let first = told.next()??;
        told.all(|other| other == Some(first)).then_some(())?;
        self.at(first)
    }

    /// What is not as it is to be, if anything.
    fn settled(&self) -> Result<(), String> {
        let mut replicas = Vec::new();
        for node in self.up() {
            match view::replica_link(node) {
                Some(true) => replicas.push(node),
                Some(false) => return Err(format!("the replica {} has no primary", node.announced())),
                None => {}
            }
        }
        let mut agreed = None;
        for node in self.up() {
            let owners =
                self.settled_at(node, &replicas).map_err(|why| format!("{}: {why}", node.announced()))?;
            if *agreed.get_or_insert_with(|| owners.clone()) != owners {
                return Err("nodes see different owners of slots".to_owned());
            }
        }
        Ok(())
    }

    /// The same by the word of one node; the owners of all slots.
    fn settled_at(&self, node: &RedisServer, replicas: &[&RedisServer]) -> Result<Vec<Option<u16>>, String> {
        let (info, ranges) = view::info(node).zip(view::ranges(node)).ok_or("it does not answer")?;
        let nodes = self.nodes.len().to_string();
        let expected = [("cluster_state", "ok"), ("cluster_known_nodes", &nodes)];
        if let Some((name, _)) =
            expected.iter().find(|(name, value)| info.get(*name).is_none_or(|found| found != value))
        {
            return Err(format!("{name} is {:?}", info.get(*name)));
        }
        let is_up = |range: &view::OwnedRange| self.at(range.primary).is_some_and(RedisServer::is_up);
        if let Some(range) = ranges.iter().find(|range| !is_up(range)) {
            return Err(format!("who has slot {} is not up", range.first));
        }
        let owners = view::owners(&ranges);
        if let Some(slot) = owners.iter().position(Option::is_none) {
            return Err(format!("nobody has slot {slot}"));
        }
        let listed: Vec<u16> = ranges.iter().flat_map(|range| range.replicas.iter().copied()).collect();
        match replicas.iter().find(|replica| !listed.iter().any(|port| is_at(replica, *port))) {
            Some(replica) => Err(format!("it does not know the replica {}", replica.announced())),
            None => Ok(owners),
        }
    }

    /// The node at a port, with TLS or without.
    fn at(&self, port: u16) -> Option<&RedisServer> {
        self.nodes.iter().find(|node| is_at(node, port))
    }

    fn id(&self, node: &RedisServer) -> &str {
        let place = self.nodes.iter().position(|other| is_same(other, node));
        &self.ids[place.expect("a node of this cluster")]
    }

    /// `CLUSTER` with these words, which the node must take.
    #[track_caller]
    fn tell(&self, node: &RedisServer, words: &[&str]) {
        let reply = ask(node, &[&["CLUSTER"][..], words].concat());
        assert_eq!(reply, Reply::Simple("OK".to_owned()), "the reply to CLUSTER {}", words[0]);
    }
}

fn is_at(node: &RedisServer, port: u16) -> bool {
    node.port() == port || node.announced().port() == port
}

fn is_same(one: &RedisServer, other: &RedisServer) -> bool {
    one.port() == other.port()
}

#[track_caller]
fn ask(node: &RedisServer, words: &[&str]) -> Reply {
    let reply = node.client().try_command(words);
    reply.unwrap_or_else(|error| panic!("{} does not answer {words:?}: {error}", node.announced()))
}
