//! What Redis' commands are: their arity and flags, where their keys stand and in which slots of a cluster those are, and the lane
//! each travels on.
//!
//! [`Commands`] begins as the table of the redis-server that we were built against (`table.txt`, made from its `COMMAND`
//! reply) and is merged with the `COMMAND` reply of the one that we are connected to, so that commands of modules and of
//! later versions are known too. A command that nobody knows is Redis' to refuse: it is passed on.
//!
//! Pure: no socket, no clock, no task.

mod change;
mod flags;
mod keys;
mod lane;
mod live;
mod name;
mod read;
mod slot;
mod spec;
mod table;
mod tips;

pub use change::Change;
pub use flags::{Access, Flags};
pub use keys::Key;
pub use lane::{Lane, Local, PinReason, SubscriptionKind};
pub use live::BadReply;
pub use read::Read;
pub use slot::{Slot, Slots};
pub use table::{Command, Commands};
pub use tips::{KeyPieces, RequestPolicy, ResponsePolicy, Tips};
