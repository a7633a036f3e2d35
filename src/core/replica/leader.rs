//! Leader election: what one replica knows about the Lease, and its next step.
//!
//! The scheme is client-go's leader election. The holder named in the Lease leads as long as its last renewal counts.
//! The others never compare the holder's clock with their own: each measures with its own monotonic clock how long it
//! has seen no renewal. Each write is bound to the resourceVersion it is based on, so only one of two concurrent writes
//! succeeds.
//!
//! All times here are durations since a start that the process chooses. Wall-clock times in the Lease are for people.

use std::time::Duration;

use jiff::Timestamp;

/// How long a renewal counts for the followers: 10 s. After a leader is killed, no access is granted for this time;
/// Curfew promises 15 s.
pub const DURATION: Duration = Duration::from_secs(10);

/// How long a leader leads after it sent its last successful renewal: 8 s. After that all work of the leader has
/// stopped.
///
/// The 2 s to [`DURATION`] are a margin. No second leader exists while the rates of two clocks differ by less than a
/// fifth, or while a leader is delayed by less than 2 s between its check and its action.
pub const LEADS_FOR: Duration = Duration::from_secs(8);

/// Interval of renewals: four within [`LEADS_FOR`], so three in a row may fail. One write costs the control plane 2.5
/// to 5 ms of processor time.
pub const RENEW_EVERY: Duration = Duration::from_secs(2);

/// Delay after a failed read or write.
pub const RETRY: Duration = Duration::from_millis(500);

/// How long a replica that steps aside leaves the Lease to others. They watch the Lease and take it within 1 s.
pub const ASIDE: Duration = Duration::from_secs(2);

/// Longest time that a renewal of another holder counts: a Lease with an absurd duration must not stop granting for
/// ever.
const LONGEST: Duration = Duration::from_mins(1);

/// Id of one replica process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaId {
    /// Name of the place that the process runs in, such as its pod. A restarted process has the same instance.
    pub instance: String,
    /// Unique id of the process; the holder in the Lease.
    pub process: String,
}

impl ReplicaId {
    /// Id of a new process of this instance. `entropy` are random bits that make it unique.
    pub fn new(instance: &str, entropy: u64) -> Self {
        Self {
            instance: instance.to_owned(),
            process: format!("{instance}{SEPARATOR}{entropy:016x}"),
        }
    }

    /// Whether `holder` is a process of the same instance.
    fn follows(&self, holder: &str) -> bool {
        holder
            .rsplit_once(SEPARATOR)
            .is_some_and(|(instance, _)| instance == self.instance)
    }
}

/// Separator of instance and random bits in the name of a holder.
const SEPARATOR: char = '_';

/// Contents of the Lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseTerms {
    /// The holder; `None` if it has given the Lease back.
    pub holder: Option<String>,
    /// How long a renewal counts. Zero means that the Lease does not say.
    pub duration: Duration,
    /// Time at which the holder took the Lease, by the holder's clock (UTC).
    pub acquired_at: Option<Timestamp>,
    /// Time of the last renewal, by the holder's clock (UTC). Only a change of this value matters, never the value.
    pub renewed_at: Option<Timestamp>,
    /// How often the holder has changed.
    pub transitions: i32,
}

/// The Lease as read from the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseFacts {
    /// The contents.
    pub terms: LeaseTerms,
    /// The resourceVersion.
    pub version: String,
}

impl LeaseFacts {
    /// The resourceVersion as a number: versions of one object grow (KEP-5504).
    pub fn order(&self) -> u128 {
        self.version.parse().unwrap_or_default()
    }
}

/// A create or update request for the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseWrite {
    /// The resourceVersion that the update requires; `None` creates the Lease.
    pub expected: Option<String>,
    /// The new contents.
    pub terms: LeaseTerms,
}

/// Next step of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseStep {
    /// Read the Lease: it is unknown, or a write had an unknown outcome.
    Read,
    /// Write the Lease, to become leader or to renew.
    Write(LeaseWrite),
    /// Wait until this time, or until the Lease changes.
    Wait(Duration),
}

/// What one replica knows about the Lease.
#[derive(Clone, Debug)]
pub struct Candidate {
    identity: ReplicaId,
    seen: Option<Seen>,
    /// Holder at the first read, if it is a former process of the same instance and therefore dead.
    predecessor: Option<String>,
    /// When the last successful renewal was sent.
    renewed: Option<Duration>,
    /// Whether the Lease has to be read again: a write failed, or its outcome is unknown.
    doubtful: bool,
    /// Time before which nothing is tried.
    not_before: Duration,
}

#[derive(Clone, Debug)]
struct Seen {
    lease: Option<LeaseFacts>,
    /// When these contents were first seen.
    since: Duration,
}

impl Candidate {
    /// A replica that has not read the Lease yet.
    pub fn new(identity: ReplicaId) -> Self {
        Self {
            identity,
            seen: None,
            predecessor: None,
            renewed: None,
            doubtful: false,
            not_before: Duration::ZERO,
        }
    }

