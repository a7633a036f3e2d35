//! The status of a grant in each of its states. Each function returns the complete new status; the cluster layer writes
//! it if it differs.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};

use crate::api::{
    AccessGrant, AccessGrantStatus, ApprovalRecord, ArtifactRecord, GrantState, Revocation, RevocationCause,
    Subject, conditions, reasons,
};
use crate::core::artifact::key::ArtifactKey;
use crate::core::conditions::{Wanted, condition, shortened};
use crate::core::decision::records::{describe_approvals, describe_void};
use crate::core::evaluate::resolve::Resolved;
use crate::core::grant::enforcement::{Backstops, Fused, common_enforcers, enforcers};
use crate::core::grant::revocation::DueRevocation;
use crate::core::request::refusal::Refusals;
use crate::core::time::timestamp::micro_time;

/// Message of `Accepted` for an admitted request.
const ADMITTED: &str = "the policy admits the request";

/// Uids of the created artifacts.
pub type Uids = BTreeMap<ArtifactKey, String>;

/// Status of an undecided request, with the reason why it is held.
pub fn held(grant: &AccessGrant, reason: &'static str, message: &str, at: Timestamp) -> AccessGrantStatus {
    let message = shortened(message);
    let message = message.as_str();
    let wanted = [
        (conditions::ACCEPTED, "Unknown", reason, message),
        (conditions::ACTIVE, "False", reasons::PENDING, message),
        (conditions::READY, "False", reasons::PENDING, message),
        (conditions::RECONCILING, "True", reason, message),
    ];
    let mut status = with_conditions(grant, &wanted, at);
    // Approvals do not change while the request is held.
    status.conditions.extend(approval(grant).cloned());
    status
}

/// Status of a denied request. Final.
pub fn denied(
    grant: &AccessGrant,
    subject: Option<Subject>,
    refusals: &Refusals,
    at: Timestamp,
) -> AccessGrantStatus {
    let message = shortened(&refusals.to_string());
    let mut wanted: Vec<Wanted<'_>> = vec![
        (conditions::ACCEPTED, "False", refusals.reason(), message.as_str()),
        (conditions::ACTIVE, "False", reasons::DENIED, message.as_str()),
        (conditions::ENDED, "True", reasons::DENIED, "never was in force"),
        (conditions::READY, "False", reasons::DENIED, message.as_str()),
        (conditions::STALLED, "True", refusals.reason(), message.as_str()),
    ];
    if approval(grant).is_some() {
        wanted.push((conditions::APPROVED, "False", refusals.reason(), message.as_str()));
    }
    AccessGrantStatus {
        subject,
        ended_at: Some(micro_time(at)),
        ..with_conditions(grant, &wanted, at)
    }
}

/// Status of an admitted request that awaits approval or its start time; `waits` says which.
pub fn waiting(
    grant: &AccessGrant,
    resolved: &Resolved,
    approvals: Vec<ApprovalRecord>,
    waits: &Waits<'_>,
    at: Timestamp,
) -> AccessGrantStatus {
    let void = describe_void(&approvals).is_some();
    let (state, message, approval) = match waits {
        Waits::ForPeople(message) => {
            let reason = if void {
                reasons::APPROVAL_VOID
            } else {
                reasons::AWAITING_APPROVAL
            };
            let message = shortened(message);
            let approval = Some(("Unknown", reason, message.clone()));
            (reasons::AWAITING_APPROVAL, message, approval)
        }
        Waits::ForItsTime { message, asked } => {
            let approval = describe_approvals(&approvals)
                .filter(|_| *asked)
                .map(|message| ("True", reasons::APPROVED, message));
            (reasons::SCHEDULED, shortened(message), approval)
        }
    };
    let mut wanted: Vec<Wanted<'_>> = vec![
        (conditions::ACCEPTED, "True", reasons::POLICY_SATISFIED, ADMITTED),
        (conditions::ACTIVE, "False", state, &message),
        (conditions::READY, "False", state, &message),
        (conditions::RECONCILING, "True", state, &message),
    ];
    if let Some((status, reason, message)) = &approval {
        wanted.insert(1, (conditions::APPROVED, status, reason, message));
    }
    AccessGrantStatus {
        subject: Some(resolved.subject.clone()),
        resolved: Some(resolved.access.clone()),
        approvals,
        ..with_conditions(grant, &wanted, at)
    }
}

/// What an admitted request waits for.
#[derive(Clone, Copy, Debug)]
pub enum Waits<'a> {
    /// Approvals; the message says which are missing.
    ForPeople(&'a str),
    /// Its start time.
    ForItsTime {
        /// The start time, for people.
        message: &'a str,
        /// Whether the request needed approvals.
        asked: bool,
    },
}

