//! What the thread that watches the nodes knows, and what it concludes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use resp::Frame;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};
use upstream::{Address, Conversation, Endpoint, Expected, Location};

use super::agreement::{Older, Opinion, agreed};
use super::seen::{NodeStates, Seen};
use super::sentinel::{self, Said};
use super::witness::{self, Word};
use super::witnesses::{MOST_WITNESSES, Witnesses};
use crate::clock::now_ns;
use crate::config::NodesSettings;
use crate::vital;

/// From one look at what has become old to the next.
const PERIOD: Duration = Duration::from_secs(1);
/// Sentinels are asked at most so often beside their period.
const POKES: Duration = Duration::from_millis(100);
/// From one question to a node that sentinels name, whether it is the primary, to the next.
const CONFIRMATIONS: Duration = Duration::from_millis(50);
/// A sentinel that no other tells of and that does not answer is forgotten after this long.
const FORGOTTEN: Duration = Duration::from_secs(60);
/// From one time that all connections are opened again, because the name leads elsewhere, to the next.
const CALM: Duration = Duration::from_millis(100);
/// At most: whoever names more of them is not to take all connections.
const MOST_SENTINELS: usize = 16;

/// What is known, and who is asked.
pub(super) struct Watch {
    /// Where the primary is and who we are to it.
    pub(super) redis: Endpoint,
    settings: NodesSettings,
    /// How often witnesses are asked; none if there are none.
    beat: Option<Duration>,
    seen: Arc<Seen>,
    poke: Notify,
    known: RefCell<Known>,
}

#[derive(Default)]
struct Known {
    /// By where they are reached.
    sentinels: BTreeMap<Address, Sentinel>,
    /// By whose word the primary is where it is.
    adopted: Option<Opinion>,
    older: Older,
    /// Whether a node that sentinels name is being asked if it is the primary.
    is_confirming: bool,
    failovers: u64,
    /// Of the primary.
    run_id: Option<String>,
    /// What the primary lists as its replicas, or why it does not.
    listed: Vec<Address>,
    unlisted: Option<String>,
    witnesses: Witnesses,
    /// Since when another node says that it is the primary.
    disputed: Option<Instant>,
    /// Who was met where the primary is said to be, the last time.
    met: Option<Met>,
    /// When all connections were opened again because that was another one.
    reopened: Option<Instant>,
}

/// A node as it tells of itself.
#[derive(PartialEq, Eq)]
struct Met {
    is_primary: bool,
    run_id: Option<String>,
}

struct Sentinel {
    task: AbortHandle,
    /// Whether the settings name it; else another one has told of it.
    is_given: bool,
    /// By which it is known whatever its address, while it answers.
    id: Option<String>,
    said: Option<Said>,
    /// Why it does not answer, and since when.
    trouble: Option<(String, Instant)>,
    /// Whether it is asked by another address.
    is_alias: bool,
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    pub(super) fn new(
        redis: Endpoint,
        settings: NodesSettings,
        beat: Option<Duration>,
        seen: Arc<Seen>,
    ) -> Watch {
        Watch { redis, settings, beat, seen, poke: Notify::new(), known: RefCell::default() }
    }

    /// Never ends.
    pub(super) async fn run(self: Rc<Self>) {
        if let Some(sentinels) = self.settings.sentinels() {
            sentinels.addresses.iter().for_each(|address| self.meet(address, true));
        }
        if self.beat.is_some() {
            spawn_local(vital::task("the watch of the primary", witness::ask_primary(self.clone())));
        }
        loop {
            tokio::select! {
                () = self.redis.node.doubted() => {
                    self.poke.notify_waiters();
                    sleep(POKES).await;
                }
                () = sleep(PERIOD) => {}
            }
            self.forget();
            self.judge();
        }
    }

    /// Where a node is reached that is announced so.
    pub(super) fn reach(&self, announced: &Address) -> Address {
        self.settings.address_map.reach(announced)
    }

    /// Ready once sentinels and the primary are to be asked at once, from the making of this future on.
    pub(super) fn poked(&self) -> impl Future<Output = ()> {
        self.poke.notified()
    }

