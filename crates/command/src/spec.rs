//! Key specifications: where a command's keys stand, in the terms of Redis 7
//! (<https://redis.io/docs/latest/develop/reference/key-specs/>; db.c, `getKeysUsingKeySpecs`, 7.0.15).
//!
//! As text, one specification is `flags/begin/find`: `RO,access/index:1/range:0:1:0`.

use std::fmt;

use resp::Arguments;

use crate::Access;
use crate::keys::{Key, Unclear, integer};

/// Where some of a command's keys stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeySpec {
    pub(crate) access: Access,
    pub(crate) begin: Begin,
    pub(crate) find: Find,
}

/// Where the search begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Begin {
    Index(usize),
    /// Behind this word, looked for from an argument on: forwards, or from `-from` arguments before the end backwards.
    Keyword {
        word: Box<str>,
        from: i64,
    },
    Unknown,
}

/// Which arguments from there on are keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Find {
    /// Up to `last` (from the beginning, or if negative from the end), each `step`th; with a `limit`, the first of so many
    /// parts of what is left.
    Range {
        last: i64,
        step: i64,
        limit: i64,
    },
    /// As many as an argument says.
    Count {
        at: i64,
        first: i64,
        step: i64,
    },
    Unknown,
}

impl KeySpec {
    /// Whether it is the first argument and no other.
    pub(crate) fn is_first_argument(&self) -> bool {
        self.begin == Begin::Index(1) && matches!(self.find, Find::Range { last: 0, .. })
    }

    /// Whether the keys are ones that the command may write.
    pub(crate) fn is_of_written(&self) -> bool {
        !self.access.has(Access::RO) && !self.access.has(Access::NOT_KEY)
    }

    /// Appends the keys that this specification finds.
    pub(crate) fn find(&self, arguments: Arguments<'_>, keys: &mut Vec<Key>) -> Result<(), Unclear> {
        let count = i64::try_from(arguments.len()).map_err(|_| Unclear)?;
        let Some(begin) = self.begin.place(arguments)? else { return Ok(()) };
        let (first, last, step) = match self.find {
            Find::Range { last, step, .. } if last >= 0 => (begin, begin + last, step),
            Find::Range { last, step, limit: 0 } => (begin, count + last, step),
            Find::Range { last, step, limit } => (begin, begin + (count - begin) / limit + last, step),
            Find::Count { at, first, step } => {
                let number =
                    usize::try_from(begin + at).ok().and_then(|at| arguments.get(at)).and_then(integer);
                let number = number.filter(|number| (0..=count).contains(number)).ok_or(Unclear)?;
                (begin + first, begin + first + number - 1, step)
            }
            Find::Unknown => return Err(Unclear),
        };
        if last >= count || last < first || first >= count || first < 1 || step < 1 {
            return Err(Unclear);
        }
        let places = (first..=last).step_by(usize::try_from(step).map_err(|_| Unclear)?);
        keys.extend(places.filter_map(|at| usize::try_from(at).ok()).map(|at| Key::new(at, self.access)));
        if self.access.has(Access::INCOMPLETE) { Err(Unclear) } else { Ok(()) }
    }
}

impl Begin {
    /// The argument at which the search begins; `None` if its keyword is not there.
    fn place(&self, arguments: Arguments<'_>) -> Result<Option<i64>, Unclear> {
        let count = i64::try_from(arguments.len()).map_err(|_| Unclear)?;
        match self {
            Self::Index(index) => Ok(Some(i64::try_from(*index).map_err(|_| Unclear)?)),
            Self::Keyword { word, from } => {
                let is_word = |at: &i64| {
                    let argument = usize::try_from(*at).ok().and_then(|at| arguments.get(at));
                    *at >= 1
                        && argument.is_some_and(|argument| argument.eq_ignore_ascii_case(word.as_bytes()))
                };
                // The last argument cannot be a keyword, nor the first when looking backwards.
                let found = if *from > 0 {
                    (*from..count - 1).find(is_word)
                } else {
                    (2..=(count + from).min(count - 1)).rev().find(is_word)
                };
                Ok(found.map(|at| at + 1))
            }
            Self::Unknown => Err(Unclear),
        }
    }
}

impl fmt::Display for KeySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.access)?;
        match &self.begin {
            Begin::Index(index) => write!(f, "index:{index}/")?,
            Begin::Keyword { word, from } => write!(f, "keyword:{word}:{from}/")?,
            Begin::Unknown => f.write_str("unknown/")?,
        }
        match self.find {
            Find::Range { last, step, limit } => write!(f, "range:{last}:{step}:{limit}"),
            Find::Count { at, first, step } => write!(f, "keynum:{at}:{first}:{step}"),
            Find::Unknown => f.write_str("unknown"),
        }
    }
}

impl KeySpec {
    /// Reads what [`Display`](fmt::Display) writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let access = Access::parse(parts.next()?);
        let begin: Vec<_> = parts.next()?.split(':').collect();
        let begin = match begin[..] {
            ["index", index] => Begin::Index(index.parse().ok()?),
            ["keyword", word, from] => Begin::Keyword { word: word.into(), from: from.parse().ok()? },
            ["unknown"] => Begin::Unknown,
            _ => return None,
        };
        let find: Vec<_> = parts.next()?.split(':').collect();
        let number = |at: usize| find.get(at).and_then(|number| number.parse().ok());
        let find = match find[0] {
            "range" => Find::Range { last: number(1)?, step: number(2)?, limit: number(3)? },
            "keynum" => Find::Count { at: number(1)?, first: number(2)?, step: number(3)? },
            "unknown" => Find::Unknown,
            _ => return None,
        };
        Some(Self { access, begin, find })
    }
}
