//! The time that decisions use, and the clock skew between this machine and the API server.
//!
//! There are three sources:
//! - This machine's wall clock can be wrong, and people can set it.
//! - This machine's monotonic time cannot be set, and stops while the machine is suspended.
//! - The `Date` header of each response has the API server's time, in whole seconds, from shortly before the response
//!   is read.
//!
//! The API server's clock decides, within the bounds known of it: it dates all grants, all replicas see the same clock,
//! and ending access needs the API server anyway. Within the bounds (a fraction of a second, more after a long
//! silence), and before the first response, this machine's own clock decides.
//!
//! Once both clocks have reached a time, one clock alone cannot go back behind it. If the API server's clock is set
//! back, no access lasts longer, as long as this machine's clock is right.

use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::core::time::timestamp::later;

/// Largest skew without a warning: 5 s. A `Date` is cut to whole seconds, and NTP keeps a clock within milliseconds.
pub const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_secs(5);

/// Largest skew at which access is granted and a sweep succeeds: 30 s. Beyond it one of the clocks is wrong, no one can
/// tell which, and access would end that much too early or too late.
pub const CLOCKS_FAIL: SignedDuration = SignedDuration::from_secs(30);

/// Resolution of a `Date` header.
const WHOLE_SECOND: Duration = Duration::from_secs(1);

/// Two clocks drift apart by at most 1/1000 of the elapsed time: NTP slews each clock by at most 500 ppm, and quartz is
/// ten times better.
const DRIFT: u32 = 1000;

/// Largest difference between elapsed wall-clock time and elapsed monotonic time without a leap. No one sets a clock by
/// less than 1 s, and a `Date` is no more exact.
const LEAP: SignedDuration = SignedDuration::from_secs(1);

/// One reading of this machine's clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// Wall clock (UTC).
    pub wall: Timestamp,
    /// Monotonic time since the start of this process.
    pub up: Duration,
}

impl LocalTime {
    /// Whether the wall clock was set, or the machine was suspended, since `earlier`. The two look the same.
    fn leapt_since(&self, earlier: &Self) -> bool {
        let walked = self.wall.duration_since(earlier.wall);
        let passed = signed(self.up.saturating_sub(earlier.up));
        walked.saturating_sub(passed).abs() > LEAP
    }
}

/// The time in one response of the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// The `Date` header: when the response was made, cut to whole seconds.
    pub date: Timestamp,
    /// When the request was sent.
    pub sent: LocalTime,
    /// When the response came.
    pub received: LocalTime,
}

/// Bounds on the API server's clock at one reading of this machine's clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ServerTime {
    earliest: Timestamp,
    latest: Timestamp,
    at: LocalTime,
}

impl ServerTime {
    /// The bounds from one response, at the time the response came.
    fn of(answer: &ClockReading) -> Self {
        let way = answer.received.up.saturating_sub(answer.sent.up);
        Self {
            earliest: answer.date,
            latest: later(answer.date, WHOLE_SECOND.saturating_add(way)),
            at: answer.received,
        }
    }

    /// The bounds at a later reading. They widen by the possible drift.
    fn by(&self, at: LocalTime) -> Self {
        let passed = at.up.saturating_sub(self.at.up);
        let drift = passed / DRIFT;
        Self {
            earliest: later(self.earliest, passed.saturating_sub(drift)),
            latest: later(self.latest, passed.saturating_add(drift)),
            at,
        }
    }

    /// The bounds that satisfy both, at the reading of `self`; `None` if they contradict each other.
    fn and(&self, other: &Self) -> Option<Self> {
        let both = Self {
            earliest: self.earliest.max(other.earliest),
            latest: self.latest.min(other.latest),
            at: self.at,
        };
        (both.earliest <= both.latest).then_some(both)
    }
}

/// Bounds on how far this machine's clock is ahead of the API server's. Negative means behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skew {
    /// Lower bound.
    pub least: SignedDuration,
    /// Upper bound.
    pub most: SignedDuration,
}

/// What Curfew may do at a clock skew. Ending access is always allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockAgreement {
    /// Everything.
    Fine,
    /// Everything, with a warning: more than 5 s.
    Warn,
    /// Grant no access: more than 30 s.
    Refuse,
}

impl Skew {
    /// The smallest skew that explains the responses; zero if their travel time and whole seconds explain everything.
    /// Negative means behind.
    pub fn ahead(&self) -> SignedDuration {
        self.least.max(SignedDuration::ZERO) + self.most.min(SignedDuration::ZERO)
    }

    /// What Curfew may do at this skew.
    pub fn verdict(&self) -> ClockAgreement {
        let skew = self.ahead().abs();
        if skew > CLOCKS_FAIL {
            ClockAgreement::Refuse
        } else if skew > CLOCKS_DIFFER {
            ClockAgreement::Warn
        } else {
            ClockAgreement::Fine
        }
    }
}

