//! What CLIENT TRACKING has made of a pin.

use crate::session::tracking::{Redirect, Target};

/// Whether Redis tells the client what changes, and where.
#[derive(Default)]
pub(super) enum Tracking {
    #[default]
    Off,
    /// On its own connection.
    Own,
    /// On that of another client of ours, which keeps it for that.
    To { redirect: Redirect, _target: Target },
}

impl Tracking {
    pub(super) fn of(to: Option<Box<(Redirect, Target)>>) -> Tracking {
        match to.map(|to| *to) {
            Some((redirect, target)) => Tracking::To { redirect, _target: target },
            None => Tracking::Own,
        }
    }

    pub(super) fn is_on(&self) -> bool {
        !matches!(self, Tracking::Off)
    }

    pub(super) fn redirect(&self) -> Option<Redirect> {
        match self {
            Tracking::To { redirect, .. } => Some(*redirect),
            Tracking::Off | Tracking::Own => None,
        }
    }
}
