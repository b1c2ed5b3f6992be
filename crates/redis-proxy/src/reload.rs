//! SIGHUP: the settings are read once more, and what can change without a restart does.

use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::config::{ConfigError, Named, PASSWORD_OF_COMMAND, Settings};
use crate::live::{Live, LiveSettings};
use crate::shutdown::{OtherSignal, OtherSignals};

/// Reads the settings as at the start: the same flags and environment, the files as they are now.
pub type Reread = fn() -> Result<Settings, ConfigError>;

/// Credentials are read from their file, or asked of their command, at each attempt to connect, so that they need no reload; it
/// says that they have changed, and whether they can be read.
const CREDENTIALS: [&str; 4] =
    ["REDIS_PASSWORD_FILE", PASSWORD_OF_COMMAND, "REDIS_URL_FILE", "REDIS_SENTINEL_PASSWORD_FILE"];

/// Reading the settings takes at most so long: three pipes that are slow, and some more.
const PATIENCE: Duration = Duration::from_secs(100);

/// Attends to signals that end nothing. Never ends.
pub(crate) async fn attend(mut others: OtherSignals, mut now: Named, reread: Reread, live: Live) {
    loop {
        match others.next().await {
            // A file may be on a disk that is away.
            OtherSignal::Reload => match timeout(PATIENCE, spawn_blocking(reread)).await {
                Ok(Ok(Ok(new))) => now = take(&now, &new, &live),
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
fn take(now: &Named, new: &Settings, live: &Live) -> Named {
    let taken = [&LiveSettings::NAMES[..], &CREDENTIALS].concat();
    let (changed, restart): (Vec<_>, Vec<_>) =
        new.named.differing(now).into_iter().partition(|name| taken.contains(name));
    // In force by the time it is told.
    live.set(LiveSettings::of(new));
    info!(changed = changed.join(" "), "reloaded");
    if !restart.is_empty() {
        warn!(settings = restart.join(" "), "changed, and taken over at the next start only");
    }
    // What waits for a start still differs, and is told again.
    now.with(&new.named, &taken)
}