/// Text such as `40 s ahead of`, for the middle of a sentence.
impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ahead = self.ahead();
        let side = if ahead.is_positive() { "ahead of" } else { "behind" };
        write!(f, "{:.0} s {side}", ahead.abs().as_secs_f64())
    }
}

/// A time that both clocks have reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Agreed {
    time: Timestamp,
    up: Duration,
}

impl Agreed {
    /// This time plus the elapsed monotonic time, minus the possible drift.
    fn by(&self, up: Duration) -> Timestamp {
        let passed = up.saturating_sub(self.up);
        later(self.time, passed.saturating_sub(passed / DRIFT))
    }
}

/// Everything known about the time.
#[derive(Clone, Copy, Debug)]
pub struct Timekeeping {
    began: Timestamp,
    server: Option<ServerTime>,
    agreed: Option<Agreed>,
}

impl Timekeeping {
    /// Time of a process that started at `began` by its wall clock and has had no response yet.
    pub fn since(began: Timestamp) -> Self {
        Self {
            began,
            server: None,
            agreed: None,
        }
    }

    /// Adds the time of one response.
    ///
    /// Several responses together give bounds closer than one second. If responses contradict each other, the last one
    /// counts: another API server with another clock may have answered, a clock was set, or this machine was suspended.
    /// A response during which a clock leapt is ignored: it may have been read hours later.
    pub fn heard(&mut self, answer: &ClockReading) {
        if answer.received.leapt_since(&answer.sent) {
            return;
        }
        let new = ServerTime::of(answer);
        let server = match self.server {
            None => new,
            // Responses arrive in parallel: this one was read before the last one that was added.
            Some(old) if new.at.up < old.at.up => old.and(&new.by(old.at)).unwrap_or(old),
            Some(old) => new.and(&old.by(new.at)).unwrap_or(new),
        };
        self.server = Some(server);
        self.agree(&server);
    }

    /// Records the time that both clocks have reached. An earlier record stays, unless both clocks were set back.
    fn agree(&mut self, server: &ServerTime) {
        let LocalTime { wall, up } = server.at;
        let time = wall.min(server.earliest);
        let before = self.agreed.map(|agreed| agreed.by(up));
        if before.is_none_or(|before| before <= time || later(wall, WHOLE_SECOND) < before) {
            self.agreed = Some(Agreed { time, up });
        }
    }

    /// The time (UTC) that decisions use.
    ///
    /// This machine's own time is the later one of its wall clock and its start time plus monotonic time, so a clock
    /// that is set back delays no end of access. The own time is limited to the bounds of the API server's clock. The
    /// first response therefore moves a machine forward that is slow or was suspended; a fast machine waits.
    ///
    /// If both clocks have reached a later time, and the wall clock still shows it, that later time counts: the API
    /// server's clock was set back, or another API server answers whose clock is behind.
    pub fn now(&self, reading: LocalTime) -> Timestamp {
        let own = reading.wall.max(later(self.began, reading.up));
        let Some(server) = &self.server else { return own };
        let server = server.by(reading);
        let now = own.max(server.earliest).min(server.latest);
        self.agreed
            .map_or(now, |agreed| now.max(agreed.by(reading.up).min(reading.wall)))
    }

    /// Whether the time needs a new response: there was none yet, or this machine's clock was set or the machine
    /// suspended since the last one. Until a response comes, [`now`](Self::now) continues as before.
    pub fn is_doubtful(&self, reading: LocalTime) -> bool {
        self.server
            .as_ref()
            .is_none_or(|server| reading.leapt_since(&server.at))
    }

    /// The clock skew; `None` while the time is doubtful.
    pub fn skew(&self, reading: LocalTime) -> Option<Skew> {
        let server = self.server.filter(|_| !self.is_doubtful(reading))?.by(reading);
        Some(Skew {
            least: reading.wall.duration_since(server.latest),
            most: reading.wall.duration_since(server.earliest),
        })
    }

    /// Why the clocks forbid granting access, for people; `None` if they do not.
    pub fn objection(&self, reading: LocalTime) -> Option<String> {
        let Some(skew) = self.skew(reading) else {
            let message = "no access is granted until the time of the API server is known; check that the operator can \
                           reach it";
            return Some(message.to_owned());
        };
        if skew.verdict() != ClockAgreement::Refuse {
            return None;
        }
        let there = self
            .server
            .map_or(reading.wall, |server| server.by(reading).earliest);
        Some(format!(
            "no access is granted while clocks differ by more than {} s: the operator's clock ({}) is {skew} the API \
             server's ({}); correct the wrong clock",
            CLOCKS_FAIL.as_secs(),
            whole_second(reading.wall),
            whole_second(there),
        ))
    }
}

/// Cut to whole seconds, as in a `Date` header.
fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

fn signed(time: Duration) -> SignedDuration {
    SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
#[path = "tests/clock_properties.rs"]
mod properties;
#[cfg(test)]
#[path = "tests/clock.rs"]
mod tests;