/// Write-ahead status: records the intended artifacts and the end before anything is created.
///
/// Access waits for this write, so it has only the necessary conditions: each condition costs the API server 0.5 ms.
pub fn activating(
    grant: &AccessGrant,
    resolved: &Resolved,
    approvals: Vec<ApprovalRecord>,
    expires_at: Timestamp,
    artifacts: Vec<ArtifactRecord>,
    at: Timestamp,
) -> AccessGrantStatus {
    let wanted = [
        (
            conditions::ACTIVE,
            "False",
            reasons::ACTIVATING,
            "the access is being made",
        ),
        (
            conditions::RECONCILING,
            "True",
            reasons::ACTIVATING,
            "the access is being made",
        ),
    ];
    AccessGrantStatus {
        subject: Some(resolved.subject.clone()),
        resolved: Some(resolved.access.clone()),
        approvals,
        expires_at: Some(micro_time(expires_at)),
        artifacts,
        ..with_conditions(grant, &wanted, at)
    }
}

/// Status of a granted request that waits for its fuses. `live` is its write-ahead status.
pub(crate) fn awaiting_fuses(
    grant: &AccessGrant,
    live: &AccessGrantStatus,
    fused: &Fused,
    at: Timestamp,
) -> AccessGrantStatus {
    let waits = shortened(&format!("waits for its fuse: {}", fused.message));
    let message = shortened(&fused.message);
    let approved = describe_approvals(&live.approvals);
    let mut wanted: Vec<Wanted<'_>> = vec![
        (conditions::ACCEPTED, "True", reasons::POLICY_SATISFIED, ADMITTED),
        (conditions::FUSED, "False", fused.reason, &message),
        (conditions::ACTIVE, "False", reasons::ACTIVATING, &waits),
        (conditions::READY, "False", reasons::ACTIVATING, &waits),
        (conditions::RECONCILING, "True", reasons::ACTIVATING, &waits),
    ];
    if let Some(approved) = &approved {
        wanted.push((conditions::APPROVED, "True", reasons::APPROVED, approved));
    }
    conditioned(live, grant.metadata.generation, &wanted, at)
}

/// Status of access in force since `since`, with the fuse state at `at`.
pub fn active(
    grant: &AccessGrant,
    uids: &Uids,
    backstops: &Backstops,
    since: Timestamp,
    at: Timestamp,
) -> AccessGrantStatus {
    let until = grant
        .status
        .as_ref()
        .and_then(|status| status.expires_at.as_ref())
        .map_or_else(String::new, |end| format!("until {}", end.0));
    let approved = approved(grant);
    let mut wanted: Vec<Wanted<'_>> = vec![
        (conditions::ACCEPTED, "True", reasons::POLICY_SATISFIED, ADMITTED),
        (conditions::ACTIVE, "True", reasons::ACTIVE, until.as_str()),
        (conditions::READY, "True", reasons::ACTIVE, until.as_str()),
    ];
    if let Some(approved) = &approved {
        wanted.push((conditions::APPROVED, "True", reasons::APPROVED, approved));
    }
    let before = grant.status.clone().unwrap_or_default();
    let fused = Fused::of(&before, backstops, at);
    let mut status = with_conditions(grant, &wanted, at);
    status
        .conditions
        .extend(fused.map(|fused| told(&before, &fused, grant.metadata.generation, at)));
    AccessGrantStatus {
        activated_at: Some(micro_time(since)),
        ..backed(status, uids, backstops)
    }
}

/// The present status with the fuse state at `at`; everything else is unchanged.
pub fn fused(grant: &AccessGrant, uids: &Uids, backstops: &Backstops, at: Timestamp) -> AccessGrantStatus {
    let mut status = grant.status.clone().unwrap_or_default();
    if let Some(fused) = Fused::of(&status, backstops, at) {
        let condition = told(&status, &fused, grant.metadata.generation, at);
        status
            .conditions
            .retain(|condition| condition.type_ != conditions::FUSED);
        status.conditions.push(condition);
    }
    backed(status, uids, backstops)
}

/// The condition `Fused`.
fn told(before: &AccessGrantStatus, fused: &Fused, generation: Option<i64>, at: Timestamp) -> Condition {
    let is = if fused.lit { "True" } else { "False" };
    let message = shortened(&fused.message);
    condition(
        &before.conditions,
        &(conditions::FUSED, is, fused.reason, &message),
        generation,
        at,
    )
}

/// The same status with the uids of the artifacts, and with the layers that can end each artifact.
fn backed(mut status: AccessGrantStatus, uids: &Uids, backstops: &Backstops) -> AccessGrantStatus {
    for record in &mut status.artifacts {
        if let Some(uid) = uids.get(&ArtifactKey::from(&*record)) {
            record.uid = Some(uid.clone());
        }
    }
    let enforced: Vec<_> = status
        .artifacts
        .iter()
        .map(|record| enforcers(record, &status.artifacts, backstops))
        .collect();
    for (record, enforced) in status.artifacts.iter_mut().zip(enforced) {
        record.enforced_by = enforced;
    }
    status.enforced_by = common_enforcers(&status.artifacts);
    status
}

