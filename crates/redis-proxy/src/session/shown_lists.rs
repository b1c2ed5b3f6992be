//! PROXY HOTKEYS, MISSES, PREFIXES and BIGKEYS: what is hot of what the client's user sees in its database, and why it misses.

use bytes::Bytes;
use resp::{Arguments, Frame};

use super::busy::LaterAnswer;
use super::client_state::ClientState;
use super::reply::{error, integer};
use super::sessions::Sessions;
use super::words::number;
use crate::readthrough::{HotLists, IsBusy};

/// Lines where nothing else is asked for, and at most.
const COUNT: usize = 10;
const MOST_COUNT: usize = 512;

/// What a client is told that may not look.
const NOT_ADMIN: &str = "NOPERM proxy: this client may not see what is hot (RESP_PROXY_ADMIN)";

/// A list that is asked for.
#[derive(Clone, Copy)]
pub(super) enum ShownList {
    Keys,
    Misses,
    Prefixes,
    BigKeys,
}

impl ShownList {
    /// By the subcommand of PROXY.
    pub(super) fn of(word: &[u8]) -> Option<ShownList> {
        let named = [
            (&b"HOTKEYS"[..], ShownList::Keys),
            (b"MISSES", ShownList::Misses),
            (b"PREFIXES", ShownList::Prefixes),
            (b"BIGKEYS", ShownList::BigKeys),
        ];
        named.into_iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|(_, list)| list)
    }
}

impl Sessions {
    /// The answer to a client that asks for a list; what is to be waited for where it takes its time.
    pub(super) fn list(
        &self,
        list: ShownList,
        client: &ClientState,
        arguments: Arguments<'_>,
    ) -> Result<Frame, LaterAnswer> {
        if !client.is_admin(self.limits.get()) {
            return Ok(error(NOT_ADMIN));
        }
        let most = match arguments.get(2) {
            None => COUNT,
            given => match number::<usize>(given).filter(|most| *most > 0) {
                Some(most) => most.min(MOST_COUNT),
                None => return Ok(error("ERR value is out of range, must be positive")),
            },
        };
        // To ask what is known is no read, for which links would start.
        let is_asked = self.settings.cache && self.readers.is_asked();
        let reader =
            is_asked.then(|| self.readers.of(client.key.identity.login(), client.proven_ns, client.key.db));
        let lists = reader.flatten().map(|reader| self.readers.hot_lists(&reader));
        match (list, lists) {
            (ShownList::BigKeys, lists) => Err(Box::pin(big_keys(lists, most))),
            (_, None) => Ok(Frame::Array(Vec::new())),
            (ShownList::Keys, Some(lists)) => Ok(keys(&lists, most)),
            (ShownList::Misses, Some(lists)) => Ok(misses(&lists, most)),
            (ShownList::Prefixes, Some(lists)) => Ok(prefixes(&lists, most)),
        }
    }
}

fn keys(lists: &HotLists, most: usize) -> Frame {
    let lines = lists.keys(most).into_iter().map(|held| {
        let hot = held.hot;
        Frame::Map(vec![
            (text("key"), bytes(hot.key)),
            (text("cut"), integer(u64::from(hot.is_cut))),
            (text("reads_per_s"), decimal(hot.reads_per_s)),
            (text("error_per_s"), decimal(hot.error_per_s)),
            (text("share"), decimal(hot.share)),
            (text("hit_ratio"), decimal(hot.hit_ratio)),
            (text("bytes"), held.bytes.map_or(Frame::Null, integer)),
            (text("left_ms"), held.left_ms.map_or(Frame::Null, integer)),
        ])
    });
    Frame::Array(lines.collect())
}

fn misses(lists: &HotLists, most: usize) -> Frame {
    let lines = lists.misses(most).into_iter().map(|hot| {
        Frame::Map(vec![
            (text("key"), bytes(hot.key)),
            (text("cut"), integer(u64::from(hot.is_cut))),
            (text("reason"), text(hot.reason.name())),
            (text("misses_per_s"), decimal(hot.misses_per_s)),
            (text("error_per_s"), decimal(hot.error_per_s)),
        ])
    });
    Frame::Array(lines.collect())
}

fn prefixes(lists: &HotLists, most: usize) -> Frame {
    let lines = lists.prefixes(most).into_iter().map(|held| {
        let hot = held.hot;
        Frame::Map(vec![
            (text("prefix"), bytes(hot.prefix)),
            (text("reads_per_s"), decimal(hot.reads_per_s)),
            (text("error_per_s"), decimal(hot.error_per_s)),
            (text("hit_ratio"), decimal(hot.hit_ratio)),
            (text("bytes"), integer(held.bytes)),
            (text("invalidations_per_s"), decimal(hot.invalidations_per_s)),
        ])
    });
    Frame::Array(lines.collect())
}

async fn big_keys(lists: Option<HotLists>, most: usize) -> Frame {
    let (scanned, is_complete, found) = match lists {
        Some(lists) => match lists.big_keys(most).await {
            Ok(found) => (found.scanned, found.is_complete, found.found),
            Err(IsBusy) => return error(format!("ERR proxy: {}", IsBusy::TEXT)),
        },
        None => (0, true, Vec::new()),
    };
    let lines = found.into_iter().map(|big| {
        Frame::Map(vec![
            (text("key"), bytes(big.key.into())),
            (text("cut"), integer(u64::from(big.is_cut))),
            (text("bytes"), integer(big.bytes)),
        ])
    });
    Frame::Map(vec![
        (text("scanned"), integer(scanned as u64)),
        (text("complete"), integer(u64::from(is_complete))),
        (text("big_keys"), Frame::Array(lines.collect())),
    ])
}

fn text(text: &'static str) -> Frame {
    Frame::Bulk(Bytes::from_static(text.as_bytes()))
}

fn bytes(bytes: Vec<u8>) -> Frame {
    Frame::Bulk(bytes.into())
}

/// With four digits behind the point.
fn decimal(number: f64) -> Frame {
    Frame::Double(format!("{number:.4}").into())
}
