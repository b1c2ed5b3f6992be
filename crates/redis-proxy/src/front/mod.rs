//! Fronts turn bytes into keys and values into bytes. They know `readthrough`, never the cache or Redis.
//!
//! Each front has a connection loop of its own; what the loops have in common stands here: [`output`], [`timer`],
//! [`linger`], [`drain`] and the worker's [`spare`] buffers.

mod drain;
pub mod http;
mod linger;
mod output;
mod spare;
mod timer;

pub(crate) use spare::Spare;
