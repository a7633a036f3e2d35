//! Decisions about a grant that deny or revoke it, and the policy by which they count.

use crate::api::{DecisionKind, reasons};
use crate::core::decision::Decision;
use crate::core::decision::verdict::{Counting, DecisionVerdict, Verdict};
use crate::core::facts::{Input, PolicyFacts};
use crate::core::policy::Policy;
use crate::core::policy::approval::ApprovalRequirement;
use crate::core::request::Request;
use crate::core::request::refusal::Refusal;

/// The text of the policy, if it is known. A policy need not be usable to say who its approvers are.
pub(crate) fn known_policy<'a>(input: &Input<'a>) -> Option<&'a Policy> {
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

/// The approvals that the known policy requires; `None` if the policy is unknown, or never asks for any.
pub(crate) fn known_approval_requirement<'a>(input: &Input<'a>) -> Option<&'a ApprovalRequirement> {
    known_policy(input)?.approval.demands()
}

/// Verdicts on the Deny decisions about a request.
pub(crate) struct Denials {
    /// One for each Deny that was looked at. The last is the one that counts, if there is a refusal.
    pub verdicts: Vec<DecisionVerdict>,
    /// The refusal, if a Deny counts.
    pub refusal: Option<Refusal>,
}

/// Evaluates the Deny decisions, oldest first. One Deny of an approver is enough; later ones are not looked at.
pub(crate) fn denials(
    decisions: &[Decision],
    request: &Request,
    demands: Option<&ApprovalRequirement>,
) -> Denials {
    let mut verdicts = Vec::new();
    let denials = decisions
        .iter()
        .filter(|decision| decision.kind == DecisionKind::Deny);
    for decision in denials {
        let counted = decision.recorded == Some(Counting::Counted);
        if !counted && !decision.is_open() {
            continue;
        }
        let ignored = if counted {
            None
        } else {
            without_right_to_deny(decision, request, demands)
        };
        let denies = ignored.is_none();
        verdicts.push(DecisionVerdict {
            decision: decision.clone(),
            verdict: ignored.unwrap_or_else(|| Verdict::counted("denies the request")),
        });
        if denies {
            let refusal = Refusal::new(
                reasons::DENIED_BY_APPROVER,
                "",
                format!("{} denied it: {}", decision.decider.username, decision.reason),
            );
            return Denials {
                verdicts,
                refusal: Some(refusal),
            };
        }
    }
    Denials {
        verdicts,
        refusal: None,
    }
}

/// Verdict on a Deny that does not count: by the requester or the subject, by no approver, or under a policy that never
/// asks for approvals.
fn without_right_to_deny(
    decision: &Decision,
    request: &Request,
    demands: Option<&ApprovalRequirement>,
) -> Option<Verdict> {
    decision.about_oneself(request).or_else(|| match demands {
        Some(demands) if demands.lists(&decision.decider) => None,
        Some(demands) => Some(decision.not_listed(demands)),
        None => Some(Verdict::ignored(
            reasons::NOT_ASKED,
            "this policy never asks for approvals",
        )),
    })
}

/// The Revoke that ends a live grant, if there is one.
pub(crate) fn revoking<'a>(input: &Input<'a>) -> Option<&'a Decision> {
    if input.decisions.is_empty() {
        return None;
    }
    let request = Request::parse(input.grant).ok()?;
    let demands = known_approval_requirement(input);
    input
        .decisions
        .iter()
        .find(|decision| decision.revokes(&request, demands))
}
