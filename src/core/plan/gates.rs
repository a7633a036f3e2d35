//! Guards, clocks, policy: may it be judged?

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::{AccessGrantStatus, reasons};
use crate::core::facts::{Input, PolicyFacts};
use crate::core::grant::live::{POLICY_GONE_GRACE, POLICY_GRACE};
use crate::core::guard::state::GuardState;
use crate::core::plan::answer::Evaluation;
use crate::core::policy::Policy;
use crate::core::request::refusal::Refusal;

/// Whether the policy accepted the request before: then its status has the resolved access.
pub(crate) fn is_accepted(status: Option<&AccessGrantStatus>) -> bool {
    status.is_some_and(|status| status.resolved.is_some())
}

/// Whether the grant was seen while the guards were in breach. Anybody may have created it then, in any name. The mark
/// is in the status, so it survives a restart and the end of the breach.
pub(crate) fn was_held_in_a_breach(status: Option<&AccessGrantStatus>) -> bool {
    status
        .iter()
        .flat_map(|status| &status.conditions)
        .any(|condition| condition.reason == reasons::GUARDS_NOT_IN_FORCE)
}

/// Step 2: holds the request while the guards are not proven. `spec.requester` may be forged, and a denial is final.
/// The requester of an accepted request was attested; decisions that were made during a breach are not.
pub(crate) fn held_for_guards<'a>(input: &Input<'a>) -> Option<Evaluation<'a>> {
    let status = input.grant.status.as_ref();
    let accepted = is_accepted(status);
    let unattested = was_held_in_a_breach(status) && !accepted;
    match input.guards {
        GuardState::Breached(why) => Some(Evaluation::HoldInBreach(why)),
        // A request that was seen in a breach keeps the reason that says so.
        GuardState::Unproven(why) if unattested => {
            Some(Evaluation::HoldForGuards(reasons::GUARDS_NOT_IN_FORCE, why))
        }
        GuardState::Unproven(_) if accepted => Some(Evaluation::Stay { until: None }),
        GuardState::Unproven(why) => Some(Evaluation::HoldForGuards(reasons::GUARDS_UNPROVEN, why)),
        GuardState::InForce if unattested => Some(Evaluation::Deny(
            Refusal::new(
                reasons::NOT_ATTESTED,
                "spec.requester",
                "cannot verify the requester: the admission guards were not in force when this was asked; ask again",
            )
            .into(),
        )),
        GuardState::InForce => None,
    }
}

/// Step 2 as well: holds the request while the clocks differ too much. Without the time nobody knows if the request is
/// too late, or when its access would expire.
pub(crate) fn held_for_clocks<'a>(input: &Input<'a>) -> Option<Evaluation<'a>> {
    let why = input.skewed?;
    Some(if is_accepted(input.grant.status.as_ref()) {
        Evaluation::Stay { until: None }
    } else {
        Evaluation::HoldForClocks(why)
    })
}

/// Step 3: the policy, or the answer while it is missing or not usable. A new request waits `POLICY_GRACE` for it. An
/// accepted one waits `POLICY_GONE_GRACE`, as long as live access does.
pub(crate) fn usable_policy<'a>(input: &Input<'a>, now: Timestamp) -> Result<&'a Policy, Evaluation<'a>> {
    let name = &input.grant.spec.policy_ref.name;
    let (reason, since, why) = match input.policy {
        PolicyFacts::Ready(policy) => return Ok(policy),
        PolicyFacts::Absent { since, why, .. } => (reasons::POLICY_NOT_FOUND, *since, why.clone()),
        PolicyFacts::Unready { since, why, .. } => (
            reasons::POLICY_NOT_READY,
            *since,
            format!("cannot be used: {why}"),
        ),
    };
    let since = since.max(created(input));
    let after = |grace| since.saturating_add(grace).unwrap_or(Timestamp::MAX);
    // An edited policy is checked again in a moment, and so is every policy after a start of the operator. For
    // `POLICY_GRACE` accepted requests do not say that they wait: there may be a thousand.
    let until = if is_accepted(input.grant.status.as_ref()) {
        let soon = after(POLICY_GRACE);
        if now < soon {
            return Err(Evaluation::Stay { until: Some(soon) });
        }
        after(POLICY_GONE_GRACE)
    } else {
        after(POLICY_GRACE)
    };
    let refusal = Refusal::new(reason, "spec.policyRef.name", format!("policy {name} {why}"));
    Err(if now < until {
        Evaluation::Hold {
            reason,
            message: format!("{refusal}; waiting for it until {until}"),
            until,
        }
    } else {
        Evaluation::Deny(refusal.into())
    })
}

pub(crate) fn created(input: &Input<'_>) -> Timestamp {
    let created: Option<&Time> = input.grant.metadata.creation_timestamp.as_ref();
    created.map_or(Timestamp::MIN, |time| time.0)
}
