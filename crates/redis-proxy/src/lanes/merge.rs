//! Replies of several nodes that become one: what is made of them, as bytes, one after the other as they come.
//!
//! Only what the answer will be made of is held: of a sum a number, of an MGET the elements. An error ends that; it is the answer
//! unless the command wants but one to succeed.

use resp::ReplyScanner;

use super::duties::Answer;

/// What a client gets in place of replies that do not fit together.
const UNLIKE: &[u8] = b"-ERR proxy: the nodes of the cluster answer in different ways\r\n";

/// What is made of the replies to the pieces of a command.
pub(crate) enum Merge {
    /// One array of so many elements: those of the replies in the order of the pieces.
    InOrder(usize),
    /// One reply with the elements of all.
    Joined,
    /// One number; or of arrays one array, element by element.
    Numbers(Fold),
    /// The first reply if all are no errors.
    AllSucceeded,
    /// The first reply that is no error.
    OneSucceeded,
    /// The first reply that is not nil, or else nil.
    FirstFound,
    /// The one reply, unless it is an error, in other words.
    Changed(ReplyChange),
    /// What is made of all replies, one behind the other, if none is an error.
    Together(ReplyChange),
    /// The same of those that are no errors, if there is one.
    OfSome(ReplyChange),
}

/// Makes another reply of one.
pub(crate) type ReplyChange = Box<dyn FnOnce(&[u8]) -> Vec<u8>>;

/// How two numbers become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fold {
    Sum,
    Min,
    Max,
    /// 1 if both are not 0, else 0.
    And,
    /// 1 if one is not 0, else 0.
    Or,
}

/// Puts the replies of one command together.
pub(super) struct Merger {
    how: Merge,
    scanner: ReplyScanner,
    /// What is made of the replies that are here, and behind it what is here of the next.
    bytes: Vec<u8>,
    /// Where that one begins.
    start: usize,
    /// Elements of those that are joined, and the kind of their replies.
    elements: u64,
    kind: Option<u8>,
    /// What has become of the numbers, and whether they are of arrays.
    numbers: Option<(bool, Vec<i64>)>,
    /// The error that is the answer.
    error: Option<Vec<u8>>,
    /// Whether a reply was no refusal.
    is_begun: bool,
    /// Whether there was one at all.
    has_any: bool,
}

impl Merger {
    pub(super) fn new(how: Merge) -> Self {
        let bytes = match how {
            Merge::InOrder(count) => format!("*{count}\r\n").into_bytes(),
            _ => Vec::new(),
        };
        Merger {
            how,
            scanner: ReplyScanner::new(),
            start: bytes.len(),
            bytes,
            elements: 0,
            kind: None,
            numbers: None,
            error: None,
            is_begun: false,
            has_any: false,
        }
    }

    /// Bytes that it holds.
    pub(super) fn held(&self) -> usize {
        self.bytes.len() + self.error.as_ref().map_or(0, Vec::len)
    }

