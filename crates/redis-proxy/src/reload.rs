//! What changes while the program runs: at SIGHUP all settings are read once more; files that hold certificates, tokens and passwords are
//! looked at each second, and those alone are read when one of them has changed.

use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{info, warn};
use upstream::{Backend, Source};

use crate::clock::nanos;
use crate::config::{ConfigError, ListenAddress, Named, PASSWORD_OF_COMMAND, Settings};
use crate::file_limit::FileRoom;
use crate::file_watch::{FileStamps, FileVerdict, FileWatch, SettledFile};
use crate::lanes::{Anonymous, Bounds};
use crate::live::{Live, LiveReader, LiveSettings};
use crate::oldest_ends::OldestEnds;
use crate::places::Places;
use crate::session::Registry;
use crate::shutdown::{OtherSignal, OtherSignals};
use crate::slow_log::SlowLog;
use crate::store::Store;
use crate::supervisor::Supervisor;
use crate::tls::PortName;

/// Reads the settings as at the start: the same flags and environment, the files as they are now.
pub type Reread = fn() -> Result<Settings, ConfigError>;

/// Credentials are read from their file, or asked of their command, at each attempt to connect, and once their file has changed, so that
/// they need no reload; it says that they have changed, and whether they can be read.
pub(crate) const CREDENTIALS: [&str; 4] =
    ["REDIS_PASSWORD_FILE", PASSWORD_OF_COMMAND, "REDIS_URL_FILE", "REDIS_SENTINEL_PASSWORD_FILE"];

/// The one that is written among the settings.
pub(crate) const PASSWORD: &str = "REDIS_PASSWORD";

/// Reading the settings takes at most so long: three pipes that are slow, and some more.
const PATIENCE: Duration = Duration::from_secs(100);
/// From one look at the files to the next.
const LOOK: Duration = Duration::from_secs(1);

/// What is told of its limits in place of looking at them.
pub(crate) struct LimitHolders {
    pub(crate) store: Store,
    pub(crate) places: Arc<Places>,
    pub(crate) handshakes: Arc<OldestEnds>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) redis: Arc<Backend>,
    pub(crate) bounds: Bounds,
    pub(crate) anonymous: Arc<Anonymous>,
    pub(crate) slow_log: Arc<SlowLog>,
}

impl LimitHolders {
    fn tell(&self, live: &LiveSettings) {
        self.store.entry_limits().change(live.expiry, live.max_value_bytes);
        self.registry.rights_life_ns.store(nanos(live.expiry), Ordering::Relaxed);
        self.places.resize(live.files.max_clients);
        self.handshakes.set_most(most_handshakes(live.files.max_clients));
        self.redis.set_limits(live.redis.connections);
        self.redis.set_max_in_flight(live.redis.inflight);
        self.redis.set_reauth(live.redis.reauth);
        self.bounds.change(live.files.max_pinned, live.files.max_lanes, live.unread_bytes);
        self.anonymous.counts_for(live.anonymous_proof);
        self.slow_log.set_threshold(live.slowlog_threshold);
    }
}

/// How many of the places handshakes may hold together.
pub(crate) fn most_handshakes(max_clients: usize) -> usize {
    (max_clients / 2).max(1)
}

/// Changes the settings in force.
pub(crate) struct Reload {
    /// They, by their names.
    named: Named,
    reread: Reread,
    live: Live,
    watch: FileWatch,
    /// What files are there for.
    room: FileRoom,
    /// What reads passwords, and what is known of their files.
    credentials: Vec<(Source, SettledFile)>,
    /// Where ports listen by sockets that were handed over, whatever the settings say.
    activated: Vec<(PortName, ListenAddress)>,
}

impl Reload {
    /// `named` are the settings in force, of which `live` has those that may change, as far as there are files for it. Ports listen at the
    /// addresses of `activated`, and what is read again is judged with them, as the start was.
    pub(crate) fn new(
        named: Named,
        reread: Reread,
        live: Live,
        room: FileRoom,
        credentials: Vec<Source>,
        activated: Vec<(PortName, ListenAddress)>,
    ) -> Reload {
        let credentials = credentials.into_iter().map(|source| (source, SettledFile::default())).collect();
        Reload { named, reread, live, watch: FileWatch::default(), room, credentials, activated }
    }

    /// The settings in force, for those who go by them.
    pub(crate) fn live(&self) -> LiveReader {
        self.live.reader()
    }

