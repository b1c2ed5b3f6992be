//! The nodes of a schedule: one is the primary, and until it is told another is taken for it.
//!
//! A new primary has all that was acknowledged by the old one, which knows nothing of that: it goes on to answer, and to take
//! heartbeats for its own.

use std::sync::Arc;

use sync::Mutex;
use sync::shuttle::rand::{Rng, thread_rng};
use upstream::{Address, RedisNode};

use super::judge::ReadHow;
use super::mood::WorldMood;
use super::redis::Redis;
use crate::clock::now_ns;

/// All of them, in the order in which they were the primary.
pub(super) struct Servers(Mutex<Known>);

#[derive(Default)]
struct Known {
    servers: Vec<Arc<Mutex<Redis>>>,
    /// Of them, the one that whoever asks the node is led to, once he can know it.
    noticed: usize,
    /// Whether another node is known to say that it is the primary.
    is_disputed: bool,
}

/// What was known of the nodes when a read began.
pub(super) struct Sight {
    moves: usize,
    is_behind: bool,
    is_disputed: bool,
}

impl Servers {
    pub(super) fn new() -> Servers {
        Servers(Mutex::new(Known { servers: vec![Arc::default()], ..Known::default() }))
    }

    /// Where the server of this number is.
    pub(super) fn address(number: usize) -> Address {
        Address::Unix(number.to_string().into())
    }

    /// The server at `address`.
    pub(super) fn at(&self, address: &Address) -> Arc<Mutex<Redis>> {
        let Address::Unix(number) = address else { panic!("no address of ours: {address}") };
        let number: usize = number.to_str().and_then(|number| number.parse().ok()).expect("a number");
        self.0.lock().servers[number].clone()
    }

    /// Does something at the primary, which stays it meanwhile.
    pub(super) fn primary<R>(&self, act: impl FnOnce(&mut Redis) -> R) -> R {
        self.primary_and(|redis, _| act(redis))
    }

    /// The same for somebody who is to know whether the primary is taken for it.
    pub(super) fn primary_and<R>(&self, act: impl FnOnce(&mut Redis, bool) -> R) -> R {
        let known = self.0.lock();
        let is_noticed = known.noticed + 1 == known.servers.len();
        let redis = known.servers.last().expect("there is always one");
        act(&mut redis.lock(), is_noticed)
    }

    /// The primary moves, and `node` is told: at once, or after a while in which it is disputed, or not. Or it is disputed for
    /// nothing. Until it is known, a `beat` goes to the old one.
    pub(super) fn disturb(&self, node: &RedisNode, mood: WorldMood, beat: impl Fn()) {
        let (moves, is_doubted) = [(true, false), (true, true), (false, true)][thread_rng().gen_range(0..3)];
        if moves {
            self.promote();
            mood.idle();
            mood.pass();
            beat();
            mood.idle();
        }
        if is_doubted {
            node.dispute("another".into(), now_ns);
            self.0.lock().is_disputed = true;
            mood.idle();
            mood.pass();
        }
        if moves {
            node.move_to(Servers::address(self.0.lock().servers.len() - 1), now_ns);
            let mut known = self.0.lock();
            known.noticed = known.servers.len() - 1;
            drop(known);
            mood.idle();
        }
        if is_doubted {
            self.0.lock().is_disputed = false;
            node.settle(now_ns);
        }
    }

    fn promote(&self) {
        let mut known = self.0.lock();
        let next = known.servers.last().expect("there is always one").lock().promoted();
        known.servers.push(Arc::new(Mutex::new(next)));
    }

    /// A read begins.
    pub(super) fn look(&self) -> Sight {
        let known = self.0.lock();
        let moves = known.servers.len();
        Sight { moves, is_behind: known.noticed + 1 != moves, is_disputed: known.is_disputed }
    }

    /// Whether a read that began so, and was answered so, may be of the old primary: what nobody has noticed is not for the
    /// judge. From the notice on it is, and while two say that they are the primary memory answers nothing.
    pub(super) fn may_be_of_old(&self, seen: &Sight, how: ReadHow) -> bool {
        let from_memory = matches!(how, ReadHow::Hit | ReadHow::Proven);
        self.look().moves != seen.moves || seen.is_behind && !(seen.is_disputed && from_memory)
    }

    /// The program ends.
    pub(super) fn hang_up(&self) {
        self.0.lock().servers.iter().for_each(|redis| redis.lock().hang_up());
    }
}
