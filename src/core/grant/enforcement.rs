//! Condition `Fused`, and the layers (operator, fuse, sweep) that end the access of a grant.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::{AccessGrantStatus, ArtifactKind, ArtifactRecord, Enforcer, conditions, reasons};
use crate::core::artifact::found::{Content, Found};
use crate::core::artifact::fuse::{FuseState, LATE};
use crate::core::artifact::key::{ArtifactKey, fuse_of, is_marker};
use crate::core::facts::Input;
use crate::core::time::timestamp::later;

/// First delay before a refused fuse is created again, and the time that a fuse may be unlit before an Event warns.
///
/// kube-controller-manager sends 20 requests a second by default, so it lights 600 fuses in this time.
pub const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(30);

/// State of the layers that end access without the operator: fuses and sweep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backstops {
    /// State of each existing fuse.
    pub fuse_states: BTreeMap<ArtifactKey, FuseState>,
    /// Fuses that the API server refuses to create, with the API server's message.
    pub refused: BTreeMap<ArtifactKey, String>,
    /// Whether the sweep renews its heartbeat Lease.
    pub sweep_lives: bool,
}

impl Input<'_> {
    /// State of fuses and sweep, if `found` are the existing artifacts.
    pub(crate) fn backstops(&self, found: &[Found]) -> Backstops {
        Backstops {
            fuse_states: fuse_states(found),
            refused: self.tried.refused.clone(),
            sweep_lives: self.sweep_lives,
        }
    }
}

/// State of each fuse among the found artifacts.
pub fn fuse_states(found: &[Found]) -> BTreeMap<ArtifactKey, FuseState> {
    let fuse = |found: &Found| match found.content {
        Content::Fuse(fuse_state) => Some((found.key(), fuse_state)),
        Content::Role(_) | Content::Binding { .. } => None,
    };
    found.iter().filter_map(fuse).collect()
}

/// The condition `Fused` of a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fused {
    /// Whether every fuse is lit.
    pub lit: bool,
    /// Reason of the condition.
    pub reason: &'static str,
    /// Message of the condition.
    pub message: String,
}

impl Fused {
    /// The condition for the fuses that the status records: that of the worst fuse. `None` if no fuse is wanted.
    pub(crate) fn of(status: &AccessGrantStatus, backstops: &Backstops, now: Timestamp) -> Option<Self> {
        let fuses = status
            .artifacts
            .iter()
            .filter(|record| record.kind == ArtifactKind::Job);
        let (_, reason, message) = fuses
            .map(|fuse| Self::of_one(status, &ArtifactKey::from(fuse), backstops, now))
            .max_by_key(|(rank, ..)| *rank)?;
        Some(Self {
            lit: reason == reasons::FUSE_LIT,
            reason,
            message,
        })
    }

    /// Rank (higher is worse), reason and message for one fuse.
    fn of_one(
        status: &AccessGrantStatus,
        key: &ArtifactKey,
        backstops: &Backstops,
        now: Timestamp,
    ) -> (u8, &'static str, String) {
        let recorded = said(status);
        let is_young = recorded.is_none_or(|recorded| {
            recorded.reason == reasons::FUSE_NOT_LIT
                && now < later(recorded.last_transition_time.0, LOOK_AGAIN)
        });
        let unlit = |reason| if is_young { reasons::FUSE_NOT_LIT } else { reason };
        let job = format!("Job {}/{}", key.namespace, key.name);
        match backstops.fuse_states.get(key) {
            Some(FuseState::Lit) => (
                0,
                reasons::FUSE_LIT,
                "at the end Kubernetes itself removes the access".to_owned(),
            ),
            Some(FuseState::NotStarted) => (
                1,
                unlit(reasons::FUSE_NOT_STARTED),
                format!("{job} is not started by kube-controller-manager"),
            ),
            Some(FuseState::Late { .. }) => (
                2,
                reasons::FUSE_LATE,
                format!("{job} was started long after its creation, and ends the access as much too late"),
            ),
            Some(FuseState::Suspended) => (
                3,
                unlit(reasons::FUSE_SUSPENDED),
                format!("{job} is suspended by someone, and does not end the access"),
            ),
            None => {
                let before = recorded.filter(|recorded| recorded.reason == reasons::FUSE_REFUSED);
                let message = backstops.refused.get(key).cloned();
                let message = message
                    .or_else(|| before.map(|before| before.message.clone()))
                    .unwrap_or_else(|| format!("{job} does not exist"));
                (4, reasons::FUSE_REFUSED, message)
            }
        }
    }

    /// Whether the status has this condition. Only the reason is compared: the API server's message can change with
    /// each attempt, for example the numbers of a quota.
    pub(crate) fn is_said(&self, status: &AccessGrantStatus) -> bool {
        said(status).is_some_and(|said| said.reason == self.reason)
    }

    /// Whether an Event has to warn about the fuses and has not done so yet.
    pub(crate) fn is_alarming(&self, status: &AccessGrantStatus) -> bool {
        !self.lit && self.reason != reasons::FUSE_NOT_LIT && !self.is_said(status)
    }

    /// Time of the next reconcile if no watch reports a change.
    ///
    /// A refused fuse is retried after a tenth of the time since the first refusal, and at least [`LOOK_AGAIN`]. Many
    /// refused fuses therefore cost little.
    pub(crate) fn look_again(
        &self,
        status: &AccessGrantStatus,
        backstops: &Backstops,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let since = said(status)
            .filter(|said| said.status == "False")
            .map_or(now, |said| said.last_transition_time.0);
        let late = backstops
            .fuse_states
            .values()
            .filter_map(|fuse_state| match fuse_state {
                FuseState::Late { made } => Some(later(*made, LATE)),
                FuseState::Lit | FuseState::NotStarted | FuseState::Suspended => None,
            });
        match self.reason {
            reasons::FUSE_REFUSED => Some(later(now, LOOK_AGAIN.max(now.duration_since(since) / 10))),
            reasons::FUSE_NOT_LIT => Some(later(since, LOOK_AGAIN)),
            reasons::FUSE_LATE => late.filter(|at| *at > now).min(),
            _ => None,
        }
    }
}

/// The recorded condition `Fused`.
pub(crate) fn said(status: &AccessGrantStatus) -> Option<&Condition> {
    let mut conditions = status.conditions.iter();
    conditions.find(|condition| condition.type_ == conditions::FUSED)
}

/// Whether the status records access that wants a fuse and has no lit one.
pub fn is_unfused(status: &AccessGrantStatus) -> bool {
    let given = status.activated_at.is_some() && status.ended_at.is_none();
    given && said(status).is_some_and(|said| said.status == "False")
}

/// The layers that can each end this artifact.
pub(crate) fn enforcers(
    record: &ArtifactRecord,
    records: &[ArtifactRecord],
    backstops: &Backstops,
) -> Vec<Enforcer> {
    let lit = fuse_of(record, records)
        .is_some_and(|fuse| backstops.fuse_states.get(&ArtifactKey::from(fuse)) == Some(&FuseState::Lit));
    [
        (Enforcer::Controller, true),
        (Enforcer::Fuse, lit),
        (Enforcer::Sweep, backstops.sweep_lives),
    ]
    .into_iter()
    .filter_map(|(enforcer, is_active)| is_active.then_some(enforcer))
    .collect()
}

/// The layers that can each end every binding that gives access, as text for the status.
pub(crate) fn common_enforcers(records: &[ArtifactRecord]) -> String {
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

#[cfg(test)]
#[path = "tests/enforcement.rs"]
mod tests;
