//! Follows the map of slots of a cluster: asked when anybody doubts it, and now and then.
//!
//! CLUSTER SLOTS (<https://redis.io/docs/latest/commands/cluster-slots/>) is understood by every version; the answer is taken of a node that
//! says that the cluster is well and knows an owner of every slot. Only if there is none such, of the one that knows most: then what it
//! leaves out is asked at home, where Redis says what is wrong.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};
use upstream::{Address, Cluster, Conversation, Endpoint, Expected, NodeNumber, RedisNode, SLOTS, SlotRange};

use super::reading::{info as fields_of, slots};
use super::seen::{ClusterState, Seen};
use crate::clock::now_ns;

/// From one look at the map to the next where nobody doubts it.
const PERIOD: Duration = Duration::from_secs(30);
/// While there is none, or none that is whole.
const IMPATIENT: Duration = Duration::from_secs(1);
/// At most so often, whoever doubts it.
const SHORTEST: Duration = Duration::from_millis(100);
/// Before another node is asked beside one that does not answer; and so long those that do not are waited for once another has told a part.
const BESIDE: Duration = Duration::from_millis(100);
/// A node that takes longer for a connection and its answer is taken for one that is away.
const PATIENCE: Duration = Duration::from_secs(1);
/// Home that has not answered for so long is given up for another primary. One that is busy with a command is not to lose its connections.
const AWAY: Duration = Duration::from_secs(3);
/// From one line on a map that cannot be had to the next.
const CALM: Duration = Duration::from_secs(5);

/// What one node says.
struct Said {
    by: Address,
    map: Vec<SlotRange>,
    /// Whether it says that the cluster is well and names an owner of every slot.
    is_whole: bool,
}

impl Said {
    fn slots(&self) -> usize {
        self.map.iter().map(|range| usize::from(range.last - range.first) + 1).sum()
    }
}

/// Who follows the map.
pub(super) struct Follower {
    redis: Endpoint,
    cluster: Cluster,
    seeds: Vec<Address>,
    seen: Arc<Seen>,
    /// Who answered last.
    last: Option<Address>,
    /// Since when home does not answer.
    away_since: Option<Instant>,
    told_at: Option<Instant>,
}

impl Follower {
    /// Of the cluster that `redis` is of; `seeds` are the nodes that the settings name.
    pub(super) fn new(redis: Endpoint, cluster: Cluster, seeds: Vec<Address>, seen: Arc<Seen>) -> Follower {
        Follower { redis, cluster, seeds, seen, last: None, away_since: None, told_at: None }
    }

    /// Never ends.
    pub(super) async fn run(mut self) {
        // Somebody who doubted while it was being asked may have seen what came after.
        let mut once_more = false;
        loop {
            let begun = Instant::now();
            let is_whole = self.refresh().await;
            let is_home_away = self.look_at_home().await;
            sleep(SHORTEST.saturating_sub(begun.elapsed())).await;
            if std::mem::take(&mut once_more) {
                continue;
            }
            tokio::select! {
                () = self.redis.node.doubted() => once_more = true,
                () = sleep(if is_whole && !is_home_away { PERIOD } else { IMPATIENT }) => {}
            }
        }
    }

    /// Asks until a node has told all. Whether one has.
    async fn refresh(&mut self) -> bool {
        match self.ask().await {
            Ok(said) => {
                self.take(&said);
                said.is_whole
            }
            Err(why) => {
                self.redis.node.explain(format!("no node of the cluster tells who has which slot; {why}"));
                if self.told_at.is_none_or(|told| told.elapsed() > CALM) {
                    self.told_at = Some(Instant::now());
                    warn!(why, "no node of the cluster tells who has which slot");
                }
                self.seen.set_cluster(|state| state.trouble = Some(why));
                false
            }
        }
    }

    /// Has what is no matter of a key asked at another primary once home does not answer, though the map names it still: it may be that
    /// nobody takes its place. Whether it does not answer.
    async fn look_at_home(&mut self) -> bool {
        let Ok(home) = self.redis.node.place().address else { return false };
        let answer = match self.last.as_ref() == Some(&home) {
            true => Ok(()),
            false => ask_one(self.redis.clone(), self.cluster.clone(), home.clone()).await.map(drop),
        };
        let Err(why) = answer else {
            self.away_since = None;
            return false;
        };
        let since = *self.away_since.get_or_insert_with(Instant::now);
        let primaries = self.cluster.primaries().into_iter();
        let mut others = primaries.filter_map(|(id, _)| self.cluster.node(id).place().address.ok());
        let next = others.find(|address| self.last.as_ref() == Some(address) && *address != home);
        if let Some(next) = next.filter(|_| since.elapsed() >= AWAY) {
            warn!(home = %next, before = %home, why, "what is no matter of a key is asked at another primary");
            self.redis.node.move_to(next, now_ns);
            self.away_since = None;
            return false;
        }
        true
    }

