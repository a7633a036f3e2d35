//! Conditions of a policy: CEL expressions that a request must meet, in addition to the other fields.

use crate::api::RequestCondition;
use crate::core::expression::Expression;
use crate::core::policy::problem::Problem;

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
