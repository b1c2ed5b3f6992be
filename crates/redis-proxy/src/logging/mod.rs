//! The log: one line an event on standard error, for a person or as JSON.
//!
//! Whoever logs only queues a line; a thread of its own writes it ([`queue`]). A log that cannot be written, or that
//! nobody reads, costs lines and nothing else.

mod queue;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal, Write, stderr};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use tracing::{info, warn};
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::config::LogFormat;
use crate::live::LiveReader;
use crate::vital::lost;
use queue::{LineWriter, LogThread, QUEUE, WRITER, write_now};

/// How long the end of the program waits for lines that are queued.
const LAST_WRITES: Duration = Duration::from_secs(1);

/// By which what is logged changes; the subscriber is the process's.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Starts logging. Later calls in one process change nothing.
///
/// # Errors
/// `filter` is not a filter of `tracing`.
pub(crate) fn start(filter: &str, format: LogFormat) -> Result<(), ParseError> {
    let filter = EnvFilter::builder().parse(filter)?;
    let (filter, handle) = reload::Layer::new(filter);
    let events = tracing_subscriber::registry().with(filter);
    // Without the last a line that cannot be written is told on standard error, by a macro that panics there.
    let lines = fmt::layer().with_writer(|| LineWriter).log_internal_errors(false);
    // A second subscriber is refused: the first one goes on.
    let started = match format {
        LogFormat::Text => events.with(lines.with_ansi(stderr().is_terminal())).try_init(),
        LogFormat::Json => events.with(lines.json().with_current_span(true).with_span_list(false)).try_init(),
    };
    if started.is_ok() {
        let _ = FILTER.set(handle);
        QUEUE.start(tell_death);
        std::panic::set_hook(Box::new(tell_panic));
    }
    Ok(())
}

/// Takes over what is to be logged whenever that changes. Never ends.
pub(crate) async fn follow(mut live: LiveReader) {
    let mut log = live.now().log.clone();
    loop {
        let new = &live.changed().await.log;
        if *new != log {
            log.clone_from(new);
            match set_filter(&log) {
                Ok(()) => info!(log, "this is logged from now on"),
                Err(error) => warn!(%error, "LOG is not reloaded"),
            }
        }
    }
}

/// # Errors
/// `filter` is not a filter of `tracing`, in words.
fn set_filter(filter: &str) -> Result<(), String> {
    let filter = EnvFilter::builder().parse(filter).map_err(|error| error.to_string())?;
    FILTER.get().map_or(Ok(()), |handle| handle.reload(filter)).map_err(|error| error.to_string())
}

/// Lines that did not fit the queue or could not be written.
pub(crate) fn dropped() -> u64 {
    QUEUE.dropped()
}

/// Waits for the lines that are queued, a second at most.
pub(crate) fn finish() {
    QUEUE.wait_written(Some(LAST_WRITES));
}

/// Says on standard error why the program ends, behind all that was logged. Waits until that is written, as any program
/// does with its last line: nobody else knows it.
pub fn last_word(line: &str) {
    match QUEUE.writer() {
        LogThread::Runs => {
            QUEUE.push_always(format!("{line}\n").as_bytes());
            QUEUE.wait_written(None);
        }
        LogThread::Awaited => {
            // Whom it was for is not there.
            let _: io::Result<()> = writeln!(stderr(), "{line}");
        }
        LogThread::Gone => write_now(format!("{line}\n").as_bytes()),
    }
}

/// The thread that writes has died: what is logged from here on, of its death too, goes nowhere.
fn tell_death() {
    write_now(b"redis-proxy: the thread that writes the log has died, so the program ends\n");
    lost(WRITER, "it panicked");
}

/// The standard hook writes to standard error itself: it would wait for a reader, holding the lock that all writers take.
fn tell_panic(panic: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let name = thread.name().unwrap_or("<unnamed>");
    let place = panic.location().map_or(String::new(), |location| format!(" at {location}"));
    let why = panic.payload_as_str().unwrap_or("for an unknown reason");
    let trace = Backtrace::capture();
    let trace =
        if trace.status() == BacktraceStatus::Captured { format!("\n{trace}") } else { String::new() };
    let line = format!("thread '{name}' panicked{place}: {why}{trace}\n");
    // It may hold the queue, and nobody would take the line out of it.
    if name == WRITER { write_now(line.as_bytes()) } else { QUEUE.push(line.as_bytes()) }
}
