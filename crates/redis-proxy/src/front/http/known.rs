//! Ends of heads that were understood before. All that follows the target is the same in every request of most clients, so a
//! request that ends as one before it is not parsed again.
//!
//! **Sound** because a request is known only if it is `GET /`, plain bytes, and then an end of which [`parse`](super::head::parse) has
//! said, behind another target, that nothing in it asks for more than a value. The grammar of a head looks at no target from within the
//! rest and at no rest from within the target; their limits are looked at here. A property test compares the two ways.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use constant_time_eq::constant_time_eq;

use super::HttpSizes;
use super::head::{Body, Head, Method};

/// Kinds of clients that a worker knows at a time.
const MOST_ENDS: usize = 8;
/// The longest end that is remembered, in bytes.
const MOST_END_BYTES: usize = 2048;
/// Requests within which an end that is known must have come again to keep its place.
const LIVELY: u32 = 4096;
/// So many ends running, each another: then the next ones are not looked at.
const STRANGE_ENDS: u8 = 16;
/// What a request of a key begins with.
const BEGINNING: &[u8] = b"GET /";

/// The ends that a worker knows, from the blank behind the target on.
pub(super) struct KnownEnds {
    ends: RefCell<Vec<KnownEnd>>,
    /// Where the last one that came stands.
    last: Cell<usize>,
    /// Known requests, counted.
    met: Cell<u32>,
    most_key_bytes: Cell<usize>,
}

struct KnownEnd {
    bytes: Box<[u8]>,
    /// Of them: the value of `Authorization`; empty where there is none.
    secret: Range<u16>,
    no_cache: bool,
    /// When it last came, as [`KnownEnds::met`] counts.
    met: Cell<u32>,
}

impl KnownEnd {
    #[inline]
    fn begins(&self, rest: &[u8]) -> bool {
        match self.secret.end {
            0 => rest.starts_with(&self.bytes),
            _ => self.begins_with_secret(rest),
        }
    }

    /// The token is compared in constant time: how much of a guess was right does not show, wherever it differs.
    #[inline(never)]
    fn begins_with_secret(&self, rest: &[u8]) -> bool {
        let Some(rest) = rest.get(..self.bytes.len()) else { return false };
        let (start, end) = (usize::from(self.secret.start), usize::from(self.secret.end));
        let part = |bytes: &[u8]| [&bytes[..start], &bytes[end..]] == [&rest[..start], &rest[end..]];
        part(&self.bytes) && constant_time_eq(&self.bytes[start..end], &rest[start..end])
    }
}

/// A key that is written in plain form takes as many bytes as in the target, less the slash.
fn most_key_bytes(sizes: HttpSizes) -> usize {
    sizes.key_bytes.min(sizes.head.target_bytes.saturating_sub(1))
}

/// A request whose head but for the key is known: a GET in HTTP/1.1 without a body and without conditions, on a connection that stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KnownRequest<'a> {
    pub(super) key: &'a [u8],
    pub(super) no_cache: bool,
    /// Bytes of the head.
    pub(super) length: usize,
}

impl KnownEnds {
    pub(super) fn new(sizes: HttpSizes) -> Self {
        KnownEnds {
            ends: RefCell::default(),
            last: Cell::new(0),
            met: Cell::new(0),
            most_key_bytes: Cell::new(most_key_bytes(sizes)),
        }
    }

    /// What permitted them is no more; this is what does from now on.
    pub(super) fn forget(&self, sizes: HttpSizes) {
        self.ends.borrow_mut().clear();
        self.most_key_bytes.set(most_key_bytes(sizes));
    }

    /// The request at the beginning of `bytes`, if it is known and here as a whole.
    #[inline]
    pub(super) fn find<'a>(&self, bytes: &'a [u8]) -> Option<KnownRequest<'a>> {
        let rest = bytes.strip_prefix(BEGINNING)?;
        let key_len = rest.iter().position(|byte| !STANDS_FOR_ITSELF[usize::from(*byte)])?;
        if key_len == 0 || key_len > self.most_key_bytes.get() {
            return None;
        }
        let (key, rest) = rest.split_at(key_len);
        let ends = self.ends.borrow();
        let last = ends.get(self.last.get()).filter(|end| end.begins(rest));
        let end = match last {
            Some(end) => end,
            None => {
                let at = ends.iter().position(|end| end.begins(rest))?;
                self.last.set(at);
                &ends[at]
            }
        };
        self.met.set(self.met.get().wrapping_add(1));
        end.met.set(self.met.get());
        Some(KnownRequest {
            key,
            no_cache: end.no_cache,
            length: BEGINNING.len() + key_len + end.bytes.len(),
        })
    }

    /// Remembers the end of a head that came twice running; one that has not come for long makes room.
    #[cold]
    fn learn(&self, end: &[u8], secret: Range<u16>, no_cache: bool) {
        let mut ends = self.ends.borrow_mut();
        if ends.iter().any(|known| known.bytes.len() == end.len() && known.begins(end)) {
            return;
        }
        let met = self.met.get();
        let known = KnownEnd { bytes: end.into(), secret, no_cache, met: Cell::new(met) };
        if ends.len() < MOST_ENDS {
            return ends.push(known);
        }
        let since = |known: &KnownEnd| met.wrapping_sub(known.met.get());
        if let Some(stalest) = ends.iter_mut().max_by_key(|known| since(known))
            && since(stalest) > LIVELY
        {
            *stalest = known;
        }
    }
}

