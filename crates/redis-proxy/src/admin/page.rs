//! `/` for browsers: one page, in the program, that asks nobody but this port for anything.
//!
//! It names no key by itself: what it shows it gets from `/events`, with the token that its reader gives it. Its policy
//! (<https://www.w3.org/TR/CSP3/>) has the browser run its own script and no other, whatever a key is called.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use hyper::HeaderMap;
use hyper::body::Bytes;
use hyper::header::{
    ACCEPT, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY, VARY, X_FRAME_OPTIONS,
};
use hyper::{Response, StatusCode};

use super::{BANNER, TEXT, response};

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = concat!(include_str!("page/live.js"), include_str!("page/show.js"));

static PAGE: LazyLock<String> =
    LazyLock::new(|| include_str!("page/page.html").replace("{style}", STYLE).replace("{script}", SCRIPT));

/// What the browser is to allow the page.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| STANDARD.encode(digest(&SHA256, text.as_bytes()));
    [
        "default-src 'none'",
        &format!("script-src 'sha256-{}'", hash(SCRIPT)),
        &format!("style-src 'sha256-{}'", hash(STYLE)),
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
    .join("; ")
});

/// Answers who asks for `/`: with the page where HTML is accepted, else with a line of who answers here.
pub(super) fn answer(headers: &HeaderMap) -> Response<Full<Bytes>> {
    let mut answer = match accepts_html(headers) {
        false => response(StatusCode::OK, TEXT, BANNER.into()),
        true => {
            let mut page = response(StatusCode::OK, HTML, PAGE.clone());
            let headers = page.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(HTML));
            if let Ok(policy) = HeaderValue::from_str(&POLICY) {
                headers.insert(CONTENT_SECURITY_POLICY, policy);
            }
            headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
            headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
            page
        }
    };
    answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    answer
}

/// Whether HTML is named among what is accepted, and not with a weight of nothing (RFC 9110, section 12.5.1). `*/*` alone is no browser.
fn accepts_html(headers: &HeaderMap) -> bool {
    let fields = headers.get_all(ACCEPT).iter().filter_map(|field| field.to_str().ok());
    fields.flat_map(|field| field.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_html = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("text/html"));
        let weight = parts.filter_map(|part| part.strip_prefix("q=")).next();
        is_html && weight.is_none_or(|weight| weight.parse::<f32>().is_ok_and(|weight| weight > 0.0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_get_the_page_and_others_a_line() {
        for (accept, is_page) in [
            (Some("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"), true),
            (Some("TEXT/HTML; q=0.5"), true),
            (Some("text/html;q=0"), false),
            (Some("*/*"), false),
            (Some("application/json"), false),
            (None, false),
        ] {
            let mut headers = HeaderMap::new();
            accept.map(|accept| headers.insert(ACCEPT, HeaderValue::from_static(accept)));
            let answer = answer(&headers);
            assert_eq!(answer.headers()[CONTENT_TYPE] == HTML, is_page, "{accept:?}");
            assert_eq!(answer.headers().contains_key(CONTENT_SECURITY_POLICY), is_page);
        }
    }

    #[test]
    fn each_reason_of_a_miss_is_explained() {
        let (_, behind) = SCRIPT.split_once("const REASONS = {").expect("the explanations");
        let (lines, _) = behind.split_once("};").expect("their end");
        let explained: Vec<_> = lines.lines().filter_map(|line| line.trim().split('"').nth(1)).collect();
        assert_eq!(explained, insight::Reason::ALL.map(insight::Reason::name));
    }

    #[test]
    fn nothing_in_the_page_leads_elsewhere_or_writes_markup() {
        assert!(PAGE.contains(SCRIPT) && PAGE.contains(STYLE), "what is hashed is what is in it");
        let links: Vec<_> = PAGE.split(['"', '\'']).filter(|text| text.contains("://")).collect();
        assert_eq!(links, ["http://www.w3.org/2000/svg"; 2], "a name of elements, and no place");
        for word in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "localStorage",
            " style=",
        ] {
            assert!(!PAGE.contains(word), "{word}");
        }
    }
}
