//! The RESP clients of the process, for CLIENT LIST, INFO, KILL and UNBLOCK: one entry a client, written by its worker and
//! read from any.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::task::{Context, Waker};

use bytes::Bytes;
use resp::Protocol;
use sync::Mutex;

use crate::clock::now_ns;

/// All RESP clients.
#[derive(Default)]
pub(crate) struct Registry {
    next_id: AtomicU64,
    // Taken when a client comes or goes and by CLIENT commands; never across an await.
    clients: Mutex<BTreeMap<u64, Arc<Entry>>>,
}

/// One client, as the others see it.
pub(crate) struct Entry {
    pub(super) id: u64,
    pub(super) address: String,
    pub(super) local_address: String,
    created_ns: u64,
    /// When it was last read from.
    last_ns: AtomicU64,
    /// The id that Redis knows its pin by; 0 without a pin.
    upstream_id: AtomicI64,
    killed: AtomicBool,
    waker: Mutex<Option<Waker>>,
    pub(super) details: Mutex<Details>,
}

/// What a client has said of itself, and what state it is in.
#[derive(Clone)]
pub(super) struct Details {
    pub(super) name: Bytes,
    pub(super) user: Bytes,
    pub(super) db: u32,
    pub(super) protocol: Protocol,
    pub(super) command: String,
    pub(super) multi: bool,
    pub(super) blocked: bool,
    pub(super) tunnel: bool,
    pub(super) subscriptions: [i64; 3],
}

impl Registry {
    /// Enters a client.
    pub(super) fn enter(&self, address: SocketAddr, local_address: SocketAddr, user: Bytes) -> Arc<Entry> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed) + 1;
        let now_ns = now_ns();
        let entry = Arc::new(Entry {
            id,
            address: address.to_string(),
            local_address: local_address.to_string(),
            created_ns: now_ns,
            last_ns: AtomicU64::new(now_ns),
            upstream_id: AtomicI64::new(0),
            killed: AtomicBool::new(false),
            waker: Mutex::new(None),
            details: Mutex::new(Details {
                name: Bytes::new(),
                user,
                db: 0,
                protocol: Protocol::Resp2,
                command: String::new(),
                multi: false,
                blocked: false,
                tunnel: false,
                subscriptions: [0; 3],
            }),
        });
        self.clients.lock().insert(id, entry.clone());
        entry
    }

    pub(super) fn leave(&self, entry: &Entry) {
        self.clients.lock().remove(&entry.id);
    }

    /// Everybody, in the order of their coming.
    pub(super) fn all(&self) -> Vec<Arc<Entry>> {
        self.clients.lock().values().cloned().collect()
    }

    pub(super) fn get(&self, id: u64) -> Option<Arc<Entry>> {
        self.clients.lock().get(&id).cloned()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.clients.lock().len()
    }
}

impl Entry {
    pub(super) fn touch(&self, now_ns: u64) {
        self.last_ns.store(now_ns, Ordering::Relaxed);
    }

    pub(super) fn set_upstream_id(&self, id: Option<i64>) {
        self.upstream_id.store(id.unwrap_or(0), Ordering::Relaxed);
    }

    /// The id that Redis knows its pin by.
    pub(super) fn upstream_id(&self) -> Option<i64> {
        Some(self.upstream_id.load(Ordering::Relaxed)).filter(|id| *id != 0)
    }

    /// The task of `cx` is the one that a kill wakes.
    pub(super) fn register(&self, cx: &Context<'_>) {
        *self.waker.lock() = Some(cx.waker().clone());
    }

    /// Makes the client's own worker close it.
    pub(super) fn kill(&self) {
        // Pairs with the load in `is_killed`: the waker's lock orders them, a kill seen late is seen at the wake.
        self.killed.store(true, Ordering::Relaxed);
        if let Some(waker) = self.waker.lock().take() {
            waker.wake();
        }
    }

    pub(super) fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Relaxed)
    }

    /// Its kind, as `CLIENT LIST TYPE` has it.
    pub(super) fn kind(&self) -> &'static str {
        if self.details.lock().subscriptions == [0; 3] { "normal" } else { "pubsub" }
    }

    /// Its line in CLIENT LIST, in the form of Redis 7.0 (networking.c, `catClientInfoString`). Figures that the proxy does
    /// not have are 0.
    pub(super) fn line(&self) -> Vec<u8> {
        let now_ns = now_ns();
        let seconds = |since: u64| now_ns.saturating_sub(since) / 1_000_000_000;
        let details = self.details.lock().clone();
        let mut flags = String::new();
        for (flag, set) in [
            ('x', details.multi),
            ('b', details.blocked),
            ('O', details.tunnel),
            ('P', details.subscriptions != [0; 3]),
        ] {
            if set {
                flags.push(flag);
            }
        }
        if flags.is_empty() {
            flags.push('N');
        }
        let mut line =
            format!("id={} addr={} laddr={} fd=0 name=", self.id, self.address, self.local_address)
                .into_bytes();
        line.extend_from_slice(&details.name);
        let mut rest = String::new();
        let [channels, patterns, shards] = details.subscriptions;
        let _ = write!(
            rest,
            " age={} idle={} flags={flags} db={} sub={channels} psub={patterns} ssub={shards} multi={} qbuf=0 \
             qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd={} user=",
            seconds(self.created_ns),
            seconds(self.last_ns.load(Ordering::Relaxed)),
            details.db,
            if details.multi { 0 } else { -1 },
            if details.command.is_empty() { "NULL" } else { &details.command },
        );
        line.extend_from_slice(rest.as_bytes());
        line.extend_from_slice(&details.user);
        let version = if details.protocol == Protocol::Resp3 { 3 } else { 2 };
        line.extend_from_slice(format!(" redir=-1 resp={version}\n").as_bytes());
        line
    }
}
