//! Draining: ends all access that Curfew made, long before its time if need be, and says when nothing of it is left.
//! It needs no operator and no CRD: a grant that goes takes along what it owns, and what it cannot own is removed by
//! its label.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::retention::{keeper, slim};
use super::sweep::{Labelled, Turn};
use crate::api::{AccessGrant, REVOKE_FINALIZER};

/// How long after a look that found something the next one comes: the garbage collector follows within a second, and
/// nobody wants to read more than a line each second.
pub const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How long after a look that found nothing another one has to find nothing as well. An operator makes access of a new
/// request within 0.1 s, and what it had begun before the first look is in place long before the second.
pub const QUIET_FOR: Duration = Duration::from_secs(2);

/// How many looks in a row may meet with nothing but refusals. RBAC that has just been changed is in force within a
/// second, a guard that was just deleted is forgotten after a second or two, and whoever lacks a right need not wait for
/// the end of the time.
const LOOKS_REFUSED: u32 = 5;

/// A grant, as far as draining has to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// As which it was read.
    pub resource_version: Option<String>,
    /// When its access ends; none: it has been given none yet.
    pub ends: Option<Timestamp>,
    /// Whether it has ended, or was refused: it is a record then.
    pub over: bool,
    /// Whether it is being deleted already.
    pub deleting: bool,
    /// What holds it back when it is deleted.
    pub finalizers: Vec<String>,
    /// Who asked, and the tool that would ask again, if there is one.
    pub by: String,
}

impl From<&AccessGrant> for Asked {
    fn from(grant: &AccessGrant) -> Self {
        let meta = &grant.metadata;
        let status = grant.status.as_ref();
        let requester = grant.spec.requester.as_ref();
        let requester = requester.map_or("somebody unknown", |requester| requester.username.as_str());
        let mut marked = grant.clone();
        slim(&mut marked);
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
            by: match keeper(&marked.metadata) {
                Some(tool) => format!("{requester} (kept by {tool})"),
                None => requester.to_owned(),
            },
        }
    }
}

impl Asked {
    /// What holds it back; nothing does: `None`.
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

    /// Whether nobody is needed but whoever holds it back: it is deleted, or it has ended and waits for the operator's
    /// last step. It would hold back its namespace and the CRD as well.
    fn only_waits(&self) -> bool {
        match self.held_by() {
            Some(HeldBy::Operator) => self.deleting || self.over,
            Some(HeldBy::Others(_)) => self.deleting,
            None => false,
        }
    }
}

/// Who holds a deleted grant back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeldBy {
    /// The operator, until it has proven that the access is gone. A guard lets nobody else take that finalizer off.
    Operator,
    /// Somebody else, by these finalizers.
    Others(Vec<String>),
}

/// What one look has to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draining {
    /// Grants to delete, the oldest end first, then those that have been given nothing yet.
    pub grants: Vec<Asked>,
    /// What was made for grants, turn by turn, in each the oldest end first and before it what says none.
    pub made: [Vec<Labelled>; 4],
    /// Grants that wait for whoever holds them back.
    pub waiting: Vec<Asked>,
    /// Grants whose finalizer of ours is to be taken off in the operator's place: nothing made for them is left.
    pub released: Vec<Asked>,
    /// How many grants are over and stay, as records.
    pub records: usize,
}

impl Draining {
    /// How many there are of all that has to go.
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

/// What is wanted besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demands {
    /// That grants that are over go as well. Otherwise they stay as evidence for as long as their CRD does.
    pub records: bool,
    /// That nothing waits for an operator, since none comes back.
    pub without_operator: bool,
}

/// What to do about what was found. Grants go first, because then a living operator knows why the access ends and
/// records it. What was made for them is removed as well and not left to its owner: the garbage collector may be dead,
/// may be held back, and never comes to what lives in another namespace than its grant.
///
/// A finalizer of ours is taken off only where `found` is `whole` and has nothing of the grant's: that is the proof of
/// absence. It was read after the grants, so nothing new can have been begun for one that was being deleted then.
pub fn drain(grants: Vec<Asked>, found: Vec<Labelled>, whole: bool, demands: Demands) -> Draining {
    let mut draining = Draining::default();
    let stands: BTreeSet<String> = found.iter().map(|what| what.grant_uid.clone()).collect();
    let proven = |grant: &Asked| whole && !stands.contains(&grant.uid);
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
        // Whatever has become of it since: it goes, and it is still the same object.
        what.resource_version = None;
        match what.turn() {
            Turn::Access => access.push(what),
            Turn::Marker => markers.push(what),
            Turn::Role => roles.push(what),
            Turn::Fuse => fuses.push(what),
        }
    }
    draining.grants.sort_by(first_to_end);
    for turn in &mut draining.made {
        turn.sort_by(|one, other| (one.end(), &one.key).cmp(&(other.end(), &other.key)));
    }
    draining
}

fn first_to_end(one: &Asked, other: &Asked) -> Ordering {
    let rank = |grant: &Asked| (grant.ends.is_none(), grant.ends);
    let name = |grant: &Asked| (grant.namespace.clone(), grant.name.clone());
    (rank(one), name(one)).cmp(&(rank(other), name(other)))
}

/// How a look came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Look {
    /// How many it found of what has to go.
    pub found: usize,
    /// How many of those it removed, or found gone when it came to them.
    pub gone: usize,
    /// How many could not be removed or read because the API server refused that.
    pub refused: usize,
    /// How many could not be read for another reason.
    pub unread: usize,
}

/// What comes after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing is left.
    Done,
    /// Another look, after so long.
    Look(Duration),
    /// Nothing changes that is not changed by somebody: what is left is refused, again and again.
    GiveUp,
}

/// Where draining stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Course {
    quiet: bool,
    refused: u32,
}

impl Course {
    /// What comes next. Nothing is left when two looks in a row have read everything and found nothing.
    pub fn after(&mut self, look: &Look) -> Next {
        let quiet = look.found == 0 && look.refused == 0 && look.unread == 0;
        let twice = quiet && self.quiet;
        self.quiet = quiet;
        let in_vain = look.refused > 0 && look.gone == 0 && look.unread == 0 && look.refused >= look.found;
        self.refused = if in_vain { self.refused + 1 } else { 0 };
        if twice {
            Next::Done
        } else if self.refused >= LOOKS_REFUSED {
            Next::GiveUp
        } else if quiet {
            Next::Look(QUIET_FOR)
        } else {
            Next::Look(AGAIN_AFTER)
        }
    }

    /// Whether the last look found nothing, so that one more would be the proof.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }
}

/// Who asks while everything is being drained.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Newcomers {
    known: Option<BTreeSet<String>>,
    by: BTreeMap<String, usize>,
}

impl Newcomers {
    /// Takes a look's grants to its knowledge; those of the first look were there before.
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

    /// Who asked, and how often.
    pub fn by(&self) -> &BTreeMap<String, usize> {
        &self.by
    }
}

#[cfg(test)]
mod tests;
