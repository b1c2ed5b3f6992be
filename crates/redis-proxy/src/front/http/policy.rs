//! What the settings of this moment say of every request and of every answer: made anew when they change, and not for each of them.

use std::cell::RefCell;
use std::sync::Arc;

use constant_time_eq::constant_time_eq;

use super::answer::Answer;
use super::head::{Head, Method};
use super::target::authority_of;
use crate::access::{Origins, ReadTokens, TokenRights, bearer};
use crate::live::{ClientTimeouts, LiveSettings};

/// The settings as the front goes by them.
pub(super) struct Policy {
    live: Arc<LiveSettings>,
    /// The `Authorization` that was accepted last, so that the next like it costs no hash.
    accepted: RefCell<Option<(Box<[u8]>, TokenRights)>>,
    /// Whether nobody but this machine reaches the listener.
    on_loopback: bool,
    /// `Cache-Control` of values and the beginning of their `Cache-Status`, with the CR LF before them, up to where it is said where the
    /// value came from.
    pub(super) fetched: Box<[u8]>,
    /// The same of a hit, which is said already.
    pub(super) hit: Box<[u8]>,
    /// Where all values are of one type: their header up to where the length is told.
    pub(super) status_lines: Option<Box<[u8]>>,
    /// What all answers carry before their date, with the CR LF before it.
    pub(super) common: Box<[u8]>,
    /// What an answer to a page of each origin that is listed carries more.
    origin_lines: Box<[Box<[u8]>]>,
    generation: u32,
}

/// An origin that is listed, in the settings of a generation.
#[derive(Clone, Copy, Debug)]
pub(super) struct AllowedOrigin {
    number: u16,
    generation: u32,
}

impl Policy {
    /// That of the settings of a generation.
    pub(super) fn new(live: Arc<LiveSettings>, generation: u32, on_loopback: bool) -> Policy {
        // What one may read who has a token, no shared cache may show to others (RFC 9111, section 3.5).
        let default = if live.access.read_tokens.is_some() { "private, no-cache" } else { "no-cache" };
        let control = live.values.cache_control.as_deref().unwrap_or(default);
        let caching = |status| {
            let text = format!("\r\nCache-Control: {control}\r\nCache-Status: redis-proxy; {status}");
            text.into_bytes().into_boxed_slice()
        };
        let status_lines = live.values.content_type.as_ref().map(|kind| {
            let text = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: ");
            text.into_bytes().into_boxed_slice()
        });
        let allow = |origin: &str| {
            let exposed = "\r\nAccess-Control-Expose-Headers: ETag, Age, Cache-Status";
            format!("\r\nAccess-Control-Allow-Origin: {origin}{exposed}")
        };
        let origins = &live.access.origins;
        let common = "\r\nX-Content-Type-Options: nosniff\r\nCross-Origin-Resource-Policy: ".to_owned()
            + &match origins {
                Origins::Own => "same-origin".to_owned(),
                Origins::Any => format!("cross-origin{}", allow("*")),
                // Whoever asks: an answer to one is not what another gets.
                Origins::Listed(_) => "same-origin\r\nVary: Origin".to_owned(),
            };
        let origin_lines = origins.listed().iter().map(|origin| allow(origin).into_bytes().into()).collect();
        Policy {
            accepted: RefCell::default(),
            on_loopback,
            fetched: caching(""),
            hit: caching("hit"),
            status_lines,
            common: common.into_bytes().into(),
            origin_lines,
            generation,
            live,
        }
    }

    /// Whose page asks, if that is one of those that are listed.
    #[inline]
    pub(super) fn origin_of(&self, head: &Head<'_>) -> Option<AllowedOrigin> {
        let number = self.live.access.origins.number_of(head.origin?)?;
        Some(AllowedOrigin { number: u16::try_from(number).ok()?, generation: self.generation })
    }

    /// Whether a page of that origin may read answers; without one, whether one of any may.
    pub(super) fn lets_pages(&self, origin: Option<AllowedOrigin>) -> bool {
        origin.is_some() || self.live.access.origins == Origins::Any
    }

    /// What an answer to such a page carries more; nothing if the settings have changed meanwhile.
    pub(super) fn lines_of(&self, origin: AllowedOrigin) -> &[u8] {
        let lines = self.origin_lines.get(usize::from(origin.number));
        lines.filter(|_| origin.generation == self.generation).map_or(&[], |lines| lines)
    }

    /// Whether hits are not to be written in the quick way, in which none is logged and the type is told from the value.
    pub(super) fn is_unusual(&self) -> bool {
        self.access_log() > 0 || self.status_lines.is_some()
    }

    /// How long clients are waited for.
    pub(super) fn timeouts(&self) -> ClientTimeouts {
        self.live.timeouts
    }

    /// One request in so many is logged; 0 logs none.
    pub(super) fn access_log(&self) -> u32 {
        self.live.access_log
    }

    /// What a request is answered with, if it is not to be answered for what it asks.
    pub(super) fn refuses(&self, head: &Head<'_>) -> Option<Answer> {
        // The name in a target in absolute form is the one that counts (RFC 9112, section 3.2.2); a page can choose neither.
        let names = [Some(head.host), authority_of(head.target)];
        let hosts = &self.live.access.hosts;
        if !names.into_iter().flatten().all(|name| hosts.allows(name, self.on_loopback)) {
            return Some(Answer::Misdirected);
        }
        self.live.access.read_tokens.as_ref().and_then(|tokens| self.bars(tokens, head))
    }

    /// The same for want of a token that is good for it.
    fn bars(&self, tokens: &ReadTokens, head: &Head<'_>) -> Option<Answer> {
        let may = match head.method {
            Method::Get | Method::Head => |rights: TokenRights| rights.read,
            Method::Purge => |rights: TokenRights| rights.purge,
            // They tell nothing of any key.
            Method::Options | Method::Other => return None,
        };
        match self.rights(tokens, head) {
            None => Some(Answer::Unauthorized),
            Some(rights) => (!may(rights)).then_some(Answer::Forbidden),
        }
    }

    fn rights(&self, tokens: &ReadTokens, head: &Head<'_>) -> Option<TokenRights> {
        let field = head.authorization?;
        let mut accepted = self.accepted.borrow_mut();
        if let Some((known, rights)) = &*accepted
            && constant_time_eq(known, field)
        {
            return Some(*rights);
        }
        let rights = tokens.rights(bearer(field)?)?;
        *accepted = Some((field.into(), rights));
        Some(rights)
    }

    /// Which line of READ_TOKENS_FILE lets this request purge; none where nobody may, and nothing is to be executed.
    pub(super) fn purger(&self, head: &Head<'_>) -> Option<u32> {
        let rights = self.rights(self.live.access.read_tokens.as_ref()?, head)?;
        rights.purge.then_some(rights.line)
    }
}
