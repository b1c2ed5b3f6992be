//! redis-proxy: a read-through LRU cache in front of Redis, over HTTP.

pub mod config;
pub mod with_redis;