    /// Who may know, the best first.
    fn candidates(&self) -> VecDeque<Address> {
        let address = |id: NodeNumber| self.cluster.node(id).place().address.ok();
        let knows = self.cluster.take_who_knows().and_then(address);
        let primaries = self.cluster.primaries().into_iter().filter_map(|(id, _)| address(id));
        let mut candidates = VecDeque::new();
        for address in
            knows.into_iter().chain(self.last.clone()).chain(primaries).chain(self.seeds.iter().cloned())
        {
            if !candidates.contains(&address) {
                candidates.push_back(address);
            }
        }
        candidates
    }

    /// What the first node says that knows all; else the one that knows most.
    ///
    /// # Errors
    /// None answers: why the last one does not.
    async fn ask(&self) -> Result<Said, String> {
        let mut candidates = self.candidates();
        let mut asked = JoinSet::new();
        let (mut best, mut why): (Option<Said>, _) = (None, "nobody is known".to_owned());
        loop {
            if let Some(next) = candidates.pop_front() {
                asked.spawn_local(ask_one(self.redis.clone(), self.cluster.clone(), next));
            }
            // Each has answered by PATIENCE, or has not.
            let patience = if candidates.is_empty() && best.is_none() { 2 * PATIENCE } else { BESIDE };
            let answer = match timeout(patience, asked.join_next()).await {
                Ok(answer) => answer,
                Err(_) if candidates.is_empty() => return best.ok_or(why),
                Err(_) => continue,
            };
            match answer {
                Some(Ok(Ok(said))) if said.is_whole => return Ok(said),
                Some(Ok(Ok(said))) if best.as_ref().is_none_or(|best| best.slots() < said.slots()) => {
                    best = Some(said);
                }
                Some(Ok(Ok(_))) => {}
                Some(Ok(Err(trouble))) => why = trouble,
                // One that panicked has said so.
                Some(Err(_)) => {}
                None if candidates.is_empty() => return best.ok_or(why),
                None => {}
            }
        }
    }

    fn take(&mut self, said: &Said) {
        let is_first = self.cluster.primaries().is_empty();
        let moved = self.cluster.adopt(&said.map);
        let primaries = self.cluster.primaries();
        let slots: usize = primaries.iter().map(|(_, slots)| slots).sum();
        if is_first || moved > 0 {
            info!(by = %said.by, primaries = primaries.len(), slots, moved, "the map of slots is another one");
        }
        let is_home = |address: &Address| {
            primaries.iter().any(|(id, _)| self.cluster.node(*id).place().address.as_ref() == Ok(address))
        };
        if !self.redis.node.place().address.as_ref().is_ok_and(is_home)
            && let Some(Ok(address)) = primaries.first().map(|(id, _)| self.cluster.node(*id).place().address)
        {
            info!(home = %address, "what is no matter of a key is asked there");
            self.redis.node.move_to(address, now_ns);
        }
        self.last = Some(said.by.clone());
        let trouble = (!said.is_whole).then(|| match slots < usize::from(SLOTS) {
            true => format!("{} slots have no node", usize::from(SLOTS) - slots),
            false => "its nodes say that it is not well".to_owned(),
        });
        self.seen.set_cluster(|state| *state = ClusterState { read_at: Some(now_ns()), trouble });
    }
}

/// What the node at `address` says, within [`PATIENCE`].
async fn ask_one(redis: Endpoint, cluster: Cluster, address: Address) -> Result<Said, String> {
    let by = cluster.id_of(&address);
    let limits = redis.limits.within(PATIENCE);
    let endpoint = Endpoint { node: RedisNode::at(address.clone()), db: 0, limits, ..redis };
    let asking = async {
        let mut node =
            Conversation::open(&endpoint, Expected::Redis).await.map_err(|error| error.to_string())?;
        let answers = node.ask(&[&[b"CLUSTER", b"INFO"], &[b"CLUSTER", b"SLOTS"]]).await;
        let answers = answers.map_err(|loss| loss.to_string())?;
        let [info, said] = &answers[..] else { return Err("too few answers".to_owned()) };
        let map = slots(said, |host, port| cluster.reached(host, port, by))?;
        let is_well =
            fields_of(info).is_some_and(|info| info.get("cluster_state").is_some_and(|state| state == "ok"));
        let mut said = Said { by: address.clone(), map, is_whole: is_well };
        said.is_whole &= said.slots() == usize::from(SLOTS);
        Ok(said)
    };
    let outcome =
        timeout(PATIENCE, asking).await.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")));
    outcome.map_err(|why| format!("{address}: {why}"))
}