    fn meet(self: &Rc<Self>, address: &Address, is_given: bool) {
        let mut known = self.known.borrow_mut();
        let Some(settings) = self.settings.sentinels() else { return };
        if known.sentinels.contains_key(address) || known.sentinels.len() >= MOST_SENTINELS {
            return;
        }
        let asking = sentinel::ask(self.clone(), settings.clone(), address.clone());
        let task = spawn_local(vital::task("the questions to a sentinel", asking)).abort_handle();
        let trouble = Some(("it has not answered yet".into(), Instant::now()));
        let sentinel = Sentinel { task, is_given, id: None, said: None, trouble, is_alias: false };
        known.sentinels.insert(address.clone(), sentinel);
    }

    /// The sentinel at `address` has told who it is. Whether it is to be asked there.
    pub(super) fn sentinel_met(&self, address: &Address, id: Option<&Frame>) -> bool {
        let id = match id {
            Some(Frame::Bulk(id)) => String::from_utf8(id.to_vec()).ok(),
            _ => None,
        };
        let mut known = self.known.borrow_mut();
        let is_same = |other: &Sentinel| id.is_some() && other.id == id && !other.is_alias;
        let is_alias = known.sentinels.iter().any(|(at, other)| at != address && is_same(other));
        if let Some(sentinel) = known.sentinels.get_mut(address) {
            sentinel.is_alias = is_alias;
            sentinel.id = id;
        }
        !is_alias
    }

    /// The sentinel at `address` does not answer.
    pub(super) fn sentinel_lost(&self, address: &Address, why: String) {
        let mut known = self.known.borrow_mut();
        let Some(sentinel) = known.sentinels.get_mut(address) else { return };
        let is_news = sentinel.trouble.is_none();
        (sentinel.id, sentinel.said, sentinel.is_alias) = (None, None, false);
        if is_news {
            info!(sentinel = %address, why, "a sentinel does not answer");
        }
        if self.redis.node.place().address.is_err() {
            self.redis.node.explain(format!("no sentinel tells where the primary is; {address}: {why}"));
        }
        let since = sentinel.trouble.take().map_or_else(Instant::now, |(_, since)| since);
        sentinel.trouble = Some((why, since));
        self.show(&known);
    }

    /// What the sentinel at `address` says.
    pub(super) fn sentinel_says(self: &Rc<Self>, address: &Address, said: Said) {
        said.others.iter().for_each(|other| self.meet(other, false));
        {
            let mut known = self.known.borrow_mut();
            let Some(sentinel) = known.sentinels.get_mut(address) else { return };
            if sentinel.trouble.take().is_some() {
                info!(sentinel = %address, "a sentinel answers");
            }
            if said.opinion.is_none() && self.redis.node.place().address.is_err() {
                self.redis.node.explain(format!("the sentinel {address} knows no primary of this name"));
            }
            sentinel.said = Some(said);
            self.list(&mut known);
            if let Some(opinion) = named(&mut known) {
                if known.adopted.as_ref().is_some_and(|adopted| adopted.primary == opinion.primary) {
                    known.adopted = Some(opinion);
                } else if !std::mem::replace(&mut known.is_confirming, true) {
                    spawn_local(vital::task("the look at a new primary", self.clone().confirm()));
                }
            }
            self.show(&known);
        }
        self.judge();
    }

