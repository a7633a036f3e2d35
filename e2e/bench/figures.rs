//! The figures to reach, as data.

use crate::contender::Contender;
use crate::readings::Readings;

/// One figure to reach.
#[derive(Debug)]
pub struct Figure {
    /// What it is about.
    pub name: &'static str,
    /// The reading of Curfew that is judged.
    pub reading: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// What it must keep to.
    pub limit: Limit,
}

/// What a reading must keep to.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// At most this.
    AtMost(f64),
    /// Less than this.
    Below(f64),
    /// At most so many times what the bare client took in the same run.
    AtMostTimesBare(f64),
    /// At least so many times what the bare client did in the same run.
    AtLeastTimesBare(f64),
    /// At most so many times another reading of Curfew in the same run.
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

/// All of them.
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
        "writes a grant, role",
        "writes_per_grant.role",
        "",
        Limit::AtMost(9.0),
    ),
    figure(
        "writes a grant, rules",
        "writes_per_grant.rules",
        "",
        Limit::AtMost(11.0),
    ),
    figure(
        "writes while idle but heartbeats, 1,000 live",
        "idle_writes.live1000",
        "",
        Limit::AtMost(0.0),
    ),
    figure(
        "requests while idle, 1,000 live",
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
        "writes while idle, 1,000 awaiting approval",
        "idle_writes.awaiting1000",
        "",
        Limit::AtMost(0.0),
    ),
    figure(
        "requests while idle, 1,000 awaiting approval",
        "idle_requests_per_second.awaiting1000",
        "/s",
        Limit::Below(1.0),
    ),
    figure(
        "operator CPU a grant",
        "cpu_ms_per_grant.burst1000",
        "ms",
        Limit::AtMost(4.0),
    ),
    figure("resident, idle", "resident_mib.idle", "MiB", Limit::AtMost(15.0)),
    figure(
        "resident, 1,000 live",
        "resident_mib.burst1000",
        "MiB",
        Limit::AtMost(25.0),
    ),
    figure(
        "resident, 10,000 of which 9,000 ended",
        "resident_mib.total10000",
        "MiB",
        Limit::AtMost(60.0),
    ),
    figure(
        "start to ready, 10,000",
        "start_ms.total10000",
        "ms",
        Limit::AtMost(2000.0),
    ),
    figure(
        "start to first end, 1,000 of them overdue",
        "overdue_first_ms.total10000",
        "ms",
        Limit::AtMost(2000.0),
    ),
    figure(
        "from first to last end of 1,000 overdue",
        "ends_ms.overdue1000",
        "ms",
        Limit::AtMostTimesBare(1.5),
    ),
];

/// What became of a figure.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// What was seen.
    pub value: f64,
    /// The limit in the reading's unit.
    pub limit: f64,
    /// What was seen by what the bare client did, where that is what counts.
    pub ratio: Option<f64>,
    /// Whether it was kept.
    pub reached: bool,
}

impl Figure {
    /// What became of it; nothing if it was not measured.
    pub fn judge(&self, readings: &Readings) -> Option<Seen> {
        let value = readings.get(Contender::Curfew, self.reading)?;
        let times_bare = |times: f64| {
            let bare = readings.get(Contender::Bare, self.reading)?;
            Some((times * bare, Some(value / bare)))
        };
        let (limit, ratio) = match self.limit {
            Limit::AtMost(limit) | Limit::Below(limit) => (limit, None),
            Limit::AtMostTimesBare(times) | Limit::AtLeastTimesBare(times) => times_bare(times)?,
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

    /// The limit in words.
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
