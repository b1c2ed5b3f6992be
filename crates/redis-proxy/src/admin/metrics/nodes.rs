//! How the nodes fare: where the primary is, and what sentinels and witnesses say.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::{counter, gauge, gauges};
use crate::nodes::Seen;

pub(super) fn encode(seen: &Seen, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let (state, place) = (seen.state(), seen.node().place());
    let help = "How often connections to Redis began anew, because it was found elsewhere or a second primary was seen";
    gauge(out, "node_generation", help, place.generation)?;
    counter(out, "failovers", "How often the primary was found elsewhere", state.failovers)?;
    let disputed = u64::from(seen.node().is_disputed());
    gauge(out, "primary_disputed", "1 while another node says that it is the primary", disputed)?;
    let answering = state.sentinels.iter().filter(|(_, trouble)| trouble.is_none()).count() as u64;
    let by_state = [("answers", answering), ("silent", state.sentinels.len() as u64 - answering)];
    gauges(out, "sentinels", "Sentinels that are asked", "state", &by_state)?;
    let is = |words: &[&str]| {
        state.witnesses.iter().filter(|(_, said)| words.contains(&said.as_str())).count() as u64
    };
    let (replicas, primaries) = (is(&["replica"]), is(&["primary", "former primary"]));
    let by_state = [
        ("replica", replicas),
        ("primary", primaries),
        ("silent", state.witnesses.len() as u64 - replicas - primaries),
    ];
    gauges(out, "witnesses", "Nodes that are asked whether they are the primary", "state", &by_state)?;
    // Every node by its address; 1 is all there is to say.
    let mut nodes =
        out.encode_descriptor("node", "Nodes that are known, and what they are", None, MetricType::Gauge)?;
    let primary = place.to_string();
    let all = [(primary.as_str(), "primary")];
    let witnesses = state.witnesses.iter().map(|(address, said)| (address.as_str(), role(said)));
    for (address, role) in all.into_iter().chain(witnesses) {
        nodes.encode_family(&[("node", address), ("role", role)])?.encode_gauge(&1_i64)?;
    }
    Ok(())
}

/// Why a node does not answer is no label.
fn role(said: &str) -> &'static str {
    match said {
        "replica" => "replica",
        "primary" => "another primary",
        "former primary" => "former primary",
        _ => "silent",
    }
}