    /// Records the Lease from a read or a watch; `None` means that there is no Lease. An older version is ignored.
    ///
    /// If another process of the same instance holds the Lease at the first read, that process is dead: an instance
    /// runs one process. The replica then takes the Lease at once.
    ///
    /// # Caveats
    /// If two running processes have the same instance name, the later one takes the Lease once, at its start; the
    /// earlier one becomes a follower.
    pub fn observe(&mut self, lease: Option<LeaseFacts>, now: Duration) {
        let is_older = |seen: &Seen| match (&seen.lease, &lease) {
            (Some(before), Some(lease)) => lease.order() < before.order(),
            _ => false,
        };
        if self.seen.as_ref().is_some_and(is_older) {
            return;
        }
        self.doubtful = false;
        let terms = |lease: &Option<LeaseFacts>| lease.as_ref().map(|lease| lease.terms.clone());
        let holder = lease.as_ref().and_then(|lease| lease.terms.holder.clone());
        let since = match &self.seen {
            None => {
                self.predecessor = holder.filter(|holder| self.identity.follows(holder));
                now
            }
            Some(seen) if terms(&seen.lease) == terms(&lease) => seen.since,
            Some(_) => now,
        };
        self.seen = Some(Seen { lease, since });
        if !self.holds() {
            self.renewed = None;
        }
    }

    /// Records a successful write that was sent at `sent`.
    pub fn wrote(&mut self, lease: LeaseFacts, sent: Duration, now: Duration) {
        self.observe(Some(lease), now);
        // Another replica can have taken the Lease since, if the watch was faster than the response.
        if self.holds() {
            self.renewed = Some(sent);
        }
    }

    /// Records a conflict: the Lease has changed and has to be read again.
    pub fn conflicted(&mut self) {
        self.doubtful = true;
    }

    /// Records a failed read or write. The outcome of the write is unknown.
    pub fn failed(&mut self, now: Duration) {
        self.doubtful = true;
        self.not_before = now.saturating_add(RETRY);
    }

    /// Time until which this process leads; `None` if it is not the leader.
    pub fn leads_until(&self) -> Option<Duration> {
        self.renewed.map(|sent| sent.saturating_add(LEADS_FOR))
    }

    /// Whether the Lease has to be read before the next step.
    pub fn is_doubtful(&self) -> bool {
        self.doubtful || self.seen.is_none()
    }

    /// The newest known resourceVersion as a number, or 0. A later read is at least as new, unless etcd was restored
    /// from a backup.
    pub fn order(&self) -> u128 {
        self.lease().map_or(0, LeaseFacts::order)
    }

    /// The last known holder of the Lease.
    pub fn holder(&self) -> Option<&str> {
        self.lease()?.terms.holder.as_deref()
    }

    /// The next step at `now`. `wall` is the wall-clock time that a renewal writes for people.
    pub fn next(&self, now: Duration, wall: Timestamp) -> LeaseStep {
        if now < self.not_before {
            return LeaseStep::Wait(self.not_before);
        }
        let Some(seen) = self.seen.as_ref().filter(|_| !self.is_doubtful()) else {
            return LeaseStep::Read;
        };
        let due = match &seen.lease {
            None => now,
            Some(_) if self.holds() => self
                .renewed
                .map_or(now, |renewed| renewed.saturating_add(RENEW_EVERY)),
            Some(lease) => match &lease.terms.holder {
                None => now,
                Some(holder) if self.predecessor.as_ref() == Some(holder) => now,
                Some(_) => seen.since.saturating_add(counts_for(&lease.terms)),
            },
        };
        if now < due {
            LeaseStep::Wait(due)
        } else {
            LeaseStep::Write(self.claim(wall))
        }
    }

    /// Stops leading. Returns the write that gives the Lease back, so that others need not wait; `None` if this process
    /// does not hold the Lease.
    pub fn resign(&mut self, wall: Timestamp) -> Option<LeaseWrite> {
        self.renewed = None;
        let lease = self.lease().filter(|_| self.holds())?;
        Some(LeaseWrite {
            expected: Some(lease.version.clone()),
            terms: LeaseTerms {
                holder: None,
                renewed_at: Some(wall),
                ..lease.terms.clone()
            },
        })
    }

    /// Stops leading and lets others lead first. Like [`resign`](Self::resign), and tries nothing for [`ASIDE`] after
    /// `now`.
    pub fn step_aside(&mut self, now: Duration, wall: Timestamp) -> Option<LeaseWrite> {
        let write = self.resign(wall)?;
        self.not_before = now.saturating_add(ASIDE);
        Some(write)
    }

    fn claim(&self, wall: Timestamp) -> LeaseWrite {
        let before = self.lease();
        let terms = before.map(|lease| lease.terms.clone()).unwrap_or_default();
        let (acquired_at, transitions) = if self.holds() {
            (terms.acquired_at, terms.transitions)
        } else {
            // The first holder is not a transition.
            let transition = i32::from(before.is_some());
            (Some(wall), terms.transitions.saturating_add(transition))
        };
        LeaseWrite {
            expected: before.map(|lease| lease.version.clone()),
            terms: LeaseTerms {
                holder: Some(self.identity.process.clone()),
                duration: DURATION,
                acquired_at,
                renewed_at: Some(wall),
                transitions,
            },
        }
    }

    fn lease(&self) -> Option<&LeaseFacts> {
        self.seen.as_ref()?.lease.as_ref()
    }

    /// Whether the Lease names this process as holder. The last renewal can be too old for it to lead still.
    pub fn holds(&self) -> bool {
        self.holder() == Some(self.identity.process.as_str())
    }
}

/// How long the last renewal of another holder counts. A replica of another version can use another duration.
fn counts_for(terms: &LeaseTerms) -> Duration {
    if terms.duration.is_zero() {
        DURATION
    } else {
        terms.duration.min(LONGEST)
    }
}

#[cfg(test)]
#[path = "tests/leader_properties.rs"]
mod properties;
#[cfg(test)]
#[path = "tests/leader.rs"]
mod tests;