    /// Asks the node that sentinels name if it is the primary, until it is, or they name the one that is adopted.
    async fn confirm(self: Rc<Self>) {
        let begun = Instant::now();
        let mut told = false;
        loop {
            let opinion = named(&mut self.known.borrow_mut());
            let is_adopted = |opinion: &Opinion| {
                self.known.borrow().adopted.as_ref().is_some_and(|adopted| adopted.primary == opinion.primary)
            };
            let Some(opinion) = opinion.filter(|opinion| !is_adopted(opinion)) else { break };
            let endpoint = witness::endpoint_at(&self.redis, &opinion.primary);
            let why = match Conversation::open(&endpoint, Expected::Redis).await {
                Ok(node) if node.hello().is_primary() => {
                    self.adopt(opinion, begun);
                    break;
                }
                Ok(_) => "it says that it is a replica".to_owned(),
                Err(error) => error.to_string(),
            };
            if self.redis.node.place().address.is_err() {
                self.redis
                    .node
                    .explain(format!("the sentinels name {} as the primary: {why}", opinion.primary));
            }
            if begun.elapsed() > PERIOD && !std::mem::replace(&mut told, true) {
                warn!(node = %opinion.primary, why, "sentinels name a primary that is none, so far");
            }
            sleep(CONFIRMATIONS).await;
        }
        self.known.borrow_mut().is_confirming = false;
    }

    /// The primary is where `opinion` says.
    fn adopt(&self, opinion: Opinion, begun: Instant) {
        let before = self.redis.node.place().address.ok();
        let is_elsewhere = before.as_ref() != Some(&opinion.primary);
        {
            let mut known = self.known.borrow_mut();
            known.adopted = Some(opinion.clone());
            if is_elsewhere {
                known.failovers += u64::from(before.is_some());
                known.witnesses.primary_moved(&opinion.primary, before.clone());
                known.run_id = None;
            }
        }
        if is_elsewhere {
            let to = mutant::moves_to(opinion.primary.clone(), before.clone());
            self.redis.node.move_to(to, now_ns);
            let Location { generation, .. } = self.redis.node.place();
            let (to, took) = (&opinion.primary, begun.elapsed());
            match before {
                Some(from) => {
                    info!(%from, %to, generation, epoch = opinion.epoch, ?took, "the primary is elsewhere, as its sentinels say")
                }
                None => {
                    info!(%to, epoch = opinion.epoch, ?took, "the primary is found, as its sentinels say")
                }
            }
        }
        self.show(&self.known.borrow());
        self.judge();
    }

    /// What the primary says: who it is, and who its replicas are, or why it does not.
    pub(super) fn primary_says(
        self: &Rc<Self>,
        run_id: Option<String>,
        listed: Result<Option<Vec<Address>>, String>,
    ) {
        {
            let mut known = self.known.borrow_mut();
            known.run_id = run_id;
            match listed {
                Ok(Some(listed)) => {
                    known.listed = listed.iter().map(|address| self.reach(address)).collect();
                    known.unlisted = None;
                }
                Ok(None) => {}
                Err(why) => {
                    if known.unlisted.is_none() {
                        info!(why, "the primary does not say who its replicas are");
                    }
                    known.unlisted = Some(format!("the primary does not say who its replicas are: {why}"));
                }
            }
            self.list(&mut known);
            self.show(&known);
        }
        self.judge();
    }

    /// Who was met where the primary is said to be. While that is disputed, another primary than was met before is where the name leads by
    /// now, and every connection is opened anew: whether that is so. Sentinels tell it by themselves.
    pub(super) fn primary_met(&self, is_primary: bool, run_id: Option<String>) -> bool {
        let mut known = self.known.borrow_mut();
        let met = Met { is_primary, run_id };
        let is_another = is_primary && known.met.as_ref().is_some_and(|before| *before != met);
        if !is_another || known.disputed.is_none() || self.settings.sentinels().is_some() {
            known.met = Some(met);
            return false;
        }
        let Ok(here) = self.redis.node.place().address else { return false };
        // A name that leads here and there does not keep everybody from being served. It will be met once more.
        if known.reopened.is_some_and(|reopened| reopened.elapsed() < CALM) {
            return false;
        }
        info!(name = %here, "the name of the primary leads elsewhere");
        (known.met, known.run_id, known.reopened) = (Some(met), None, Some(Instant::now()));
        self.redis.node.move_to(here, now_ns);
        true
    }

    /// Whether the name of the primary may lead elsewhere by now, which shows on new connections alone: another node says that it is the
    /// primary, and no sentinel tells where it is.
    pub(super) fn is_name_doubted(&self) -> bool {
        self.settings.sentinels().is_none() && self.known.borrow().disputed.is_some()
    }

