//! The progress bar: on a terminal, on standard error, and not beside JSON.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::options::Options;

/// Between two looks; each costs the load a little of a core.
const INTERVAL: Duration = Duration::from_millis(200);

/// Shows how far the load has come until `is_over`. Returns at once where nobody is to see it.
pub(crate) fn watch(options: &Options, start: Instant, answered: &AtomicU64, is_over: impl Fn() -> bool) {
    if options.json || !std::io::stderr().is_terminal() {
        return;
    }
    let whole = options.warmup + options.duration;
    let bar = ProgressBar::new(u64::try_from(whole.as_millis()).unwrap_or(u64::MAX));
    let style = ProgressStyle::with_template("{prefix:8} [{wide_bar}] {percent:>3} %  {msg}");
    bar.set_style(style.expect("a constant template").progress_chars("=> "));
    let mut before = (Instant::now(), answered.load(Ordering::Relaxed));
    while !is_over() {
        thread::sleep(INTERVAL);
        let (now, count) = (Instant::now(), answered.load(Ordering::Relaxed));
        let rate = (count - before.1) as f64 / (now - before.0).as_secs_f64();
        before = (now, count);
        let done = now.saturating_duration_since(start);
        bar.set_prefix(if done < options.warmup { "warm-up" } else { "measure" });
        bar.set_position(u64::try_from(done.as_millis()).unwrap_or(u64::MAX));
        bar.set_message(format!("{rate:.0} answers/s"));
    }
    bar.finish_and_clear();
}
