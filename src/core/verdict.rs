//! What is made of decisions that people made about a grant.

use super::approval::{Demands, describe_counted};
use super::decision::{Decision, Judged, Standing, Verdict};
use super::facts::{Input, PolicyFacts};
use super::{Policy, Refusal, Request};
use crate::api::{DecisionKind, reasons};

/// Open decisions about a grant that is decided, but for those of which something was made already. An approval that is
/// on record counted; whoever wrote it down died before telling.
pub(super) fn too_late(input: &Input<'_>, made: &[Judged]) -> Vec<Judged> {
    let verdict = |decision: &Decision| {
        on_record(input, decision)
            .unwrap_or_else(|| Verdict::ignored(reasons::TOO_LATE, "the grant had been decided before"))
    };
    input
        .decisions
        .iter()
        .filter(|decision| {
            decision.is_open() && !made.iter().any(|judged| judged.decision.uid == decision.uid)
        })
        .map(|decision| Judged {
            verdict: verdict(decision),
            decision: decision.clone(),
        })
        .collect()
}

/// What is made of an approval that the grant has on record.
fn on_record(input: &Input<'_>, decision: &Decision) -> Option<Verdict> {
    let approvals = &input.grant.status.as_ref()?.approvals;
    let record = approvals
        .iter()
        .find(|record| record.decision_uid == decision.uid)?;
    let message = describe_counted(record, approvals, known_demands(input));
    Some(Verdict::counted(message))
}

/// The policy, as far as what it says is known: whom it lists does not rest on whether it can be used.
fn known_policy<'a>(input: &Input<'a>) -> Option<&'a Policy> {
    match input.policy {
        PolicyFacts::Ready(policy)
        | PolicyFacts::Unready {
            policy: Some(policy), ..
        }
        | PolicyFacts::Absent {
            text: Some(policy), ..
        } => Some(policy),
        PolicyFacts::Absent { text: None, .. } | PolicyFacts::Unready { policy: None, .. } => None,
    }
}

/// What the policy that is known demands of people.
pub(super) fn known_demands<'a>(input: &Input<'a>) -> Option<&'a Demands> {
    known_policy(input)?.approval.demands()
}

/// What is decided while nobody vouches for who decides; a Revoke ends access all the same.
pub(super) fn unattested_decisions(decisions: &[Decision]) -> Vec<Judged> {
    let open = decisions
        .iter()
        .filter(|decision| decision.is_open() && decision.kind != DecisionKind::Revoke);
    open.map(|decision| Judged {
        decision: decision.clone(),
        verdict: Verdict::ignored(
            reasons::NOT_ATTESTED,
            "the admission guards were not in force when this was decided, so nobody can vouch for who decided; \
             decide again",
        ),
    })
    .collect()
}

/// One Deny of an approver suffices.
pub(super) fn denied(
    decisions: &[Decision],
    request: &Request,
    demands: Option<&Demands>,
    judged: &mut Vec<Judged>,
) -> Result<(), Refusal> {
    let denials = decisions
        .iter()
        .filter(|decision| decision.kind == DecisionKind::Deny);
    for decision in denials {
        let counted = decision.recorded == Some(Standing::Counted);
        if !counted && !decision.is_open() {
            continue;
        }
        let ignored = if counted {
            None
        } else {
            decision.about_oneself(request).or_else(|| match demands {
                Some(demands) if demands.lists(&decision.decider) => None,
                Some(demands) => Some(decision.not_listed(demands)),
                None => Some(Verdict::ignored(
                    reasons::NOT_ASKED,
                    "nobody is asked under this policy",
                )),
            })
        };
        let denies = ignored.is_none();
        judged.push(Judged {
            decision: decision.clone(),
            verdict: ignored.unwrap_or_else(|| Verdict::counted("denies the request")),
        });
        if denies {
            return Err(Refusal::new(
                reasons::DENIED_BY_APPROVER,
                "",
                format!("{} denied it: {}", decision.decider.username, decision.reason),
            ));
        }
    }
    Ok(())
}

/// What is left open: approvals that nobody asked for, and revocations by those who may not.
pub(super) fn without_effect(decisions: &[Decision], judged: &[Judged]) -> Vec<Judged> {
    decisions
        .iter()
        .filter(|decision| {
            decision.is_open() && !judged.iter().any(|judged| judged.decision.uid == decision.uid)
        })
        .filter_map(|decision| {
            let verdict = match decision.kind {
                DecisionKind::Revoke => decision.may_not_revoke()?,
                DecisionKind::Approve | DecisionKind::Deny => {
                    Verdict::ignored(reasons::NOT_ASKED, "nobody's approval is asked for")
                }
            };
            Some(Judged {
                decision: decision.clone(),
                verdict,
            })
        })
        .collect()
}

/// What was made of the open decisions about a live grant. While its policy is not known, neither is whom it lists: a
/// Revoke that needs that waits, and so does the telling of an approval that is on record.
pub(super) fn judged_of_live(input: &Input<'_>) -> Vec<Judged> {
    let request = Request::parse(input.grant).ok();
    let (policy, demands) = (known_policy(input), known_demands(input));
    let too_late = |message| Verdict::ignored(reasons::TOO_LATE, message);
    let verdict = |decision: &Decision| match (decision.kind, &request) {
        (DecisionKind::Approve, _) => match on_record(input, decision) {
            Some(counted) => policy.map(|_| counted),
            None => Some(too_late("the grant had been decided before")),
        },
        (DecisionKind::Revoke, Some(request)) if decision.revokes(request, demands) => {
            Some(decision.counts_against(input.grant, request, "ends the access"))
        }
        (DecisionKind::Revoke, _) => policy.and_then(|_| decision.may_not_revoke()),
        (DecisionKind::Deny, _) => Some(too_late(
            "the access had been given before; to end it, decide Revoke",
        )),
    };
    input
        .decisions
        .iter()
        .filter(|decision| decision.is_open())
        .filter_map(|decision| {
            Some(Judged {
                verdict: verdict(decision)?,
                decision: decision.clone(),
            })
        })
        .collect()
}

/// The decision that ends a live grant, if there is one.
pub(super) fn revoking<'a>(input: &Input<'a>) -> Option<&'a Decision> {
    if input.decisions.is_empty() {
        return None;
    }
    let request = Request::parse(input.grant).ok()?;
    let demands = known_demands(input);
    input
        .decisions
        .iter()
        .find(|decision| decision.revokes(&request, demands))
}
