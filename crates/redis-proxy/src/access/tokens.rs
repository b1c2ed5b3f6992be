//! Tokens of the data port and of the admin port, as they are held and compared.
//!
//! **Compared in constant time, by construction**: no token is held. What is held of it is its BLAKE3 hash under a key that is random a
//! process, and `blake3::Hash` is compared whole (`constant_time_eq`), with each of those held, whichever it is like. So the time that a
//! comparison takes says nothing of how much of a token was right: whoever changes one byte of a guess changes all of its hash.

use std::fmt;
use std::sync::LazyLock;

use blake3::{Hash, keyed_hash};

use crate::config::TOKENS_FILE;

/// Tokens of one file, at most.
const MOST_TOKENS: usize = 1_000;
/// The longest token, in bytes.
const MOST_TOKEN_BYTES: usize = 1_024;

/// Random a process, so that nobody can make hashes that begin alike.
static KEY: LazyLock<[u8; 32]> = LazyLock::new(|| {
    let mut key = [0; 32];
    // Without randomness the comparison is constant in time all the same.
    let _ = getrandom::fill(&mut key);
    key
});

/// What the holder of a token may do on the data port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TokenRights {
    /// GET and HEAD.
    pub(crate) read: bool,
    /// PURGE.
    pub(crate) purge: bool,
    /// Which line of READ_TOKENS_FILE says so, from 1; 0 for READ_TOKEN.
    pub(crate) line: u32,
}

/// The tokens of the data port, one at least.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ReadTokens(Box<[(Hash, TokenRights)]>);

impl ReadTokens {
    /// Those that a setting holds, or its file: READ_TOKEN or READ_TOKENS_FILE.
    ///
    /// # Errors
    /// What is wrong, without a word of it.
    pub(crate) fn of(name: &str, text: &str) -> Result<ReadTokens, String> {
        if name == TOKENS_FILE {
            return ReadTokens::parse(text);
        }
        Ok(ReadTokens([(checked_hash(text)?, TokenRights { read: true, ..TokenRights::default() })].into()))
    }

    /// Those of the text of READ_TOKENS_FILE: a line is `token [read|purge|read,purge]`, empty, or a comment behind `#`.
    ///
    /// # Errors
    /// The number of a line and what is wrong with it, without a word of it.
    fn parse(text: &str) -> Result<ReadTokens, String> {
        let mut tokens: Vec<(Hash, TokenRights)> = Vec::new();
        for (line, number) in text.lines().zip(1_u32..) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.split_ascii_whitespace();
            let (token, rights, more) = (words.next().unwrap_or_default(), words.next(), words.next());
            let wrong = |what: &str| Err(format!("line {number}: {what}"));
            if !is_token(token) {
                return wrong("the token has a character that no token has, or more than 1024 of them");
            }
            let Some(mut rights) = rights_of(rights.unwrap_or("read")).filter(|_| more.is_none()) else {
                return wrong("behind the token stands none of read, purge and read,purge");
            };
            let hash = hash(token.as_bytes());
            if tokens.iter().any(|(other, _)| *other == hash) {
                return wrong("the token stands on a line before");
            }
            rights.line = number;
            tokens.push((hash, rights));
        }
        match tokens.len() {
            0 => Err("there is no token in it".into()),
            1..=MOST_TOKENS => Ok(ReadTokens(tokens.into())),
            _ => Err(format!("there are more than {MOST_TOKENS} tokens in it")),
        }
    }

    /// What the holder of this token may do; none if it is none of these. Costs a hash, and a comparison with each of them.
    pub(crate) fn rights(&self, token: &[u8]) -> Option<TokenRights> {
        let asked = hash(token);
        let mut found = None;
        for (hash, rights) in &self.0 {
            if *hash == asked {
                found = Some(*rights);
            }
        }
        found
    }
}

impl fmt::Debug for ReadTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens", self.0.len())
    }
}

/// The token of the admin port.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct AdminToken(Hash);

impl AdminToken {
    /// # Errors
    /// What is wrong with it, without a word of it.
    pub(crate) fn new(token: &str) -> Result<AdminToken, String> {
        checked_hash(token).map(AdminToken)
    }

