//! Fuses: whether those of a grant are lit, what is said of that, and which layers end its access by themselves.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::facts::{Content, Found, Input};
use super::flame::{Flame, LATE};
use super::naming::{ArtifactKey, fuse_of, is_marker};
use crate::api::{AccessGrantStatus, ArtifactKind, ArtifactRecord, Enforcer, conditions, reasons};

/// How soon a fuse that was refused is tried again, and how long one may be unlit before anybody is told: at its usual
/// limit of 20 requests a second, kube-controller-manager lights 600 fuses in that time.
pub const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(30);

/// What is known of whatever ends the access of a grant besides the operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backstops {
    /// The fuses that are there.
    pub flames: BTreeMap<ArtifactKey, Flame>,
    /// The fuses that the API server refuses to make, and its words.
    pub refused: BTreeMap<ArtifactKey, String>,
    /// Whether the sweep's heartbeat is heard.
    pub sweep_lives: bool,
}

impl Input<'_> {
    /// What is known of whatever ends the access besides the operator, with these things there.
    pub(super) fn backstops(&self, found: &[Found]) -> Backstops {
        Backstops {
            flames: flames(found),
            refused: self.tried.refused.clone(),
            sweep_lives: self.sweep_lives,
        }
    }
}

/// The fuses among what was found.
pub fn flames(found: &[Found]) -> BTreeMap<ArtifactKey, Flame> {
    let fuse = |found: &Found| match found.content {
        Content::Fuse(flame) => Some((found.key(), flame)),
        Content::Role(_) | Content::Binding { .. } => None,
    };
    found.iter().filter_map(fuse).collect()
}

/// What is to be said of the fuses of a grant: the condition `Fused`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fused {
    /// Whether all are lit.
    pub lit: bool,
    /// The condition's reason.
    pub reason: &'static str,
    /// Why, for people.
    pub message: String,
}

impl Fused {
    /// Of the fuses recorded in this status; none where none is wanted. Says the worst.
    pub(super) fn of(status: &AccessGrantStatus, backstops: &Backstops, now: Timestamp) -> Option<Self> {
        let said = said(status);
        let patient = said.is_none_or(|said| {
            said.reason == reasons::FUSE_NOT_LIT && now < later(said.last_transition_time.0, LOOK_AGAIN)
        });
        let unlit = |reason, message| {
            let reason = if patient { reasons::FUSE_NOT_LIT } else { reason };
            (reason, message)
        };
        let fuses = status
            .artifacts
            .iter()
            .filter(|record| record.kind == ArtifactKind::Job);
        let (_, (reason, message)) = fuses
            .map(|record| {
                let key = ArtifactKey::from(record);
                let called = || format!("Job {}/{}", key.namespace, key.name);
                match backstops.flames.get(&key) {
                    Some(Flame::Lit) => (
                        0,
                        (
                            reasons::FUSE_LIT,
                            "at the end Kubernetes itself removes the access".to_owned(),
                        ),
                    ),
                    Some(Flame::NotStarted) => {
                        let why = format!("{} is not started by kube-controller-manager", called());
                        (1, unlit(reasons::FUSE_NOT_STARTED, why))
                    }
                    Some(Flame::Late { .. }) => {
                        let why = format!(
                            "{} was started long after it was made, and burns as much late",
                            called()
                        );
                        (2, (reasons::FUSE_LATE, why))
                    }
                    Some(Flame::Suspended) => {
                        let why = format!("{} is suspended by somebody, and does not burn", called());
                        (3, unlit(reasons::FUSE_SUSPENDED, why))
                    }
                    None => {
                        let words = backstops.refused.get(&key).cloned();
                        let before = said.filter(|said| said.reason == reasons::FUSE_REFUSED);
                        let why = words
                            .or_else(|| before.map(|said| said.message.clone()))
                            .unwrap_or_else(|| format!("{} is not there", called()));
                        (4, (reasons::FUSE_REFUSED, why))
                    }
                }
            })
            .max_by_key(|(rank, _)| *rank)?;
        Some(Self {
            lit: reason == reasons::FUSE_LIT,
            reason,
            message,
        })
    }

