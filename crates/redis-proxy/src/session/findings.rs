//! What was found out for the command at hand while it waited: it is told when it is planned again.

use bytes::Bytes;

use super::tracking::Target;
use crate::lanes::KeptOut;

/// What came of what was waited for.
pub(super) enum FoundOut {
    /// Why the client is not let in.
    KeptOut(KeptOut),
    /// Why it gets no pin, or not the one that it needs.
    Refused(Bytes),
    /// The client that it names has a connection, for now.
    Target(Target),
}

/// The last of these that nobody has asked for. A pointer, for nearly all clients have none.
#[derive(Default)]
pub(super) struct Findings(Option<Box<FoundOut>>);

impl Findings {
    pub(super) fn put(&mut self, found_out: FoundOut) {
        self.0 = Some(Box::new(found_out));
    }

    /// Whether the client got no pin.
    #[inline]
    pub(super) fn is_refused(&self) -> bool {
        matches!(self.0.as_deref(), Some(FoundOut::Refused(_)))
    }

    /// Why it got none, told once.
    pub(super) fn take_refusal(&mut self) -> Option<Bytes> {
        match *self.0.take_if(|found_out| matches!(**found_out, FoundOut::Refused(_)))? {
            FoundOut::Refused(text) => Some(text),
            FoundOut::KeptOut(_) | FoundOut::Target(_) => None,
        }
    }

    /// Why the client is not let in, told once.
    pub(super) fn take_kept_out(&mut self) -> Option<KeptOut> {
        match *self.0.take()? {
            FoundOut::KeptOut(kept_out) => Some(kept_out),
            FoundOut::Refused(_) | FoundOut::Target(_) => None,
        }
    }

    /// The client that was waited for.
    pub(super) fn take_target(&mut self) -> Option<Target> {
        match *self.0.take()? {
            FoundOut::Target(target) => Some(target),
            FoundOut::KeptOut(_) | FoundOut::Refused(_) => None,
        }
    }
}