    /// Whoever is listed is a witness.
    fn list(self: &Rc<Self>, known: &mut Known) {
        let Some(beat) = self.beat else { return };
        let here = self.redis.node.place().address.ok();
        let by_sentinels = known.sentinels.values().filter_map(|sentinel| sentinel.said.as_ref());
        let by_sentinels = by_sentinels.flat_map(|said| said.replicas.iter());
        let mut listed: Vec<Address> = known.listed.iter().chain(by_sentinels).cloned().collect();
        listed.sort();
        listed.dedup();
        for address in listed.into_iter().filter(|address| Some(address) != here.as_ref()) {
            let is_witness = known.witnesses.list(address, Instant::now(), |address| {
                let asking = witness::ask(self.clone(), address, beat);
                spawn_local(vital::task("the questions to a witness", asking)).abort_handle()
            });
            if !is_witness {
                known.unlisted = Some(format!("more than {MOST_WITNESSES} replicas"));
            }
        }
    }

    /// What the witness at `address` says of itself.
    pub(super) fn witness_says(&self, address: &Address, word: Word) {
        {
            let mut known = self.known.borrow_mut();
            if known.witnesses.says(address, word, Instant::now()) {
                self.show(&known);
            }
        }
        self.judge();
    }

    /// Witnesses that nobody lists, and sentinels that are gone and that no other tells of, are worth nothing after a while.
    fn forget(&self) {
        let mut known = self.known.borrow_mut();
        let known = &mut *known;
        let told: Vec<Address> = known
            .sentinels
            .values()
            .filter_map(|sentinel| sentinel.said.as_ref())
            .flat_map(|said| said.others.clone())
            .collect();
        known.sentinels.retain(|address, sentinel| {
            let is_gone = sentinel.trouble.as_ref().is_some_and(|(_, since)| since.elapsed() > FORGOTTEN);
            sentinel.is_given || !is_gone || told.contains(address)
        });
        let here = self.redis.node.place().address.ok();
        known.witnesses.forget(here.as_ref(), known.run_id.as_deref(), Instant::now());
        self.show(known);
    }

    /// Whether another node than ours says that it is the primary: then nothing is proven.
    fn judge(&self) {
        let node = &self.redis.node;
        let mut known = self.known.borrow_mut();
        let here = node.place().address.ok();
        let another = known.witnesses.another_primary(here.as_ref(), known.run_id.as_deref()).cloned();
        match (another, known.disputed) {
            (Some(other), None) => {
                let why = format!("another node, {other}, says that it is the primary");
                node.dispute(why.into(), now_ns);
                known.disputed = Some(Instant::now());
                warn!(node = %other, "two nodes say that they are the primary: nothing is proven until one of them is a replica");
                self.poke.notify_waiters();
            }
            (None, Some(since)) => {
                node.settle(now_ns);
                known.disputed = None;
                info!(took = ?since.elapsed(), "one node is the primary again");
            }
            _ => {}
        }
    }

    /// For those who report.
    fn show(&self, known: &Known) {
        let sentinels = known.sentinels.iter().filter(|(_, sentinel)| !sentinel.is_alias);
        self.seen.set(NodeStates {
            failovers: known.failovers,
            sentinels: sentinels
                .map(|(at, sentinel)| (at.to_string(), sentinel.trouble.as_ref().map(|(why, _)| why.clone())))
                .collect(),
            witnesses: known.witnesses.states(),
            unwatched: known.unlisted.clone(),
            watches: self.beat.is_some(),
        });
    }
}

/// What sentinels agree on at this moment, if it is better than what was gone by so far.
fn named(known: &mut Known) -> Option<Opinion> {
    let asked = known.sentinels.values().filter(|sentinel| !sentinel.is_alias);
    let opinions = asked.clone().filter_map(|sentinel| sentinel.said.as_ref()?.opinion.as_ref());
    let best = agreed(opinions, asked.count(), known.adopted.as_ref())?.clone();
    known.older.is_over(&best, known.adopted.as_ref(), Instant::now()).then_some(best)
}
