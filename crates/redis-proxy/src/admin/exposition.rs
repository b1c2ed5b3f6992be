//! The two texts in which metrics are told: Prometheus' own, and OpenMetrics for whoever asks for it.

use std::fmt::{self, Write};

use hyper::HeaderMap;
use hyper::header::ACCEPT;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>
    Prometheus,
    /// <https://prometheus.io/docs/specs/om/open_metrics_spec/#overall-structure>
    OpenMetrics,
}

impl Format {
    /// What a scraper with these headers is told in: OpenMetrics if it names that and likes it no less.
    pub(super) fn accepted(headers: &HeaderMap) -> Format {
        let (mut open, mut plain) = (0.0_f32, 0.0_f32);
        for range in headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
        {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut quality, mut version) = (1.0, None);
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                match name.trim().to_ascii_lowercase().as_str() {
                    "q" => quality = value.trim().parse().unwrap_or(0.0),
                    "version" => version = Some(value.trim().trim_matches('"')),
                    _ => {}
                }
            }
            match (kind.as_str(), version) {
                ("application/openmetrics-text", None | Some("1.0.0" | "0.0.1")) => open = open.max(quality),
                ("text/plain", None | Some("0.0.4")) | ("text/*" | "*/*", _) => plain = plain.max(quality),
                _ => {}
            }
        }
        if open > 0.0 && open >= plain { Format::OpenMetrics } else { Format::Prometheus }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// All metrics of `registry`.
    ///
    /// # Errors
    /// A metric that cannot be written down.
    pub(super) fn text(self, registry: &Registry) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, registry)?;
        match self {
            Format::OpenMetrics => Ok(text),
            Format::Prometheus => plain(&text),
        }
    }
}

/// OpenMetrics in the older words: a counter is described by the name that its samples have, and there is no end.
fn plain(open_metrics: &str) -> Result<String, fmt::Error> {
    let mut text = String::with_capacity(open_metrics.len());
    let mut lines = open_metrics.lines().peekable();
    while let Some(line) = lines.next() {
        let described = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' '));
        let typed = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '));
        match (described, typed) {
            (Some((name, help)), _) => {
                // Its type follows.
                let is_counter = lines.peek().is_some_and(|line| line.ends_with(" counter"));
                writeln!(text, "# HELP {name}{} {help}", if is_counter { "_total" } else { "" })?;
            }
            (None, Some((name, "counter"))) => writeln!(text, "# TYPE {name}_total counter")?,
            (None, None) if line == "# EOF" => {}
            _ => writeln!(text, "{line}")?,
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn openmetrics_is_for_those_who_ask_for_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;\
                          q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let cases = [
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("text/plain", Format::Prometheus),
            ("text/plain;version=0.0.4;q=0.5,application/openmetrics-text;q=0.1", Format::Prometheus),
            ("application/openmetrics-text;q=0", Format::Prometheus),
            ("application/openmetrics-text;version=2.0.0, */*", Format::Prometheus),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("Application/OpenMetrics-Text; Version=1.0.0; charset=utf-8, */*", Format::OpenMetrics),
            (prometheus, Format::OpenMetrics),
        ];
        for (accept, format) in cases {
            let mut headers = HeaderMap::new();
            if !accept.is_empty() {
                headers.insert(ACCEPT, HeaderValue::from_static(accept));
            }
            assert_eq!(Format::accepted(&headers), format, "{accept}");
        }
    }

    #[test]
    fn a_counter_is_described_by_the_name_of_its_samples() {
        let open = "# HELP a Counted.\n# TYPE a counter\na_total{b=\"# EOF\"} 1\n\
                    # HELP c Now.\n# TYPE c gauge\nc 1.5\n# EOF\n";
        let expected = "# HELP a_total Counted.\n# TYPE a_total counter\na_total{b=\"# EOF\"} 1\n\
                        # HELP c Now.\n# TYPE c gauge\nc 1.5\n";
        assert_eq!(plain(open).unwrap(), expected);
    }
}
