//! What the program tells whoever supervises it (sd_notify(3)): that it serves, that it reads its settings, that it ends, and, where it is
//! asked to, that it is alive.
//!
//! Where to, NOTIFY_SOCKET says, as systemd sets it; without it nobody is told. Each message is a socket of its own, as systemd's library has
//! it: whoever listens may have begun anew. Nothing waits for a listener that takes nothing for longer than [`PATIENCE`]; what it must not
//! miss is said again with the next beat, in the order in which it became so.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::vital;

/// What says where it listens, and how often it wants to hear. They are no business of a child of ours.
pub(crate) const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// How long a message may wait to be taken.
const PATIENCE: Duration = Duration::from_secs(1);
/// From one word that was not heard to the next, where no watchdog says how often it wants to hear.
const BEAT: Duration = Duration::from_secs(1);
/// Words that wait to be heard: that the program serves, and those of a reload.
const MOST_UNSAID: usize = 3;
/// What the end may take beyond what the settings say.
const END_MARGIN: Duration = Duration::from_secs(5);

/// Whoever supervises us, if anybody does.
#[derive(Clone, Debug)]
pub(crate) struct Supervisor {
    /// A path, or a name in the abstract namespace.
    address: Option<SocketAddr>,
    /// It takes us for dead after so long without a word.
    watchdog: Option<Duration>,
    /// What it has not heard yet, in order; at most [`MOST_UNSAID`].
    unsaid: Arc<Mutex<Vec<String>>>,
}

impl Supervisor {
    /// As the variables say it.
    pub(crate) fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let [socket, period, pid] = VARIABLES.map(&variable);
        let address = socket.and_then(|text| {
            let address = address(&text);
            if address.is_none() {
                warn!(
                    NOTIFY_SOCKET = text,
                    "this is neither a path nor an abstract name: nobody is told how we fare"
                );
            }
            address
        });
        let is_ours = pid.is_none_or(|pid| pid.parse() == Ok(std::process::id()));
        let period = period.and_then(|period| period.parse().ok()).filter(|period| *period > 0 && is_ours);
        let watchdog = period.map(Duration::from_micros).filter(|_| address.is_some());
        Supervisor { address, watchdog, unsaid: Arc::default() }
    }

    /// That clients are served, and where.
    pub(crate) async fn ready(&self, status: &str) {
        self.say(format!("READY=1\nSTATUS={status}\n")).await;
    }

    /// That the settings are being read; [`reloaded`](Self::reloaded) follows, whatever comes of it.
    pub(crate) async fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let now_us = now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1_000;
        self.say(format!("RELOADING=1\nMONOTONIC_USEC={now_us}\n")).await;
    }

    /// That they have been read.
    pub(crate) async fn reloaded(&self) {
        self.say("READY=1\n".into()).await;
    }

    /// That the program ends, `within` a time that it may take.
    pub(crate) async fn stopping(&self, within: Duration) {
        let within_us = (within + END_MARGIN).as_micros();
        self.unsaid.lock().await.clear();
        self.tell(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={within_us}\n")).await;
    }

    /// Tells, twice in the time that it is given, that every thread runs, as long as that is so; and what was not heard before. None
    /// where nobody supervises us.
    pub(crate) fn keep_alive(&self) -> Option<impl Future<Output = ()> + 'static> {
        let (supervisor, period) = (self.clone(), self.watchdog);
        self.address.as_ref()?;
        Some(async move {
            loop {
                if period.is_some() && vital::check().await.is_ok() {
                    supervisor.tell("WATCHDOG=1\n").await;
                }
                supervisor.say_again().await;
                sleep(period.map_or(BEAT, |period| period / 2)).await;
            }
        })
    }

    /// Tells what must be heard: it is said again where it is not.
    async fn say(&self, text: String) {
        if self.address.is_none() {
            return;
        }
        let mut unsaid = self.unsaid.lock().await;
        if unsaid.len() >= MOST_UNSAID {
            // Of a reload before this one nobody wants to hear any more.
            unsaid.remove(0);
        }
        if !unsaid.is_empty() || !self.tell(&text).await {
            unsaid.push(text);
        }
    }

    async fn say_again(&self) {
        let mut unsaid = self.unsaid.lock().await;
        while let (Some(text), Some(address)) = (unsaid.first(), &self.address) {
            // That it does not hear us has been told.
            if !matches!(timeout(PATIENCE, send(address, text)).await, Ok(Ok(()))) {
                return;
            }
            unsaid.remove(0);
        }
    }

    /// Whether it was heard.
    async fn tell(&self, text: &str) -> bool {
        let Some(address) = &self.address else { return true };
        let told = match timeout(PATIENCE, send(address, text)).await {
            Ok(told) => told,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        if let Err(error) = &told {
            let what = text.split('=').next();
            warn!(%error, what, "whoever listens at NOTIFY_SOCKET does not hear us");
        }
        told.is_ok()
    }
}

fn address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name).ok(),
        None if text.starts_with('/') => SocketAddr::from_pathname(text).ok(),
        None => None,
    }
}

async fn send(address: &SocketAddr, text: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(address)?;
    socket.set_nonblocking(true)?;
    let socket = tokio::net::UnixDatagram::from_std(socket)?;
    socket.send(text.as_bytes()).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(socket: &str, period: &str, pid: &str) -> Supervisor {
        Supervisor::of(|name| {
            let value =
                [socket, period, pid][VARIABLES.iter().position(|variable| *variable == name).unwrap()];
            (!value.is_empty()).then(|| value.to_owned())
        })
    }

    #[test]
    fn a_supervisor_is_where_its_socket_says_and_wants_to_hear_of_this_process_alone() {
        let own = std::process::id().to_string();
        assert!(told("", "2000000", &own).watchdog.is_none());
        for socket in ["/run/notify", "@notify"] {
            assert!(told(socket, "", "").address.is_some());
            assert_eq!(told(socket, "2000000", &own).watchdog, Some(Duration::from_secs(2)));
            assert_eq!(told(socket, "2000000", "").watchdog, Some(Duration::from_secs(2)));
            for (period, pid) in [("2000000", "1"), ("0", ""), ("soon", ""), ("2000000", "me")] {
                assert!(told(socket, period, pid).watchdog.is_none(), "{period} {pid}");
            }
        }
        for socket in ["notify", "vsock:2:3"] {
            assert!(told(socket, "", "").address.is_none());
        }
    }

    #[tokio::test]
    async fn what_nobody_heard_is_said_again_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        for period in ["200000", ""] {
            let supervisor = told(path.to_str().unwrap(), period, "");
            supervisor.ready("here").await;
            supervisor.reloading().await;
            supervisor.reloaded().await;
            let socket = tokio::net::UnixDatagram::bind(&path).unwrap();
            let keeping = tokio::spawn(supervisor.keep_alive().unwrap());
            let mut heard = Vec::new();
            while heard.len() < 3 {
                let mut message = [0; 100];
                let length = timeout(20 * PATIENCE, socket.recv(&mut message)).await.unwrap().unwrap();
                let message = String::from_utf8_lossy(&message[..length]).into_owned();
                if message != "WATCHDOG=1\n" {
                    heard.push(message);
                }
            }
            assert_eq!([&heard[0], &heard[2]], ["READY=1\nSTATUS=here\n", "READY=1\n"]);
            assert!(heard[1].starts_with("RELOADING=1\n"), "{heard:?}");
            keeping.abort();
            std::fs::remove_file(&path).unwrap();
        }
    }
}
