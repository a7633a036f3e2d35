//! An independent second look: removes whatever has outlived its end. It needs no operator, no grant and no CRD,
//! because everything made for a grant says itself when it has to be gone.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::clock::{Skew, Verdict};
use super::naming::{ArtifactKey, is_marker};
use crate::api::{ArtifactKind, NAME_PREFIX};

/// What the time is, by the API server and by this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// The `Date` of an answer of the API server: its time, cut to whole seconds.
    pub server: Timestamp,
    /// This machine's clock when it asked for that answer.
    pub asked: Timestamp,
    /// This machine's clock when it had that answer.
    pub answered: Timestamp,
}

impl Clocks {
    /// The time that both clocks agree has come: the earlier one. A clock that is fast ends nothing early; one that is
    /// slow ends late, which operator and fuse do not.
    pub fn now(&self) -> Timestamp {
        self.server.min(self.answered)
    }

    /// How far this machine's clock is ahead of the API server's.
    pub fn skew(&self) -> Skew {
        let whole_second = SignedDuration::from_secs(1);
        Skew {
            least: self.asked.duration_since(self.server) - whole_second,
            most: self.answered.duration_since(self.server),
        }
    }

    /// Whether they differ so much that somebody should know.
    pub fn differ(&self) -> bool {
        self.skew().verdict() != Verdict::Fine
    }

    /// Whether they differ so much that the sweep has failed, although it ends what is over by both.
    pub fn fail(&self) -> bool {
        self.skew().verdict() == Verdict::Refuse
    }
}

/// Something that carries our label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    /// Its kind, namespace and name.
    pub key: ArtifactKey,
    /// Its uid.
    pub uid: String,
    /// As which it was read: what has changed since is not removed. None where it is being deleted already: nobody can
    /// prolong that, and of what is being deleted in the foreground the API server (1.36) refuses every version.
    pub resource_version: Option<String>,
    /// The uid of the grant it was made for: the value of our label, without which nothing is looked at.
    pub grant_uid: String,
    /// When it has to be gone, as its annotation says; none: it has no such annotation.
    pub not_after: Option<String>,
    /// What holds it back when it is deleted.
    pub finalizers: Vec<String>,
}

/// In which order things are removed: what gives access first, what marks it after that, what holds it last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    /// A binding that gives access.
    Access,
    /// An elevation marker.
    Marker,
    /// A Role.
    Role,
    /// A fuse.
    Fuse,
}

impl Labelled {
    /// Whether access ends when it goes.
    pub fn gives_access(&self) -> bool {
        self.key.kind == ArtifactKind::RoleBinding && !is_marker(self.key.kind, &self.key.name)
    }

    /// When it is its turn to be removed.
    pub fn turn(&self) -> Turn {
        match self.key.kind {
            ArtifactKind::RoleBinding if self.gives_access() => Turn::Access,
            ArtifactKind::RoleBinding => Turn::Marker,
            ArtifactKind::Role => Turn::Role,
            ArtifactKind::Job => Turn::Fuse,
        }
    }

    /// When it ends; none: it does not say so, or not as a time.
    pub fn end(&self) -> Option<Timestamp> {
        self.not_after.as_ref()?.parse().ok()
    }

    /// Whether its name is one that Curfew gives to a fuse and what is called after it.
    fn is_named_by_us(&self) -> bool {
        self.key.name.strip_prefix(NAME_PREFIX).is_some_and(|bits| {
            bits.len() == 32
                && bits
                    .bytes()
                    .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
        })
    }
}

/// Which grants there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grants {
    /// The uids of all of them, read after what was made for them: what is made meanwhile has its grant before it.
    Listed(BTreeSet<String>),
    /// They could not be listed, for this reason; nothing rests on it.
    Unknown(String),
}

/// Something to remove, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// What.
    pub what: Labelled,
    /// Why.
    pub why: Overdue,
    /// Whether its grant is known to be gone.
    pub orphan: bool,
}

/// Why something is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Overdue {
    /// Access that says no end that can be read, so that nothing bounds it.
    NoEnd,
    /// Its end was then, and the grace is over.
    Since(Timestamp),
}

/// Something that is left where it is, and that somebody should know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub what: Labelled,
    /// What is the matter with it.
    pub matter: Matter,
}

/// What is the matter with something that is left where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matter {
    /// Its grant is gone. It is removed at its end like everything else.
    Orphan {
        /// Its end.
        ends: Timestamp,
    },
    /// It says no end that can be read, and is not sure to be ours or gives no access.
    NoEnd,
}

/// What a sweep does: stages one after the other, the removals of a stage side by side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sweeping {
    /// What gives access, of all grants, the oldest end first.
    pub access: Vec<Removal>,
    /// Then elevation markers, then Roles, then fuses.
    pub rest: [Vec<Removal>; 3],
    /// What is left where it is and told.
    pub findings: Vec<Finding>,
    /// How many are within their time.
    pub within_time: usize,
}

impl Sweeping {
    /// Whether nothing is to be removed.
    pub fn is_empty(&self) -> bool {
        self.access.is_empty() && self.rest.iter().all(Vec::is_empty)
    }
}

/// What to remove of what was found, and what to tell. `grace` is how long after its end something is left to those
/// whose work it is: the operator removes it within milliseconds, its fuse about a second later, and two at the same
/// object make conflicts.
///
/// Access that says no end is removed: the guards let none be made, so whoever made it had them out of the way, and
/// access that nothing bounds must not stay. This goes for a binding that has our label and a name that we give; of
/// anything else without an end it cannot be known whether it gives access, so it is left and told.
pub fn sweep(found: Vec<Labelled>, grants: &Grants, now: Timestamp, grace: SignedDuration) -> Sweeping {
    let mut sweeping = Sweeping::default();
    let ended_by = now.saturating_sub(grace).unwrap_or(Timestamp::MIN);
    for what in found {
        let orphan = matches!(grants, Grants::Listed(uids) if !uids.contains(&what.grant_uid));
        let why = match what.end() {
            Some(end) if end <= ended_by => Overdue::Since(end),
            Some(ends) => {
                sweeping.within_time += 1;
                if orphan {
                    let matter = Matter::Orphan { ends };
                    sweeping.findings.push(Finding { what, matter });
                }
                continue;
            }
            None if what.gives_access() && what.is_named_by_us() => Overdue::NoEnd,
            None => {
                let matter = Matter::NoEnd;
                sweeping.findings.push(Finding { what, matter });
                continue;
            }
        };
        let [markers, roles, fuses] = &mut sweeping.rest;
        let stage = match what.turn() {
            Turn::Access => &mut sweeping.access,
            Turn::Marker => markers,
            Turn::Role => roles,
            Turn::Fuse => fuses,
        };
        stage.push(Removal { what, why, orphan });
    }
    let Sweeping { access, rest, .. } = &mut sweeping;
    for stage in std::iter::once(access).chain(rest) {
        stage.sort_by(|one, other| (one.why, &one.what.key).cmp(&(other.why, &other.what.key)));
    }
    sweeping
}

/// Whether something is left alone because access that the same fuse holds still stands: whoever is elevated stays
/// that as long as they have it, and a fuse takes along what marks them. A Role goes all the same, since without it
/// the binding gives nothing.
pub fn waits_for_access(what: &Labelled, standing: &BTreeSet<ArtifactKey>) -> bool {
    matches!(what.turn(), Turn::Marker | Turn::Fuse) && standing.contains(&what.key.of_fuse())
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
