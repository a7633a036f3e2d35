//! Weekly windows: the times at which access may exist.
//!
//! A window is written in local wall time and evaluated as instants. All clocks then agree on the moment at
//! which access ends. A clock change makes some wall times impossible or double. Access then lasts at most
//! until the wall clock shows the stated end, or skips it, for the last time:
//!
//! | wall time        | `from`                             | `to`                                |
//! |------------------|------------------------------------|-------------------------------------|
//! | skipped (gap)    | opens at the jump                  | closes at the jump                  |
//! | repeated (fold)  | opens when it comes the first time | closes when it comes the last time  |

use std::iter::successors;

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

use crate::api;

/// How far ahead [`opening`] follows windows that touch. This is longer than any access (32 days,
/// [`api::DurationText`]), and therefore never shortens access.
pub const HORIZON: SignedDuration = SignedDuration::from_hours(40 * 24);

/// How far ahead [`opening`] looks for the next window. If a gap skips a whole window, the next one is a week
/// later.
pub const OUTLOOK: SignedDuration = SignedDuration::from_hours(14 * 24);

/// A weekly window with a valid zone and valid times.
#[derive(Clone, Debug)]
pub struct Window {
    name: String,
    zone: TimeZone,
    days: Vec<Weekday>,
    from: Time,
    to: WallEnd,
}

/// Wall time at which a window closes, relative to the day on which it opens.
#[derive(Clone, Copy, Debug)]
struct WallEnd {
    on_the_next_day: bool,
    time: Time,
}

/// One occurrence of a window: from `opens` until just before `closes`. Never empty.
struct OpenPeriod {
    opens: Timestamp,
    closes: Timestamp,
}

/// Which of two equal wall times is meant when a clock is set back.
#[derive(Clone, Copy)]
enum Occurrence {
    First,
    Last,
}

/// Why a window is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// The time zone is not in the IANA database that is built into Curfew.
    #[error(
        "window {window:?}: unknown time zone {zone:?}; \
         give an IANA name such as Europe/Berlin, America/New_York or UTC"
    )]
    UnknownZone {
        /// Name of the window.
        window: String,
        /// The zone as written.
        zone: String,
    },
    /// `from` is not a time of day.
    #[error("window {window:?}: from is {from:?}; give a time from 00:00 to 23:59")]
    From {
        /// Name of the window.
        window: String,
        /// `from` as written.
        from: String,
    },
    /// `to` is not a time of day.
    #[error(
        "window {window:?}: to is {to:?}; give a time from 00:00 to 23:59, or 24:00 for the end of the day"
    )]
    To {
        /// Name of the window.
        window: String,
        /// `to` as written.
        to: String,
    },
    /// The window would have no length.
    #[error("window {window:?}: from and to are both {time:?}; a whole day is from 00:00 to 24:00")]
    NoLength {
        /// Name of the window.
        window: String,
        /// `from` and `to` as written.
        time: String,
    },
}

impl Window {
    /// Parses a window as written. The zone comes from the database that is built into Curfew, never from the
    /// host's. The result therefore does not depend on the machine.
    pub fn parse(window: &api::Window) -> Result<Self, WindowError> {
        let name = || window.name.clone();
        let zone = TimeZoneDatabase::bundled()
            .get(&window.time_zone)
            .ok()
            .filter(|zone| !zone.is_unknown())
            .ok_or_else(|| WindowError::UnknownZone {
                window: name(),
                zone: window.time_zone.clone(),
            })?;
        let from = time_of_day(&window.from).ok_or_else(|| WindowError::From {
            window: name(),
            from: window.from.clone(),
        })?;
        let to = WallEnd::parse(&window.to, from).ok_or_else(|| WindowError::To {
            window: name(),
            to: window.to.clone(),
        })?;
        if window.from == window.to {
            return Err(WindowError::NoLength {
                window: name(),
                time: window.from.clone(),
            });
        }
        Ok(Self {
            name: name(),
            zone,
            days: if window.days.is_empty() {
                Weekday::Monday.cycle_forward().take(7).collect()
            } else {
                window.days.iter().copied().map(weekday).collect()
            },
            from,
            to,
        })
    }

