//! Who is answered on the admin port.
//!
//! Probes and Prometheus need no token. All else names a key or changes something: it takes ADMIN_TOKEN where that is set; where it is
//! not, nobody off this machine may, and no page of a browser on it.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue, ORIGIN, WWW_AUTHENTICATE};
use hyper::{HeaderMap, Request, Response, StatusCode};

use super::{TEXT, response};
use crate::access::{AccessSettings, AdminToken, bearer};

/// What names no key and changes nothing.
const OPEN: [&str; 4] = ["/", "/livez", "/readyz", "/metrics"];

/// Whose page asks, as a browser has it: `none` is whoever sits before it.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What a request is answered with that is not to be answered for what it asks.
pub(super) fn refuses<B>(
    request: &Request<B>,
    access: &AccessSettings,
    on_loopback: bool,
) -> Option<Response<Full<Bytes>>> {
    let target = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    let refused = |status, text: &str| Some(response(status, TEXT, text.into()));
    if !values(request.headers(), HOST).chain(target).all(|host| access.hosts.allows(host, on_loopback)) {
        return refused(
            StatusCode::MISDIRECTED_REQUEST,
            "this is not a name that the program is called by here: ALLOWED_HOSTS says which are\n",
        );
    }
    if OPEN.contains(&request.uri().path()) {
        return None;
    }
    match &access.admin_token {
        Some(token) if !has(request.headers(), token) => {
            let text = "a token is needed, which ADMIN_TOKEN says: Authorization: Bearer <token>\n";
            let mut refused = response(StatusCode::UNAUTHORIZED, TEXT, text.into());
            refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            Some(refused)
        }
        None if !on_loopback => refused(
            StatusCode::FORBIDDEN,
            "without ADMIN_TOKEN this is answered only where ADMIN_HOST is a loopback address\n",
        ),
        _ if !is_of_here(request.headers()) => {
            refused(StatusCode::FORBIDDEN, "a page of another origin may not ask this\n")
        }
        _ => None,
    }
}

/// Whether the request carries the token, in the one field that there is for it.
fn has(headers: &HeaderMap, token: &AdminToken) -> bool {
    let mut fields = values(headers, AUTHORIZATION);
    match (fields.next(), fields.next()) {
        (Some(field), None) => bearer(field).is_some_and(|asked| token.is(asked)),
        _ => false,
    }
}

/// Whether no browser says that a page of another origin asks (RFC 6454, section 7): of ours it is `Host` with a scheme. A GET that
/// such a page may not read has no `Origin`, but says of which site it is (<https://www.w3.org/TR/fetch-metadata/>).
fn is_of_here(headers: &HeaderMap) -> bool {
    let is_of_site = values(headers, SEC_FETCH_SITE).all(|site| matches!(site, b"same-origin" | b"none"));
    is_of_site
        && values(headers, ORIGIN).all(|origin| {
            let host =
                ["http://", "https://"].iter().find_map(|scheme| origin.strip_prefix(scheme.as_bytes()));
            host.is_some_and(|host| values(headers, HOST).any(|own| own.eq_ignore_ascii_case(host)))
        })
}

fn values(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    headers.get_all(name).iter().map(HeaderValue::as_bytes)
}