/// How alike the heads of one connection are: where a field differs each time, looking for what is known is for nothing.
#[derive(Default)]
pub(super) struct Habit {
    /// The hash of the last end that was not known.
    last_hash: u32,
    /// Ends running of which each was another; above [`STRANGE_ENDS`] requests that were not looked at.
    strange: u8,
}

impl Habit {
    /// Whether a known end is to be looked for.
    #[inline]
    pub(super) fn may_be_known(&self) -> bool {
        self.strange < STRANGE_ENDS
    }

    /// A head came that was not known, and what it says.
    pub(super) fn met(
        &mut self,
        known: &KnownEnds,
        bytes: &[u8],
        head: &Head<'_>,
        hash: impl FnOnce(&[u8]) -> u64,
    ) {
        if !self.may_be_known() {
            // It comes round to nothing: then the connection is looked at again.
            self.strange = self.strange.wrapping_add(1);
            return;
        }
        let end = &bytes[BEGINNING.len() - 1 + head.target.len()..];
        if !is_plain(head) || end.len() > MOST_END_BYTES {
            return;
        }
        let hash = hash(end);
        #[expect(clippy::cast_possible_truncation, reason = "of a hash any bits will do")]
        let hash = hash as u32;
        if hash == self.last_hash {
            self.strange = 0;
            known.learn(end, secret_of(end, head), head.no_cache);
        } else {
            (self.last_hash, self.strange) = (hash, self.strange + 1);
        }
    }
}

/// Where in the end of a head, which has [`MOST_END_BYTES`] at most, the value of its `Authorization` stands.
fn secret_of(end: &[u8], head: &Head<'_>) -> Range<u16> {
    let place = head.authorization.and_then(|value| {
        let start = value.as_ptr().addr().checked_sub(end.as_ptr().addr())?;
        Some(u16::try_from(start).ok()?..u16::try_from(start + value.len()).ok()?)
    });
    place.unwrap_or_default()
}

/// Whether a head asks for a value and nothing beside.
fn is_plain(head: &Head<'_>) -> bool {
    head.method == Method::Get
        && !head.http10
        && head.keep_alive
        && head.body == Body::Length(0)
        && !head.expects_continue
        && head.if_match.is_none()
        && head.if_none_match.is_none()
}

