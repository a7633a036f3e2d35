//! Conditions of a policy: what has to be true of a request besides what its other fields say.

use super::approval::Demands;
use super::{Approval, Evidence, Expression, NamespaceFacts, Problem, Question, Refusal};
use crate::api::{RequestCondition, reasons};

/// A condition whose expression is known to be good.
#[derive(Clone, Debug)]
pub struct Condition {
    /// Its name.
    pub name: String,
    /// What has to be true.
    pub expression: Expression,
    /// What a requester who does not meet it is told.
    pub message: String,
}

impl Condition {
    /// Parses a condition, or says where its expression is wrong.
    pub fn parse(condition: &RequestCondition) -> Result<Self, Problem> {
        let expression = Expression::parse(&condition.expression).map_err(|malformed| {
            let field = format!("spec.conditions[{}].expression", condition.name);
            Problem::new(field, malformed.to_string())
        })?;
        Ok(Self {
            name: condition.name.clone(),
            expression,
            message: condition.message.clone(),
        })
    }
}

/// One refusal for each condition of the policy that does not hold, or of which that cannot be told.
pub(super) fn unmet(question: &Question<'_>) -> Vec<Refusal> {
    let policy = question.policy;
    // What is asked in a namespace that is gone is refused for that.
    let (Some(namespace), false) = (question.namespace, policy.conditions.is_empty()) else {
        return Vec::new();
    };
    let evidence = evidence(question, namespace);
    let refusal = |condition: &Condition| {
        let (name, policy) = (&condition.name, &policy.name);
        let message = match condition.expression.holds(&evidence) {
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
        // No field of the grant by itself: a condition may look at several.
        Some(Refusal::new(reasons::CONDITION_NOT_MET, "spec", message))
    };
    policy.conditions.iter().filter_map(refusal).collect()
}

/// Whom it takes, if people are asked about this request.
pub(super) fn demanded<'a>(question: &Question<'a>) -> Option<&'a Demands> {
    match &question.policy.approval {
        Approval::Never => None,
        Approval::Always(demands) => Some(demands),
        Approval::When(expression, demands) => asks_people(question, expression).then_some(demands),
    }
}

/// Whether people are asked about a request: what the expression says, and if it cannot be judged, yes.
fn asks_people(question: &Question<'_>, expression: &Expression) -> bool {
    question
        .namespace
        .is_none_or(|namespace| expression.holds(&evidence(question, namespace)).unwrap_or(true))
}

/// What expressions are judged on.
fn evidence<'a>(question: &Question<'a>, namespace: &'a NamespaceFacts) -> Evidence<'a> {
    Evidence {
        request: question.request,
        duration: question.duration(),
        entitlements: entitlements(question),
        namespace_name: question.namespace_name,
        namespace_labels: &namespace.labels,
        policy_name: &question.policy.name,
        policy_labels: &question.policy.labels,
        now: question.now,
    }
}

/// Names of what is asked for, else of what is given by default.
fn entitlements(question: &Question<'_>) -> Vec<String> {
    if let Some(asks) = &question.request.entitlements {
        return asks.iter().map(|ask| ask.name.clone()).collect();
    }
    let offers = question.policy.entitlements.iter();
    offers
        .filter(|offer| offer.by_default)
        .map(|offer| offer.name.clone())
        .collect()
}
