//! CEL conditions of this request.

use crate::api::reasons;
use crate::core::evaluate::question::CheckInput;
use crate::core::expression::Expression;
use crate::core::expression::variables::Variables;
use crate::core::facts::NamespaceFacts;
use crate::core::policy::approval::{ApprovalRequirement, ApprovalRule};
use crate::core::policy::condition::Condition;
use crate::core::request::refusal::Refusal;

/// One refusal for each condition that is false or cannot be evaluated.
pub(crate) fn unmet_conditions(question: &CheckInput<'_>) -> Vec<Refusal> {
    let policy = question.policy;
    // A request in a deleted namespace is refused for that reason alone.
    let (Some(namespace), false) = (question.namespace, policy.conditions.is_empty()) else {
        return Vec::new();
    };
    let variables = variables(question, namespace);
    let refusal = |condition: &Condition| {
        let (name, policy) = (&condition.name, &policy.name);
        let message = match condition.expression.holds(&variables) {
            Ok(true) => return None,
            Ok(false) => format!(
                "condition {name} of policy {policy} is not met: {}",
                condition.message
            ),
            Err(failure) => format!(
                "condition {name} of policy {policy} cannot be evaluated and counts as not met: {failure}; {}",
                condition.message
            ),
        };
        // No single field: a condition can read several.
        Some(Refusal::new(reasons::CONDITION_NOT_MET, "spec", message))
    };
    policy.conditions.iter().filter_map(refusal).collect()
}

/// Required approvals of this request; `None` if it needs none.
pub(crate) fn approval_requirement<'a>(question: &CheckInput<'a>) -> Option<&'a ApprovalRequirement> {
    match &question.policy.approval {
        ApprovalRule::Never => None,
        ApprovalRule::Always(demands) => Some(demands),
        ApprovalRule::When(expression, demands) => requires_approval(question, expression).then_some(demands),
    }
}

/// Whether this request needs approval. An expression that cannot be evaluated requires approval.
fn requires_approval(question: &CheckInput<'_>, expression: &Expression) -> bool {
    question
        .namespace
        .is_none_or(|namespace| expression.holds(&variables(question, namespace)).unwrap_or(true))
}

/// Variables that expressions can read.
fn variables<'a>(question: &CheckInput<'a>, namespace: &'a NamespaceFacts) -> Variables<'a> {
    Variables {
        request: question.request,
        duration: question.duration(),
        entitlements: requested_entitlements(question),
        namespace_name: question.namespace_name,
        namespace_labels: &namespace.labels,
        policy_name: &question.policy.name,
        policy_labels: &question.policy.labels,
        now: question.now,
    }
}

/// Names of the requested entitlements; without any, those that the policy grants by default.
fn requested_entitlements(question: &CheckInput<'_>) -> Vec<String> {
    if let Some(asks) = &question.request.entitlements {
        return asks.iter().map(|ask| ask.name.clone()).collect();
    }
    let offers = question.policy.entitlements.iter();
    offers
        .filter(|offer| offer.by_default)
        .map(|offer| offer.name.clone())
        .collect()
}