    /// The next bytes of the replies, in the order of the pieces.
    pub(super) fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            // Whoever brought them has found their ends before.
            let Ok(scanned) = self.scanner.scan(bytes) else {
                self.scanner = ReplyScanner::new();
                return self.fail(UNLIKE);
            };
            let (piece, rest) = bytes.split_at(scanned.len);
            self.bytes.extend_from_slice(piece);
            bytes = rest;
            if scanned.whole {
                self.reply();
                self.start = self.bytes.len();
            }
        }
    }

    /// All replies are here: what they are together, and whether the command was begun nowhere.
    pub(super) fn finish(self) -> (Vec<u8>, bool) {
        let is_refused = self.has_any && !self.is_begun;
        let reply = match (self.how, self.error) {
            (Merge::OneSucceeded, _) if !self.bytes.is_empty() => self.bytes,
            (Merge::OfSome(change), _) if !self.bytes.is_empty() => change(&self.bytes),
            (_, Some(error)) => error,
            (Merge::InOrder(count), None) if self.elements != count as u64 => UNLIKE.to_vec(),
            (Merge::Joined, None) => {
                let header = format!("{}{}\r\n", char::from(self.kind.unwrap_or(b'*')), self.elements);
                [header.as_bytes(), &self.bytes].concat()
            }
            (Merge::Numbers(_), None) => numbers(self.numbers),
            (Merge::Changed(change) | Merge::Together(change), None) => change(&self.bytes),
            (_, None) => self.bytes,
        };
        (reply, is_refused)
    }

    /// One reply is whole.
    fn reply(&mut self) {
        let reply = &self.bytes[self.start..];
        self.has_any = true;
        if let [b'-' | b'!', ..] = reply {
            self.is_begun |= Answer::of(reply) != Answer::Refused;
            let reply = reply.to_vec();
            self.bytes.truncate(self.start);
            return self.fail(&reply);
        }
        self.is_begun = true;
        match self.how {
            // The answer is another.
            _ if self.error.is_some() && !self.how.bears_errors() => {
                self.bytes.truncate(self.start);
            }
            Merge::InOrder(_) | Merge::Joined => self.join(),
            Merge::Numbers(fold) => self.fold(fold),
            Merge::AllSucceeded | Merge::OneSucceeded | Merge::Changed(_) if self.start > 0 => {
                self.bytes.truncate(self.start);
            }
            Merge::FirstFound if self.start > 0 && !is_nil(&self.bytes[..self.start]) => {
                self.bytes.truncate(self.start);
            }
            Merge::FirstFound => drop(self.bytes.drain(..self.start)),
            Merge::AllSucceeded | Merge::OneSucceeded | Merge::Changed(_) => {}
            Merge::Together(_) | Merge::OfSome(_) => {}
        }
    }

    /// Its elements stand behind those of the replies before it.
    fn join(&mut self) {
        let reply = &self.bytes[self.start..];
        let (kind, header) = (reply[0], line_end(reply));
        let count = std::str::from_utf8(&reply[1..header.saturating_sub(2).max(1)]);
        let count = count.ok().and_then(|count| count.parse::<u64>().ok());
        match count.filter(|_| matches!(kind, b'*' | b'~' | b'%') && *self.kind.get_or_insert(kind) == kind) {
            Some(count) => {
                self.elements = self.elements.saturating_add(count);
                self.bytes.drain(self.start..self.start + header);
            }
            None => self.fail(UNLIKE),
        }
    }

    fn fold(&mut self, fold: Fold) {
        let found = integers(&self.bytes[self.start..]);
        self.bytes.truncate(self.start);
        let Some((is_array, found)) = found else { return self.fail(UNLIKE) };
        let Some((was_array, numbers)) = &mut self.numbers else {
            self.numbers = Some((is_array, found));
            return;
        };
        if *was_array != is_array || numbers.len() != found.len() {
            return self.fail(UNLIKE);
        }
        for (number, found) in numbers.iter_mut().zip(found) {
            *number = fold.of(*number, found);
        }
    }

    /// This is the answer, unless another error was before it.
    fn fail(&mut self, error: &[u8]) {
        if self.error.is_none() {
            self.error = Some(error.to_vec());
        }
        if !self.how.bears_errors() {
            (self.bytes, self.start) = (Vec::new(), 0);
        }
    }
}

impl Merge {
    /// Whether an error beside other replies is not the answer.
    fn bears_errors(&self) -> bool {
        matches!(self, Merge::OneSucceeded | Merge::OfSome(_))
    }
}

impl Fold {
    fn of(self, one: i64, other: i64) -> i64 {
        match self {
            Fold::Sum => one.saturating_add(other),
            Fold::Min => one.min(other),
            Fold::Max => one.max(other),
            Fold::And => i64::from(one != 0 && other != 0),
            Fold::Or => i64::from(one != 0 || other != 0),
        }
    }
}

/// The number that a reply is, or those of an array; with whether it is one.
fn integers(reply: &[u8]) -> Option<(bool, Vec<i64>)> {
    let text = std::str::from_utf8(reply).ok()?;
    let number = |line: &str| line.strip_prefix(':')?.parse().ok();
    let mut lines = text.split_terminator("\r\n");
    match reply.first()? {
        b':' => Some((false, vec![number(lines.next()?)?])),
        b'*' => Some((true, lines.skip(1).map(number).collect::<Option<_>>()?)),
        _ => None,
    }
}

