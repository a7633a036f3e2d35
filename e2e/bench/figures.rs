//! The targets of the benchmark, as data: a limit for each of some readings of Curfew.

use crate::contender::Contender;
use crate::readings::Readings;

/// A target: one reading of Curfew and its limit.
#[derive(Debug)]
pub struct Figure {
    /// Name in the table, at most 40 characters.
    pub name: &'static str,
    /// Name of the reading of Curfew that is compared with the limit.
    pub reading: &'static str,
    /// Unit of the reading; empty for a plain number.
    pub unit: &'static str,
    /// Limit of the reading.
    pub limit: Limit,
}

/// Limit of a reading.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// At most this value.
    AtMost(f64),
    /// Less than this value.
    Below(f64),
    /// At most this multiple of the bare client's reading in the same run.
    AtMostTimesBare(f64),
    /// At least this multiple of the bare client's reading in the same run.
    AtLeastTimesBare(f64),
    /// At most this multiple of another reading of Curfew in the same run.
    AtMostTimes(f64, &'static str),
}

const fn figure(name: &'static str, reading: &'static str, unit: &'static str, limit: Limit) -> Figure {
    Figure {
        name,
        reading,
        unit,
        limit,
    }
}

/// All targets, in the order of the table. Idle writes do not count heartbeats: see
/// [`Writes`](crate::writes::Writes).
pub const FIGURES: [Figure; 19] = [
    figure(
        "revocation lag, idle, p99",
        "lag_ms.single.p99",
        "ms",
        Limit::AtMost(25.0),
    ),
    figure(
        "revocation lag, 100 at once, p99",
        "lag_ms.burst100.p99",
        "ms",
        Limit::AtMostTimesBare(1.5),
    ),
    figure(
        "revocation lag, 1,000 at once, p99",
        "lag_ms.burst1000.p99",
        "ms",
        Limit::AtMostTimesBare(1.6),
    ),
    figure(
        "activation, one at a time, p50",
        "activation_ms.single.p50",
        "ms",
        Limit::AtMostTimesBare(4.0),
    ),
    figure(
        "activation, 1,000 at once, rate",
        "activations_per_second.burst1000",
        "/s",
        Limit::AtLeastTimesBare(0.3),
    ),
    figure(
        "writes per grant, role",
        "writes_per_grant.role",
        "",
        Limit::AtMost(9.0),
    ),
    figure(
        "writes per grant, rules",
        "writes_per_grant.rules",
        "",
        Limit::AtMost(11.0),
    ),
    figure(
        "idle writes, 1,000 live",
        "idle_writes.live1000",
        "",
        Limit::AtMost(0.0),
    ),
    figure(
        "idle requests, 1,000 live",
        "idle_requests_per_second.live1000",
        "/s",
        Limit::Below(1.0),
    ),
    figure(
        "approval to access, p50",
        "approval_ms.single.p50",
        "ms",
        Limit::AtMostTimes(1.3, "activation_ms.single.p50"),
    ),
    figure(
        "idle writes, 1,000 awaiting approval",
        "idle_writes.awaiting1000",
        "",
        Limit::AtMost(0.0),
    ),
    figure(
        "idle requests, 1,000 awaiting approval",
        "idle_requests_per_second.awaiting1000",
        "/s",
        Limit::Below(1.0),
    ),
    figure(
        "operator CPU per grant",
        "cpu_ms_per_grant.burst1000",
        "ms",
        Limit::AtMost(4.0),
    ),
    figure(
        "resident memory, idle",
        "resident_mib.idle",
        "MiB",
        Limit::AtMost(15.0),
    ),
    figure(
        "resident memory, 1,000 live",
        "resident_mib.burst1000",
        "MiB",
        Limit::AtMost(25.0),
    ),
    figure(
        "resident memory, 1,000 live, 9,000 ended",
        "resident_mib.total10000",
        "MiB",
        Limit::AtMost(60.0),
    ),
    figure(
        "start to ready, 10,000 grants",
        "start_ms.total10000",
        "ms",
        Limit::AtMost(2000.0),
    ),
    figure(
        "start to first end, 1,000 overdue",
        "overdue_first_ms.total10000",
        "ms",
        Limit::AtMost(2000.0),
    ),
    figure(
        "first to last end, 1,000 overdue",
        "ends_ms.overdue1000",
        "ms",
        Limit::AtMostTimesBare(1.5),
    ),
];

/// Result of a target.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The reading of Curfew.
    pub value: f64,
    /// The limit in the reading's unit.
    pub limit: f64,
    /// The reading divided by the reading that the limit refers to; `None` for a limit that is a plain value.
    pub ratio: Option<f64>,
    /// Whether the reading keeps the limit.
    pub reached: bool,
}

impl Figure {
    /// Compares the reading with the limit. `None` if a reading that is needed was not measured.
    pub fn judge(&self, readings: &Readings) -> Option<Seen> {
        let value = readings.get(Contender::Curfew, self.reading)?;
        let multiple_of_bare = |times: f64| {
            let bare = readings.get(Contender::Bare, self.reading)?;
            Some((times * bare, Some(value / bare)))
        };
        let (limit, ratio) = match self.limit {
            Limit::AtMost(limit) | Limit::Below(limit) => (limit, None),
            Limit::AtMostTimesBare(times) | Limit::AtLeastTimesBare(times) => multiple_of_bare(times)?,
            Limit::AtMostTimes(times, reading) => {
                let other = readings.get(Contender::Curfew, reading)?;
                (times * other, Some(value / other))
            }
        };
        let reached = match self.limit {
            Limit::AtMost(_) | Limit::AtMostTimesBare(_) | Limit::AtMostTimes(..) => value <= limit,
            Limit::Below(_) => value < limit,
            Limit::AtLeastTimesBare(_) => value >= limit,
        };
        Some(Seen {
            value,
            limit,
            ratio,
            reached,
        })
    }

    /// The limit as text, such as `≤ 1.5 × bare`.
    pub fn limit_in_words(&self) -> String {
        let unit = self.unit;
        match self.limit {
            Limit::AtMost(limit) => format!("≤ {limit} {unit}"),
            Limit::Below(limit) => format!("< {limit} {unit}"),
            Limit::AtMostTimesBare(times) => format!("≤ {times} × bare"),
            Limit::AtLeastTimesBare(times) => format!("≥ {times} × bare"),
            Limit::AtMostTimes(times, reading) => format!("≤ {times} × {reading}"),
        }
        .trim_end()
        .to_owned()
    }
}
