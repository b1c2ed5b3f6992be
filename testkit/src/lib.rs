//! Real parts for black-box tests: a redis-server, the built program, raw clients, and faults.
//!
//! Everything here is blocking code on threads, so that a test reads from top to bottom. Ports are chosen by the
//! system, every wait is bounded, and what a test starts ends with it. A part that cannot do what it was asked
//! panics with a text that says why: that is how a test fails.
//!
//! ```no_run
//! # use testkit::{HttpClient, Proxy, RedisServer};
//! let redis = RedisServer::start();
//! redis.client().set("name", "value");
//! let proxy = Proxy::builder("target/debug/redis-proxy").redis(&redis).set("CAPACITY", "10").start();
//! let mut client = HttpClient::connect(proxy.address());
//! assert_eq!(client.get("/name").body, b"value");
//! assert_eq!(redis.command_calls("get"), 1);
//! ```
#![allow(clippy::unwrap_used, reason = "a broken part ends the test, and that is what a panic does")]

mod child;
mod clock;
mod cluster;
pub mod differential;
mod fault_proxy;
pub mod history;
mod http_client;
mod http_response;
mod log;
mod metrics;
mod proxy;
mod random;
mod raw_client;
mod real_clients;
mod redis_client;
mod redis_server;
mod relay;
mod reply;
mod run;
mod scripted_redis;
mod sentinels;
mod server;
mod stack;
mod tcl_suite;
mod wait;
mod workload;

pub use child::{WITH_SIGHUP, find_program};
pub use clock::now_ns;
pub use cluster::{Cluster, ClusterBuilder, ClusterClient, FailoverKind, SlotMigration};
pub use fault_proxy::FaultProxy;
pub use http_client::{End, HttpClient, get_key, key_target};
pub use http_response::Response;
pub use log::LogLine;
pub use metrics::{Metrics, metrics};
pub use proxy::{Proxy, ProxyBuilder};
pub use random::{Random, seed};
pub use raw_client::RawClient;
pub use real_clients::{InstalledClient, RealClient};
pub use redis_client::RedisClient;
pub use redis_server::{RedisServer, RedisServerBuilder};
pub use reply::Reply;
pub use run::{RunOutput, run_to_end};
pub use rustix::process::Signal;
pub use scripted_redis::{Action, ScriptedRedis, ScriptedRedisBuilder};
pub use sentinels::{Sentinels, SentinelsBuilder};
pub use server::{Server, not_run};
pub use stack::Stack;
pub use tcl_suite::{TclRun, TclSuite};
pub use wait::wait_until;
pub use workload::{Primary, Run, StopOnDrop, Workload};
