//! Witnesses: replicas that are asked, as often as a link's heartbeat, whether they have become a primary.
//!
//! After a failover that was planned the old primary takes itself for one until it is told otherwise, 11 seconds later as
//! measured; it answers heartbeats, and what it proves is the past. The new one knows at once.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use resp::Frame;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use upstream::{Address, Conversation, Endpoint, Expected, Hello, RedisNode};

use super::reading::{info, replicas};
use super::watch::Watch;

/// From one look at who the replicas are to the next.
const PERIOD: Duration = Duration::from_secs(1);
/// From one look at where the name of the primary leads to the next, while another node says that it is the primary.
const PAUSE_IN_DOUBT: Duration = Duration::from_millis(50);
/// Before one that does not answer is tried again.
const PAUSE: Duration = Duration::from_millis(250);
/// One that has answered for so long is tried again at once, and as often as this for a second.
const SETTLED: Duration = Duration::from_millis(200);
const SHORTEST: Duration = Duration::from_millis(10);
/// One that takes longer for a connection or an answer is taken for one that is away.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a witness says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Replica,
    /// It is a primary; the id of its run, where it tells.
    Primary(Option<String>),
    /// It does not answer, for this reason.
    Silent(String),
}

/// Asks the node at `address` for ever.
pub(super) async fn ask(watch: Rc<Watch>, address: Address, beat: Duration) {
    let endpoint = endpoint_at(&watch.redis, &address);
    let (mut quick_until, mut tries) = (Instant::now(), 0);
    loop {
        let (begun, mut was_useful) = (Instant::now(), false);
        let Err(why) = talk(&watch, &address, &endpoint, beat, &mut was_useful).await;
        watch.witness_says(&address, Word::Silent(why));
        let now = Instant::now();
        // A replica that is promoted closes its clients' connections, perhaps more than once: it has something to say. One that
        // never keeps any has not.
        if was_useful && now - begun > SETTLED {
            (quick_until, tries) = (now + PERIOD, 0);
        }
        sleep(if now < quick_until { SHORTEST.min(Duration::from_millis(tries)) } else { PAUSE }).await;
        tries += 1;
    }
}

/// As whom we are to Redis, at another place; one question is not waited for as long as a read is.
pub(super) fn endpoint_at(redis: &Endpoint, address: &Address) -> Endpoint {
    let limits = redis.limits.within(PATIENCE);
    Endpoint { node: RedisNode::at(address.clone()), limits, ..redis.clone() }
}

async fn talk(
    watch: &Watch,
    address: &Address,
    endpoint: &Endpoint,
    beat: Duration,
    was_useful: &mut bool,
) -> Result<Infallible, String> {
    let opened = Conversation::open(endpoint, Expected::Redis).await;
    let mut witness = opened.map_err(|error| error.to_string())?;
    let mut ticks = interval(beat);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut run_id = None;
    loop {
        ticks.tick().await;
        let answer = witness.ask(&[&[b"HELLO"]]).await.map_err(|loss| loss.to_string())?;
        let Some(hello) = answer.first().and_then(Hello::read) else {
            return Err("it does not say what it is".into());
        };
        *was_useful = true;
        if !hello.is_primary() {
            watch.witness_says(address, Word::Replica);
            continue;
        }
        // At once; who it is comes behind it.
        watch.witness_says(address, Word::Primary(run_id.clone()));
        if run_id.is_none() {
            let answer = witness.ask(&[&[b"INFO", b"server"]]).await.map_err(|loss| loss.to_string())?;
            run_id = answer.first().and_then(run_id_of);
            watch.witness_says(address, Word::Primary(run_id.clone()));
        }
    }
}

fn run_id_of(answer: &Frame) -> Option<String> {
    info(answer)?.remove("run_id")
}

/// Asks the primary who it is and who its replicas are, for ever.
pub(super) async fn ask_primary(watch: Rc<Watch>) {
    loop {
        let generation = watch.redis.node.generation();
        tokio::select! {
            asked = ask_one_primary(&watch) => if let Err(why) = asked {
                watch.primary_says(None, Err(why));
                sleep(if watch.is_name_doubted() { PAUSE_IN_DOUBT } else { PAUSE }).await;
            },
            () = watch.redis.node.left(generation) => watch.primary_says(None, Ok(None)),
        }
    }
}

/// Returns once it is to be looked whom a new connection meets.
async fn ask_one_primary(watch: &Rc<Watch>) -> Result<(), String> {
    let opened = Conversation::open(&watch.redis, Expected::Redis).await;
    let mut primary = opened.map_err(|error| error.to_string())?;
    loop {
        let poked = watch.poked();
        let answers = primary.ask(&[&[b"INFO", b"server"], &[b"INFO", b"replication"]]).await;
        let answers = answers.map_err(|loss| loss.to_string())?;
        let run_id = answers.first().and_then(run_id_of);
        let listed = match answers.last() {
            Some(Frame::Error(why)) => {
                watch.primary_says(None, Err(String::from_utf8_lossy(why).into_owned()));
                // Redis keeps a log of what a user may not: asked once a connection.
                std::future::pending().await
            }
            answer => {
                let told = answer.and_then(info);
                let is_primary =
                    told.as_ref().and_then(|told| told.get("role")).is_some_and(|role| role == "master");
                if watch.primary_met(is_primary, run_id.clone()) {
                    return Ok(());
                }
                told.map(|told| replicas(&told))
            }
        };
        watch.primary_says(run_id, Ok(listed));
        let is_doubted = watch.is_name_doubted();
        tokio::select! {
            () = poked, if !is_doubted => {}
            () = sleep(if is_doubted { PAUSE_IN_DOUBT } else { PERIOD }) => {}
        }
        if watch.is_name_doubted() {
            return Ok(());
        }
    }
}
