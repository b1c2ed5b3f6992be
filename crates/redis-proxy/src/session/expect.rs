//! What is noted of a command that is on its way on its client's own connection.

use command::SubscriptionKind;

use super::pause::Pause;

/// What the reply to a command on its way will mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Nothing.
    Reply,
    /// Nothing, but until it comes the client is blocked, and must not die unnoticed.
    Blocked,
    /// A reply that the client did not ask for: of the PUBLISH before a WAIT. Dropped, unless it is an error: then it
    /// stands for that of the WAIT, which would count wrongly.
    Probe,
    Multi,
    /// That of a MULTI that the client has its answer to: it says whether there is a transaction.
    Begun,
    Exec,
    Discard,
    Watch,
    Unwatch,
    /// The database that the session is in once Redis says OK.
    Select(u32),
    /// The connection is in a state that no later reply ends.
    State,
    /// CLIENT TRACKING on, or off.
    Tracking(bool),
    /// CLIENT PAUSE or UNPAUSE.
    Pause(Pause),
    /// MONITOR, or what makes a replica: what follows its reply answers no request.
    Feed(Feed),
    /// HELLO or AUTH of a client that waits for it, or a question whether it may. Only an error is the client's to see.
    Granted,
    /// A number in it is the one by which Redis knows the client that invalidations are redirected to.
    Redirected,
    /// So many confirmations of subscriptions.
    Subscribed(usize),
    /// So many of their ends.
    Unsubscribed(usize),
    /// Confirmations until nothing of this kind is left.
    UnsubscribedAll(SubscriptionKind),
}

/// A command behind whose reply no replies come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feed {
    Monitor,
    /// What makes a replica.
    Replica,
}
