//! What a client's command means for that client, apart from the socket it came on.
//!
//! A front turns bytes into requests and answers into bytes; what a request is for, where it goes and what its answer changes
//! is decided here. This layer names `readthrough` and `lanes`, and neither a socket nor HTTP nor a front.

pub(crate) mod answers;
pub(crate) mod changes;
pub(crate) mod client;
pub(crate) mod expect;
pub(crate) mod login;
pub(crate) mod pause;
pub(crate) mod pin;
pub(crate) mod plan;
pub(crate) mod recall;
pub(crate) mod registry;
pub(crate) mod replies;
pub(crate) mod reply;
pub(crate) mod steward;
pub(crate) mod tracking;
pub(crate) mod words;

pub(crate) use registry::Registry;
