//! GETs that are nothing but that, as most of what is asked: from the key to the value, as long as each is in memory.

use std::rc::Rc;

use super::Session;
use super::answers::{Said, value};
use super::outgoing::Outgoing;
use super::plan::reads_at_once;
use super::reading::Reading;
use super::ways::Ways;
use crate::readthrough::ReadThrough;

/// Answers the GETs of a client that stands so that each is a read, with nothing due before it. For as long as nothing else is taken up:
/// whatever of others concerns the client meanwhile comes after all of them.
pub(crate) struct PlainGets<'a> {
    reading: &'a Reading,
    reader: Rc<ReadThrough>,
    out: &'a mut Outgoing,
}

impl<'a> PlainGets<'a> {
    /// For a session that is given a GET. None if its client does not stand so.
    #[inline]
    pub(crate) fn of(session: &'a mut Session) -> Option<Self> {
        let standing = session.standing();
        let Ways { sessions, client, out, reading, .. } = &mut session.ways;
        let is_read = sessions.gets_are_reads.get() && sessions.settings.cache;
        if !is_read || !out.replies.is_empty() || !reads_at_once(standing) {
            return None;
        }
        let reader = reading.reader(client)?;
        client.calls("get");
        Some(PlainGets { reading, reader, out })
    }

    /// Answers a GET, if its value is in memory and the output is not full. If not, nothing has happened, and the request is to
    /// be taken up as any other.
    #[inline]
    pub(crate) fn answer(&mut self, key: &[u8]) -> bool {
        if self.out.is_full() {
            return false;
        }
        let turn_ns = self.reading.turn_ns;
        let Some(entry) = self.reader.hit(key, self.reading.asked(key, turn_ns, turn_ns)) else {
            return false;
        };
        let whole = 0..entry.value().len();
        if let Said::UpToValue { part, line } = value(&mut self.out.output.bytes, entry.value(), whole) {
            self.out.attach(self.reader.lend(entry), part, line, false);
        }
        self.reading.sessions.stats.cached.add(1);
        true
    }
}
