//! Fronts turn bytes into keys and values into bytes. They know `readthrough`, never the cache or Redis.

pub mod http;
