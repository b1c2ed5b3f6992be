//! The order that all rests on, by itself, because the whole world seldom comes to it: a slot is lost, and a proof comes behind that.

use std::sync::Arc;

use cache::Lease;
use sync::shuttle::rand::{Rng, thread_rng};
use sync::shuttle::thread;

use crate::readthrough::link::schedules::explore;
use crate::readthrough::link::schedules::world::joined;

#[test]
fn a_lease_proves_nothing_by_what_came_after_its_end() {
    explore(&[], || {
        let [link, watch] = [1, 1].map(|sync_ns| {
            let lease = Lease::default();
            lease.renew(sync_ns);
            Arc::new(lease)
        });
        let slot = Arc::new(Lease::under([watch.clone()]));
        let held = Lease::under([link.clone(), slot.clone()]);
        let on_watch = thread::spawn(move || {
            // Whoever looks may be anywhere by then.
            (0..thread_rng().gen_range(0..100)).for_each(|_| thread::yield_now());
            slot.end();
            watch.renew(2);
        });
        let on_link = thread::spawn(move || link.renew(2));
        let proven_ns = held.sync_ns();
        assert!(proven_ns < 2, "C1: proven at {proven_ns} by a slot that had gone before");
        joined(on_watch);
        joined(on_link);
        assert_eq!(held.sync_ns(), 0);
    });
}
