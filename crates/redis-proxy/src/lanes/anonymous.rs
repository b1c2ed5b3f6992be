//! Whether Redis lets in a client that has not logged in.
//!
//! A connection that was let in tells nothing of the next one: a password may have been set between the two. So a client
//! without a login is let in on a *proof*: a fresh connection without credentials to which Redis has answered, opened shortly
//! before the client came, or later. One proof serves the whole process, and at most one is being made at a time.
//!
//! All proofs are void once Redis has answered a command that may have changed whom it lets in, also the one being made.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use resp::Frame;
use sync::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};
use upstream::{Endpoint, RedisNode, ask_as_nobody};

use super::Lanes;
use super::shared::UNREACHABLE;
use crate::clock::{nanos, now_ns};

/// So long a refusal is told to others before Redis is asked again.
const SHARED_NS: u64 = 100_000_000;
/// A connection that Redis closes so soon after ACL DELUSER or LOAD was closed by that.
const USERS_END_NS: u64 = 1_000_000_000;
/// Between attempts to reach Redis.
const PAUSE: Duration = Duration::from_millis(50);
/// Who asks so soon after Redis could not be reached waits for one attempt and no longer.
const KNOWN_AWAY_NS: u64 = 1_000_000_000;

/// Why a client is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeptOut {
    /// It must log in: what Redis says to a command, and to HELLO.
    Login { text: Bytes, hello: Bytes },
    /// Redis cannot be asked.
    Unreachable,
}

impl KeptOut {
    /// In words for a client, the code first.
    pub(crate) fn text(&self) -> Bytes {
        match self {
            KeptOut::Login { text, .. } => text.clone(),
            KeptOut::Unreachable => Bytes::from_static(UNREACHABLE),
        }
    }

    /// What one that says HELLO is told.
    pub(crate) fn hello_text(&self) -> Bytes {
        match self {
            KeptOut::Login { hello, .. } => hello.clone(),
            KeptOut::Unreachable => self.text(),
        }
    }
}

/// Whether a client is let in.
pub(crate) enum Admission {
    /// It is, or is not.
    Decided(Result<(), KeptOut>),
    /// Redis is being asked: to be looked at again once this is ready.
    Asked(OwnedNotified),
}

/// What the process knows of whom Redis lets in without a login.
pub(crate) struct Anonymous {
    valid_ns: AtomicU64,
    node: RedisNode,
    // Taken when a client comes, when a proof is made, and when all are void; never across an await.
    known: Mutex<Known>,
    asked: Arc<Notify>,
}

#[derive(Default)]
struct Known {
    /// Of which generation of the node all this is.
    generation: u64,
    /// When the connection was opened that was let in last.
    proven_ns: Option<u64>,
    /// What was found last where nobody was let in, and when.
    kept_out: Option<(KeptOut, u64)>,
    /// How often all proofs were void.
    voided: u64,
    is_asking: bool,
    /// When a command was last answered that ends connections of users, and how often all proofs had been void then.
    users_ended: Option<(u64, u64)>,
}

impl Known {
    fn void(&mut self) {
        self.voided += 1;
        (self.proven_ns, self.kept_out) = (None, None);
    }
}

impl Anonymous {
    /// Nothing is known of `node`. A proof counts for clients that came at most `valid` after its connection was opened.
    pub(crate) fn new(valid: Duration, node: RedisNode) -> Self {
        let known = Known { generation: node.generation(), ..Known::default() };
        Anonymous {
            valid_ns: AtomicU64::new(nanos(valid)),
            node,
            known: Mutex::new(known),
            asked: Arc::default(),
        }
    }

    /// From now on a proof counts for those who came at most so long after its connection was opened.
    pub(crate) fn counts_for(&self, valid: Duration) {
        self.valid_ns.store(nanos(valid), Ordering::Relaxed);
    }

