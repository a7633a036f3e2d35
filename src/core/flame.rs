//! Whether a fuse burns.

use jiff::{SignedDuration, Timestamp};

/// Beyond this between its making and its start a fuse burns too late: it counts its seconds from its start. 500 at once
/// were lit within 25 s.
pub const LATE: SignedDuration = SignedDuration::from_mins(1);

/// How it stands with a fuse that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flame {
    /// It has been started in time, and burns at its end.
    Lit,
    /// It was started so long after it was made that it burns well after its end.
    Late {
        /// When it was made.
        made: Timestamp,
    },
    /// The Job controller has not started it.
    NotStarted,
    /// It is suspended, so nothing starts it.
    Suspended,
}

impl Flame {
    /// That of a Job which was made and started then, as far as that is known.
    pub fn of(suspended: bool, made: Option<Timestamp>, started: Option<Timestamp>) -> Self {
        match (suspended, made, started) {
            (true, ..) => Self::Suspended,
            (false, _, None) => Self::NotStarted,
            (false, Some(made), Some(started)) if started.duration_since(made) > LATE => Self::Late { made },
            (false, _, Some(_)) => Self::Lit,
        }
    }
}
