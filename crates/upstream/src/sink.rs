//! What the owner of a connection is told, and in which order.

use std::fmt;
use std::sync::Arc;

use resp::Frame;

use crate::tracking::Tracking;

/// Receives everything that one connection delivers.
///
/// All methods are called by the connection's driver, one at a time and strictly in wire order; whatever must
/// be ordered with the wire (a fill against an invalidation) is done here and nowhere else. They must not
/// block: the bytes behind the current reply wait for them.
pub trait Sink {
    /// Comes back with the reply to the command that it was sent with.
    type Ticket;

    /// The reply to the command sent with `ticket`.
    ///
    /// # Errors
    /// [`Doubt`] when the reply cannot belong to that command, or tells that this connection is not what it was taken
    /// for. The connection is then closed, because every later reply would be in doubt too; the other tickets on it
    /// are [`lost`](Sink::lost).
    fn reply(&self, ticket: Self::Ticket, frame: Frame) -> Result<(), Doubt>;

    /// The reply that is coming next takes so many more bytes; said of large ones, as soon as it is known.
    fn announced(&self, bytes: usize) {
        let _ = bytes;
    }

    /// An out-of-band message (RESP3 push).
    fn push(&self, items: Vec<Frame>);

    /// The command sent with `ticket` gets no reply. It may be sent again from here.
    fn lost(&self, ticket: Self::Ticket, loss: &Loss);

    /// A new connection is ready; what is sent from here on travels on it.
    fn connected(&self, incarnation: Incarnation, tracking: &Tracking);

    /// An attempt to connect failed, or an established connection ended.
    fn disconnected(&self, loss: &Loss);
}

/// Which connection of all there ever were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incarnation {
    /// Never used twice in a process.
    pub number: u64,
    /// The generation of the node that it leads to.
    pub generation: u64,
}

/// Why a connection can no longer be trusted after a reply; often, that the reply cannot answer its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doubt(pub &'static str);

impl Doubt {
    /// A reply that cannot be the answer to its command.
    pub const WRONG_TYPE: Doubt = Doubt("a reply of the wrong type");
}

/// Why a command gets no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The connection ended while the command was on its way; a read may be sent again.
    Closed(Arc<str>),
    /// No connection could be made (refused, no such name, time-out). Retrying at once does not help.
    Unreachable(Arc<str>),
    /// Redis was reached and turned the handshake down (credentials, database). The operator must act.
    Refused(Arc<str>),
    /// Redis was reached and is none that can be served from: a node of a cluster, a sentinel. The operator must act.
    Unfit(Arc<str>),
    /// Answers were due and no byte came for the silence time-out.
    Silent,
    /// What came was not a reply to this command, or not RESP at all.
    Garbled(Arc<str>),
    /// The limit of commands in flight is reached.
    Full,
    /// The node is at another place; a read may be sent again, and goes there.
    Departed,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Loss::Closed(why) => write!(f, "connection to redis lost: {why}"),
            Loss::Unreachable(why) => write!(f, "redis unreachable: {why}"),
            Loss::Refused(why) => write!(f, "redis refused the handshake: {why}"),
            Loss::Unfit(why) => f.write_str(why),
            Loss::Silent => f.write_str("redis does not answer"),
            Loss::Garbled(why) => write!(f, "redis sent a malformed reply: {why}"),
            Loss::Full => f.write_str("too many commands in flight"),
            Loss::Departed => f.write_str("the primary is at another place"),
        }
    }
}