    /// What is known of where Redis is now.
    fn known(&self) -> MutexGuard<'_, Known> {
        let mut known = self.known.lock();
        let generation = self.node.generation();
        if known.generation != generation {
            known.generation = generation;
            known.void();
        }
        known
    }

    /// Who may come in without a login may have changed: nothing that is known counts any longer.
    pub(crate) fn void(&self) {
        self.known().void();
    }

    /// Whether a client that came at `came_ns` is let in. With a number, whoever called is to ask Redis, and to
    /// [`learn`](Self::learn) with it.
    fn look_up(&self, came_ns: u64, now_ns: u64) -> (Admission, Option<u64>) {
        let valid_ns = self.valid_ns.load(Ordering::Relaxed);
        let mut known = self.known();
        if known.proven_ns.is_some_and(|proven_ns| proven_ns.saturating_add(valid_ns) >= came_ns) {
            return (Admission::Decided(Ok(())), None);
        }
        if let Some((kept_out, since_ns)) = &known.kept_out
            && now_ns.saturating_sub(*since_ns) < SHARED_NS
        {
            return (Admission::Decided(Err(kept_out.clone())), None);
        }
        let asks = !std::mem::replace(&mut known.is_asking, true);
        // Made under the lock: the end of the asking, which takes it too, is not missed.
        (Admission::Asked(self.asked.clone().notified_owned()), asks.then_some(known.voided))
    }

    /// ACL DELUSER or LOAD was answered, which end connections of users.
    pub(crate) fn note_ended_users(&self) {
        let mut known = self.known();
        known.users_ended = Some((now_ns(), known.voided));
    }

    /// Whether that was a moment ago, and after so much had been void.
    pub(super) fn has_ended_users(&self, voided: u64) -> bool {
        let is_it = |(at_ns, by_then)| voided < by_then && now_ns().saturating_sub(at_ns) < USERS_END_NS;
        self.known().users_ended.is_some_and(is_it)
    }

    /// How often all proofs were void.
    pub(super) fn voided(&self) -> u64 {
        self.known().voided
    }

    /// Whether Redis could not be reached a moment ago.
    fn is_away(&self) -> bool {
        let known = self.known();
        matches!(&known.kept_out, Some((KeptOut::Unreachable, since_ns))
            if now_ns().saturating_sub(*since_ns) < KNOWN_AWAY_NS)
    }

    /// Redis was asked on a connection opened at `opened_ns`, when all proofs had been void `voided` times.
    fn learn(&self, voided: u64, opened_ns: u64, outcome: Result<(), KeptOut>) {
        let mut known = self.known();
        if known.voided != voided {
            return;
        }
        match outcome {
            Ok(()) => (known.proven_ns, known.kept_out) = (Some(opened_ns), None),
            Err(kept_out) => (known.proven_ns, known.kept_out) = (None, Some((kept_out, now_ns()))),
        }
    }
}

/// Being asked; whoever waits is woken when it ends, by the end of its worker too.
struct Asking(Rc<Lanes>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.anonymous.known().is_asking = false;
        self.0.anonymous.asked.notify_waiters();
    }
}

impl Lanes {
    /// Whether a client that came at `came_ns` without a login is let in.
    pub(crate) fn admission(self: &Rc<Self>, came_ns: u64) -> Admission {
        let (admission, voided) = self.anonymous.look_up(came_ns, now_ns());
        if let Some(voided) = voided {
            let asking = Asking(self.clone());
            spawn_local(async move {
                let lanes = &asking.0;
                let patience = match lanes.anonymous.is_away() {
                    true => Duration::ZERO,
                    false => lanes.endpoint.limits.connect_timeout(),
                };
                let (opened_ns, outcome) = ask(&lanes.endpoint, Instant::now() + patience).await;
                lanes.anonymous.learn(voided, opened_ns, outcome);
            });
        }
        admission
    }

    /// Redis has answered ACL DELUSER or LOAD.
    pub(crate) fn note_ended_users(&self) {
        self.anonymous.note_ended_users();
    }

    /// Redis has answered a command that may have changed whom it lets in.
    pub(crate) fn void_admissions(&self) {
        self.anonymous.void();
    }
}

/// Asks Redis, again and again while it cannot be reached before `deadline`. When the last connection was opened.
async fn ask(endpoint: &Endpoint, deadline: Instant) -> (u64, Result<(), KeptOut>) {
    loop {
        let opened_ns = now_ns();
        // The first is answered, or not, for what it is, and by almost everybody; Redis has words of its own for the other.
        let answers = ask_as_nobody(endpoint, &[&[b"PING"], &[b"HELLO", b"2"]]).await;
        match judge(answers.as_deref().unwrap_or_default()) {
            Err(KeptOut::Unreachable) if Instant::now() + PAUSE < deadline => sleep(PAUSE).await,
            outcome => return (opened_ns, outcome),
        }
    }
}