    /// Whether it is this one.
    pub(crate) fn is(&self, token: &[u8]) -> bool {
        self.0 == hash(token)
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token")
    }
}

/// The token of the value of an `Authorization` field (RFC 6750, section 2.1); the name of the scheme is in either case.
pub(crate) fn bearer(field: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = field.split_at_checked(b"Bearer ".len())?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !token.is_empty()).then_some(token)
}

/// Whether it may be sent as one: RFC 6750, section 2.1, `b64token`.
fn is_token(text: &str) -> bool {
    let bare = text.trim_end_matches('=');
    !bare.is_empty()
        && text.len() <= MOST_TOKEN_BYTES
        && bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte))
}

fn rights_of(text: &str) -> Option<TokenRights> {
    match text {
        "read" => Some(TokenRights { read: true, ..TokenRights::default() }),
        "purge" => Some(TokenRights { purge: true, ..TokenRights::default() }),
        "read,purge" | "purge,read" => Some(TokenRights { read: true, purge: true, line: 0 }),
        _ => None,
    }
}

fn checked_hash(token: &str) -> Result<Hash, String> {
    let expected = "expected 1024 letters, digits and -._~+/ at most, with = at the end perhaps";
    is_token(token).then(|| hash(token.as_bytes())).ok_or_else(|| expected.to_owned())
}

fn hash(token: &[u8]) -> Hash {
    keyed_hash(&KEY, token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_token_and_what_it_may_do() {
        let text = "# who may read\n\nalpha\nbeta read\r\n  gamma   purge\ndelta== read,purge\nepsilon\tpurge,read\n";
        let tokens = ReadTokens::parse(text).unwrap();
        for (token, rights) in [
            ("alpha", Some((true, false, 3))),
            ("beta", Some((true, false, 4))),
            ("gamma", Some((false, true, 5))),
            ("delta==", Some((true, true, 6))),
            ("epsilon", Some((true, true, 7))),
            ("delta", None),
            ("alph", None),
            ("alpha ", None),
            ("Alpha", None),
            ("#", None),
            ("", None),
        ] {
            let found = tokens.rights(token.as_bytes());
            assert_eq!(found.map(|rights| (rights.read, rights.purge, rights.line)), rights, "{token}");
        }
        assert_eq!(
            ReadTokens::of("READ_TOKEN", "x").unwrap().rights(b"x"),
            Some(TokenRights { read: true, purge: false, line: 0 })
        );
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told_by_its_line_and_not_by_its_words() {
        for (text, place) in [
            ("", "no token"),
            ("# nothing\n", "no token"),
            ("ok\nSECRET write\n", "line 2"),
            ("SECRET read purge\n", "line 1"),
            ("SECRET, read\n", "line 1"),
            ("ok\nok\n", "line 2"),
            ("SÉCRET\n", "line 1"),
            ("=\n", "line 1"),
        ] {
            let error = ReadTokens::parse(text).unwrap_err();
            assert!(error.contains(place) && !error.contains("CRET"), "{text:?}: {error}");
        }
        let many: String = (0..=MOST_TOKENS).map(|number| format!("t{number}\n")).collect();
        assert!(ReadTokens::parse(&many).unwrap_err().contains("more than 1000"));
        assert!(ReadTokens::parse(&"x".repeat(1025)).is_err());
    }

    #[test]
    fn a_field_carries_a_token_behind_the_name_of_its_scheme() {
        for (field, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer abc", Some("abc")),
            ("BEARER   abc ", Some("abc")),
            ("Bearer ", None),
            ("Bearer", None),
            ("Basic abc", None),
            ("Bearerabc", None),
            ("", None),
        ] {
            assert_eq!(bearer(field.as_bytes()), token.map(str::as_bytes), "{field}");
        }
    }

    #[test]
    fn nothing_of_a_token_is_shown() {
        let shown = format!("{:?} {:?}", ReadTokens::of("READ_TOKEN", "planted"), AdminToken::new("planted"));
        assert!(!shown.contains("planted") && shown == "Ok(1 tokens) Ok(a token)", "{shown}");
    }
}
