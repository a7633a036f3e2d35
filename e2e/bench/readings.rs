//! What was measured: numbers by name, and the percentiles they come from.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::contender::Contender;

/// Numbers by name, such as `curfew.activation_ms.single.p50`.
#[derive(Debug, Default)]
pub struct Readings(BTreeMap<String, f64>);

impl Readings {
    /// Takes a number.
    pub fn put(&mut self, who: Contender, what: &str, value: f64) {
        self.0.insert(format!("{who}.{what}"), value);
    }

    /// Takes the percentiles of some milliseconds.
    pub fn put_times(&mut self, who: Contender, what: &str, times: &[f64]) {
        let mut times = times.to_vec();
        times.sort_by(f64::total_cmp);
        for (name, percent) in [("p50", 50), ("p99", 99), ("max", 100)] {
            if let Some(value) = percentile(&times, percent) {
                self.put(who, &format!("{what}.{name}"), value);
            }
        }
    }

    /// The number of that name, if it was measured.
    pub fn get(&self, who: Contender, what: &str) -> Option<f64> {
        self.0.get(&format!("{who}.{what}")).copied()
    }

    /// All of them.
    pub fn json(&self) -> Value {
        let rounded = |value: &f64| Value::from((value * 1000.0).round() / 1000.0);
        let numbers = self.0.iter().map(|(name, value)| (name.clone(), rounded(value)));
        Value::Object(numbers.collect())
    }
}

/// The nearest-rank percentile: the smallest value of which so many percent of the values are not larger. It is
/// always a value that was seen; of 100 values the 99th percentile is the second largest.
pub fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// Milliseconds from one moment to another.
pub fn milliseconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64() * 1000.0
}
