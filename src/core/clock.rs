//! What time it is: by which clock decisions go, and how far this machine's is from the API server's.
//!
//! There are three sources. This machine's wall clock may be wrong, and may be set. Its monotonic time cannot be set,
//! and stands still while the machine is suspended. The API server says in the `Date` of each answer what time it is
//! there, in whole seconds, some time before the answer is read.
//!
//! The API server's clock decides, as far as it is known: everybody's grants are dated and judged there, all replicas
//! hear the same one, and whoever ends access talks to it anyway. What it leaves open (a fraction of a second, more the
//! longer it has been silent) is filled in from this machine's own clock, and so is everything before the first answer.
//! But a time that has come by both does not go back for one of them: an API server whose clock is set back prolongs
//! nothing, as long as this machine's says otherwise.

use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Beyond this the clocks are said to differ: a `Date` is cut to whole seconds, and NTP keeps a clock within
/// milliseconds.
pub const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_secs(5);

/// Beyond this nothing is given, and a sweep fails: one of the clocks is wrong, nobody can tell which, and access would
/// end so much early or late.
pub const CLOCKS_FAIL: SignedDuration = SignedDuration::from_secs(30);

/// What a `Date` leaves open.
const WHOLE_SECOND: Duration = Duration::from_secs(1);

/// By which part of the time that passes two clocks may run apart: NTP slews each by 500 ppm at most, quartz is ten
/// times better than that.
const DRIFT: u32 = 1000;

/// By how much wall clock and monotonic time may differ in what has passed before one of them must have leapt: nobody
/// steps a clock by less, and a second is what a `Date` leaves open.
const LEAP: SignedDuration = SignedDuration::from_secs(1);

/// This machine's clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Its wall clock (UTC).
    pub wall: Timestamp,
    /// Monotonic time since this process began.
    pub up: Duration,
}

impl Reading {
    /// Whether the wall clock was set since `earlier`, or the machine was suspended: the two cannot be told apart.
    fn leapt_since(&self, earlier: &Self) -> bool {
        let walked = self.wall.duration_since(earlier.wall);
        let passed = signed(self.up.saturating_sub(earlier.up));
        walked.saturating_sub(passed).abs() > LEAP
    }
}

/// What an answer of the API server says of its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its `Date`: the time at which it was made, cut to whole seconds.
    pub date: Timestamp,
    /// When the request was sent.
    pub sent: Reading,
    /// When the answer came.
    pub received: Reading,
}

/// What is known of the API server's clock: at a moment of this machine it was within these bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ServerTime {
    earliest: Timestamp,
    latest: Timestamp,
    at: Reading,
}

impl ServerTime {
    /// What one answer says of the moment at which it came.
    fn of(answer: &Answer) -> Self {
        let way = answer.received.up.saturating_sub(answer.sent.up);
        Self {
            earliest: answer.date,
            latest: later(answer.date, WHOLE_SECOND.saturating_add(way)),
            at: answer.received,
        }
    }

    /// What follows for a later moment. The bounds widen by what clocks run apart.
    fn by(&self, at: Reading) -> Self {
        let passed = at.up.saturating_sub(self.at.up);
        let drift = passed / DRIFT;
        Self {
            earliest: later(self.earliest, passed.saturating_sub(drift)),
            latest: later(self.latest, passed.saturating_add(drift)),
            at,
        }
    }

    /// What both say together, of the moment of `self`; `None`: they contradict each other.
    fn and(&self, other: &Self) -> Option<Self> {
        let both = Self {
            earliest: self.earliest.max(other.earliest),
            latest: self.latest.min(other.latest),
            at: self.at,
        };
        (both.earliest <= both.latest).then_some(both)
    }
}

/// How far this machine's clock is ahead of the API server's, between two bounds; negative: behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skew {
    /// At least so far.
    pub least: SignedDuration,
    /// At most so far.
    pub most: SignedDuration,
}

/// What may be done by clocks that differ so much. Access is ended in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything.
    Fine,
    /// Everything, and somebody should know: more than 5 s.
    Warn,
    /// Nothing is given: more than 30 s.
    Refuse,
}

impl Skew {
    /// The smallest difference that explains what was seen: zero where the way of the answers and their whole seconds
    /// do. Negative: behind.
    pub fn ahead(&self) -> SignedDuration {
        self.least.max(SignedDuration::ZERO) + self.most.min(SignedDuration::ZERO)
    }

    /// What may be done.
    pub fn verdict(&self) -> Verdict {
        let skew = self.ahead().abs();
        if skew > CLOCKS_FAIL {
            Verdict::Refuse
        } else if skew > CLOCKS_DIFFER {
            Verdict::Warn
        } else {
            Verdict::Fine
        }
    }
}

