//! Who leads: what is known of the Lease that replicas lead by, and what follows from it.
//!
//! The scheme is that of client-go's leader election. Whoever is named in the Lease as its holder leads, for as long
//! as its last renewal counts. The others never compare the holder's clock with theirs: each measures, by its own
//! monotonic clock, how long it has seen no renewal. Every write is bound to the version that it rests on, so of two
//! that take the Lease at once one does.
//!
//! Moments here are durations since some start of the process's own; wall-clock times in the Lease are for people.

use std::time::Duration;

use jiff::Timestamp;

/// How long a renewal counts for those who wait. It is what granting pauses for after a leader was killed, and 15 s is
/// what is promised.
pub const DURATION: Duration = Duration::from_secs(10);

/// How long a leader leads after it sent the renewal that succeeded last: by then everything that it does has ended.
/// The 2 s between this and [`DURATION`] are for clocks: nobody leads beside it while the rates of two clocks
/// differ by less than a fifth, and one that was held up for so long between looking and acting is late only after
/// that.
pub const LEADS_FOR: Duration = Duration::from_secs(8);

/// How often a leader renews: four times within [`LEADS_FOR`], so that three in a row may fail. One write costs the
/// control plane 2.5 to 5 ms of processor time.
pub const RENEW_EVERY: Duration = Duration::from_secs(2);

/// How long to wait after an attempt that failed.
pub const RETRY: Duration = Duration::from_millis(500);

/// How long whoever steps aside leaves the Lease to others. They watch it, and take it within a second.
pub const ASIDE: Duration = Duration::from_secs(2);

/// Longest that a Lease is waited for, whatever it says: a nonsensical one must not stop granting for ever.
const LONGEST: Duration = Duration::from_mins(1);

/// One process among those who want to lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name of the place it runs in, such as its pod; a process that is started there again has the same.
    pub instance: String,
    /// The process itself: nobody else ever has this.
    pub process: String,
}

impl Identity {
    /// The process of that instance, told from any other by random bits.
    pub fn new(instance: &str, entropy: u64) -> Self {
        Self {
            instance: instance.to_owned(),
            process: format!("{instance}{SEPARATOR}{entropy:016x}"),
        }
    }

    /// Whether a holder ran in the same place as this process.
    fn follows(&self, holder: &str) -> bool {
        holder
            .rsplit_once(SEPARATOR)
            .is_some_and(|(instance, _)| instance == self.instance)
    }
}

/// Between the instance and the process in the name of a holder.
const SEPARATOR: char = '_';

/// What a Lease says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseTerms {
    /// Who holds it; `None` if it was given back.
    pub holder: Option<String>,
    /// How long a renewal counts.
    pub duration: Duration,
    /// Since when its holder has it, by its holder's clock.
    pub acquired_at: Option<Timestamp>,
    /// When it was renewed last, by its holder's clock. That it changes is what counts.
    pub renewed_at: Option<Timestamp>,
    /// How often it got another holder.
    pub transitions: i32,
}

/// A Lease as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseFacts {
    /// What it says.
    pub terms: LeaseTerms,
    /// Its resourceVersion.
    pub version: String,
}

impl LeaseFacts {
    /// Versions of one object are numbers that grow (KEP-5504).
    pub fn order(&self) -> u128 {
        self.version.parse().unwrap_or_default()
    }
}

/// A write of the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseWrite {
    /// The version that it is bound to; `None` makes a Lease where there is none.
    pub expected: Option<String>,
    /// What it is to say.
    pub terms: LeaseTerms,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read the Lease: nothing is known, or what was known is doubtful.
    Read,
    /// Write it, to lead from then on or to go on leading.
    Write(LeaseWrite),
    /// Nothing before that moment, unless the Lease changes.
    Wait(Duration),
}

/// What one process knows of the Lease.
#[derive(Clone, Debug)]
pub struct Candidate {
    identity: Identity,
    seen: Option<Seen>,
    /// Who held the Lease at the first look and can only be this process's predecessor, which is dead.
    predecessor: Option<String>,
    /// When the renewal was sent that succeeded last.
    renewed: Option<Duration>,
    /// Whether what was seen may have been overtaken by a write of which nobody knows the outcome.
    doubtful: bool,
    /// Nothing is tried before.
    not_before: Duration,
}

#[derive(Clone, Debug)]
struct Seen {
    lease: Option<LeaseFacts>,
    /// Since when it says the same.
    since: Duration,
}

impl Candidate {
    /// A process that knows nothing yet.
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            seen: None,
            predecessor: None,
            renewed: None,
            doubtful: false,
            not_before: Duration::ZERO,
        }
    }

    /// Takes in the Lease as it was read or watched; `None`: there is none. What is older than what is known is
    /// no news.
    ///
    /// A Lease that at the first look is held by another process of the same instance is that of a predecessor: one
    /// instance runs one process, so that one is dead, and nobody has to wait for it. Where two processes have one
    /// instance name nevertheless, the later one takes over once, when it starts, and the earlier one follows.
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

    /// Takes in the answer to a write that was sent at `sent` and succeeded.
    pub fn wrote(&mut self, lease: LeaseFacts, sent: Duration, now: Duration) {
        self.observe(Some(lease), now);
        // Somebody may have taken it since, and the watch been faster than the answer.
        if self.holds() {
            self.renewed = Some(sent);
        }
    }

    /// A write was refused because the Lease has changed: what it says now has to be read.
    pub fn conflicted(&mut self) {
        self.doubtful = true;
    }

    /// A read or a write failed, and nobody knows whether the write was done.
    pub fn failed(&mut self, now: Duration) {
        self.doubtful = true;
        self.not_before = now.saturating_add(RETRY);
    }

    /// Until when this process leads; `None` if it does not.
    pub fn leads_until(&self) -> Option<Duration> {
        self.renewed.map(|sent| sent.saturating_add(LEADS_FOR))
    }

    /// Whether what is known of the Lease is no longer, or not yet, to be relied upon.
    pub fn is_doubtful(&self) -> bool {
        self.doubtful || self.seen.is_none()
    }

    /// The newest version that is known; a later read is at least as new, unless the store was put back.
    pub fn order(&self) -> u128 {
        self.lease().map_or(0, LeaseFacts::order)
    }

    /// Who holds the Lease, as far as is known.
    pub fn holder(&self) -> Option<&str> {
        self.lease()?.terms.holder.as_deref()
    }

    /// What to do at `now`; `wall` is what a renewal says for people to read.
    pub fn next(&self, now: Duration, wall: Timestamp) -> Step {
        if now < self.not_before {
            return Step::Wait(self.not_before);
        }
        let Some(seen) = self.seen.as_ref().filter(|_| !self.is_doubtful()) else {
            return Step::Read;
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
            Step::Wait(due)
        } else {
            Step::Write(self.claim(wall))
        }
    }

    /// Stops leading, and answers the write that gives the Lease back, so that nobody has to wait for its end.
    /// `None` if this process does not hold it.
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

    /// Stops leading, and lets others be first: answers the write that gives the Lease back, and tries nothing for a
    /// while after `now`. `None` if this process does not hold it.
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
            // The first holder of all is no transition.
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

    /// Whether the Lease names this process, which may have led too long ago to lead still.
    pub fn holds(&self) -> bool {
        self.holder() == Some(self.identity.process.as_str())
    }
}

/// How long the last renewal of somebody else counts. A replica of another version may have promised another time.
fn counts_for(terms: &LeaseTerms) -> Duration {
    if terms.duration.is_zero() {
        DURATION
    } else {
        terms.duration.min(LONGEST)
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
