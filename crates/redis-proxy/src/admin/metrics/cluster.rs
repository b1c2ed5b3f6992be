//! How the nodes of a cluster fare: who has how many slots, what is read from them by proof, and what they send on.

use std::fmt;
use std::sync::atomic::Ordering;

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use upstream::Cluster;

use super::{Watched, counter, labelled};
use crate::clock::now_ns;

pub(super) fn encode(cluster: &Cluster, watched: &Watched, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let counts = cluster.counts();
    let of = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let redirects = [("moved", of(&counts.moved)), ("ask", of(&counts.asked)), ("later", of(&counts.later))];
    labelled(out, "cluster_redirects", "Answers by which nodes sent a command on", "kind", &redirects)?;
    let moved = of(&counts.slots_moved);
    counter(out, "cluster_slots_moved", "Slots that were found with another node than before", moved)?;
    counter(out, "cluster_map_refreshes", "Maps of slots that were read", of(&counts.refreshes))?;
    let help = "How often a node was found without any of its slots";
    counter(out, "cluster_failovers", help, of(&counts.failovers))?;
    let watches = watched.partitions.watches();
    let lost = watches.iter().map(|watch| of(&watch.counts.slots_lost)).sum();
    counter(out, "cluster_watched_slots_lost", "Watched slots that their node said it has no longer", lost)?;
    let (now_ns, primaries) = (now_ns(), cluster.primaries());
    let mut gauge = |name, help, of: &dyn Fn(upstream::NodeNumber, usize) -> usize| {
        let mut family = out.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (id, slots) in &primaries {
            let node = cluster.node(*id).place().to_string();
            family.encode_family(&[("node", node)])?.encode_gauge(&(of(*id, *slots) as i64))?;
        }
        Ok::<_, fmt::Error>(())
    };
    gauge("cluster_node_slots", "Slots of each primary", &|_, slots| slots)?;
    gauge("cluster_node_in_force", "1 while what is read from the node is kept by proof", &|id, _| {
        let links = watched.partitions.links_to(id.number());
        usize::from(!links.is_empty() && links.iter().all(|link| link.holds(now_ns).is_ok()))
    })?;
    gauge("cluster_watched_slots", "Slots whose node tells when it has them no longer", &|id, _| {
        watches.iter().filter(|watch| watch.node() == id.number()).map(|watch| watch.watched()).sum()
    })
}
