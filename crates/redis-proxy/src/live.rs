//! The settings that change while the program runs: one value, which all who go by it look at where it is.
//!
//! A reload puts another value in its place ([`Live::set`]). Whoever goes by it keeps a [`LiveReader`], and no copy of a field: a
//! look compares a counter, and takes a lock only when the value is another than at the last look.
//!
//! Redis' credentials are not part of it: they are read where they lie, at each attempt to connect (`upstream::Source`), so that
//! a password may be changed without a signal.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::watch;

use crate::config::Settings;

/// What a reload takes over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LiveSettings {
    /// The filter of what is logged.
    pub(crate) log: String,
    /// One request in this many is logged; 0 logs none.
    pub(crate) access_log: u32,
}

impl LiveSettings {
    /// The settings that it is made of.
    pub(crate) const NAMES: [&str; 2] = ["LOG", "ACCESS_LOG"];

    pub(crate) fn of(settings: &Settings) -> Self {
        LiveSettings { log: settings.log.clone(), access_log: settings.access_log }
    }
}

/// The value in force, as whoever changes it has it.
pub(crate) struct Live {
    values: watch::Sender<Arc<LiveSettings>>,
    /// How often it has been changed.
    changes: Arc<AtomicU32>,
}

impl Live {
    pub(crate) fn new(settings: LiveSettings) -> Self {
        Live { values: watch::Sender::new(Arc::new(settings)), changes: Arc::default() }
    }

    /// From now on this is in force: each reader has it at its next look.
    pub(crate) fn set(&self, settings: LiveSettings) {
        self.values.send_replace(Arc::new(settings));
        // Whoever sees it takes the value under its lock.
        self.changes.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn reader(&self) -> LiveReader {
        let seen_changes = self.changes.load(Ordering::Acquire);
        let values = self.values.subscribe();
        let seen = values.borrow().clone();
        LiveReader { values, changes: self.changes.clone(), seen, seen_changes }
    }
}

/// The value in force, as those have it who go by it.
#[derive(Clone)]
pub(crate) struct LiveReader {
    values: watch::Receiver<Arc<LiveSettings>>,
    changes: Arc<AtomicU32>,
    /// As of the last look.
    seen: Arc<LiveSettings>,
    /// Before that look, at the latest.
    seen_changes: u32,
}

impl LiveReader {
    /// The value of this moment. Costs a comparison, fit for every request.
    #[inline]
    pub(crate) fn now(&mut self) -> &LiveSettings {
        let changes = self.changes.load(Ordering::Acquire);
        if changes != self.seen_changes {
            self.look(changes);
        }
        &self.seen
    }

    /// How often the value had been changed at the last look: what was concluded from it is good while this is the same.
    #[inline]
    pub(crate) fn generation(&self) -> u32 {
        self.seen_changes
    }

    #[cold]
    fn look(&mut self, changes: u32) {
        self.seen_changes = changes;
        self.seen = self.values.borrow_and_update().clone();
    }

    /// Waits for the next value, and returns it.
    pub(crate) async fn changed(&mut self) -> &LiveSettings {
        // An error is the end of the program.
        if self.values.changed().await.is_err() {
            pending::<()>().await;
        }
        self.look(self.seen_changes);
        &self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(access_log: u32) -> LiveSettings {
        LiveSettings { log: "info".into(), access_log }
    }

    #[test]
    fn every_reader_has_a_new_value_at_its_next_look() {
        let live = Live::new(settings(1));
        let mut early = live.reader();
        let mut copied = early.clone();
        assert_eq!((early.now().access_log, copied.now().access_log), (1, 1));
        live.set(settings(2));
        live.set(settings(3));
        let mut late = live.reader();
        assert_eq!([&mut early, &mut copied, &mut late].map(|reader| reader.now().access_log), [3; 3]);
    }

    #[test]
    fn a_look_that_finds_nothing_new_takes_no_part_in_the_value() {
        let live = Live::new(settings(1));
        let mut reader = live.reader();
        let before = Arc::strong_count(&reader.seen);
        for _ in 0..10 {
            assert_eq!(reader.now().access_log, 1);
        }
        assert_eq!(Arc::strong_count(&reader.seen), before);
        assert!(Arc::ptr_eq(&reader.seen, &live.values.borrow()));
    }

    #[tokio::test]
    async fn who_waits_for_a_change_is_told_of_the_last() {
        let live = Live::new(settings(1));
        let mut reader = live.reader();
        live.set(settings(2));
        live.set(settings(3));
        assert_eq!(reader.changed().await.access_log, 3);
        assert_eq!(reader.now().access_log, 3);
    }
}
