//! The program's log.

/// A line of the program's log.
#[derive(Clone, Debug)]
pub struct LogLine {
    /// The line as written.
    pub raw: String,
    /// `INFO`, `WARN`, ...; empty if the line is not JSON.
    pub level: String,
    /// The message; the whole line if it is not JSON.
    pub message: String,
    /// All fields of the event.
    pub fields: serde_json::Map<String, serde_json::Value>,
}
