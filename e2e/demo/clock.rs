//! Times for people: in the zone of this machine, to the millisecond.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A clock on the wall.
pub struct Clock(TimeZone);

impl Clock {
    /// The zone that `TZ` or `/etc/localtime` names, else UTC.
    pub fn local() -> Self {
        let named = std::env::var("TZ").ok().or_else(|| {
            let target = std::fs::read_link("/etc/localtime").ok()?;
            let (_, name) = target.to_str()?.split_once("zoneinfo/")?;
            Some(name.to_owned())
        });
        let zone = named.and_then(|name| TimeZone::get(name.trim_start_matches(':')).ok());
        Self(zone.unwrap_or(TimeZone::UTC))
    }

    /// Such as `15:04:05.678`.
    pub fn time(&self, at: Timestamp) -> String {
        at.to_zoned(self.0.clone()).strftime("%H:%M:%S%.3f").to_string()
    }

    /// Such as `CET`.
    pub fn zone(&self) -> String {
        Timestamp::now()
            .to_zoned(self.0.clone())
            .strftime("%Z")
            .to_string()
    }
}
