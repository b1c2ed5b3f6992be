//! Commands on a client's own connection that are kept so that they can be sent on, should their slot be at another node of the cluster.
//!
//! One that blocks, blocks at the next owner for the time that is left: Redis unblocks it with MOVED (cluster.c,
//! `clusterRedirectBlockedClientIfNeeded`), and a client of one Redis would not know what to do with that. One that subscribes to a shard
//! goes there likewise. Of a large one that is passed on as it comes a copy is kept, within bounds: only behind its last byte does a node
//! say that it does not carry it out.

use std::time::Duration;

use bytes::BytesMut;
use resp::{Arguments, encode_command};
use tokio::time::Instant;

use super::at_hand::AtHand;
use super::busy::Busy;
use super::expect::Expect;
use super::reply::error;
use super::ways::Ways;
use super::words::{is, parsed};
use crate::lanes::{Destination, InputRoom, LaneKey, PinStream, Request, runs_script};

/// So often one is sent on.
const MOST_TRIES: u32 = 5;
/// Before the third attempt, and twice as long before each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The shortest time for which Redis lets one block; 0 is for ever.
const SHORTEST_SECONDS: f64 = 0.001;

/// More than this of a command that is passed on as it comes is not kept.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// A command that is alone on its way, as its client has sent it.
pub(crate) struct KeptCommand {
    request: BytesMut,
    /// What counts it as unread, if it comes in parts.
    room: Option<InputRoom>,
    /// Whether all of it is here.
    is_whole: bool,
    /// What its reply means.
    pub(super) expect: Expect,
    since: Instant,
    tries: u32,
}

impl KeptCommand {
    /// One that is sent now.
    pub(super) fn new(request: Request<'_>, expect: Expect) -> KeptCommand {
        let mut kept = KeptCommand::of_parts(None);
        request.write(&mut kept.request);
        (kept.is_whole, kept.expect) = (true, expect);
        kept
    }

    /// One of which nothing is here.
    pub(super) fn of_parts(room: Option<InputRoom>) -> KeptCommand {
        let (request, since) = (BytesMut::new(), Instant::now());
        KeptCommand { request, room, is_whole: false, expect: Expect::Reply, since, tries: 0 }
    }

    /// The next part of it. False if there is no room for it.
    pub(super) fn add(&mut self, bytes: &[u8], last: bool) -> bool {
        let len = self.request.len() + bytes.len();
        let has_room = len <= MOST_BYTES && self.room.as_mut().is_none_or(|room| room.grow(len));
        if has_room {
            self.request.extend_from_slice(bytes);
            self.is_whole = last;
        }
        has_room
    }

    /// Whether it has come in parts, and all of it has gone: it may yet have to go elsewhere, and what stands behind it waits.
    pub(super) fn is_uploaded(&self) -> bool {
        self.is_whole && self.expect == Expect::Reply
    }

    pub(super) fn may_be_sent_on(&self) -> bool {
        self.is_whole && self.tries < MOST_TRIES
    }
}

impl AtHand {
    /// What is kept of the client's pin, alone there, is to be carried out at another node: a pin there is opened. The client keeps
    /// whatever else it has begun on the one that it has: then it is told to try again.
    pub(super) fn send_elsewhere(&mut self, to: Destination, asks: bool, ways: &mut Ways) {
        let Some(kept) = ways.pin.pinned.as_mut().and_then(|pinned| pinned.kept.take()) else { return };
        // The words may be a script's own: it is run at one more node at most, and there if a slot of its keys can be there.
        let is_done = runs_script(&kept.request) && {
            let parser = parsed(&kept.request);
            let slot = ways.sessions.slot_of_part(parser.arguments(&kept.request));
            kept.tries > 0 || slot.is_none()
        };
        if !ways.pin.is_unused() || self.is_busy() || is_done {
            return ways.say(&error("TRYAGAIN proxy: the slot is at another node of the cluster"));
        }
        ways.unpin(true);
        let key = ways.client.key.at(to);
        let opening = match kept.tries {
            0 => ways.pin.open(key.clone(), true),
            // Nodes that do not agree yet send it to and fro.
            tries => ways.sessions.lanes.pin_later(key.clone(), FIRST_PAUSE * 2_u32.pow(tries)),
        };
        self.wait_for(Busy::Again(key, opening, Some(kept), asks));
    }
}

/// Sends a command to the node to which this leads, behind ASKING if it `asks`.
pub(super) fn send_again(
    ways: &mut Ways,
    stream: PinStream,
    key: &LaneKey,
    mut kept: Box<KeptCommand>,
    asks: bool,
) {
    ways.pin.hold(stream, key.clone());
    if asks {
        ways.send_pinned(Request::Raw(ASKING), Expect::Probe.into(), None);
    }
    let parser = parsed(&kept.request);
    let arguments = parser.arguments(&kept.request);
    let duty = ways.sessions.duty_of(arguments);
    match kept.expect {
        Expect::Blocked => {
            let request = for_the_time_left(arguments, kept.since.elapsed().as_secs_f64());
            ways.send_pinned(Request::Raw(&request), kept.expect.into(), duty);
        }
        expect => {
            ways.send_pinned(Request::Raw(&kept.request), expect.into(), duty);
        }
    }
    kept.tries += 1;
    if let Some(pinned) = ways.pin.pinned.as_mut() {
        pinned.kept = Some(kept);
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