    /// Name of the window in its policy.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Every occurrence that overlaps the time from `start` to `end`, and possibly a few before and after.
    fn stretches(&self, start: Timestamp, end: Timestamp) -> impl Iterator<Item = OpenPeriod> {
        // A window can last into the day after it opens. A clock set back around midnight shows the previous
        // date again. Hence one more day at both ends.
        let first = self.zone.to_datetime(start).date();
        let first = first.yesterday().and_then(Date::yesterday).unwrap_or(Date::MIN);
        let last = self.zone.to_datetime(end).date().tomorrow().unwrap_or(Date::MAX);
        successors(Some(first), |date| date.tomorrow().ok())
            .take_while(move |date| *date <= last)
            .filter(|date| self.days.contains(&date.weekday()))
            .filter_map(|date| self.stretch_opening_on(date))
    }

    /// `None` if clocks skip the whole occurrence.
    fn stretch_opening_on(&self, date: Date) -> Option<OpenPeriod> {
        let closing_date = if self.to.on_the_next_day {
            date.tomorrow().ok()?
        } else {
            date
        };
        let opens = self.instant(date.to_datetime(self.from), Occurrence::First)?;
        let closes = self.instant(closing_date.to_datetime(self.to.time), Occurrence::Last)?;
        (opens < closes).then_some(OpenPeriod { opens, closes })
    }

    /// `None` only near the bounds of [`Timestamp`]. There, a window counts as closed.
    fn instant(&self, wall: DateTime, which: Occurrence) -> Option<Timestamp> {
        let ambiguous = self.zone.to_ambiguous_timestamp(wall);
        match (ambiguous.offset(), which) {
            (AmbiguousOffset::Gap { after, .. }, _) => {
                // With the offset after the jump, a skipped wall time is an instant before the jump.
                let before_the_jump = after.to_timestamp(wall).ok()?;
                self.zone
                    .following(before_the_jump)
                    .find(|transition| transition.offset() == after)
                    .map(|jump| jump.timestamp())
            }
            (_, Occurrence::First) => ambiguous.earlier().ok(),
            (_, Occurrence::Last) => ambiguous.later().ok(),
        }
    }
}

impl WallEnd {
    fn parse(text: &str, from: Time) -> Option<Self> {
        if text == "24:00" {
            return Some(Self {
                on_the_next_day: true,
                time: Time::midnight(),
            });
        }
        time_of_day(text).map(|time| Self {
            on_the_next_day: time <= from,
            time,
        })
    }
}

/// Parses `HH:MM` with two digits each, as the schema of [`api::Window`] requires.
fn time_of_day(text: &str) -> Option<Time> {
    let two_digits = |part: &str| {
        let well_formed = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        well_formed.then(|| part.parse::<i8>().ok()).flatten()
    };
    let (hour, minute) = text.split_once(':')?;
    Time::new(two_digits(hour)?, two_digits(minute)?, 0, 0).ok()
}

fn weekday(day: api::Day) -> Weekday {
    match day {
        api::Day::Mon => Weekday::Monday,
        api::Day::Tue => Weekday::Tuesday,
        api::Day::Wed => Weekday::Wednesday,
        api::Day::Thu => Weekday::Thursday,
        api::Day::Fri => Weekday::Friday,
        api::Day::Sat => Weekday::Saturday,
        api::Day::Sun => Weekday::Sunday,
    }
}

/// Whether access may exist at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// There are no windows: always.
    Always,
    /// At least one window is open from now until just before this instant. At this instant no window is
    /// open, unless the instant is [`HORIZON`] ahead.
    Until(Timestamp),
    /// No window is open.
    Closed {
        /// When the next window opens; `None` if none opens within [`OUTLOOK`].
        next: Option<Timestamp>,
    },
}

/// Whether access may exist at `now`, and when that changes. Windows are half-open: a window is closed at its
/// closing instant. Windows that touch or overlap count as one, even in different zones.
pub fn opening(windows: &[Window], now: Timestamp) -> Opening {
    if windows.is_empty() {
        return Opening::Always;
    }
    let horizon = now.checked_add(HORIZON).unwrap_or(Timestamp::MAX);
    let mut stretches: Vec<OpenPeriod> = windows
        .iter()
        .flat_map(|window| window.stretches(now, horizon))
        .collect();
    stretches.sort_unstable_by_key(|stretch| stretch.opens);

    let mut open_until = now;
    for OpenPeriod { opens, closes } in stretches {
        if opens > open_until {
            if open_until == now {
                let next = (opens.duration_since(now) <= OUTLOOK).then_some(opens);
                return Opening::Closed { next };
            }
            break;
        }
        open_until = open_until.max(closes);
    }
    if open_until == now {
        Opening::Closed { next: None }
    } else {
        Opening::Until(open_until.min(horizon))
    }
}

#[cfg(test)]
#[path = "tests/window.rs"]
mod tests;
