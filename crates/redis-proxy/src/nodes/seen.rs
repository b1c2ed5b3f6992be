//! What was seen of the nodes, for `/readyz` and `/metrics`.

use std::fmt::Write;
use std::sync::Mutex;

use upstream::{Cluster, Endpoint, RedisNode};

use crate::clock::now_ns;

/// Written by the thread that watches the nodes, read by the admin port.
pub(crate) struct Seen {
    node: RedisNode,
    by_sentinels: bool,
    state: Mutex<NodeStates>,
    cluster: Option<Cluster>,
    cluster_state: Mutex<ClusterState>,
}

/// What is known of the map of slots.
#[derive(Clone, Debug, Default)]
pub(super) struct ClusterState {
    /// When it was read last.
    pub(super) read_at: Option<u64>,
    /// Why it is not whole, or not of now.
    pub(super) trouble: Option<String>,
}

/// The state of all but the primary.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeStates {
    /// How often the primary was found elsewhere.
    pub(crate) failovers: u64,
    /// Each sentinel that is known, with why it does not answer, if so.
    pub(crate) sentinels: Vec<(String, Option<String>)>,
    /// Each node that is watched, with what it said last: `replica`, `primary`, `former primary`, or why it does not answer.
    pub(crate) witnesses: Vec<(String, String)>,
    /// Why there are replicas that nobody watches, if so.
    pub(crate) unwatched: Option<String>,
    /// Whether replicas are watched at all.
    pub(crate) watches: bool,
}

/// What a witness that is a replica says.
pub(super) const REPLICA: &str = "replica";

impl Seen {
    pub(super) fn new(redis: &Endpoint, by_sentinels: bool) -> Seen {
        let (node, cluster) = (redis.node.clone(), redis.cluster.clone());
        Seen { node, by_sentinels, state: Mutex::default(), cluster, cluster_state: Mutex::default() }
    }

    /// Something is known of the map of slots.
    pub(super) fn set_cluster(&self, change: impl FnOnce(&mut ClusterState)) {
        change(&mut self.cluster_state.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    /// The cluster, if it is one.
    pub(crate) fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    pub(super) fn set(&self, state: NodeStates) {
        *self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = state;
    }

    /// What was seen last.
    pub(crate) fn state(&self) -> NodeStates {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Where the primary is.
    pub(crate) fn node(&self) -> &RedisNode {
        &self.node
    }

    /// Lines for an operator; nothing where the primary is at the address of the settings and nobody is watched.
    pub(crate) fn text(&self) -> String {
        let (state, place) = (self.state(), self.node.place());
        let mut text = String::new();
        if let Some(cluster) = &self.cluster {
            self.write_cluster(cluster, &mut text);
        }
        if self.by_sentinels {
            let answering = state.sentinels.iter().filter(|(_, trouble)| trouble.is_none()).count();
            let _ = writeln!(
                text,
                "primary: {place}, generation {}, failovers {}; {answering} of {} sentinels answer",
                place.generation,
                state.failovers,
                state.sentinels.len()
            );
        }
        if state.watches && (!state.witnesses.is_empty() || state.unwatched.is_some()) {
            let answering = state.witnesses.iter().filter(|(_, said)| said == REPLICA).count();
            let _ = write!(text, "witnesses: {answering} of {} are replicas", state.witnesses.len());
            for (address, said) in state.witnesses.iter().filter(|(_, said)| said != REPLICA) {
                let _ = write!(text, "; {address}: {said}");
            }
            if let Some(why) = &state.unwatched {
                let _ = write!(text, "; {why}");
            }
            text.push('\n');
        }
        text
    }

    fn write_cluster(&self, cluster: &Cluster, text: &mut String) {
        let state = self.cluster_state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let primaries = cluster.primaries();
        let slots: usize = primaries.iter().map(|(_, slots)| slots).sum();
        let _ = write!(text, "cluster: {slots} slots with {} primaries", primaries.len());
        if let Some(read_at) = state.read_at {
            let _ = write!(text, ", as of {} s ago", now_ns().saturating_sub(read_at) / 1_000_000_000);
        }
        if let Some(trouble) = &state.trouble {
            let _ = write!(text, "; {trouble}");
        }
        text.push('\n');
    }
}