/// What the answers to PING and HELLO say. One alone is what Redis says to a client that it does not take.
fn judge(answers: &[Frame]) -> Result<(), KeptOut> {
    let error = |at: usize| match answers.get(at) {
        Some(Frame::Error(text)) => Some(text),
        _ => None,
    };
    let asks_for_login = |text: &&Bytes| text.starts_with(b"NOAUTH") || text.starts_with(b"DENIED");
    if let Some(text) = error(0).filter(asks_for_login).or(error(1).filter(asks_for_login)) {
        let hello = error(1).filter(asks_for_login).unwrap_or(text);
        // Redis refuses the one and the other in different words.
        let text = match error(0).filter(asks_for_login) {
            Some(text) => text.clone(),
            None => Bytes::from_static(b"NOAUTH Authentication required."),
        };
        return Err(KeptOut::Login { text, hello: hello.clone() });
    }
    if answers.len() < 2 {
        return Err(KeptOut::Unreachable);
    }
    // Of a command that it does not have Redis says so to everybody (server.c, `processCommand`).
    let is_unknown = |at: usize| error(at).is_some_and(|text| text.starts_with(b"ERR unknown command"));
    if is_unknown(0) && is_unknown(1) {
        let text =
            Bytes::from_static(b"NOAUTH proxy: redis has neither PING nor HELLO to tell who is let in");
        return Err(KeptOut::Login { text: text.clone(), hello: text });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn anonymous() -> Anonymous {
        anonymous_at(RedisNode::unknown("a test"))
    }

    fn anonymous_at(node: RedisNode) -> Anonymous {
        Anonymous::new(Duration::from_secs(1), node)
    }

    /// What a client hears that came then and asks now; nothing while Redis is asked.
    fn hears(anonymous: &Anonymous, came_ns: u64) -> (Option<Result<(), KeptOut>>, Option<u64>) {
        let (admission, voided) = anonymous.look_up(came_ns, now_ns());
        let decided = match admission {
            Admission::Decided(outcome) => Some(outcome),
            Admission::Asked(_) => None,
        };
        (decided, voided)
    }

    fn noauth() -> KeptOut {
        let text = Bytes::from_static(b"NOAUTH Authentication required.");
        KeptOut::Login { text: text.clone(), hello: text }
    }

    #[test]
    fn a_proof_counts_for_those_who_came_up_to_a_second_after_it() {
        let anonymous = anonymous();
        let (decided, voided) = hears(&anonymous, 10 * SECOND);
        assert_eq!(decided, None);
        anonymous.learn(voided.expect("who asks first asks Redis"), 10 * SECOND, Ok(()));
        for came_ns in [0, 10 * SECOND, 11 * SECOND] {
            assert_eq!(hears(&anonymous, came_ns).0, Some(Ok(())), "{came_ns}");
        }
        assert_eq!(hears(&anonymous, 11 * SECOND + 1).0, None);
    }

    #[test]
    fn what_one_redis_said_says_nothing_of_another_in_its_place() {
        let node = RedisNode::unknown("a test");
        let anonymous = anonymous_at(node.clone());
        let (_, voided) = hears(&anonymous, 0);
        anonymous.learn(voided.expect("asked"), SECOND, Ok(()));
        assert_eq!(hears(&anonymous, 0).0, Some(Ok(())));
        let elsewhere = upstream::Address::Tcp { host: "h".into(), port: 1 };
        node.move_to(elsewhere, || 0);
        assert_eq!(hears(&anonymous, 0).0, None);
    }

    #[test]
    fn one_asks_and_the_others_wait() {
        let anonymous = anonymous();
        assert_eq!(hears(&anonymous, 0), (None, Some(0)));
        assert_eq!(hears(&anonymous, 0), (None, None));
    }

    #[test]
    fn a_proof_that_was_void_before_it_was_made_counts_for_nobody() {
        let anonymous = anonymous();
        let (_, voided) = hears(&anonymous, 0);
        anonymous.void();
        anonymous.learn(voided.expect("asked"), SECOND, Ok(()));
        assert_eq!(hears(&anonymous, 0).0, None);
    }

    #[test]
    fn void_is_void_for_what_let_in_and_for_what_kept_out() {
        let anonymous = anonymous();
        anonymous.learn(0, SECOND, Ok(()));
        assert_eq!(hears(&anonymous, 0).0, Some(Ok(())));
        anonymous.void();
        assert_eq!(hears(&anonymous, 0).0, None);
        anonymous.learn(1, SECOND, Err(noauth()));
        assert_eq!(hears(&anonymous, 0).0, Some(Err(noauth())));
        anonymous.void();
        assert_eq!(hears(&anonymous, 0).0, None);
    }

    #[test]
    fn only_an_answer_to_what_was_asked_lets_in() {
        let error = |text: &'static [u8]| Frame::Error(Bytes::from_static(text));
        let pong = || Frame::Simple(Bytes::from_static(b"PONG"));
        let unknown = || error(b"ERR unknown command `PING`, with args beginning with: ");
        assert_eq!(judge(&[pong(), Frame::Map(Vec::new())]), Ok(()));
        assert_eq!(judge(&[error(b"NOPERM no"), error(b"NOPROTO no")]), Ok(()));
        assert_eq!(judge(&[error(b"LOADING wait"), Frame::Map(Vec::new())]), Ok(()));
        assert_eq!(judge(&[unknown(), Frame::Map(Vec::new())]), Ok(()));
        assert_eq!(judge(&[pong(), unknown()]), Ok(()));
        assert_eq!(judge(&[]), Err(KeptOut::Unreachable));
        assert_eq!(judge(&[error(b"ERR max number of clients reached")]), Err(KeptOut::Unreachable));
        let login = |answers: &[Frame]| matches!(judge(answers), Err(KeptOut::Login { .. }));
        assert!(login(&[error(b"NOAUTH a"), error(b"NOAUTH b")]));
        assert!(login(&[error(b"DENIED no")]));
        assert!(login(&[unknown(), error(b"NOAUTH b")]));
        assert!(login(&[pong(), error(b"NOAUTH b")]));
        assert!(login(&[unknown(), unknown()]));
    }
}
