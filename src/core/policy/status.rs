//! A policy's status.

use jiff::Timestamp;

use crate::api::{AccessPolicy, AccessPolicyStatus, conditions, reasons};
use crate::core::conditions::condition;
use crate::core::policy::preflight::PolicyReadiness;

/// Status of a policy with this readiness.
pub fn policy_status(
    policy: &AccessPolicy,
    verdict: &Result<(), PolicyReadiness>,
    live_grants: u32,
    at: Timestamp,
) -> AccessPolicyStatus {
    let generation = policy.metadata.generation;
    let before = policy
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    let wanted = match verdict {
        Ok(()) => (
            conditions::READY,
            "True",
            reasons::READY,
            "requests can use this policy",
        ),
        Err(verdict) => (
            conditions::READY,
            "False",
            verdict.reason,
            verdict.message.as_str(),
        ),
    };
    AccessPolicyStatus {
        observed_generation: generation,
        live_grants,
        conditions: vec![condition(before, &wanted, generation, at)],
    }
}
