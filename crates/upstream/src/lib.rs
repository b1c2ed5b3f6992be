//! Connections to Redis: replies and pushes are handed to a [`Sink`] in wire order.
//!
//! An [`Upstream`] is a cheap handle: commands go in with a *ticket*, which this crate hands back with the
//! reply and never looks into. Its [`Driver`] is the one task that owns the socket: it batches what was sent
//! since its last turn into one write, decodes replies, matches them to tickets in the order of the wire, and
//! reconnects by itself.
//!
//! ```text
//!   send(command, ticket) -> queue --+                    +--> Sink::reply(ticket, frame)
//!                                    +--> driver: socket --+--> Sink::push(frames)
//!                                                         +--> Sink::lost(ticket, loss)
//! ```
//!
//! [`open_raw`] opens a connection that belongs to its caller, who passes bytes through it as they are.
//!
//! Life of a connection, seen by a sender: while the first attempt (at start, or after a working connection
//! was closed, or once the node has moved) is under way, commands queue; once an attempt has failed, or a connection fell silent, they are
//! refused at once until a later attempt succeeds. All connections to one Redis share a [`Backend`]: a read that
//! one refuses, and a connection that one makes, let the others try again soon.

mod backend;
mod backoff;
mod cluster;
mod connection;
mod conversation;
mod credentials;
mod driver;
mod endpoint;
mod handshake;
mod hello;
mod node;
mod proven;
mod queue;
mod raw;
mod reauth;
mod sink;
mod stream;
mod tracking;

pub use backend::Backend;
pub use cluster::{Cluster, ClusterCounts, NodeNumber, SLOTS, SlotRange, SlotRedirection};
pub use conversation::Conversation;
pub use credentials::{Source, Who};
pub use driver::{Driver, connect};
pub use endpoint::{Account, Address, ConnectionLimits, Endpoint, Secret, SharedLimits, Tls};
pub use handshake::is_about_credentials;
pub use hello::{Hello, sent_elsewhere};
pub use node::{Location, RedisNode, Tenure};
pub use proven::Proven;
pub use queue::{ConnectionState, Sendable, Unsent, Upstream, WeakUpstream};
pub use raw::{
    Credentials, Expected, Greeting, OpenError, Password, RawConnection, Step, ask_as_nobody, ask_once,
    open_as_ourselves, open_raw,
};
pub use reauth::Reauth;
pub use sink::{Doubt, Incarnation, Loss, Sink};
pub use stream::Duplex;
pub use tracking::{Tracking, no_right_to};
