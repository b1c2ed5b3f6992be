//! Whether a link carries the promise of its mode.

/// The state of a link's promise. Only in force are entries kept and proven; else every read is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// There is no connection.
    Lost(String),
    /// A connection is up and tracked; whether invalidations arrive is being tried.
    Trying,
    /// What is read is tracked, and invalidations arrive.
    InForce,
    /// The server is there and cannot, or will not, tell of changes.
    Refused(String),
}

impl Promise {
    /// # Errors
    /// Why it is not in force, for an operator.
    pub(super) fn held(&self) -> Result<(), String> {
        match self {
            Promise::InForce => Ok(()),
            Promise::Trying => Err("delivery of invalidations is being tried".into()),
            Promise::Lost(why) | Promise::Refused(why) => Err(why.clone()),
        }
    }
}
