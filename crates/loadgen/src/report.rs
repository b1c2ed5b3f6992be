//! What a run says at its end: a table or JSON, and whether it can be trusted.

use std::fmt;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::http::Requests;
use crate::options::{Options, Rate};
use crate::schedule::nanos;
use crate::tally::{Fault, Tally};

/// The shares of requests whose latency is told.
const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];
/// A generator that was later than this for one request in a hundred has measured itself.
const LATE_NS: u64 = 500_000;
/// With a smaller share of the rate answered in time, the server's queue was growing.
const KEPT: f64 = 0.95;

/// The outcome of a run. Displays as a table.
#[derive(Clone, Debug)]
pub struct Report {
    options: Options,
    tally: Tally,
}

impl Report {
    pub(crate) fn new(options: Options, tally: Tally) -> Self {
        Report { options, tally }
    }

    /// Whether any value came, and no connection failed.
    pub fn is_sound(&self) -> bool {
        let failed = self.tally.faults.keys().any(|fault| *fault != Fault::Overload);
        !self.tally.latency.is_empty() && !failed
    }

    /// Answers a second: from the end of the warm-up to the end, or to the last answer where that came later.
    fn achieved_rate(&self) -> f64 {
        let warm_ns = nanos(self.options.warmup);
        let end_ns = warm_ns.saturating_add(nanos(self.options.duration)).max(self.tally.last_ns);
        self.tally.answers() as f64 / ((end_ns - warm_ns) as f64 / 1e9)
    }

    fn hit_ratio(&self) -> Option<f64> {
        let Tally { hits, misses, .. } = self.tally;
        (hits + misses > 0).then(|| hits as f64 / (hits + misses) as f64)
    }

    /// Why the figures may not mean what they seem to.
    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let (lag_ns, overload) = (self.tally.lag.value_at_quantile(0.99), self.tally.count(Fault::Overload));
        let Rate::PerSecond(rate) = self.options.rate else { return warnings };
        if lag_ns > LATE_NS {
            warnings.push(format!(
                "the generator was late by {} us at p99: the latencies are its own; give it a core or a lower rate",
                micros(lag_ns)
            ));
        }
        if overload > 0 {
            warnings.push(format!(
                "{overload} requests were not sent, --max-outstanding {} others having no answer: the latencies lack theirs",
                self.options.max_outstanding
            ));
        }
        if self.achieved_rate() < KEPT * rate as f64 {
            warnings.push(format!(
                "{:.0} answers/s of {rate}: above saturation latency is the length of the run",
                self.achieved_rate()
            ));
        }
        warnings
    }

    /// Everything, the parameters included; times in microseconds.
    pub fn json(&self) -> String {
        let Report { options, tally } = self;
        let statuses = tally.statuses.iter().map(|(status, count)| (status.to_string(), json!(count)));
        let faults = tally.faults.iter().map(|(fault, count)| (fault.name().to_owned(), json!(count)));
        let value = json!({
            "parameters": {
                "url": format!("http://{}", options.authority),
                "rate": match options.rate {
                    Rate::PerSecond(rate) => json!(rate),
                    Rate::Max => json!("max"),
                },
                "connections": options.connections,
                "threads": options.threads,
                "pipeline": options.pipeline,
                "max_outstanding": options.max_outstanding,
                "duration_seconds": options.duration.as_secs_f64(),
                "warmup_seconds": options.warmup.as_secs_f64(),
                "keys": options.keys,
                "zipf": options.zipf,
                "key_prefix": options.key_prefix,
                "key_digits": options.digits(),
                "request_bytes": Requests::new(options).bytes(),
                "fill": options.fill,
                "value_bytes": options.value_bytes,
                "seed": options.seed,
            },
            "requests": tally.due,
            "answers": tally.answers(),
            "achieved_rate": self.achieved_rate(),
            "statuses": statuses.collect::<Map<_, _>>(),
            "errors": faults.collect::<Map<_, _>>(),
            "reconnects": tally.reconnects,
            "hits": tally.hits,
            "misses": tally.misses,
            "hit_ratio": self.hit_ratio(),
            "body_bytes": tally.body_bytes,
            "latency_us": distribution(&tally.latency),
            "lag_us": distribution(&tally.lag),
            "warnings": self.warnings(),
        });
        format!("{value:#}")
    }
}

/// Quantiles, mean and maximum in microseconds; null where nothing was recorded.
fn distribution(histogram: &Histogram<u64>) -> Value {
    if histogram.is_empty() {
        return Value::Null;
    }
    let mut figures: Map<String, Value> = QUANTILES
        .iter()
        .map(|(name, quantile)| ((*name).to_owned(), json!(micros(histogram.value_at_quantile(*quantile)))))
        .collect();
    figures.insert("mean".into(), json!((histogram.mean() / 100.0).round() / 10.0));
    figures.insert("max".into(), json!(micros(histogram.max())));
    figures.into()
}

