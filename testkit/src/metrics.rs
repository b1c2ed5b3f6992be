//! The metrics page.
use std::collections::BTreeMap;
use std::net::ToSocketAddrs;

/// The samples of a metrics page.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// `name` or `name{label="value"}` as printed, and its value.
    pub samples: BTreeMap<String, f64>,
}

#[allow(unused_variables)]
impl Metrics {
    /// The sample of this name and labels.
    pub fn value(&self, sample: &str) -> f64 {
        unimplemented!()
    }
    /// The sum over all labels of this name.
    pub fn sum(&self, name: &str) -> f64 {
        unimplemented!()
    }
}

/// Fetches `/metrics` from the admin port.
#[allow(unused_variables)]
pub fn metrics(admin: impl ToSocketAddrs) -> Metrics {
    unimplemented!()
}