fn numbers(numbers: Option<(bool, Vec<i64>)>) -> Vec<u8> {
    let (is_array, numbers) = numbers.unwrap_or((false, vec![0]));
    let mut reply = if is_array { format!("*{}\r\n", numbers.len()) } else { String::new() };
    numbers.iter().for_each(|number| reply += &format!(":{number}\r\n"));
    reply.into_bytes()
}

fn is_nil(reply: &[u8]) -> bool {
    matches!(reply, b"$-1\r\n" | b"*-1\r\n" | b"_\r\n")
}

/// Where the first line is over.
fn line_end(reply: &[u8]) -> usize {
    memchr::memchr(b'\n', reply).map_or(reply.len(), |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of replies, whole and a byte at a time.
    fn merged(how: impl Fn() -> Merge, replies: &[&str]) -> (String, bool) {
        let all = replies.concat();
        let whole = {
            let mut merger = Merger::new(how());
            replies.iter().for_each(|reply| merger.take(reply.as_bytes()));
            merger.finish()
        };
        let mut merger = Merger::new(how());
        all.bytes().for_each(|byte| merger.take(&[byte]));
        assert_eq!(merger.finish(), whole, "{replies:?}");
        (String::from_utf8(whole.0).unwrap(), whole.1)
    }

    #[track_caller]
    fn assert_merged(how: impl Fn() -> Merge, replies: &[&str], expected: &str) {
        assert_eq!(merged(how, replies).0, expected);
    }

    #[test]
    fn elements_stand_in_the_order_of_the_pieces() {
        let three = || Merge::InOrder(3);
        assert_merged(
            three,
            &["*1\r\n$1\r\na\r\n", "*1\r\n$-1\r\n", "*1\r\n$2\r\n\r\n\r\n"],
            "*3\r\n$1\r\na\r\n$-1\r\n$2\r\n\r\n\r\n",
        );
        assert_merged(three, &["*1\r\n_\r\n", "*2\r\n:1\r\n_\r\n"], "*3\r\n_\r\n:1\r\n_\r\n");
        assert_merged(three, &["*1\r\n$1\r\na\r\n", "-ERR no\r\n", "*1\r\n$1\r\nb\r\n"], "-ERR no\r\n");
        assert_merged(three, &["*1\r\n$1\r\na\r\n", ":1\r\n", "-ERR no\r\n"], &text(UNLIKE));
    }

    #[test]
    fn elements_of_all_nodes_are_one_reply() {
        let joined = || Merge::Joined;
        assert_merged(
            joined,
            &["*1\r\n$1\r\na\r\n", "*0\r\n", "*2\r\n:1\r\n:2\r\n"],
            "*3\r\n$1\r\na\r\n:1\r\n:2\r\n",
        );
        assert_merged(
            joined,
            &["%1\r\n+a\r\n:1\r\n", "%1\r\n+b\r\n:2\r\n"],
            "%2\r\n+a\r\n:1\r\n+b\r\n:2\r\n",
        );
        assert_merged(joined, &["*0\r\n", "*0\r\n"], "*0\r\n");
        for unlike in [["*0\r\n", "~0\r\n"], ["*-1\r\n", "*0\r\n"], ["+OK\r\n", "*0\r\n"]] {
            assert_merged(joined, &unlike, &text(UNLIKE));
        }
        assert_merged(joined, &["*0\r\n", "-LOADING\r\n", "*1\r\n:1\r\n"], "-LOADING\r\n");
    }

    #[test]
    fn numbers_become_one_and_arrays_of_them_one_array() {
        for (fold, expected) in
            [(Fold::Sum, 5), (Fold::Min, 0), (Fold::Max, 3), (Fold::And, 0), (Fold::Or, 1)]
        {
            let how = || Merge::Numbers(fold);
            assert_merged(how, &[":2\r\n", ":0\r\n", ":3\r\n"], &format!(":{expected}\r\n"));
            let arrays = ["*2\r\n:2\r\n:1\r\n", "*2\r\n:0\r\n:1\r\n", "*2\r\n:3\r\n:1\r\n"];
            let second = fold.of(fold.of(1, 1), 1);
            assert_merged(how, &arrays, &format!("*2\r\n:{expected}\r\n:{second}\r\n"));
        }
        let sum = || Merge::Numbers(Fold::Sum);
        assert_merged(sum, &[":1\r\n", "-ERR no\r\n", ":1\r\n", "-ERR other\r\n"], "-ERR no\r\n");
        for unlike in [[":1\r\n", "+OK\r\n"], [":1\r\n", "*1\r\n:1\r\n"], ["*1\r\n:1\r\n", "*0\r\n"]] {
            assert_merged(sum, &unlike, &text(UNLIKE));
        }
    }

    #[test]
    fn one_reply_stands_for_all() {
        let all = || Merge::AllSucceeded;
        assert_merged(all, &["+OK\r\n", "+OK\r\n"], "+OK\r\n");
        assert_merged(all, &["$1\r\na\r\n", "-ERR no\r\n", "+OK\r\n"], "-ERR no\r\n");
        let one = || Merge::OneSucceeded;
        assert_merged(one, &["-NOTBUSY\r\n", "+OK\r\n", "-NOTBUSY\r\n", "+later\r\n"], "+OK\r\n");
        assert_merged(one, &["-NOTBUSY\r\n", "-ERR no\r\n"], "-NOTBUSY\r\n");
        let found = || Merge::FirstFound;
        assert_merged(found, &["$-1\r\n", "$1\r\na\r\n", "$-1\r\n", "$1\r\nb\r\n"], "$1\r\na\r\n");
        assert_merged(found, &["_\r\n", "_\r\n"], "_\r\n");
        let changed = || Merge::Changed(Box::new(|reply| [reply, b"+more\r\n"].concat()));
        assert_merged(changed, &[":1\r\n"], ":1\r\n+more\r\n");
        assert_merged(changed, &["-ERR no\r\n"], "-ERR no\r\n");
        let together = || Merge::Together(Box::new(|replies| [replies, b"+more\r\n"].concat()));
        assert_merged(together, &[":1\r\n", ":2\r\n"], ":1\r\n:2\r\n+more\r\n");
        assert_merged(together, &[":1\r\n", "-ERR no\r\n", ":2\r\n"], "-ERR no\r\n");
        let of_some = || Merge::OfSome(Box::new(|replies| [replies, b"+more\r\n"].concat()));
        assert_merged(of_some, &["-ERR no\r\n", ":1\r\n", "-ERR\r\n", ":2\r\n"], ":1\r\n:2\r\n+more\r\n");
        assert_merged(of_some, &["-ERR no\r\n", "-ERR other\r\n"], "-ERR no\r\n");
    }

    #[test]
    fn it_is_refused_if_no_node_has_begun_it() {
        let all = || Merge::AllSucceeded;
        assert!(merged(all, &["-NOPERM no\r\n", "-NOPERM no\r\n"]).1);
        assert!(!merged(all, &["-NOPERM no\r\n", "+OK\r\n"]).1);
        assert!(!merged(all, &["-ERR later\r\n", "-NOPERM no\r\n"]).1);
        assert!(!merged(all, &[]).1);
    }

    #[test]
    fn nothing_is_held_that_the_answer_is_not_made_of() {
        let mut sum = Merger::new(Merge::Numbers(Fold::Sum));
        (0..100).for_each(|_| sum.take(b":1\r\n"));
        assert_eq!(sum.held(), 0);
        let mut failed = Merger::new(Merge::InOrder(100));
        failed.take(b"*1\r\n$1\r\na\r\n-ERR\r\n");
        (0..98).for_each(|_| failed.take(b"*1\r\n$1\r\na\r\n"));
        assert_eq!(failed.held(), 6);
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8(bytes.to_vec()).unwrap()
    }
}
