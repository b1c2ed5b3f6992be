//! Signals: the first that ends the program drains, the second one ends it at once; SIGHUP reloads, unless it ends.

use std::io::{self, IsTerminal, stdin};
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM, SIGINT, SIGQUIT, and SIGHUP where the terminal that it tells of is ours.
pub(crate) struct Signals {
    term: Signal,
    int: Signal,
    quit: Signal,
    hangup: Option<Signal>,
}

/// The signals that end nothing: SIGHUP where it asks to reload, SIGUSR1 and SIGUSR2.
pub(crate) struct OtherSignals {
    reload: Option<Signal>,
    usr1: Signal,
    usr2: Signal,
}

/// What a signal that ends nothing asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OtherSignal {
    /// Reading the settings once more.
    Reload,
    /// Nothing that we know; the signal's name.
    Unknown(&'static str),
}

/// From now on the signals do not end the process by themselves.
///
/// # Errors
/// The system refuses a handler.
pub(crate) fn signals() -> io::Result<(Signals, OtherSignals)> {
    let hangup = || signal(SignalKind::hangup());
    // Looked at before we change it.
    let (ends, reload) = match (is_ignored(SignalKind::hangup()), stdin().is_terminal()) {
        // Inherited so (nohup): whoever started us wants us to outlive the terminal.
        (true, _) => (None, None),
        (false, true) => (Some(hangup()?), None),
        (false, false) => (None, Some(hangup()?)),
    };
    let signals = Signals {
        term: signal(SignalKind::terminate())?,
        int: signal(SignalKind::interrupt())?,
        quit: signal(SignalKind::quit())?,
        hangup: ends,
    };
    let (usr1, usr2) = (signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?);
    Ok((signals, OtherSignals { reload, usr1, usr2 }))
}

/// Whether the process ignores a signal, as far as the system tells (proc_pid_status(5), SigIgn).
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (kind.as_raw_value() - 1)) != 0
}

impl Signals {
    /// The next signal's name and number.
    pub(crate) async fn next(&mut self) -> (&'static str, u8) {
        tokio::select! {
            _ = self.term.recv() => ("SIGTERM", 15),
            _ = self.int.recv() => ("SIGINT", 2),
            _ = self.quit.recv() => ("SIGQUIT", 3),
            () = next_of(&mut self.hangup) => ("SIGHUP", 1),
        }
    }
}

impl OtherSignals {
    pub(crate) async fn next(&mut self) -> OtherSignal {
        tokio::select! {
            () = next_of(&mut self.reload) => OtherSignal::Reload,
            _ = self.usr1.recv() => OtherSignal::Unknown("SIGUSR1"),
            _ = self.usr2.recv() => OtherSignal::Unknown("SIGUSR2"),
        }
    }
}

async fn next_of(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether the program is on its way out; read by the readiness probe.
#[derive(Debug, Default)]
pub(crate) struct Draining(AtomicBool);

impl Draining {
    pub(crate) fn start(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