/// Bytes that in a target stand for themselves in the key, and end neither.
const STANDS_FOR_ITSELF: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0x21_u8;
    while byte < 0x7f {
        table[byte as usize] = !matches!(byte, b'#' | b'?' | b'%');
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::head::{HeadLimits, find_end, parse};
    use super::super::target::{Asked, key_of};
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { method_bytes: 16, target_bytes: 24, head_bytes: 300, headers: 8 };
    const MAX_KEY_BYTES: usize = 20;
    const HEADS: [&str; 5] = [
        "GET /a HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /key:1 HTTP/1.1\r\nHost: example.com:80\r\nUser-Agent: x/1\r\nAccept: */*\r\n\r\n",
        "GET /k HTTP/1.1\r\nHost: h\r\nCache-Control: no-cache\r\n\r\n",
        "GET /\"<{}>\" HTTP/1.1\r\nHost:\r\nAccept-Encoding: gzip, br\r\nConnection: keep-alive\r\n\r\n",
        "GET /..//. HTTP/1.1\r\nhost: h\r\nContent-Length: 0\r\n\r\n",
    ];

    fn no_ends() -> KnownEnds {
        KnownEnds {
            ends: RefCell::default(),
            last: Cell::new(0),
            met: Cell::new(0),
            most_key_bytes: Cell::new(MAX_KEY_BYTES.min(LIMITS.target_bytes - 1)),
        }
    }

    fn hash(end: &[u8]) -> u64 {
        end.iter().fold(7, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
    }

    fn meet(habit: &mut Habit, known: &KnownEnds, bytes: &[u8]) {
        habit.met(known, bytes, &parse(bytes, &LIMITS).expect("a good head"), hash);
    }

    /// What the long way makes of a request that is known.
    #[track_caller]
    fn assert_alike(known: KnownRequest<'_>, bytes: &[u8]) {
        let text = bytes.escape_ascii();
        assert_eq!(find_end(bytes, &mut 0, &LIMITS), Ok(Some(known.length)), "{text}");
        let head = parse(&bytes[..known.length], &LIMITS).expect("a good head");
        assert!(is_plain(&head) && head.no_cache == known.no_cache, "{text}");
        let asked =
            key_of(head.target, MAX_KEY_BYTES, &mut Vec::new()).map(|asked| asked == Asked::Key(known.key));
        assert_eq!(asked, Ok(true), "{text}");
    }

    /// Something done to a byte of a request.
    #[derive(Clone, Debug)]
    enum Change {
        Set(u8),
        Insert(u8),
        Remove,
        Truncate,
        Repeat(usize),
    }

    fn a_change() -> impl Strategy<Value = (prop::sample::Index, Change)> {
        let byte = prop_oneof![prop::sample::select(&b"\r\n \t/%#?:\0\x7f\x80aGET"[..]), any::<u8>()];
        let change = prop_oneof![
            byte.clone().prop_map(Change::Set),
            byte.prop_map(Change::Insert),
            Just(Change::Remove),
            Just(Change::Truncate),
            (0..40_usize).prop_map(Change::Repeat),
        ];
        (any::<prop::sample::Index>(), change)
    }

    fn apply(bytes: &mut Vec<u8>, at: usize, change: Change) {
        match change {
            Change::Set(byte) => bytes[at] = byte,
            Change::Insert(byte) => bytes.insert(at, byte),
            Change::Remove => drop(bytes.remove(at)),
            Change::Truncate => bytes.truncate(at + 1),
            Change::Repeat(times) => {
                let byte = bytes[at];
                bytes.splice(at..at, std::iter::repeat_n(byte, times)).for_each(drop);
            }
        }
    }

    fn known_heads() -> KnownEnds {
        let known = no_ends();
        for head in HEADS {
            let mut habit = Habit::default();
            for _ in 0..2 {
                meet(&mut habit, &known, head.as_bytes());
            }
        }
        known
    }

    #[test]
    fn the_heads_are_known() {
        let known = known_heads();
        for head in HEADS {
            assert_alike(known.find(head.as_bytes()).expect(head), head.as_bytes());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn a_known_request_is_what_the_whole_head_says_whatever_is_changed_in_it(
            head in 0..HEADS.len(),
            next in prop::option::of(0..HEADS.len()),
            changes in prop::collection::vec(a_change(), 0..3),
        ) {
            let mut bytes = HEADS[head].as_bytes().to_vec();
            bytes.extend(next.iter().flat_map(|next| HEADS[*next].as_bytes()));
            for (at, change) in changes {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    apply(&mut bytes, at, change);
                }
            }
            if let Some(request) = known_heads().find(&bytes) {
                assert_alike(request, &bytes);
            }
        }
    }

    #[test]
    fn an_end_is_learnt_when_it_came_twice_running_and_forgotten_when_told() {
        let (known, mut habit) = (no_ends(), Habit::default());
        let [one, two, ..] = HEADS.map(str::as_bytes);
        for head in [one, two, one, two] {
            meet(&mut habit, &known, head);
        }
        assert_eq!(known.find(one), None);
        meet(&mut habit, &known, two);
        assert_eq!((known.find(one), known.find(two).map(|request| request.length)), (None, Some(two.len())));
        known.forget(HttpSizes { head: LIMITS, key_bytes: MAX_KEY_BYTES, body_bytes: 0 });
        assert_eq!(known.find(two), None);
    }

    #[test]
    fn a_connection_whose_heads_differ_each_time_is_given_up_for_a_while() {
        let (known, mut habit) = (no_ends(), Habit::default());
        let head = |number: u32| format!("GET /k HTTP/1.1\r\nHost: h\r\nX-Request-Id: {number}\r\n\r\n");
        for number in 0..u32::from(STRANGE_ENDS) {
            assert!(habit.may_be_known());
            meet(&mut habit, &known, head(number).as_bytes());
        }
        let given_up = 256 - u32::from(STRANGE_ENDS);
        for _ in 0..given_up {
            assert!(!habit.may_be_known());
            meet(&mut habit, &known, head(0).as_bytes());
        }
        assert!(habit.may_be_known() && known.ends.borrow().is_empty());
    }

    #[test]
    fn ends_that_still_come_keep_their_places() {
        let (known, mut habit) = (no_ends(), Habit::default());
        let head = |kind: usize| format!("GET /k HTTP/1.1\r\nHost: h\r\nUser-Agent: {kind}\r\n\r\n");
        let mut learn = |kind: usize| {
            for _ in 0..2 {
                meet(&mut habit, &known, head(kind).as_bytes());
            }
            known.find(head(kind).as_bytes()).is_some()
        };
        assert!((0..MOST_ENDS).all(&mut learn));
        assert!(!learn(99), "all have come a moment ago");
        for _ in 0..=LIVELY {
            assert!(known.find(head(3).as_bytes()).is_some());
        }
        assert!(learn(99));
        assert!(known.find(head(3).as_bytes()).is_some());
    }
}
