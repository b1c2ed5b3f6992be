//! What a pin is used for, and what becomes of it when its client has no more use for it.

/// What a pin is used for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Usage {
    /// Nothing yet: nothing has been sent on it.
    Fresh,
    /// Commands, each of which is followed.
    Followed,
    /// A request that is being streamed to it.
    Upload,
    /// Bytes that go both ways unread, behind what is on its way.
    Tunnel(Passage),
}

/// Bytes of a client in a state that is not followed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Passage {
    /// Whether what goes through it may change anything. Which answer is whose is not known there.
    pub(super) may_write: bool,
    pub(super) looks: Looks,
}

/// What is looked for in what comes through a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looks {
    Nothing,
    /// Whether it answers a request, or comes unasked.
    Answers,
    /// Where replies end: those to a client that watches by MONITOR.
    Replies,
    /// The answer to a RESET that has been sent.
    Reset,
}

impl Usage {
    /// Something is sent, or somebody else needs it.
    pub(super) fn begin(&mut self) {
        if *self == Usage::Fresh {
            *self = Usage::Followed;
        }
    }

    /// Whether bytes that nobody looks at go there.
    pub(super) fn is_unread(&self) -> bool {
        matches!(self, Usage::Tunnel(_) | Usage::Upload)
    }

    /// Whether what goes through the tunnel may change anything.
    pub(super) fn may_write(&self) -> bool {
        matches!(self, Usage::Tunnel(Passage { may_write: true, .. }))
    }

    /// What is looked for behind what is on its way; `None` if it is no tunnel.
    pub(super) fn looks(&self) -> Option<Looks> {
        match self {
            Usage::Tunnel(Passage { looks, .. }) => Some(*looks),
            Usage::Fresh | Usage::Followed | Usage::Upload => None,
        }
    }

    /// From now on, if it is a tunnel.
    pub(super) fn look(&mut self, looks: Looks) {
        if let Usage::Tunnel(passage) = self {
            passage.looks = looks;
        }
    }
}

/// What becomes of a pin; the worst that was ever said of it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    /// With nothing left on it, another client may have it.
    Returned,
    /// With nothing left on it, it is closed.
    Dropped,
    /// It has state that no reply undoes: it ends with its client.
    Kept,
}
