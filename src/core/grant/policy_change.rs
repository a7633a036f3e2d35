//! The policy would refuse it now.

use jiff::Timestamp;

use crate::api::{
    AccessGrant, Escalation, FuseDemand, OnChange, ResolvedAccess, ResolvedEntitlement, RevocationCause,
};
use crate::core::decision::records::check_recorded;
use crate::core::decision::records::missing as missing_approvals;
use crate::core::evaluate::admit::{admit, readmit};
use crate::core::evaluate::conditions::approval_requirement;
use crate::core::evaluate::question::CheckInput;
use crate::core::facts::{Input, PolicyFacts};
use crate::core::grant::live::Live;
use crate::core::policy::Policy;
use crate::core::policy::entitlement::Access;
use crate::core::rbac::escalation::first_escalation;
use crate::core::rbac::rules::covers;
use crate::core::request::Request;
use crate::core::time::duration::AccessDuration;

/// A change of the policy that ends the access: the current policy would deny the grant, and does not keep it.
pub(crate) fn policy_change(
    input: &Input<'_>,
    live: &Live<'_>,
    now: Timestamp,
) -> Option<(RevocationCause, String)> {
    let name = &input.grant.spec.policy_ref.name;
    match input.policy {
        PolicyFacts::Absent { since, why, .. } => (now >= live.outlasts_its_policy(*since))
            .then(|| (RevocationCause::PolicyDeleted, format!("policy {name} {why}"))),
        PolicyFacts::Unready {
            since,
            why,
            policy: None,
        } => (now >= live.outlasts_its_policy(*since)).then(|| {
            (
                RevocationCause::PolicyChanged,
                format!("policy {name} cannot be used: {why}"),
            )
        }),
        PolicyFacts::Ready(policy)
        | PolicyFacts::Unready {
            policy: Some(policy), ..
        } => {
            if live.active && policy.on_policy_change == OnChange::Keep {
                return None;
            }
            let refusal = refusal(input, live, policy, now)?;
            Some((
                RevocationCause::PolicyChanged,
                format!("policy {name} would deny it now: {refusal}"),
            ))
        }
    }
}

/// Why the current policy would deny the access as it was granted.
pub(crate) fn refusal(input: &Input<'_>, live: &Live<'_>, policy: &Policy, now: Timestamp) -> Option<String> {
    let resolved = live.status.resolved.as_ref()?;
    let request = match as_granted(input.grant, &resolved.duration) {
        Ok(request) => request,
        Err(refusals) => return Some(refusals),
    };
    let question = input.question(&request, policy, now);
    // Conditions are evaluated until the activation, not after it. A fuse cannot enforce an expression, and an
    // expression that becomes false by itself would end access at the time of an arbitrary reconcile.
    let judged = if live.active {
        readmit(&question)
    } else {
        admit(&question)
    };
    if let Err(refusals) = judged {
        return Some(refusals.to_string());
    }
    if policy.fuse == FuseDemand::Required && resolved.fuse == FuseDemand::None {
        return Some("it requires a fuse now, and this access has no fuse".to_owned());
    }
    unapproved(input.grant, &question, resolved).or_else(|| {
        resolved
            .entitlements
            .iter()
            .find_map(|entitlement| beyond(policy, input, entitlement))
    })
}

/// Approvals that the edited policy requires and the access does not have.
fn unapproved(grant: &AccessGrant, question: &CheckInput<'_>, resolved: &ResolvedAccess) -> Option<String> {
    // The unchanged policy was satisfied at the time of the approval. Its expression at another time ends nothing.
    if question.policy.generation == resolved.policy_generation {
        return None;
    }
    let demands = approval_requirement(question)?;
    let recorded = grant.status.as_ref().map_or(&[][..], |status| &status.approvals);
    let approvals = check_recorded(demands, question.request, &resolved.hash, recorded);
    let missing = missing_approvals(demands, &approvals)?;
    Some(format!(
        "it requires {} approvals from {} now; this access has {}",
        missing.required, missing.stage, missing.counted
    ))
}

/// The request with the granted duration, since the default of the policy can have changed.
fn as_granted(grant: &AccessGrant, duration: &str) -> Result<Request, String> {
    let request = Request::parse(grant).map_err(|refusals| refusals.to_string())?;
    Ok(Request {
        duration: AccessDuration::parse(duration).ok().or(request.duration),
        ..request
    })
}

fn beyond(policy: &Policy, input: &Input<'_>, entitlement: &ResolvedEntitlement) -> Option<String> {
    let name = &entitlement.name;
    let Some(offer) = policy.entitlement(name) else {
        return Some(format!("it no longer offers {name}"));
    };
    match (&offer.access, &entitlement.role, &entitlement.act_as) {
        (
            Access::Role {
                kind,
                name: role,
                escalation,
                ..
            },
            Some(held),
            None,
        ) if *kind == held.kind && *role == held.name => input
            .roles
            .get(&(*kind, role.clone()))
            // If the rules have changed, the entitlement's `onChange` decides; see `role_change`.
            .filter(|there| *escalation == Escalation::Refuse && there.rules_hash() == held.rules_hash)
            .and_then(|there| first_escalation(there.rules()))
            .map(|rule| format!("entitlement {name}: {role} can be used to gain more access ({rule})")),
        (
            Access::ActAs {
                namespace,
                service_account,
                ..
            },
            Some(_),
            Some(held),
        ) if *namespace == held.namespace && *service_account == held.service_account => None,
        (Access::Rules { rules, .. }, None, None) => covers(rules, &entitlement.rules)
            .err()
            .map(|uncovered| format!("entitlement {name}: {uncovered}")),
        _ => Some(format!("entitlement {name} now grants something else")),
    }
}
