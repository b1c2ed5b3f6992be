//! Random commands, whose replies come when they like, beside a naive list of all that was ever asked.

use testkit::{Random, seed};

use super::*;

const WAYS: [Via; 3] = [Via::Lane(Pace::Quick), Via::Lane(Pace::Slow), Via::Pin];

/// All that was asked, and what has come of it. Whatever is about order is said here once more, plainly.
#[derive(Default)]
struct Naive(Vec<Asked>);

struct Asked {
    /// Where it went; nowhere if it is answered here.
    to: Option<Via>,
    reply: Vec<u8>,
    came: usize,
    done: bool,
}

impl Naive {
    fn ask(&mut self, to: Option<Via>, random: &mut Random) -> Vec<u8> {
        let number = self.0.len();
        let reply = format!("{number}:{}\r\n", "x".repeat(random.below(4))).into_bytes();
        let came = if to.is_none() { reply.len() } else { 0 };
        self.0.push(Asked { to, reply: reply.clone(), came, done: to.is_none() });
        reply
    }

    fn due(&self) -> impl Iterator<Item = (usize, Via)> {
        let is_due = |asked: &Asked| asked.to.filter(|_| !asked.done);
        self.0.iter().enumerate().filter_map(move |(at, asked)| Some((at, is_due(asked)?)))
    }

    fn may_go(&self, via: Via) -> bool {
        self.due().all(|(_, other)| other == via)
    }

    /// What the client has by now if only the head leaves.
    fn left(&self) -> Vec<u8> {
        let heads = self.0.iter().scan(true, |goes_on, asked| {
            let part = goes_on.then(|| &asked.reply[..asked.came]);
            *goes_on &= asked.done;
            part
        });
        heads.flatten().copied().collect()
    }
}

struct World {
    replies: Replies<usize>,
    naive: Naive,
    out: Vec<u8>,
    random: Random,
}

impl World {
    fn command(&mut self) {
        let via = WAYS[self.random.below(3)];
        assert_eq!(self.replies.may_go(via), self.naive.may_go(via), "{via:?}");
        if self.replies.may_go(via) {
            self.replies.sent(via);
            self.naive.ask(Some(via), &mut self.random);
        }
    }

    fn read(&mut self) {
        assert_eq!(self.replies.may_go(Via::Cache), self.naive.may_go(Via::Cache));
        if self.replies.may_go(Via::Cache) {
            self.replies.read(self.naive.0.len());
            self.naive.ask(Some(Via::Cache), &mut self.random);
        }
    }

    fn local(&mut self) {
        let reply = self.naive.ask(None, &mut self.random);
        self.replies.made(&mut self.out).extend_from_slice(&reply);
    }

    /// Redis says something: the ends of some replies that are due one after the other, perhaps a part of the next.
    fn redis_speaks(&mut self) {
        let Some((first, via)) = self.naive.due().next() else { return };
        if via == Via::Cache {
            return;
        }
        let follows = |asked: &&Asked| asked.to.is_some_and(|via| via != Via::Cache);
        let most = self.naive.0[first..].iter().take_while(follows).count();
        let whole = self.random.below(most + 1);
        let mut bytes = Vec::new();
        for asked in &mut self.naive.0[first..first + whole] {
            bytes.extend_from_slice(&asked.reply[asked.came..]);
            (asked.came, asked.done) = (asked.reply.len(), true);
        }
        if whole < most && self.random.percent(40) {
            let asked = &mut self.naive.0[first + whole];
            let part = self.random.below(asked.reply.len() - asked.came);
            bytes.extend_from_slice(&asked.reply[asked.came..asked.came + part]);
            asked.came += part;
        }
        self.replies.came(&mut bytes, whole, &mut self.out);
    }

    /// What is owed by a lane or a pin will never come.
    fn way_is_lost(&mut self) {
        let due: Vec<_> = self.naive.due().collect();
        if due.iter().all(|(_, via)| *via != Via::Cache) {
            due.iter().for_each(|(at, _)| self.naive.0[*at].done = true);
            let via = due.first().map_or(Via::Pin, |(_, via)| *via);
            self.replies.owes(via, 0);
        }
    }

    fn read_ends(&mut self) {
        if let Some(at) = self.replies.read_at_head().copied() {
            assert_eq!(self.replies.take_read(), Some(at));
            if self.random.percent(30) {
                return self.replies.put_back(at);
            }
            let asked = &mut self.naive.0[at];
            (asked.came, asked.done) = (asked.reply.len(), true);
            self.out.extend_from_slice(&asked.reply);
        }
    }

    fn check(&mut self) {
        let came: usize = self.naive.0.iter().map(|asked| asked.came).sum();
        let (made, sent) = self.replies.held_bytes();
        assert_eq!(self.out.len() + made + sent, came, "what is held is counted");
        let left = self.naive.left();
        assert!(
            left.starts_with(&self.out),
            "{:?} left before its turn",
            self.out.escape_ascii().to_string()
        );
        if self.random.percent(60) {
            self.replies.flush(&mut self.out);
            assert_eq!(self.out, left);
            let gone = self.naive.0.iter().take_while(|asked| asked.done).count();
            assert_eq!(self.replies.len(), self.naive.0.len() - gone);
        }
    }
}

#[test]
fn replies_leave_in_the_order_of_the_commands() {
    let seed = seed();
    eprintln!("SEED={seed}");
    for round in 0..300 {
        let mut world = World {
            replies: Replies::default(),
            naive: Naive::default(),
            out: Vec::new(),
            random: Random::new(seed.wrapping_add(round)),
        };
        for _ in 0..200 {
            match world.random.below(100) {
                0..40 => world.command(),
                40..50 => world.read(),
                50..55 => world.local(),
                55..90 => world.redis_speaks(),
                90..98 => world.read_ends(),
                _ => world.way_is_lost(),
            }
            world.check();
        }
    }
}

#[test]
fn what_passes_through_holds_no_memory_of_its_own() {
    let (mut replies, mut out) = (Replies::<usize>::default(), Vec::new());
    for _ in 0..100 {
        replies.sent(Via::Lane(Pace::Quick));
    }
    replies.came(&mut b"+OK\r\n".repeat(100), 100, &mut out);
    assert_eq!((out.len(), replies.is_empty()), (500, true));
    assert!(replies.behind.is_none());
    assert_eq!(size_of::<Replies<usize>>(), 24);
}
