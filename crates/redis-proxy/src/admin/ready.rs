//! Readiness: would a miss be answered now?

use std::time::Duration;

use tokio::time::timeout;

use super::Watched;

/// The most time a probe takes.
const PATIENCE: Duration = Duration::from_millis(1_000);

/// A PING on the connection that every worker has anyway: no key is touched, no connection is made.
///
/// # Errors
/// Why traffic should go elsewhere, for the probe's reader.
pub(super) async fn check(watched: &Watched) -> Result<(), String> {
    if watched.draining.is_on() {
        return Err("shutting down".into());
    }
    let probes: Vec<_> = watched.workers.iter().map(|worker| worker.read.probe()).collect();
    let all = async {
        for probe in probes {
            match probe.await {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => return Err(failure.to_string()),
                Err(_) => return Err("a worker is gone".into()),
            }
        }
        Ok(())
    };
    timeout(PATIENCE, all).await.unwrap_or_else(|_| Err("redis did not answer in time".into()))
}
