//! Times of day for people: in the time zone of this machine, to the millisecond.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Formats times in one time zone.
pub struct Clock(TimeZone);

impl Clock {
    /// A clock in the time zone that `TZ` names; else the one of `/etc/localtime`; else UTC.
    pub fn local() -> Self {
        let zone_name = std::env::var("TZ").ok().or_else(|| {
            let target = std::fs::read_link("/etc/localtime").ok()?;
            let (_, name) = target.to_str()?.split_once("zoneinfo/")?;
            Some(name.to_owned())
        });
        let zone = zone_name.and_then(|name| TimeZone::get(name.trim_start_matches(':')).ok());
        Self(zone.unwrap_or(TimeZone::UTC))
    }

    /// The time of day, such as `15:04:05.678`.
    pub fn time(&self, at: Timestamp) -> String {
        at.to_zoned(self.0.clone()).strftime("%H:%M:%S%.3f").to_string()
    }

    /// The abbreviation of the time zone now, such as `CET`.
    pub fn zone(&self) -> String {
        Timestamp::now()
            .to_zoned(self.0.clone())
            .strftime("%Z")
            .to_string()
    }
}
