//! Black-box tests of the built program over its ports, against a real redis-server.

mod authority;
mod bare_program;
mod support;

// The HTTP contract.
mod answers;
mod beginnings;
mod bodies;
mod conditional;
mod framing;
mod http_limits;
mod keys;
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
mod resp_coherence;
mod resp_differential;
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

// The program.
mod admin;
mod bench;
mod clients;
mod cluster;
mod deaths;
mod life_cycle;
mod metrics;
mod output;
mod own_redis;
mod settings;
mod signals;
mod vanished;

// The documents.
mod documents;
mod layers;
mod names;
