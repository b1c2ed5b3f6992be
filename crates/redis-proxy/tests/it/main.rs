//! Black-box tests of the built program over its ports, against a real redis-server.

mod authority;
mod bare_program;
mod chromium;
mod prometheus_server;
mod python_package;
mod reloaded;
mod support;
mod tls_tunnel;

// The HTTP contract.
mod access;
mod answers;
mod beginnings;
mod bodies;
mod browser;
mod conditional;
mod framing;
mod hot_lists;
mod http_limits;
mod keys;
mod purge;
mod slow_clients;
mod verbs;

// The RESP contract.
mod resp_admission;
mod resp_basics;
mod resp_cached;
mod resp_cached_differential;
mod resp_cached_valkey;
mod resp_clients;
mod resp_cluster;
mod resp_cluster_differential;
mod resp_cluster_pubsub;
mod resp_cluster_scripts;
mod resp_cluster_transactions;
mod resp_coherence;
mod resp_differential;
mod resp_emulated;
mod resp_faults;
mod resp_identity;
mod resp_lanes;
mod resp_limits;
mod resp_partitions;
mod resp_pinned;
mod resp_plain_gets;
mod resp_queue;
mod resp_readers;
mod resp_rights;
mod resp_spread;
mod resp_tcl;
mod resp_tools;
mod resp_tracking;
mod resp_tunnels;
mod resp_unfit;
mod resp_upstreams;
mod resp_visibility;
mod resp_writes;

// The cache behind it.
mod budget;
mod canary;
mod coalescing;
mod coherence_modes;
mod expiry;
mod link_replies;
mod lru;
mod seen;

// Redis, and what can happen to it.
mod credentials;
mod nodes;
mod reauth;
mod redis_connection;
mod redis_faults;
mod redis_replies;
mod reload;
mod reload_limits;

// The program.
mod admin;
mod bench;
mod cli;
mod clients;
mod cluster;
mod deaths;
mod debian_package;
mod insight;
mod kubernetes;
mod life_cycle;
mod metrics;
mod monitoring;
mod output;
mod own_redis;
mod page;
mod secrets;
mod security;
mod settings;
mod shells;
mod signals;
mod slow_log;
mod stacks;
mod systemd;
mod tls;
mod tls_crowds;
mod tls_rotation;
mod tls_tools;
mod top;
mod unix_sockets;
mod vanished;

// The documents.
mod documents;
mod layers;
mod names;
