//! Drain: ends all access that Curfew made, also before its end, until no artifact is left.
//!
//! It needs no operator and no CRD. A deleted grant takes along the artifacts it owns; the others are found by their
//! label.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::api::{AccessGrant, REVOKE_FINALIZER};
use crate::core::cleanup::sweep::{LabelledObject, RemovalOrder};
use crate::core::grant::retention::{managed_by, prune};

/// Delay after a round that found something: 1 s. The garbage collector needs up to a second, and one line a second is
/// enough output.
pub const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Delay after a round that found nothing: 2 s. The next round has to find nothing too. An operator creates access for
/// a new request within 0.1 s, so access it had begun before the first round is visible in the second.
pub const QUIET_FOR: Duration = Duration::from_secs(2);

/// Number of rounds in a row with refusals only before drain gives up. Changed RBAC is in force within 1 s, and a
/// deleted guard within 2 s. A caller with missing rights does not have to wait for the timeout.
const MAX_REFUSED_ROUNDS: u32 = 5;

/// The fields of a grant that drain needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainedGrant {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The resourceVersion at which it was read.
    pub resource_version: Option<String>,
    /// End of its access (UTC); `None` if no access was granted yet.
    pub ends: Option<Timestamp>,
    /// Whether it has ended or was denied; it is only a record then.
    pub over: bool,
    /// Whether it is being deleted already.
    pub deleting: bool,
    /// Finalizers, which delay its deletion.
    pub finalizers: Vec<String>,
    /// Requester, and the tool that would recreate the grant, if any.
    pub by: String,
}

impl From<&AccessGrant> for DrainedGrant {
    fn from(grant: &AccessGrant) -> Self {
        let meta = &grant.metadata;
        let status = grant.status.as_ref();
        let requester = grant.spec.requester.as_ref();
        let requester = requester.map_or("unknown requester", |requester| requester.username.as_str());
        let mut marked = grant.clone();
        prune(&mut marked);
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone(),
            ends: status
                .and_then(|status| status.expires_at.as_ref())
                .map(|end| end.0),
            over: status.is_some_and(|status| status.ended_at.is_some()),
            deleting: meta.deletion_timestamp.is_some(),
            finalizers: meta.finalizers.clone().unwrap_or_default(),
            by: match managed_by(&marked.metadata) {
                Some(tool) => format!("{requester} (kept by {tool})"),
                None => requester.to_owned(),
            },
        }
    }
}

impl DrainedGrant {
    /// Who delays its deletion by a finalizer; `None` if it has no finalizer.
    pub fn held_by(&self) -> Option<HeldBy> {
        if self
            .finalizers
            .iter()
            .any(|finalizer| finalizer == REVOKE_FINALIZER)
        {
            Some(HeldBy::Operator)
        } else if self.finalizers.is_empty() {
            None
        } else {
            Some(HeldBy::Others(self.finalizers.clone()))
        }
    }

    /// Whether the grant only waits for a finalizer to be removed: it is deleted, or it has ended and the operator has
    /// not taken its last step. Until then it also delays the deletion of its namespace and of the CRD.
    fn only_waits(&self) -> bool {
        match self.held_by() {
            Some(HeldBy::Operator) => self.deleting || self.over,
            Some(HeldBy::Others(_)) => self.deleting,
            None => false,
        }
    }
}

/// Owner of the finalizer that delays the deletion of a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeldBy {
    /// The operator, until the access is proven absent. A guard lets no one else remove this finalizer.
    Operator,
    /// Others, with these finalizers.
    Others(Vec<String>),
}

/// The plan of one round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draining {
    /// Grants to delete, earliest end first; grants without access come last.
    pub grants: Vec<DrainedGrant>,
    /// Artifacts in removal order. In each group artifacts without an end come first, then the earliest end.
    pub made: [Vec<LabelledObject>; 4],
    /// Grants that wait for a finalizer to be removed.
    pub waiting: Vec<DrainedGrant>,
    /// Grants whose Curfew finalizer drain removes instead of the operator: no artifact of them is left.
    pub released: Vec<DrainedGrant>,
    /// Number of ended grants that stay as records.
    pub records: usize,
}

