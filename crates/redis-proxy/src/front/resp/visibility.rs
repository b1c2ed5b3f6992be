//! What the proxy says of itself to Redis clients.
