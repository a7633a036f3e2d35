//! State of a fuse Job.

use jiff::{SignedDuration, Timestamp};

/// Longest delay between the creation and the start of a fuse before the fuse counts as late.
///
/// A Job counts its deadline from its start, so a late start means a late end. Measured: 500 fuses created at once were
/// lit within 25 s.
pub const LATE: SignedDuration = SignedDuration::from_mins(1);

/// State of an existing fuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FuseState {
    /// Started in time. It removes the access at its deadline.
    Lit,
    /// Started more than [`LATE`] after its creation. It removes the access that much too late.
    Late {
        /// Creation time (UTC), as the API server recorded it.
        made: Timestamp,
    },
    /// Not started by the Job controller of kube-controller-manager.
    NotStarted,
    /// Suspended: the Job controller does not start a suspended Job.
    Suspended,
}

impl FuseState {
    /// State of a Job from its fields. A Job without a known creation time is never late.
    pub fn of(suspended: bool, made: Option<Timestamp>, started: Option<Timestamp>) -> Self {
        match (suspended, made, started) {
            (true, ..) => Self::Suspended,
            (false, _, None) => Self::NotStarted,
            (false, Some(made), Some(started)) if started.duration_since(made) > LATE => Self::Late { made },
            (false, _, Some(_)) => Self::Lit,
        }
    }
}
