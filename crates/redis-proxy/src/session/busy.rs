//! What the next command of a client waits for: a connection of its own, news from a lane, or from others.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use command::Local;
use resp::Frame;
use tokio::sync::futures::OwnedNotified;

use super::kept::KeptCommand;
use super::login::{HelloOptions, Login, Stay};
use super::pause::Pause;
use super::registry::Entry;
use super::tracking::Target;
use crate::lanes::{AskedApart, LaneHandle, LaneKey, NoPin, PinStream, Pinning};

/// A connection that is being opened.
pub(super) type Opening = Pin<Box<dyn Future<Output = Result<PinStream, NoPin>>>>;

/// What the proxy answers once it knows: to a question about the keys of a slot, to a purge that has to wait.
pub(super) type LaterAnswer = Pin<Box<dyn Future<Output = Frame>>>;

/// Something under way, and what is to be done with it.
pub(super) enum Busy {
    /// Whether the client, which has not logged in, is let in.
    Admission(Pin<Box<OwnedNotified>>),
    /// A pin for the command at hand, which stays in the input meanwhile.
    Pin(LaneKey, Pinning),
    /// A pin at another node, for a command that its node does not carry out; behind ASKING or not.
    Again(LaneKey, Pinning, Option<Box<KeptCommand>>, bool),
    /// A pin at the node of a cluster where the client's transaction begins, and what that is to queue first.
    Begin(LaneKey, Pinning, Vec<Bytes>),
    /// The reply to the MULTI that was sent there.
    Begun(Vec<Bytes>),
    /// A fresh connection that shows whether the credentials are right.
    Login(LaneKey, Opening, Login),
    /// A connection of the old user's, on which the credentials go too: the new one may not choose the database in which
    /// it would find itself.
    Change(LaneKey, Pinning, Login),
    /// The lane that the session would use after a SELECT.
    Select(u32, LaneHandle),
    /// A reply that is heard before its client gets it, as far as it is here.
    Heard(Heard, Vec<u8>),
    /// The lane that the session would use after a HELLO.
    Hello(LaneHandle, HelloOptions),
    /// The reply to an AUTH, or a HELLO with one, that went to the client's pin.
    PinnedLogin(Login, Stay),
    /// The reply to a HELLO that went to the client's pin.
    PinnedHello(HelloOptions),
    /// Whether Redis lets its user ask this of other clients, on the client's pin.
    PinnedLeave(Local, Bytes),
    /// The end of the clients that it has killed, and what is said then.
    Kill(Frame, Vec<Arc<Entry>>),
    /// What all nodes of a cluster answer, each on a connection of its own.
    Apart(AskedApart),
    /// An answer of the proxy's own.
    Later(LaterAnswer),
    /// A pin for the client that invalidations are to go to.
    Redirect(Target),
}

/// A reply that is about more than its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// INFO's answer, to which the section of the proxy belongs or not.
    Info {
        with_ours: bool,
    },
    Pause(Pause),
    /// Whether this request, about other clients, may be carried out.
    Leave(Local, Bytes),
}
