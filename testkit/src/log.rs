//! The program's log: collected while it runs, waited on, and judged at the end.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

/// A line of the program's log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogLine {
    /// The line as written, without its end.
    pub raw: String,
    /// `INFO`, `WARN`, ...; empty if the line is not a JSON event.
    pub level: String,
    /// The event's message; the whole line if it is not a JSON event.
    pub message: String,
    /// All fields of the event, the message too.
    pub fields: Map<String, Value>,
}

impl LogLine {
    /// A text field of the event.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(Value::as_str)
    }

    /// Reads a line of tracing-subscriber's JSON, with the fields under `fields` or flattened into the event.
    fn parse(raw: &str) -> LogLine {
        let event = match serde_json::from_str(raw) {
            Ok(Value::Object(event)) => event,
            _ => Map::new(),
        };
        let level = event.get("level").and_then(Value::as_str).unwrap_or_default().to_owned();
        let fields = match event.get("fields") {
            Some(Value::Object(fields)) => fields.clone(),
            _ => event,
        };
        let message = fields.get("message").and_then(Value::as_str).unwrap_or(raw).to_owned();
        LogLine { raw: raw.to_owned(), level, message, fields }
    }
}

/// Whether a line fails the test: a warning or an error that no text in `allowed` is part of, or a panic.
fn is_unexpected(line: &LogLine, allowed: &[String]) -> bool {
    let warns = ["WARN", "ERROR"].contains(&line.level.as_str());
    let is_allowed = allowed.iter().any(|text| line.raw.contains(text));
    line.raw.contains("panicked") || (warns && !is_allowed)
}

/// The log of a running program, filled by a thread of its own until the program's end of the pipe is closed.
pub(crate) struct Log {
    shared: Arc<Shared>,
    reader: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Default)]
struct Lines {
    lines: Vec<LogLine>,
    ended: bool,
}

impl Log {
    pub(crate) fn collect(stream: impl Read + Send + 'static) -> Log {
        let shared = Arc::new(Shared::default());
        let reader = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                    let line = LogLine::parse(&String::from_utf8_lossy(&line));
                    shared.lock().lines.push(line);
                    shared.changed.notify_all();
                }
                shared.lock().ended = true;
                shared.changed.notify_all();
            }
        });
        Log { shared, reader: Mutex::new(Some(reader)) }
    }

    pub(crate) fn lines(&self) -> Vec<LogLine> {
        self.shared.lock().lines.clone()
    }

    /// Waits for the `count`-th line that is `wanted`; `None` after `timeout` or when the log ended without it.
    pub(crate) fn wait(
        &self,
        count: usize,
        timeout: Duration,
        wanted: impl Fn(&LogLine) -> bool,
    ) -> Option<LogLine> {
        assert_ne!(count, 0, "lines are counted from 1");
        let deadline = Instant::now() + timeout;
        let mut log = self.shared.lock();
        loop {
            if let Some(line) = log.lines.iter().filter(|line| wanted(line)).nth(count - 1) {
                return Some(line.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if log.ended || left.is_zero() {
                return None;
            }
            log = self.shared.changed.wait_timeout(log, left).unwrap().0;
        }
    }

    /// Waits until all the program wrote has been read. Only for a program that has ended.
    pub(crate) fn wait_end(&self) {
        if let Some(reader) = self.reader.lock().unwrap().take() {
            reader.join().expect("the reader of the log does not panic");
        }
    }

    /// The lines that fail the test.
    pub(crate) fn unexpected(&self, allowed: &[String]) -> Vec<String> {
        let log = self.shared.lock();
        log.lines.iter().filter(|line| is_unexpected(line, allowed)).map(|line| line.raw.clone()).collect()
    }

    /// The last lines, for the text of a failure.
    pub(crate) fn tail(&self) -> String {
        let log = self.shared.lock();
        let from = log.lines.len().saturating_sub(30);
        log.lines[from..].iter().map(|line| format!("  {}\n", line.raw)).collect()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NESTED: &str = r#"{"timestamp":"t","level":"WARN","fields":{"message":"redis is gone","address":"a:1"},"target":"x"}"#;
    const FLAT: &str =
        r#"{"timestamp":"t","level":"INFO","message":"listening","http":"127.0.0.1:1","target":"x"}"#;

    #[test]
    fn events_are_read_nested_and_flattened() {
        let nested = LogLine::parse(NESTED);
        assert_eq!((nested.level.as_str(), nested.message.as_str()), ("WARN", "redis is gone"));
        assert_eq!(nested.field("address"), Some("a:1"));
        let flat = LogLine::parse(FLAT);
        assert_eq!((flat.level.as_str(), flat.message.as_str()), ("INFO", "listening"));
        assert_eq!(flat.field("http"), Some("127.0.0.1:1"));
    }

    #[test]
    fn a_line_that_is_no_event_is_kept_as_it_is() {
        for raw in ["", "error: no such setting", "7", "{\"cut"] {
            let line = LogLine::parse(raw);
            assert_eq!((line.level.as_str(), line.message.as_str()), ("", raw));
        }
    }

    #[test]
    fn a_warning_is_unexpected_unless_allowed_and_a_panic_always() {
        let allowed = ["redis is gone".to_owned()];
        let unexpected = |raw: &str, allowed: &[String]| is_unexpected(&LogLine::parse(raw), allowed);
        assert!(unexpected(NESTED, &[]));
        assert!(!unexpected(NESTED, &allowed));
        assert!(unexpected(&NESTED.replace("gone", "slow"), &allowed));
        assert!(unexpected(&NESTED.replace("WARN", "ERROR"), &["else".to_owned()]));
        assert!(!unexpected(FLAT, &[]));
        assert!(!unexpected("a warning of the C library", &[]));
        assert!(unexpected("thread 'main' panicked at src/main.rs:1:1:", &["panicked".to_owned()]));
    }

    #[test]
    fn a_wait_ends_with_the_line_or_with_the_log() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let log = Log::collect(reader);
        let is_listening = |line: &LogLine| line.message == "listening";
        thread::scope(|scope| {
            let second = scope.spawn(|| log.wait(2, Duration::from_secs(10), is_listening));
            std::io::Write::write_all(&mut writer, format!("{FLAT}\nother\n{FLAT}\n").as_bytes()).unwrap();
            assert_eq!(second.join().unwrap(), Some(LogLine::parse(FLAT)));
        });
        assert_eq!(log.wait(3, Duration::from_millis(10), is_listening), None);
        drop(writer);
        let before = Instant::now();
        assert_eq!(log.wait(3, Duration::from_secs(10), is_listening), None);
        assert!(before.elapsed() < Duration::from_secs(5), "the end of the log ends the wait");
        log.wait_end();
        assert_eq!(log.lines().len(), 3);
    }
}