/// Nanoseconds in microseconds, to a tenth.
fn micros(ns: u64) -> f64 {
    (ns as f64 / 100.0).round() / 10.0
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { options, tally } = self;
        let pace = match options.rate {
            Rate::PerSecond(rate) => format!("{rate} requests/s by the clock"),
            Rate::Max => format!("as fast as answered, {} at a time", options.pipeline),
        };
        writeln!(f, "http://{}, {} connections, {pace}", options.authority, options.connections)?;
        writeln!(
            f,
            "{} keys, Zipf exponent {}, seed {}, {:?} after {:?} of warm-up\n",
            options.keys, options.zipf, options.seed, options.duration, options.warmup
        )?;
        writeln!(f, "requests   {:>12}", tally.due)?;
        writeln!(f, "answers    {:>12}   {:.1}/s", tally.answers(), self.achieved_rate())?;
        for (status, count) in &tally.statuses {
            writeln!(f, "  {status}      {count:>12}")?;
        }
        writeln!(f, "errors     {:>12}", tally.faults.values().sum::<u64>())?;
        for (fault, count) in &tally.faults {
            writeln!(f, "  {:12} {count:>8}", fault.name())?;
        }
        match self.hit_ratio() {
            Some(ratio) => writeln!(f, "hit ratio  {:>12.2} %", ratio * 100.0)?,
            None => writeln!(f, "hit ratio       not told")?,
        }
        writeln!(f, "\nmicroseconds      latency       lag")?;
        let row =
            |f: &mut fmt::Formatter<'_>, name: &str, figure: fn(&Histogram<u64>, f64) -> u64, at: f64| {
                let [latency, lag] =
                    [&tally.latency, &tally.lag].map(|histogram| match histogram.is_empty() {
                        true => "-".to_owned(),
                        false => format!("{:.1}", micros(figure(histogram, at))),
                    });
                writeln!(f, "  {name:8} {latency:>14} {lag:>9}")
            };
        for (name, quantile) in QUANTILES {
            row(f, name, |histogram, at| histogram.value_at_quantile(at), quantile)?;
        }
        row(f, "max", |histogram, _| histogram.max(), 1.0)?;
        for warning in self.warnings() {
            writeln!(f, "\nwarning: {warning}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::ResponseHead;
    use crate::options::tests::parse;

    fn report(args: &[&str], fill: impl FnOnce(&mut Tally)) -> Report {
        let mut tally = Tally::new();
        fill(&mut tally);
        Report::new(parse(args).unwrap(), tally)
    }

    const ANSWER: ResponseHead =
        ResponseHead { status: 200, hit: Some(true), body_bytes: 100, is_last: false };

    #[test]
    fn a_run_without_values_or_with_a_failed_connection_is_not_sound() {
        assert!(!report(&[], |_| {}).is_sound());
        assert!(!report(&[], |tally| tally.answer(ResponseHead { status: 503, ..ANSWER }, 0, 1)).is_sound());
        assert!(report(&[], |tally| tally.answer(ANSWER, 0, 1)).is_sound());
        let broken = report(&[], |tally| {
            tally.answer(ANSWER, 0, 1);
            tally.fault(Fault::Reset, 1);
        });
        assert!(!broken.is_sound());
    }

    #[test]
    fn the_rate_achieved_counts_until_the_last_answer() {
        let args = ["--rate", "10", "--warmup", "1", "--duration", "1"];
        let fill = |last_ns| {
            report(&args, |tally| (0..10).for_each(|_| tally.answer(ANSWER, 1_000_000_000, last_ns)))
        };
        let (in_time, late) = (fill(1_500_000_000), fill(3_000_000_000));
        assert!((in_time.achieved_rate() - 10.0).abs() < 1e-9 && in_time.warnings().is_empty());
        assert!((late.achieved_rate() - 5.0).abs() < 1e-9);
        assert!(late.warnings()[0].contains("saturation"), "{:?}", late.warnings());
    }

    #[test]
    fn a_late_generator_and_overload_are_warned_of_in_table_and_json() {
        let report = report(&["--rate", "1"], |tally| {
            (0..10).for_each(|_| tally.answer(ANSWER, 0, 1));
            tally.lag.record(600_000).unwrap();
            tally.fault(Fault::Overload, 3);
        });
        let json: Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(json["warnings"].as_array().unwrap().len(), 2, "{json}");
        assert_eq!(json["errors"]["overload"], 3);
        let table = report.to_string();
        assert!(table.contains("was late by 600") && table.contains("3 requests were not sent"), "{table}");
    }
}
