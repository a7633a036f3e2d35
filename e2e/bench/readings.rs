//! Results of the measurement: numbers by name, and their percentiles.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::contender::Contender;

/// Numbers by name, such as `curfew.activation_ms.single.p50`: the program, the quantity with its unit, the case and
/// the percentile.
#[derive(Debug, Default)]
pub struct Readings(BTreeMap<String, f64>);

impl Readings {
    /// Stores a number.
    pub fn put(&mut self, who: Contender, what: &str, value: f64) {
        self.0.insert(format!("{who}.{what}"), value);
    }

    /// Stores p50, p99 and maximum of some times, in milliseconds.
    pub fn put_times(&mut self, who: Contender, what: &str, times: &[f64]) {
        let mut times = times.to_vec();
        times.sort_by(f64::total_cmp);
        for (name, percent) in [("p50", 50), ("p99", 99), ("max", 100)] {
            if let Some(value) = percentile(&times, percent) {
                self.put(who, &format!("{what}.{name}"), value);
            }
        }
    }

    /// The number with this name; `None` if it was not measured.
    pub fn get(&self, who: Contender, what: &str) -> Option<f64> {
        self.0.get(&format!("{who}.{what}")).copied()
    }

    /// All numbers as a JSON object, rounded to three decimals.
    pub fn json(&self) -> Value {
        let rounded = |value: &f64| Value::from((value * 1000.0).round() / 1000.0);
        let numbers = self.0.iter().map(|(name, value)| (name.clone(), rounded(value)));
        Value::Object(numbers.collect())
    }
}

/// The nearest-rank percentile: the smallest value such that at least `percent` percent of the values are not larger.
/// The result is always a measured value. Of 100 values the 99th percentile is the second largest.
///
/// The values must be sorted in ascending order. Without values the result is `None`.
pub fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// Milliseconds from one time to another; negative if `to` is earlier.
pub fn milliseconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64() * 1000.0
}