    /// Attends to signals that end nothing, and to files that change. Never ends.
    pub(crate) async fn attend(
        mut self,
        mut others: OtherSignals,
        limited: LimitHolders,
        supervisor: Supervisor,
    ) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let files = self.live.now().files();
            let look = async {
                match files.is_empty() && self.credentials.iter().all(|(source, _)| source.file().is_none()) {
                    true => pending().await,
                    false => looks.tick().await,
                }
            };
            tokio::select! {
                signal = others.next() => match signal {
                    OtherSignal::Reload => {
                        supervisor.reloading().await;
                        self.all(&limited).await;
                        supervisor.reloaded().await;
                    }
                    OtherSignal::Unknown(signal) => {
                        info!(signal, "a signal that means nothing to this program is ignored")
                    }
                },
                _ = look => {
                    self.look(files).await;
                    self.look_at_credentials().await;
                }
            }
        }
    }

    /// Has credentials read whose file is another one. What is read is told by whoever reads it, and tried on the connections that
    /// are open.
    async fn look_at_credentials(&mut self) {
        for (source, known) in &mut self.credentials {
            let Some(file) = source.file() else { continue };
            let files = [("", file.to_owned())];
            let Some(stamps) = blocking(move || FileStamps::look(&files)).await else { continue };
            if known.is_other(stamps) {
                source.look().await;
            }
        }
    }

    /// Reads all settings.
    async fn all(&mut self, limited: &LimitHolders) {
        let (reread, activated) = (self.reread, self.activated.clone());
        let read = move || {
            let mut new = reread()?;
            new.listen_at(activated)?;
            Ok::<_, ConfigError>(new)
        };
        match blocking(read).await {
            Some(Ok(new)) if self.take(&new, limited) => {
                for (source, _) in &self.credentials {
                    source.look().await;
                }
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => warn!(%error, "not reloaded: the settings stay as they were"),
            None => {}
        }
    }

    /// Takes over what has changed, and says what has. Whether credentials are among it.
    fn take(&mut self, new: &Settings, limited: &LimitHolders) -> bool {
        let mut live = LiveSettings::of(new);
        let kept = live.keep(&self.live.now());
        let taken = LiveSettings::NAMES.iter().filter(|name| !kept.contains(name)).chain(&CREDENTIALS);
        let mut taken: Vec<_> = taken.copied().collect();
        // One that is in the file of settings, before and now.
        let is_told = |source: &Option<Source>| source.as_ref().is_some_and(Source::is_told);
        let is_password_told =
            is_told(&new.redis.login.source) && self.credentials.iter().any(|(source, _)| source.is_told());
        if is_password_told {
            taken.push(PASSWORD);
        }
        let (mut changed, restart): (Vec<_>, Vec<_>) =
            new.named.differing(&self.named).into_iter().partition(|name| taken.contains(name));
        // Each guards what the other opens, and the file was judged as a whole.
        if let (Some(guard), Some(place)) =
            (changed.iter().find(|name| is_guard(name)), restart.iter().find(|name| PLACES.contains(name)))
        {
            let error = format!(
                "{guard} guards the ports and would change at once, {place} at the next start only: expected a restart, or one after the other"
            );
            warn!(error, "not reloaded: the settings stay as they were");
            return false;
        }
        let contents = live.files_differing(&self.live.now());
        changed.extend(contents.into_iter().filter(|name| !changed.contains(name)).collect::<Vec<_>>());
        live.files = self.room.fit(live.files);
        // In force by the time it is told.
        limited.tell(&live);
        self.live.set(live);
        self.watch.forget();
        info!(changed = changed.join(" "), "reloaded");
        if !restart.is_empty() {
            warn!(settings = restart.join(" "), "changed, and taken over at the next start only");
        }
        // What waits for a start still differs, and is told again.
        self.named = self.named.with(&new.named, &taken);
        if is_password_told && changed.contains(&PASSWORD) {
            self.tell_password(new);
        }
        changed.iter().any(|name| CREDENTIALS.contains(name) || *name == PASSWORD)
    }

    /// The password of Redis' user is another one; who that is does not change.
    fn tell_password(&self, new: &Settings) {
        for (source, _) in &self.credentials {
            source.tell_password(new.redis.login.password.clone());
        }
    }

    /// Looks at the files of what is in force, and reads them if one has changed.
    async fn look(&mut self, files: Vec<(&'static str, PathBuf)>) {
        if files.is_empty() {
            return;
        }
        let Some(stamps) = blocking(move || FileStamps::look(&files)).await else { return };
        match self.watch.verdict(&stamps) {
            FileVerdict::Known => {}
            FileVerdict::StillBad(error) => {
                warn!(error, "a file has changed and cannot be used: what was read before stays in force")
            }
            FileVerdict::Changed => {
                let before = self.live.now();
                let then = before.clone();
                match blocking(move || then.with_files_read_again()).await {
                    Some(Ok(new)) => {
                        let changed = new.files_differing(&before);
                        self.watch.taken(stamps);
                        if !changed.is_empty() {
                            self.live.set(new);
                            info!(changed = changed.join(" "), "reloaded");
                        }
                    }
                    Some(Err(why)) => self.watch.refused(stamps, why),
                    None => {}
                }
            }
        }
    }
}

/// Who reaches the ports, and as whom: changed by a start alone.
const PLACES: [&str; 8] =
    ["HOST", "PORT", "RESP_HOST", "RESP_PORT", "RESP_IDENTITY", "ADMIN_HOST", "ADMIN_PORT", "SOCKET_MODE"];
/// Who is let in, beside certificates and tokens, and what whoever is in may do.
const RIGHTS: [&str; 4] = ["ALLOWED_HOSTS", "CORS_ORIGINS", "RESP_PROXY_ADMIN", "MAX_CLIENTS_PER_PEER"];

/// Whether the setting says who is let in, or what they may do.
fn is_guard(name: &str) -> bool {
    name.starts_with("TLS_") || name.contains("_TOKEN") || RIGHTS.contains(&name)
}

/// Off this thread, as a file may be on a disk that is away. None if it panicked, and said so, or takes too long.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match timeout(PATIENCE, spawn_blocking(work)).await {
        Ok(done) => done.ok(),
        Err(_) => {
            warn!(
                error = format!("the files are not read after {PATIENCE:?}"),
                "not reloaded: the settings stay as they were"
            );
            None
        }
    }
}
