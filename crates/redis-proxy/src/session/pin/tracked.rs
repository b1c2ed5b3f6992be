//! What CLIENT TRACKING has made of a pin.

use crate::session::tracking::{Redirect, Target};

/// Whether Redis tells the client what changes, and where.
#[derive(Default)]
pub(super) enum ClientTracking {
    #[default]
    Off,
    /// On its own connection.
    Own,
    /// On that of another client of ours, which keeps it for that.
    To { redirect: Redirect, _target: Target },
}

impl ClientTracking {
    pub(super) fn of(to: Option<Box<(Redirect, Target)>>) -> ClientTracking {
        match to.map(|to| *to) {
            Some((redirect, target)) => ClientTracking::To { redirect, _target: target },
            None => ClientTracking::Own,
        }
    }

    pub(super) fn is_on(&self) -> bool {
        !matches!(self, ClientTracking::Off)
    }

    pub(super) fn redirect(&self) -> Option<Redirect> {
        match self {
            ClientTracking::To { redirect, .. } => Some(*redirect),
            ClientTracking::Off | ClientTracking::Own => None,
        }
    }
}
