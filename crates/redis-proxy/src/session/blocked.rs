//! A command that blocks at a node of a cluster whose slot moves: it blocks at the next owner, for the time that is left. One that
//! subscribes to a shard, and finds that its slot has moved, goes there likewise.
//!
//! Redis unblocks it with MOVED (cluster.c, `clusterRedirectBlockedClientIfNeeded`); a client of one Redis would not know what to do
//! with that.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use resp::{Arguments, encode_command};
use tokio::time::Instant;

use super::at_hand::AtHand;
use super::busy::Busy;
use super::expect::Expect;
use super::reply::error;
use super::ways::Ways;
use super::words::{is, parsed};
use crate::lanes::{Destination, LaneKey, PinStream, Request};

/// So often one is sent on.
const MOST_TRIES: u32 = 5;
/// Before the third attempt, and twice as long before each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The shortest time for which Redis lets one block; 0 is for ever.
const SHORTEST_SECONDS: f64 = 0.001;

/// A command that blocks or subscribes, as its client has sent it.
pub(crate) struct BlockedCommand {
    request: Bytes,
    /// What its reply means.
    pub(super) expect: Expect,
    since: Instant,
    tries: u32,
}

impl BlockedCommand {
    /// One that is sent now.
    pub(super) fn new(request: Request<'_>, expect: Expect) -> BlockedCommand {
        let mut bytes = BytesMut::new();
        request.write(&mut bytes);
        BlockedCommand { request: bytes.freeze(), expect, since: Instant::now(), tries: 0 }
    }

    pub(super) fn may_be_sent_on(&self) -> bool {
        self.tries < MOST_TRIES
    }
}

impl AtHand {
    /// What blocks on the client's pin, alone, is to be carried out at another node: a pin there is opened. The client keeps
    /// whatever else it has begun on the one that it has: then it is told to try again.
    pub(super) fn block_elsewhere(&mut self, to: Destination, asks: bool, ways: &mut Ways) {
        let Some(blocked) = ways.pin.pinned.as_mut().and_then(|pinned| pinned.blocked.take()) else { return };
        if !ways.pin.is_unused() || self.is_busy() {
            return ways.say(&error("TRYAGAIN proxy: the slot is at another node of the cluster"));
        }
        ways.unpin(true);
        let key = ways.client.key.at(to);
        let opening = match blocked.tries {
            0 => ways.pin.open(key.clone(), true),
            // Nodes that do not agree yet send it to and fro.
            tries => ways.sessions.lanes.pin_later(key.clone(), FIRST_PAUSE * 2_u32.pow(tries)),
        };
        self.wait_for(Busy::Again(key, opening, blocked, asks));
    }
}

/// Has a command block at the node to which this leads, behind ASKING if it `asks`.
pub(super) fn block_again(
    ways: &mut Ways,
    stream: PinStream,
    key: &LaneKey,
    blocked: &BlockedCommand,
    asks: bool,
) {
    ways.pin.hold(stream, key.clone());
    if asks {
        ways.send_pinned(Request::Raw(ASKING), Expect::Probe.into(), None);
    }
    let parser = parsed(&blocked.request);
    let arguments = parser.arguments(&blocked.request);
    let request = match blocked.expect {
        Expect::Blocked => for_the_time_left(arguments, blocked.since.elapsed().as_secs_f64()),
        _ => BytesMut::from(&blocked.request[..]),
    };
    let duty = ways.sessions.duty_of(arguments);
    ways.send_pinned(Request::Raw(&request), blocked.expect.into(), duty);
    if let Some(pinned) = ways.pin.pinned.as_mut() {
        let BlockedCommand { request, expect, since, tries } = blocked;
        let again =
            BlockedCommand { request: request.clone(), expect: *expect, since: *since, tries: tries + 1 };
        pinned.blocked = Some(Box::new(again));
    }
}

/// What has the next command carried out at a node that does not have its slot yet.
const ASKING: &[u8] = b"*1\r\n$6\r\nASKING\r\n";

/// The same command, of whose time so many seconds are gone.
fn for_the_time_left(arguments: Arguments<'_>, gone_seconds: f64) -> BytesMut {
    let mut request = BytesMut::new();
    let mut words: Vec<&[u8]> = arguments.iter().collect();
    let left = timeout(arguments).and_then(|(at, in_ms)| {
        let seconds: f64 = std::str::from_utf8(arguments.get(at)?).ok()?.parse().ok()?;
        let unit = if in_ms { 0.001 } else { 1.0 };
        let left = (seconds * unit - gone_seconds).max(SHORTEST_SECONDS);
        let text = if in_ms { format!("{:.0}", left * 1000.0) } else { format!("{left:.3}") };
        // 0 is for ever, and stays so.
        (seconds > 0.0).then_some((at, text))
    });
    if let Some((at, text)) = &left {
        words[*at] = text.as_bytes();
    }
    encode_command(&mut request, &words);
    request
}

/// Which argument says how long it may block, and whether in milliseconds.
fn timeout(arguments: Arguments<'_>) -> Option<(usize, bool)> {
    let last = arguments.len().checked_sub(1)?;
    match () {
        () if is(arguments, b"XREAD") || is(arguments, b"XREADGROUP") => {
            let block = arguments.iter().position(|word| word.eq_ignore_ascii_case(b"BLOCK"))?;
            (block < last).then_some((block + 1, true))
        }
        () if is(arguments, b"BLMPOP") || is(arguments, b"BZMPOP") => Some((1, false)),
        () => Some((last, false)),
    }
}

#[cfg(test)]
mod tests {
    use resp::{RequestLimits, RequestParser};

    use super::*;

    fn after(words: &[&str], gone_seconds: f64) -> Vec<String> {
        let mut request = BytesMut::new();
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        encode_command(&mut request, &words);
        let again = for_the_time_left(parsed(&request).arguments(&request), gone_seconds);
        let mut parser = RequestParser::new(RequestLimits::REDIS);
        parser.parse(&again).unwrap();
        parser.arguments(&again).iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect()
    }

    #[test]
    fn a_command_blocks_again_for_the_time_that_is_left() {
        assert_eq!(after(&["BLPOP", "a", "b", "1.5"], 0.25), ["BLPOP", "a", "b", "1.250"]);
        assert_eq!(after(&["BLPOP", "a", "0"], 7.0), ["BLPOP", "a", "0"]);
        assert_eq!(after(&["BZPOPMIN", "a", "1"], 1.0), ["BZPOPMIN", "a", "0.001"]);
        assert_eq!(after(&["blmpop", "2", "1", "a", "LEFT"], 0.5), ["blmpop", "1.500", "1", "a", "LEFT"]);
        let xread = ["XREAD", "BLOCK", "100", "STREAMS", "s", "$"];
        assert_eq!(after(&xread, 0.06), ["XREAD", "BLOCK", "40", "STREAMS", "s", "$"]);
        assert_eq!(after(&xread, 1.0)[2], "1");
    }
}