/// Status of a grant that ended at `at`. All its artifacts are proven absent.
pub fn ended(grant: &AccessGrant, ending: &DueRevocation, at: Timestamp) -> AccessGrantStatus {
    let message = shortened(&ending.message);
    let (state, reason) = (ending.state().as_str(), ending.reason());
    let mut wanted: Vec<Wanted<'_>> = vec![
        (conditions::ACTIVE, "False", state, message.as_str()),
        (conditions::ENDED, "True", reason, message.as_str()),
    ];
    // A request can be withdrawn before its policy exists.
    let status = grant.status.as_ref();
    if status.is_some_and(|status| status.resolved.is_some()) {
        wanted.insert(
            0,
            (conditions::ACCEPTED, "True", reasons::POLICY_SATISFIED, ADMITTED),
        );
    }
    let granted = status.is_some_and(|status| status.expires_at.is_some());
    let approved = approved(grant).filter(|_| granted);
    if let Some(approved) = &approved {
        wanted.push((conditions::APPROVED, "True", reasons::APPROVED, approved));
    }
    if ending.cause == RevocationCause::ArtifactChanged {
        wanted.push((conditions::DRIFTED, "True", reason, message.as_str()));
    }
    if state == reasons::FAILED {
        wanted.push((conditions::READY, "False", state, message.as_str()));
        wanted.push((conditions::STALLED, "True", reason, message.as_str()));
    }
    AccessGrantStatus {
        ended_at: Some(micro_time(at)),
        revocation: Some(Revocation {
            cause: ending.cause,
            by: ending.by.clone(),
            message: message.clone(),
            lag_milliseconds: Some(ending.lag_milliseconds(at)),
        }),
        ..with_conditions(grant, &wanted, at)
    }
}

/// The recorded condition `Approved`, if the request needed approvals.
fn approval(grant: &AccessGrant) -> Option<&Condition> {
    let mut conditions = grant.status.iter().flat_map(|status| &status.conditions);
    conditions.find(|condition| condition.type_ == conditions::APPROVED)
}

/// Who approved, for people; `None` if the request needed no approvals.
fn approved(grant: &AccessGrant) -> Option<String> {
    describe_approvals(&grant.status.as_ref()?.approvals)
}

/// The present status with these conditions and no others.
fn with_conditions(grant: &AccessGrant, wanted: &[Wanted<'_>], at: Timestamp) -> AccessGrantStatus {
    let status = grant.status.clone().unwrap_or_default();
    conditioned(&status, grant.metadata.generation, wanted, at)
}

/// `status` with these conditions and no others.
fn conditioned(
    status: &AccessGrantStatus,
    generation: Option<i64>,
    wanted: &[Wanted<'_>],
    at: Timestamp,
) -> AccessGrantStatus {
    let conditions = wanted
        .iter()
        .map(|wanted| condition(&status.conditions, wanted, generation, at))
        .collect();
    AccessGrantStatus {
        observed_generation: generation,
        conditions,
        ..status.clone()
    }
}

/// State of a grant: the reason of its condition `Active`. `Pending` without such a condition.
pub fn state(grant: &AccessGrant) -> GrantState {
    grant
        .status
        .iter()
        .flat_map(|status| &status.conditions)
        .find(|condition| condition.type_ == conditions::ACTIVE)
        .and_then(|condition| GrantState::from_reason(&condition.reason))
        .unwrap_or(GrantState::Pending)
}

/// Whether two statuses differ in nothing but the transition times of conditions.
pub fn says_the_same(one: &AccessGrantStatus, other: &AccessGrantStatus) -> bool {
    let timeless = |status: &AccessGrantStatus| {
        let mut status = status.clone();
        for condition in &mut status.conditions {
            condition.last_transition_time = Time(Timestamp::UNIX_EPOCH);
        }
        status
    };
    timeless(one) == timeless(other)
}

/// Body of the request that replaces the status of a grant.
///
/// Bound to the resourceVersion of `grant`, so the request fails if the grant has changed since. Replacing takes the
/// API server a sixth less time than patching.
pub fn replacement(grant: &AccessGrant, status: &AccessGrantStatus) -> AccessGrant {
    let meta = &grant.metadata;
    AccessGrant {
        metadata: ObjectMeta {
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            ..ObjectMeta::default()
        },
        spec: grant.spec.clone(),
        status: Some(status.clone()),
    }
}

#[cfg(test)]
#[path = "tests/status.rs"]
mod tests;
