//! Conditions of a policy: CEL expressions that a request must meet, in addition to the other fields.

use super::approval::Demands;
use super::{Approval, Evidence, Expression, NamespaceFacts, Problem, Question, Refusal};
use crate::api::{RequestCondition, reasons};

/// A condition with a valid expression.
#[derive(Clone, Debug)]
pub struct Condition {
    /// Name, unique within the policy.
    pub name: String,
    /// Expression that must be true.
    pub expression: Expression,
    /// Message for a requester who does not meet the condition; set by the author of the policy.
    pub message: String,
}

impl Condition {
    /// Parses a condition.
    ///
    /// # Errors
    /// Returns the line and column at which the expression is wrong.
    pub fn parse(condition: &RequestCondition) -> Result<Self, Problem> {
        let expression = Expression::parse(&condition.expression).map_err(|error| {
            let field = format!("spec.conditions[{}].expression", condition.name);
            Problem::new(field, error.to_string())
        })?;
        Ok(Self {
            name: condition.name.clone(),
            expression,
            message: condition.message.clone(),
        })
    }
}

/// One refusal for each condition that is false or cannot be evaluated.
pub(super) fn unmet(question: &Question<'_>) -> Vec<Refusal> {
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
pub(super) fn demanded<'a>(question: &Question<'a>) -> Option<&'a Demands> {
    match &question.policy.approval {
        Approval::Never => None,
        Approval::Always(demands) => Some(demands),
        Approval::When(expression, demands) => requires_approval(question, expression).then_some(demands),
    }
}

/// Whether this request needs approval. An expression that cannot be evaluated requires approval.
fn requires_approval(question: &Question<'_>, expression: &Expression) -> bool {
    question
        .namespace
        .is_none_or(|namespace| expression.holds(&variables(question, namespace)).unwrap_or(true))
}

/// Variables that expressions can read.
fn variables<'a>(question: &Question<'a>, namespace: &'a NamespaceFacts) -> Evidence<'a> {
    Evidence {
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
fn requested_entitlements(question: &Question<'_>) -> Vec<String> {
    if let Some(asks) = &question.request.entitlements {
        return asks.iter().map(|ask| ask.name.clone()).collect();
    }
    let offers = question.policy.entitlements.iter();
    offers
        .filter(|offer| offer.by_default)
        .map(|offer| offer.name.clone())
        .collect()
}
