//! The conversation with one sentinel: asked each second, and at once when it tells of a failover or a connection was lost.

use std::rc::Rc;
use std::time::Duration;

use resp::Frame;
use tokio::time::sleep;
use upstream::{Account, Address, Conversation, Endpoint, Expected, Loss, RedisNode};

use super::agreement::Opinion;
use super::reading::{fields, is_message, places, primary};
use super::watch::Watch;
use crate::config::SentinelSettings;

/// From one look to the next.
const PERIOD: Duration = Duration::from_secs(1);
/// From one question to the next at the least, whatever is told in between.
const SHORTEST: Duration = Duration::from_millis(20);
/// Before one that does not answer is tried again, and before one that is known by another address is looked at again.
const PAUSE: Duration = Duration::from_millis(500);
const LONG_PAUSE: Duration = Duration::from_secs(10);
/// A sentinel that takes longer for a connection or an answer is taken for one that is away.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a sentinel says, all addresses as we reach them.
pub(super) struct Said {
    /// None if it knows no primary of the name.
    pub(super) opinion: Option<Opinion>,
    pub(super) replicas: Vec<Address>,
    /// The sentinels that it knows beside itself.
    pub(super) others: Vec<Address>,
}

/// Asks the sentinel at `address` for ever.
pub(super) async fn ask(watch: Rc<Watch>, settings: SentinelSettings, address: Address) {
    loop {
        let endpoint = endpoint(&watch, &settings, &address);
        let pause = match talk(&watch, &settings, &address, &endpoint).await {
            Err(why) => {
                watch.sentinel_lost(&address, why);
                PAUSE
            }
            // Another one asks it.
            Ok(()) => LONG_PAUSE,
        };
        sleep(pause).await;
    }
}

fn endpoint(watch: &Watch, settings: &SentinelSettings, address: &Address) -> Endpoint {
    let mut limits = watch.redis.limits.now();
    limits.connect_timeout = limits.connect_timeout.min(PATIENCE);
    limits.silence_timeout = PATIENCE;
    Endpoint {
        node: RedisNode::at(address.clone()),
        cluster: None,
        tls: settings.tls.clone(),
        login: Account {
            username: settings.username.clone(),
            password: settings.password.clone(),
            source: settings.source.clone(),
            proven: None,
            reauth: None,
        },
        db: 0,
        limits: limits.into(),
    }
}

/// Returns once it shows that the same sentinel is being asked by another address.
async fn talk(
    watch: &Rc<Watch>,
    settings: &SentinelSettings,
    address: &Address,
    endpoint: &Endpoint,
) -> Result<(), String> {
    let opened = Conversation::open(endpoint, Expected::Sentinel).await;
    let mut sentinel = opened.map_err(|error| error.to_string())?;
    let lost = |loss: Loss| loss.to_string();
    let id = sentinel.ask(&[&[b"SENTINEL", b"MYID"]]).await.map_err(lost)?;
    if !watch.sentinel_met(address, id.first()) {
        return Ok(());
    }
    sentinel.tell(&[&[b"SUBSCRIBE", b"+switch-master", b"+promoted-slave"]]).await.map_err(lost)?;
    let name = settings.master_name.as_bytes();
    loop {
        let poked = watch.poked();
        // In one write, and so answered as of one moment.
        let answers = sentinel
            .ask(&[
                &[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", name],
                &[b"SENTINEL", b"MASTER", name],
                &[b"SENTINEL", b"REPLICAS", name],
                &[b"SENTINEL", b"SENTINELS", name],
            ])
            .await
            .map_err(lost)?;
        watch.sentinel_says(address, said(watch, &answers)?);
        sleep(SHORTEST).await;
        let told = async {
            loop {
                if is_message(&sentinel.heard().await?) {
                    return Ok(());
                }
            }
        };
        tokio::select! {
            told = told => told.map_err(lost)?,
            () = poked => {}
            () = sleep(PERIOD) => {}
        }
    }
}

fn said(watch: &Watch, answers: &[Frame]) -> Result<Said, String> {
    let [at, about, replicas, others] = answers else { return Err("too few answers".into()) };
    if let Frame::Error(why) = at {
        return Err(String::from_utf8_lossy(why).into_owned());
    }
    let epoch = fields(about).get("config-epoch").and_then(|epoch| epoch.parse().ok());
    let opinion =
        primary(at).zip(epoch).map(|(primary, epoch)| Opinion { primary: watch.reach(&primary), epoch });
    let reach = |frame| places(frame).iter().map(|address| watch.reach(address)).collect();
    Ok(Said { opinion, replicas: reach(replicas), others: reach(others) })
}
