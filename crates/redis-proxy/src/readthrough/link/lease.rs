//! The lease of the connection that a link has, or will have next: replaced when that is lost.

use std::sync::Arc;

use cache::{Ends, Lease};
use sync::Mutex;

/// A short lock, on the miss path. Changed by the link's own thread alone.
#[derive(Default)]
pub(super) struct LinkLease {
    now: Mutex<Arc<Lease>>,
    /// Where others stand under it.
    ends: Option<Ends>,
}

impl LinkLease {
    /// One that others stand under.
    pub(super) fn counted(ends: &Ends) -> LinkLease {
        LinkLease { now: Mutex::new(Arc::new(Lease::counted(ends))), ends: Some(ends.clone()) }
    }

    fn next(&self) -> Arc<Lease> {
        Arc::new(self.ends.as_ref().map_or_else(Lease::default, Lease::counted))
    }

    pub(super) fn now(&self) -> Arc<Lease> {
        self.now.lock().clone()
    }

    /// Whether it is `lease`, or what that stands under, all of which can still be renewed.
    pub(super) fn is_of_now(&self, lease: &Arc<Lease>) -> bool {
        let now = self.now.lock();
        Arc::ptr_eq(lease, &now) || lease.is_under(&now) && lease.is_live()
    }

    /// A reply to a command sent at `sent_ns` has been processed.
    pub(super) fn renew(&self, sent_ns: u64) {
        self.now.lock().renew(sent_ns);
    }

    /// The connection is lost: nothing will tell of changes to what it brought.
    pub(super) fn end(&self) {
        let mut lease = self.now.lock();
        lease.end();
        *lease = self.next();
    }

    /// The same where what it brought is not to be served any more.
    pub(super) fn revoke(&self) {
        let mut lease = self.now.lock();
        lease.revoke();
        *lease = self.next();
    }

    /// What was brought so far is the past. What comes from now on is proven as far as what came so far.
    pub(super) fn begin_anew(&self) {
        let mut lease = self.now.lock();
        let before = std::mem::replace(&mut *lease, self.next());
        lease.renew(before.sync_ns());
        before.revoke();
    }
}
