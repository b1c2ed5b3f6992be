//! `POST /purge`: what an operator has leave the cache.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use percent_encoding::percent_decode;
use tokio::time::timeout;

use super::{TEXT, response};
use crate::readthrough::Purger;

/// The longest form in a body.
const MOST_BODY_BYTES: usize = 1 << 20;
/// A form must be here as a whole after so long.
const BODY_TIMEOUT: Duration = Duration::from_secs(2);

/// What is to leave.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    Key(Vec<u8>),
    Prefix(Vec<u8>),
    All,
}

/// Answers a request for `/purge` that comes from `peer`.
pub(super) async fn answer(
    request: Request<Incoming>,
    purger: Purger,
    peer: Option<SocketAddr>,
) -> Response<Full<Bytes>> {
    if *request.method() != Method::POST {
        let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only POST\n".into());
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return refused;
    }
    let query = request.uri().query().unwrap_or_default().as_bytes().to_vec();
    let body = Limited::new(request.into_body(), MOST_BODY_BYTES).collect();
    let bad = |why: &str| response(StatusCode::BAD_REQUEST, TEXT, format!("{why}\n"));
    let form = match timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        _ => return bad("the body does not come, or has more than 1 MiB"),
    };
    let wish = match wish(&[&query, &form]) {
        Ok(wish) => wish,
        Err(why) => return bad(why),
    };
    let who = peer.map_or("unix socket".to_owned(), |peer| peer.to_string());
    let text = match wish {
        Wish::Key(key) => format!("purged: {}\n", u32::from(purger.key(&key, &who))),
        Wish::All => format!("purged: {}\n", purger.all(&who)),
        Wish::Prefix(prefix) if purger.prefix(&prefix, &who).await => "purged\n".into(),
        Wish::Prefix(_) => {
            let text = "too many purges: 16 prefixes are being looked for\n";
            let mut full = response(StatusCode::SERVICE_UNAVAILABLE, TEXT, text.into());
            full.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            return full;
        }
    };
    response(StatusCode::OK, TEXT, text)
}

/// What these forms ask for: one thing, in one of them.
fn wish(forms: &[&[u8]]) -> Result<Wish, &'static str> {
    const ONE: &str = "expected one of key=..., prefix=... and all=1";
    let pairs = forms.iter().flat_map(|form| form.trim_ascii_end().split(|byte| *byte == b'&'));
    let mut pairs = pairs.filter(|pair| !pair.is_empty());
    let (Some(pair), None) = (pairs.next(), pairs.next()) else { return Err(ONE) };
    let at = pair.iter().position(|byte| *byte == b'=').ok_or(ONE)?;
    let (name, value) = (&pair[..at], decode(&pair[at + 1..])?);
    match name {
        b"key" => Ok(Wish::Key(value)),
        b"prefix" if value.is_empty() => Err("an empty prefix is everything: ask for that with all=1"),
        b"prefix" => Ok(Wish::Prefix(value)),
        b"all" if value == b"1" => Ok(Wish::All),
        _ => Err(ONE),
    }
}

/// As in every query and form: `+` is a space.
fn decode(written: &[u8]) -> Result<Vec<u8>, &'static str> {
    let is_escape =
        |at: usize| written[at + 1..].get(..2).is_some_and(|pair| pair.iter().all(u8::is_ascii_hexdigit));
    if !(0..written.len()).all(|at| written[at] != b'%' || is_escape(at)) {
        return Err("a percent sign must be followed by two hex digits");
    }
    let spaced: Vec<u8> = written.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    Ok(percent_decode(&spaced).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_asked_for_in_one_of_the_forms() {
        let key = |key: &[u8]| Ok(Wish::Key(key.to_vec()));
        for (query, body, expected) in [
            ("key=a%2Fb+c%2B", "", key(b"a/b c+")),
            ("", "key=a%00", key(b"a\0")),
            ("key=", "", key(b"")),
            ("", "prefix=user%3A\n", Ok(Wish::Prefix(b"user:".to_vec()))),
            ("all=1", "", Ok(Wish::All)),
        ] {
            assert_eq!(wish(&[query.as_bytes(), body.as_bytes()]), expected, "{query} {body}");
        }
        for (query, body) in [
            ("", ""),
            ("all=0", ""),
            ("all", ""),
            ("prefix=", ""),
            ("key=a&key=b", ""),
            ("key=a", "all=1"),
            ("key=a&token=x", ""),
            ("token=x", ""),
            ("key=%zz", ""),
            ("key=%4", ""),
            ("keys=a", ""),
        ] {
            assert!(wish(&[query.as_bytes(), body.as_bytes()]).is_err(), "{query} {body}");
        }
    }
}