impl Draining {
    /// Number of objects that have to go.
    pub fn len(&self) -> usize {
        self.grants.len()
            + self.waiting.len()
            + self.released.len()
            + self.made.iter().map(Vec::len).sum::<usize>()
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Options of drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainOptions {
    /// Delete ended grants too. Otherwise they stay as evidence until their CRD is deleted.
    pub records: bool,
    /// Do not wait for an operator, because none will run again.
    pub without_operator: bool,
}

/// Plans one round of drain.
///
/// Grants are deleted first, so that a running operator records why their access ends. Artifacts are deleted too and
/// not left to the garbage collector: it may be down or delayed, and it never deletes artifacts outside the grant's
/// namespace.
///
/// # Guarantees
/// Curfew's finalizer is removed only if `found` is complete (`whole`) and has no artifact of the grant: the proof of
/// absence. `found` was listed after the grants, so nothing new can have been created for a grant that was being
/// deleted.
pub fn drain(
    grants: Vec<DrainedGrant>,
    found: Vec<LabelledObject>,
    whole: bool,
    demands: DrainOptions,
) -> Draining {
    let mut draining = Draining::default();
    let stands: BTreeSet<String> = found.iter().map(|what| what.grant_uid.clone()).collect();
    let proven = |grant: &DrainedGrant| whole && !stands.contains(&grant.uid);
    for grant in grants {
        if grant.only_waits() {
            let release =
                demands.without_operator && grant.held_by() == Some(HeldBy::Operator) && proven(&grant);
            let wait = if release {
                &mut draining.released
            } else {
                &mut draining.waiting
            };
            wait.push(grant);
        } else if grant.over && !demands.records {
            draining.records += 1;
        } else {
            draining.grants.push(grant);
        }
    }
    let [access, markers, roles, fuses] = &mut draining.made;
    for mut what in found {
        // Delete the object even if it has changed since: its uid still identifies it.
        what.resource_version = None;
        match what.turn() {
            RemovalOrder::Access => access.push(what),
            RemovalOrder::Marker => markers.push(what),
            RemovalOrder::Role => roles.push(what),
            RemovalOrder::Fuse => fuses.push(what),
        }
    }
    draining.grants.sort_by(first_to_end);
    for turn in &mut draining.made {
        turn.sort_by(|one, other| (one.end(), &one.key).cmp(&(other.end(), &other.key)));
    }
    draining
}

fn first_to_end(one: &DrainedGrant, other: &DrainedGrant) -> Ordering {
    let rank = |grant: &DrainedGrant| (grant.ends.is_none(), grant.ends);
    let name = |grant: &DrainedGrant| (grant.namespace.clone(), grant.name.clone());
    (rank(one), name(one)).cmp(&(rank(other), name(other)))
}

/// Result of one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct DrainRound {
    /// Number of found objects that have to go.
    pub found: usize,
    /// Number of those that were removed, or gone already.
    pub gone: usize,
    /// Number of deletions or reads that the API server denied.
    pub refused: usize,
    /// Number of reads that failed for another reason.
    pub unread: usize,
}

/// Next step after a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextRound {
    /// Nothing is left.
    Done,
    /// Another round after this delay.
    Look(Duration),
    /// Give up: the API server denied everything that is left, in several rounds. Someone has to change the rights.
    GiveUp,
}

/// Drain progress over several rounds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrainProgress {
    quiet: bool,
    refused: u32,
}

impl DrainProgress {
    /// The next step. Drain is done after two rounds in a row that read everything and found nothing.
    pub fn after(&mut self, round: &DrainRound) -> NextRound {
        let quiet = round.found == 0 && round.refused == 0 && round.unread == 0;
        let twice = quiet && self.quiet;
        self.quiet = quiet;
        let all_refused =
            round.refused > 0 && round.gone == 0 && round.unread == 0 && round.refused >= round.found;
        self.refused = if all_refused { self.refused + 1 } else { 0 };
        if twice {
            NextRound::Done
        } else if self.refused >= MAX_REFUSED_ROUNDS {
            NextRound::GiveUp
        } else if quiet {
            NextRound::Look(QUIET_FOR)
        } else {
            NextRound::Look(AGAIN_AFTER)
        }
    }

    /// Whether the last round found nothing, so that one more such round is the proof.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }
}

/// New requests that appear during a drain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewRequests {
    known: Option<BTreeSet<String>>,
    by: BTreeMap<String, usize>,
}

impl NewRequests {
    /// Adds the grants of this round. Grants of the first round do not count as new.
    pub fn seen(&mut self, draining: &Draining) {
        let all = || {
            draining
                .grants
                .iter()
                .chain(&draining.waiting)
                .chain(&draining.released)
        };
        match &mut self.known {
            None => self.known = Some(all().map(|grant| grant.uid.clone()).collect()),
            Some(known) => {
                for grant in all().filter(|grant| !grant.over) {
                    if known.insert(grant.uid.clone()) {
                        *self.by.entry(grant.by.clone()).or_default() += 1;
                    }
                }
            }
        }
    }

    /// Number of new requests by requester.
    pub fn by(&self) -> &BTreeMap<String, usize> {
        &self.by
    }
}

#[cfg(test)]
#[path = "tests/drain.rs"]
mod tests;
