//! SIGHUP: the settings are read once more, and what can change without a restart does.

use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::config::{ConfigError, Named, Settings};
use crate::logging;
use crate::shutdown::{OtherSignal, OtherSignals};

/// Reads the settings as at the start: the same flags and environment, the files as they are now.
pub type Reread = fn() -> Result<Settings, ConfigError>;

/// What a running program takes over. Redis' credentials are read from their file at each attempt to connect, so that they
/// need no reload; it says that they have changed, and whether they can be read.
const TAKEN: [&str; 3] = ["LOG", "REDIS_PASSWORD_FILE", "REDIS_URL_FILE"];

/// Reading the settings takes at most so long: three pipes that are slow, and some more.
const PATIENCE: Duration = Duration::from_secs(100);

/// Attends to signals that end nothing. Never ends.
pub(crate) async fn attend(mut notices: OtherSignals, mut now: Named, reread: Reread) {
    loop {
        match notices.next().await {
            // A file may be on a disk that is away.
            OtherSignal::Reload => match timeout(PATIENCE, spawn_blocking(reread)).await {
                Ok(Ok(Ok(new))) => now = take(&now, &new),
                Ok(Ok(Err(error))) => warn!(%error, "not reloaded: the settings stay as they were"),
                // It panicked, and said so.
                Ok(Err(_)) => {}
                Err(_) => warn!(
                    error = format!("the files are not read after {PATIENCE:?}"),
                    "not reloaded: the settings stay as they were"
                ),
            },
            OtherSignal::Unknown(signal) => {
                info!(signal, "a signal that means nothing to this program is ignored")
            }
        }
    }
}

/// Takes over what has changed, and says what has. Returns what is so from now on.
fn take(now: &Named, new: &Settings) -> Named {
    let (changed, restart): (Vec<_>, Vec<_>) =
        new.named.differing(now).into_iter().partition(|name| TAKEN.contains(name));
    info!(changed = changed.join(" "), "reloaded");
    if !restart.is_empty() {
        warn!(settings = restart.join(" "), "changed, and taken over at the next start only");
    }
    if changed.contains(&"LOG") {
        match logging::filter(&new.log) {
            Ok(()) => info!(log = new.log, "this is logged from now on"),
            Err(error) => warn!(%error, "LOG is not reloaded"),
        }
    }
    // What waits for a start still differs, and is told again.
    now.with(&new.named, &TAKEN)
}
