//! The slow log, a line a command.

use serde::Serialize;

use super::text::text_of;
use crate::slow_log::SlowCommand;

/// A command that was slow; times in microseconds.
#[derive(Serialize)]
pub(super) struct SlowLine {
    id: u64,
    at_ms: u64,
    total_us: u64,
    queued_us: u64,
    redis_us: u64,
    /// Not measured over HTTP.
    delivered_us: Option<u64>,
    client: String,
    arguments: Vec<String>,
}

impl SlowLine {
    pub(super) fn of(command: SlowCommand) -> Self {
        let spent = command.spent;
        SlowLine {
            id: command.id,
            at_ms: command.at_ms,
            total_us: spent.total_ns() / 1_000,
            queued_us: spent.queued_ns / 1_000,
            redis_us: spent.redis_ns / 1_000,
            delivered_us: spent.delivered_ns.map(|ns| ns / 1_000),
            client: command.client,
            arguments: command.arguments.iter().map(|argument| text_of(argument)).collect(),
        }
    }
}
