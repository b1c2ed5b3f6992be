//! Readiness: would a miss be answered now?

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Watched;
use crate::clock::now_ns;

/// The most time a probe takes.
const PATIENCE: Duration = Duration::from_millis(1_000);

/// A PING on the connection that every worker has anyway: no key is touched, no connection is made. Before a cluster one to each primary, of
/// which one must answer.
///
/// # Errors
/// Why traffic should go elsewhere, for the probe's reader.
pub(super) async fn check(watched: &Watched) -> Result<(), String> {
    if watched.draining.is_on() {
        return Err("shutting down".into());
    }
    let probed = async {
        for worker in watched.workers.iter() {
            let mut probes = JoinSet::new();
            worker.read.probe().into_iter().for_each(|probe| drop(probes.spawn(probe)));
            // Of a cluster one primary is enough: its keys are answered.
            let is_enough =
                |outcome: &Result<(), String>| outcome.is_ok() == watched.nodes.seen().cluster().is_some();
            let mut outcome = Err("a worker is gone".to_owned());
            while let Some(answer) = probes.join_next().await {
                outcome = match answer {
                    Ok(Ok(answer)) => answer.map_err(|failure| failure.to_string()),
                    _ => Err("a worker is gone".to_owned()),
                };
                if is_enough(&outcome) {
                    break;
                }
            }
            outcome?;
        }
        Ok(())
    };
    timeout(PATIENCE, probed).await.unwrap_or_else(|_| Err("redis did not answer in time".into()))
}

/// A line on each front's mode and its promise; nothing in mode `ttl`. A promise that is not kept is no reason to send
/// traffic elsewhere: reads are fetched then, or passed through.
pub(super) fn coherence(watched: &Watched) -> String {
    let now_ns = now_ns();
    let mut text = String::new();
    let links = watched.links.now();
    if let Some(mode) = watched.links.mode() {
        text = match links.iter().try_for_each(|link| link.holds(now_ns)) {
            Ok(()) => format!("coherence: {mode}, in force\n"),
            Err(why) => format!("coherence: {mode}, not in force: {why}\n"),
        };
    }
    if let Some(standing) = watched.partitions.standing(&watched.links, now_ns) {
        text += &format!("redis clients: {standing}\n");
    }
    text
}

/// A line on each primary of a cluster: its slots, and whether what is read from it is kept by proof. Nothing of a Redis by itself.
pub(super) fn nodes(watched: &Watched) -> String {
    let Some(cluster) = watched.nodes.seen().cluster() else { return String::new() };
    let (now_ns, mut text) = (now_ns(), String::new());
    for (id, slots) in cluster.primaries() {
        text += &format!("node {}: {slots} slots", cluster.node(id).place());
        let links = watched.partitions.links_to(id.number());
        text += &match links.iter().try_for_each(|link| link.holds(now_ns)) {
            _ if links.is_empty() => "\n".to_owned(),
            Ok(()) => ", in force\n".to_owned(),
            Err(why) => format!(", not in force: {why}\n"),
        };
    }
    text
}
