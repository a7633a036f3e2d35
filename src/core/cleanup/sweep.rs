//! Sweep: removes every artifact whose end has passed, independently of the operator.
//!
//! It needs no operator, no grant and no CRD, because each artifact has its end in an annotation.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::api::{ArtifactKind, NAME_PREFIX};
use crate::core::artifact::key::{ArtifactKey, is_marker};
use crate::core::replica::clock::{ClockAgreement, Skew};

/// Current time by the API server and by this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// `Date` of a response of the API server, cut to whole seconds.
    pub server: Timestamp,
    /// This machine's clock when the request was sent (UTC).
    pub asked: Timestamp,
    /// This machine's clock when the response came (UTC).
    pub answered: Timestamp,
}

impl Clocks {
    /// The earlier one of both clocks. A fast clock therefore ends nothing early. A slow clock makes the sweep late,
    /// but not the operator or the fuses.
    pub fn now(&self) -> Timestamp {
        self.server.min(self.answered)
    }

    /// Skew of this machine's clock against the API server's.
    pub fn skew(&self) -> Skew {
        let whole_second = SignedDuration::from_secs(1);
        Skew {
            least: self.asked.duration_since(self.server) - whole_second,
            most: self.answered.duration_since(self.server),
        }
    }

    /// Whether the skew needs a warning: more than 5 s.
    pub fn differ(&self) -> bool {
        self.skew().verdict() != ClockAgreement::Fine
    }

    /// Whether the skew makes the sweep fail: more than 30 s. The sweep still removes what is overdue by both clocks.
    pub fn fail(&self) -> bool {
        self.skew().verdict() == ClockAgreement::Refuse
    }
}

/// An object with Curfew's label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelledObject {
    /// Kind, namespace and name.
    pub key: ArtifactKey,
    /// Its uid.
    pub uid: String,
    /// The resourceVersion that the deletion requires: an object that has changed since is not deleted. `None` if it is
    /// being deleted already: no one can extend it, and during a foreground deletion the API server (1.36) refuses
    /// every version.
    pub resource_version: Option<String>,
    /// Uid of its grant: the value of Curfew's label. The sweep ignores objects without this label.
    pub grant_uid: String,
    /// Annotation with its end, as text; `None` if it has no such annotation.
    pub not_after: Option<String>,
    /// Finalizers, which delay its deletion.
    pub finalizers: Vec<String>,
}

/// Removal order: access first, then its marker, then its Role, and its fuse last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RemovalOrder {
    /// A binding that gives access.
    Access,
    /// An elevation marker.
    Marker,
    /// A Role.
    Role,
    /// A fuse.
    Fuse,
}

impl LabelledObject {
    /// Whether its deletion ends access: a RoleBinding that is not an elevation marker.
    pub fn gives_access(&self) -> bool {
        self.key.kind == ArtifactKind::RoleBinding && !is_marker(self.key.kind, &self.key.name)
    }

    /// Its place in the removal order.
    pub fn turn(&self) -> RemovalOrder {
        match self.key.kind {
            ArtifactKind::RoleBinding if self.gives_access() => RemovalOrder::Access,
            ArtifactKind::RoleBinding => RemovalOrder::Marker,
            ArtifactKind::Role => RemovalOrder::Role,
            ArtifactKind::Job => RemovalOrder::Fuse,
        }
    }

    /// Its end (UTC); `None` if the annotation is missing or is not a time.
    pub fn end(&self) -> Option<Timestamp> {
        self.not_after.as_ref()?.parse().ok()
    }

    /// Whether its name has the form of Curfew's names: the prefix and 32 hex digits.
    fn is_named_by_us(&self) -> bool {
        self.key.name.strip_prefix(NAME_PREFIX).is_some_and(|bits| {
            bits.len() == 32
                && bits
                    .bytes()
                    .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
        })
    }
}

/// The existing grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grants {
    /// Uids of all grants, listed after the artifacts. A grant exists before its artifacts, so no new artifact looks
    /// orphaned.
    Listed(BTreeSet<String>),
    /// The grants could not be listed, for this reason. Orphans are then not detected; overdue access is still removed.
    Unknown(String),
}

/// One object to remove, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// What.
    pub what: LabelledObject,
    /// Why.
    pub why: Overdue,
    /// Whether its grant is known to be deleted.
    pub orphan: bool,
}

/// Why an object is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Overdue {
    /// Access without a readable end: nothing limits it.
    NoEnd,
    /// Its end (UTC) and the grace have passed.
    Since(Timestamp),
}

/// An object that the sweep reports and does not remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub what: LabelledObject,
    /// The problem with it.
    pub matter: Matter,
}

/// Why an object is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matter {
    /// An orphan: its grant is deleted. The sweep removes it at its end.
    Orphan {
        /// Its end (UTC).
        ends: Timestamp,
    },
    /// No readable end, and it gives no access or its name is not Curfew's.
    NoEnd,
}

/// The plan of one round. Stages run one after the other; the removals of one stage run in parallel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sweeping {
    /// Bindings that give access, of all grants, earliest end first.
    pub access: Vec<Removal>,
    /// The later stages: elevation markers, Roles, fuses.
    pub rest: [Vec<Removal>; 3],
    /// Objects that are reported and not removed.
    pub findings: Vec<Finding>,
    /// Number of objects whose end has not passed.
    pub within_time: usize,
}

impl Sweeping {
    /// Whether the round removes nothing.
    pub fn is_empty(&self) -> bool {
        self.access.is_empty() && self.rest.iter().all(Vec::is_empty)
    }
}

/// Plans one round of the sweep over the `found` objects.
///
/// `grace` is the time after its end that an object is left to operator and fuse. The operator removes it within
/// milliseconds, its fuse about a second later; two removers at one object cause conflicts.
///
/// # Guarantees
/// - Nothing is removed before its end plus `grace`.
/// - A binding with Curfew's label, a name of Curfew's form and no readable end is removed. The guards allow no such
///   binding, so its author had disabled them, and access without a limit must not stay.
/// - Any other object without a readable end is reported and stays: it is unknown whether it gives access.
pub fn sweep(found: Vec<LabelledObject>, grants: &Grants, now: Timestamp, grace: SignedDuration) -> Sweeping {
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
            RemovalOrder::Access => &mut sweeping.access,
            RemovalOrder::Marker => markers,
            RemovalOrder::Role => roles,
            RemovalOrder::Fuse => fuses,
        };
        stage.push(Removal { what, why, orphan });
    }
    let Sweeping { access, rest, .. } = &mut sweeping;
    for stage in std::iter::once(access).chain(rest) {
        stage.sort_by(|one, other| (one.why, &one.what.key).cmp(&(other.why, &other.what.key)));
    }
    sweeping
}

/// Whether the removal of `what` waits because access of the same fuse is still `standing`.
///
/// Elevation markers and fuses wait: a subject stays marked as elevated as long as the access exists, and a fuse takes
/// the marker along. Roles do not wait: without its Role a binding gives nothing.
pub fn waits_for_access(what: &LabelledObject, standing: &BTreeSet<ArtifactKey>) -> bool {
    matches!(what.turn(), RemovalOrder::Marker | RemovalOrder::Fuse) && standing.contains(&what.key.of_fuse())
}

#[cfg(test)]
#[path = "tests/sweep_properties.rs"]
mod properties;
#[cfg(test)]
#[path = "tests/sweep.rs"]
mod tests;
