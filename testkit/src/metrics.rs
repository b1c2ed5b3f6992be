//! The metrics page of the admin port, read as a scraper would.

use std::collections::BTreeMap;
use std::net::ToSocketAddrs;

use crate::HttpClient;

/// The samples of a metrics page in Prometheus' text format.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// `name` or `name{label="value"}` as printed, and its value.
    pub samples: BTreeMap<String, f64>,
}

/// Fetches `/metrics` from the admin port.
///
/// # Panics
/// When the answer is not 200, or a line of it is no sample.
#[track_caller]
pub fn metrics(admin: impl ToSocketAddrs) -> Metrics {
    let response = HttpClient::connect(admin).get("/metrics");
    assert_eq!(response.status, 200, "the answer to /metrics: {response:?}");
    Metrics::parse(response.text())
}

impl Metrics {
    /// The value of one sample, by its name and labels as printed.
    ///
    /// # Panics
    /// When there is none; the text holds the samples of that name.
    #[track_caller]
    pub fn value(&self, sample: &str) -> f64 {
        let name = name_of(sample);
        *self.samples.get(sample).unwrap_or_else(|| {
            let near: Vec<&String> = self.samples.keys().filter(|key| name_of(key) == name).collect();
            panic!("no sample {sample}; of that name there are {near:?} among {} samples", self.samples.len())
        })
    }

    /// The sum of all samples of a name, whatever their labels.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn sum(&self, name: &str) -> f64 {
        let mut values =
            self.samples.iter().filter(|(key, _)| name_of(key) == name).map(|(_, value)| value).peekable();
        assert!(values.peek().is_some(), "no sample {name} among {:?}", self.samples.keys());
        values.sum()
    }

    /// Reads a page.
    ///
    /// # Panics
    /// When a line of it is no sample.
    #[track_caller]
    pub fn parse(text: &str) -> Metrics {
        let mut samples = BTreeMap::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (key, value) = parse_sample(line).unwrap_or_else(|| panic!("no sample: {line:?}"));
            let before = samples.insert(key.to_owned(), value);
            assert_eq!(before, None, "{key} is there twice");
        }
        Metrics { samples }
    }
}

/// A name and labels, a value, and maybe a time stamp or an exemplar, which are left. A label's value may hold blanks
/// and braces, so its quotes are followed.
fn parse_sample(line: &str) -> Option<(&str, f64)> {
    let (mut quoted, mut escaped) = (false, false);
    let end = line.find(|character| {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = quoted,
            '"' => quoted = !quoted,
            _ => {}
        }
        character == ' ' && !quoted
    })?;
    let value = line[end..].split_whitespace().next()?;
    Some((&line[..end], value.parse().ok()?))
}

fn name_of(sample: &str) -> &str {
    sample.split('{').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# HELP a What it is.\n# TYPE a counter\n\
        a_total{how=\"hit\"} 3\na_total{how=\"a \\\" } c\"} 4 1700000000\n\
        a_totals 100\nup 1.5e3\nbucket{le=\"+Inf\"} 7 # {trace=\"x\"} 0.1\nload NaN\n# EOF\n";

    #[test]
    fn samples_are_found_by_name_and_labels() {
        let metrics = Metrics::parse(PAGE);
        assert_eq!(metrics.value("a_total{how=\"hit\"}"), 3.0);
        assert_eq!(metrics.value("a_total{how=\"a \\\" } c\"}"), 4.0);
        assert_eq!(metrics.sum("a_total"), 7.0);
        assert_eq!(metrics.value("up"), 1500.0);
        assert_eq!(metrics.value("bucket{le=\"+Inf\"}"), 7.0);
        assert!(metrics.value("load").is_nan());
        assert_eq!(metrics.samples.len(), 6);
    }

    #[test]
    #[should_panic(expected = "no sample a_total{how=\"miss\"}; of that name there are [\"a_total{how=")]
    fn a_sample_that_is_not_there_panics_with_its_neighbours() {
        Metrics::parse(PAGE).value("a_total{how=\"miss\"}");
    }

    #[test]
    #[should_panic(expected = "no sample: \"up\"")]
    fn a_line_that_is_no_sample_panics() {
        Metrics::parse("up\n");
    }
}