    /// Whether that is recorded. The API server's words may change from one attempt to the next, as the numbers of a
    /// quota do; that is no news.
    pub(super) fn is_said(&self, status: &AccessGrantStatus) -> bool {
        said(status).is_some_and(|said| said.reason == self.reason)
    }

    /// Whether somebody has to be told, and has not been.
    pub(super) fn is_alarming(&self, status: &AccessGrantStatus) -> bool {
        !self.lit && self.reason != reasons::FUSE_NOT_LIT && !self.is_said(status)
    }

    /// When to look again though no watch tells anything. What is refused is tried again at ever greater intervals: a
    /// tenth of the time that it has been refused, so that many that stay so cost little.
    pub(super) fn look_again(
        &self,
        status: &AccessGrantStatus,
        backstops: &Backstops,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let since = said(status)
            .filter(|said| said.status == "False")
            .map_or(now, |said| said.last_transition_time.0);
        let late = backstops.flames.values().filter_map(|flame| match flame {
            Flame::Late { made } => Some(later(*made, LATE)),
            Flame::Lit | Flame::NotStarted | Flame::Suspended => None,
        });
        match self.reason {
            reasons::FUSE_REFUSED => Some(later(now, LOOK_AGAIN.max(now.duration_since(since) / 10))),
            reasons::FUSE_NOT_LIT => Some(later(since, LOOK_AGAIN)),
            reasons::FUSE_LATE => late.filter(|at| *at > now).min(),
            _ => None,
        }
    }
}

/// What is recorded of the fuses of a grant.
pub(super) fn said(status: &AccessGrantStatus) -> Option<&Condition> {
    let mut conditions = status.conditions.iter();
    conditions.find(|condition| condition.type_ == conditions::FUSED)
}

/// Whether access stands that wants a fuse and is not held by one that is lit, as far as that is recorded.
pub fn is_unfused(status: &AccessGrantStatus) -> bool {
    let given = status.activated_at.is_some() && status.ended_at.is_none();
    given && said(status).is_some_and(|said| said.status == "False")
}

/// Which layers each end what this is the record of.
pub(super) fn enforcers(
    record: &ArtifactRecord,
    records: &[ArtifactRecord],
    backstops: &Backstops,
) -> Vec<Enforcer> {
    let lit = fuse_of(record, records)
        .is_some_and(|fuse| backstops.flames.get(&ArtifactKey::from(fuse)) == Some(&Flame::Lit));
    [
        (Enforcer::Controller, true),
        (Enforcer::Fuse, lit),
        (Enforcer::Sweep, backstops.sweep_lives),
    ]
    .into_iter()
    .filter_map(|(enforcer, so)| so.then_some(enforcer))
    .collect()
}

/// The layers that each end every piece that gives access, for people.
pub(super) fn common_enforcers(records: &[ArtifactRecord]) -> String {
    let gives_access = |record: &&ArtifactRecord| {
        record.kind == ArtifactKind::RoleBinding && !is_marker(record.kind, &record.name)
    };
    let pieces: Vec<_> = records.iter().filter(gives_access).collect();
    let all = [Enforcer::Controller, Enforcer::Fuse, Enforcer::Sweep];
    all.into_iter()
        .filter(|enforcer| pieces.iter().all(|piece| piece.enforced_by.contains(enforcer)))
        .map(|enforcer| match enforcer {
            Enforcer::Controller => "Controller",
            Enforcer::Fuse => "Fuse",
            Enforcer::Sweep => "Sweep",
        })
        .collect::<Vec<_>>()
        .join(", ")
}

fn later(from: Timestamp, by: SignedDuration) -> Timestamp {
    from.saturating_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
