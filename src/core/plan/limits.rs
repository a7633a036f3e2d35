//! Active and pending limits.

use crate::api::reasons;
use crate::core::evaluate::resolve::Resolved;
use crate::core::facts::Input;
use crate::core::policy::Policy;
use crate::core::request::Request;
use crate::core::request::refusal::Refusal;

/// Limit of requests of one requester that wait under one policy. Checked when a request begins to wait.
pub(crate) fn pending_limit(
    input: &Input<'_>,
    policy: &Policy,
    request: &Request,
    first: bool,
) -> Result<(), Refusal> {
    let pending = input.pending;
    if !first || pending.len() < usize::from(policy.pending_per_requester) {
        return Ok(());
    }
    Err(Refusal::new(
        reasons::TOO_MANY_PENDING,
        "spec.policyRef.name",
        format!(
            "{} has {} waiting under policy {} ({}), at most {} allowed; revoke one first",
            request.requester.username,
            several(pending.len(), "request"),
            policy.name,
            pending.join(", "),
            policy.pending_per_requester
        ),
    ))
}

/// Limit of live grants of one subject under one policy.
pub(crate) fn live_limit(policy: &Policy, resolved: &Resolved, rivals: &[String]) -> Result<(), Refusal> {
    if rivals.len() < usize::from(policy.active_per_subject) {
        return Ok(());
    }
    Err(Refusal::new(
        reasons::LIMIT_REACHED,
        "spec.policyRef.name",
        format!(
            "{} has {} under policy {} ({}), at most {} allowed; end one first",
            resolved.subject,
            several(rivals.len(), "live grant"),
            policy.name,
            rivals.join(", "),
            policy.active_per_subject
        ),
    ))
}

/// A number with its noun: `1 request`, `2 requests`.
pub(crate) fn several(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
