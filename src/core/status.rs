//! The status of a grant in each of its states. Every function gives the whole new status; the edges write what
//! differs.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, ObjectMeta, Time};

use super::approval::{describe_approvals, describe_void};
use super::ending::Ending;
use super::fuse::{Backstops, Fused, common_enforcers, enforcers};
use super::naming::ArtifactKey;
use super::{Refusals, Resolved};
use crate::api::{
    AccessGrant, AccessGrantStatus, ApprovalRecord, ArtifactRecord, Revocation, RevocationCause, Subject,
    conditions, reasons,
};

/// Longest message put into a status; the schema allows more, people read less.
const MESSAGE_LENGTH: usize = 1024;

/// What is said of a request that its policy admitted.
const ADMITTED: &str = "the policy admits the request";

/// Uids of what was made.
pub type Uids = BTreeMap<ArtifactKey, String>;

/// A condition to be: type, status, reason, message.
type Wanted<'a> = (&'static str, &'static str, &'static str, &'a str);

/// Not decided yet, and why.
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
    // How people stand to it does not change while something else is missing.
    status.conditions.extend(approval(grant).cloned());
    status
}

/// Refused, for good.
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

/// Admitted; people are asked, or its time has to come. `waiting` says which.
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

/// What an admitted request waits for, and how that is said.
#[derive(Clone, Copy, Debug)]
pub enum Waits<'a> {
    /// Approvals.
    ForPeople(&'a str),
    /// Its start.
    ForItsTime {
        /// When that is.
        message: &'a str,
        /// Whether people were asked.
        asked: bool,
    },
}

/// Admitted; what will be made and its end are recorded, nothing is made yet. Access waits for this write, so it says
/// no more than it must: each condition costs the API server half a millisecond.
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

/// Recorded as granted, and waiting for its fuses: `live` is the status that says what will be made.
pub(super) fn awaiting_fuses(
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

/// In force since `since`, as it stands with its fuses at `at`.
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

/// As it stands with its fuses at `at`; everything else as before.
pub fn fused(grant: &AccessGrant, uids: &Uids, backstops: &Backstops, at: Timestamp) -> AccessGrantStatus {
    let mut status = grant.status.clone().unwrap_or_default();
    if let Some(fused) = Fused::of(&status, backstops, at) {
        let told = told(&status, &fused, grant.metadata.generation, at);
        status
            .conditions
            .retain(|condition| condition.type_ != conditions::FUSED);
        status.conditions.push(told);
    }
    backed(status, uids, backstops)
}

/// What is said of fuses, as a condition.
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

/// The same status with these uids, and with the layers that end each thing.
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

/// Over since `at`, with nothing left in force.
pub fn ended(grant: &AccessGrant, ending: &Ending, at: Timestamp) -> AccessGrantStatus {
    let message = shortened(&ending.message);
    let (state, reason) = (ending.state(), ending.reason());
    let mut wanted: Vec<Wanted<'_>> = vec![
        (conditions::ACTIVE, "False", state, message.as_str()),
        (conditions::ENDED, "True", reason, message.as_str()),
    ];
    // A request may be taken back before its policy was there.
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

/// What is said of its approval, if people were asked.
fn approval(grant: &AccessGrant) -> Option<&Condition> {
    let mut conditions = grant.status.iter().flat_map(|status| &status.conditions);
    conditions.find(|condition| condition.type_ == conditions::APPROVED)
}

/// Who approved, if anybody was asked.
fn approved(grant: &AccessGrant) -> Option<String> {
    describe_approvals(&grant.status.as_ref()?.approvals)
}

/// The present status with these conditions and no others.
fn with_conditions(grant: &AccessGrant, wanted: &[Wanted<'_>], at: Timestamp) -> AccessGrantStatus {
    let status = grant.status.clone().unwrap_or_default();
    conditioned(&status, grant.metadata.generation, wanted, at)
}

/// That status with these conditions and no others.
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

/// One condition; keeps the time of its last transition while its status stays.
pub(super) fn condition(
    previous: &[Condition],
    &(type_, status, reason, message): &Wanted<'_>,
    generation: Option<i64>,
    at: Timestamp,
) -> Condition {
    let since = previous
        .iter()
        .find(|condition| condition.type_ == type_ && condition.status == status)
        .map(|condition| condition.last_transition_time.0)
        // The schema's default cannot know the time and says the epoch.
        .filter(|since| *since != Timestamp::UNIX_EPOCH);
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: generation,
        last_transition_time: Time(since.unwrap_or(at)),
    }
}

/// The state of a grant: the reason of its condition `Active`.
pub fn state(grant: &AccessGrant) -> &'static str {
    const STATES: [&str; 9] = [
        reasons::PENDING,
        reasons::AWAITING_APPROVAL,
        reasons::SCHEDULED,
        reasons::ACTIVATING,
        reasons::ACTIVE,
        reasons::EXPIRED,
        reasons::REVOKED,
        reasons::DENIED,
        reasons::FAILED,
    ];
    grant
        .status
        .iter()
        .flat_map(|status| &status.conditions)
        .find(|condition| condition.type_ == conditions::ACTIVE)
        .and_then(|condition| STATES.into_iter().find(|state| *state == condition.reason))
        .unwrap_or(reasons::PENDING)
}

/// Whether two statuses say the same, whenever they said it.
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

/// What to send to replace the status of a grant: bound to the version of the grant it was made from, so that it fails
/// when the grant has changed since. Replacing takes the API server a sixth less time than patching.
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

/// A time as status fields hold it: whole microseconds, so that what is compared equals what is stored.
pub fn micro_time(at: Timestamp) -> MicroTime {
    MicroTime(Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at))
}

fn shortened(message: &str) -> String {
    if message.chars().count() <= MESSAGE_LENGTH {
        return message.to_owned();
    }
    message.chars().take(MESSAGE_LENGTH - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests;
