//! Connections to Redis: replies and pushes are handed to a sink in wire order.

mod endpoint;

pub use endpoint::{Address, Endpoint, Secret, Tls};