/// `40 s ahead of`, for a sentence about whose clock is where.
impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ahead = self.ahead();
        let side = if ahead.is_positive() { "ahead of" } else { "behind" };
        write!(f, "{:.0} s {side}", ahead.abs().as_secs_f64())
    }
}

/// A time that both clocks have shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Agreed {
    time: Timestamp,
    up: Duration,
}

impl Agreed {
    /// What it has become since, by monotonic time; by no more than the slower of two clocks would show.
    fn by(&self, up: Duration) -> Timestamp {
        let passed = up.saturating_sub(self.up);
        later(self.time, passed.saturating_sub(passed / DRIFT))
    }
}

/// Everything that is known of the time.
#[derive(Clone, Copy, Debug)]
pub struct Timekeeping {
    began: Timestamp,
    server: Option<ServerTime>,
    agreed: Option<Agreed>,
}

impl Timekeeping {
    /// Of a process that began at that time of its wall clock, and has not heard the API server.
    pub fn since(began: Timestamp) -> Self {
        Self {
            began,
            server: None,
            agreed: None,
        }
    }

    /// Takes in an answer.
    ///
    /// What several answers say together is narrower than a second. Where they contradict each other the last one
    /// counts: it may come from another API server, whose clock is another one; or a clock was set; or this machine was
    /// suspended. An answer that was under way while a clock leapt says nothing: it may have been read hours later.
    pub fn heard(&mut self, answer: &Answer) {
        if answer.received.leapt_since(&answer.sent) {
            return;
        }
        let new = ServerTime::of(answer);
        let server = match self.server {
            None => new,
            // Answers come side by side: what one said that was read earlier makes this no less true.
            Some(old) if new.at.up < old.at.up => old.and(&new.by(old.at)).unwrap_or(old),
            Some(old) => new.and(&old.by(new.at)).unwrap_or(new),
        };
        self.server = Some(server);
        self.agree(&server);
    }

    /// Notes the time that both clocks show. What they have shown before counts on, unless both have gone back.
    fn agree(&mut self, server: &ServerTime) {
        let Reading { wall, up } = server.at;
        let time = wall.min(server.earliest);
        let before = self.agreed.map(|agreed| agreed.by(up));
        if before.is_none_or(|before| before <= time || later(wall, WHOLE_SECOND) < before) {
            self.agreed = Some(Agreed { time, up });
        }
    }

    /// The instant to decide by.
    ///
    /// This machine's own time is the later one of its wall clock and of when it began plus monotonic time, so that a
    /// clock that is set back delays nothing. It counts as far as the API server's answers leave the time open: a
    /// machine that is slow, or slept, is brought forward by the first answer, and one that is fast waits. Where both
    /// clocks had shown a later time already, and the wall clock still does, the API server's was set back, or another
    /// one answers, whose clock is behind.
    pub fn now(&self, reading: Reading) -> Timestamp {
        let own = reading.wall.max(later(self.began, reading.up));
        let Some(server) = &self.server else { return own };
        let server = server.by(reading);
        let now = own.max(server.earliest).min(server.latest);
        self.agreed
            .map_or(now, |agreed| now.max(agreed.by(reading.up).min(reading.wall)))
    }

    /// Whether the API server has to be asked what time it is: it was not heard yet, or this machine's clock was set
    /// since, or the machine was suspended. Until it has answered the time goes on as it did before.
    pub fn is_doubtful(&self, reading: Reading) -> bool {
        self.server
            .as_ref()
            .is_none_or(|server| reading.leapt_since(&server.at))
    }

    /// How far the clocks differ; `None` while that is doubtful.
    pub fn skew(&self, reading: Reading) -> Option<Skew> {
        let server = self.server.filter(|_| !self.is_doubtful(reading))?.by(reading);
        Some(Skew {
            least: reading.wall.duration_since(server.latest),
            most: reading.wall.duration_since(server.earliest),
        })
    }

    /// Why nothing may be given by these clocks, for people; `None`: it may.
    pub fn objection(&self, reading: Reading) -> Option<String> {
        let Some(skew) = self.skew(reading) else {
            return Some("nothing is given until the API server has said what time it is there".to_owned());
        };
        if skew.verdict() != Verdict::Refuse {
            return None;
        }
        let there = self
            .server
            .map_or(reading.wall, |server| server.by(reading).earliest);
        Some(format!(
            "nothing is given while clocks differ by more than {} s: the operator's ({}) is {skew} the API server's \
             ({}); set the one that is wrong",
            CLOCKS_FAIL.as_secs(),
            whole_second(reading.wall),
            whole_second(there),
        ))
    }
}

/// As a `Date` has it.
fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.saturating_add(by).unwrap_or(Timestamp::MAX)
}

fn signed(time: Duration) -> SignedDuration {
    SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
