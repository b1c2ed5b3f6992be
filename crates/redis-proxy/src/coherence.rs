//! What each front promises: from the settings to what links and readers are to keep.

use std::sync::Arc;
use std::time::Duration;

use insight::AllSamples;
use tracing::warn;

use crate::clock::nanos;
use crate::config::{Coherence, Mode, Settings};
use crate::readthrough::{BEATS_A_BOUND, ClientReads, Delivery, LinkSettings};

/// Redis' default of `tracking-table-max-keys`.
const TRACKED_KEYS: usize = 1_000_000;
/// No replica is asked more often.
const SHORTEST_BEAT: Duration = Duration::from_millis(1);

/// What Redis clients are promised; none if nobody asks or all is passed on.
pub(crate) fn client_mode(settings: &Settings) -> Option<Mode> {
    settings.resp_coherence.filter(|_| settings.resp.is_some())
}

/// Whether either front promises what takes a proof.
pub(crate) fn is_any_proven(settings: &Settings) -> bool {
    [Some(settings.coherence.mode), client_mode(settings)].iter().flatten().any(|mode| mode.is_proven())
}

/// How often replicas are asked if they have become the primary, as often as a link's heartbeat; none where nothing is proven that
/// they could call in question, or the Redis is our own.
pub(crate) fn witness_beat(settings: &Settings) -> Option<Duration> {
    let is_proven = is_any_proven(settings);
    let beat = (settings.coherence.max_staleness / BEATS_A_BOUND).max(SHORTEST_BEAT);
    Some(beat).filter(|_| settings.nodes.witnesses && is_proven && !settings.with_redis)
}

/// How reads of Redis clients are kept, for at most `most_readers` users and databases.
pub(crate) fn client_reads(
    settings: &Settings,
    most_readers: usize,
    delivery: &Arc<Delivery>,
    samples: &Arc<AllSamples>,
) -> ClientReads {
    let mode = client_mode(settings);
    ClientReads {
        linked: mode.and_then(|mode| link_settings(settings, mode, delivery, samples)),
        most_readers,
        samples: samples.clone(),
        strict: mode == Some(Mode::Strict),
        shared: mode.is_some_and(|mode| mode.is_proven() == settings.coherence.mode.is_proven()),
    }
}

/// What the links of the HTTP front are to keep; none in mode `ttl`.
pub(crate) fn http_links(
    settings: &Settings,
    delivery: &Arc<Delivery>,
    samples: &Arc<AllSamples>,
) -> Option<LinkSettings> {
    let links = link_settings(settings, settings.coherence.mode, delivery, samples)?;
    Some(LinkSettings { over_http: true, ..links })
}

/// Warns where more is to be tracked than Redis tracks by default.
pub(crate) fn check_capacity(settings: &Settings) {
    if settings.capacity > TRACKED_KEYS && is_any_proven(settings) {
        warn!(
            capacity = settings.capacity,
            "CAPACITY is above the keys that Redis tracks by default: raise its tracking-table-max-keys as well"
        );
    }
}

/// What links for this mode are to keep; none in mode `ttl`.
fn link_settings(
    settings: &Settings,
    mode: Mode,
    delivery: &Arc<Delivery>,
    samples: &Arc<AllSamples>,
) -> Option<LinkSettings> {
    let Coherence { mode: of_http, max_staleness, links, canary_key, .. } = &settings.coherence;
    let by_age = [Some(*of_http), client_mode(settings)].contains(&Some(Mode::Ttl));
    mode.is_proven().then(|| LinkSettings {
        links: *links,
        mode: mode.name(),
        apart: by_age,
        over_http: false,
        max_staleness_ns: nanos(*max_staleness),
        canary_key: canary_key.as_ref().map(|key| key.as_bytes().into()),
        delivery: delivery.clone(),
        relies: false,
        samples: samples.clone(),
        _part: None,
        thrown_out: Default::default(),
    })
}
