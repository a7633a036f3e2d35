//! Whether a policy can keep its word in this cluster: its roles exist and the operator may hand out what it
//! offers. What is missing is said as RBAC that can be applied as it stands.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use jiff::Timestamp;

use super::facts::{RoleName, Roles};
use super::policy::{Access, Policy, Problem};
use super::rules::{covers, describe, escalating};
use super::status::condition;
use crate::api::{AccessPolicy, AccessPolicyStatus, Escalation, RoleKind, Rule, conditions, reasons};

/// Label by which a `ClusterRole` becomes part of what the operator may hand out (aggregation).
pub const GRANTABLE_LABEL: &str = "access.curfew.dev/aggregate-to-grantable";

/// What the operator may do, as the API server answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Roles of the policy it may bind.
    pub bindable: BTreeSet<RoleName>,
    /// Rules it holds itself, and may therefore put into a Role.
    pub held: Vec<Rule>,
}

/// What a policy lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Condition reason.
    pub reason: &'static str,
    /// Everything that is missing, for people.
    pub message: String,
}

/// Roles that have to exist for the policy as a whole. A `Role` is looked for in each grant's namespace when it
/// is asked for.
pub fn cluster_roles(policy: &Policy) -> impl Iterator<Item = &str> {
    policy
        .entitlements
        .iter()
        .filter_map(|entitlement| match &entitlement.access {
            Access::Role {
                kind: RoleKind::ClusterRole,
                name,
                ..
            } => Some(name.as_str()),
            Access::Role { .. } | Access::Rules { .. } => None,
        })
}

/// Says what the text of a policy lacks.
pub fn invalid(problems: &[Problem]) -> Verdict {
    Verdict {
        reason: reasons::INVALID,
        message: joined(problems),
    }
}

/// Judges a sound policy against the cluster.
pub fn preflight(policy: &Policy, roles: &Roles, rights: &Rights) -> Result<(), Verdict> {
    let mut absent = Vec::new();
    let mut forbidden = Vec::new();
    let mut lacking = Vec::new();
    let mut missing: Vec<Rule> = Vec::new();
    for entitlement in &policy.entitlements {
        let field = format!("spec.entitlements[{}]", entitlement.name);
        match &entitlement.access {
            Access::Role {
                kind,
                name,
                escalation,
                ..
            } => {
                let key = (*kind, name.clone());
                let there = roles.get(&key);
                if *kind == RoleKind::ClusterRole && there.is_none() {
                    absent.push(Problem::new(
                        format!("{field}.role.name"),
                        format!("ClusterRole {name} does not exist"),
                    ));
                }
                if let Some(rule) = there.and_then(|role| escalating(role.rules()))
                    && *escalation == Escalation::Refuse
                {
                    forbidden.push(Problem::new(
                        format!("{field}.role"),
                        format!("{name} can be used to gain more access ({rule}); say escalation: Allow to hand it out"),
                    ));
                }
                if !rights.bindable.contains(&key) {
                    lacking.push(Problem::new(
                        format!("{field}.role"),
                        format!("Curfew may not bind {name}"),
                    ));
                    missing.push(bind(*kind, name));
                }
            }
            Access::Rules { rules, .. } => {
                for rule in rules {
                    if covers(&rights.held, std::slice::from_ref(rule)).is_err() {
                        lacking.push(Problem::new(
                            format!("{field}.rules"),
                            format!("Curfew may not hand out {}", describe(rule)),
                        ));
                        missing.push(rule.clone());
                    }
                }
            }
        }
    }
    if !absent.is_empty() {
        return Err(Verdict {
            reason: reasons::ROLE_NOT_FOUND,
            message: joined(&absent),
        });
    }
    if !forbidden.is_empty() {
        return Err(Verdict {
            reason: reasons::ROLE_FORBIDDEN,
            message: joined(&forbidden),
        });
    }
    if !lacking.is_empty() {
        return Err(Verdict {
            reason: reasons::RIGHTS_MISSING,
            message: format!(
                "{}; to allow it, apply:\n{}",
                joined(&lacking),
                grantable(policy, &missing)
            ),
        });
    }
    Ok(())
}

/// The status that says the verdict.
pub fn policy_status(
    policy: &AccessPolicy,
    verdict: &Result<(), Verdict>,
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
        Ok(()) => (conditions::READY, "True", reasons::READY, "grants may name it"),
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

fn bind(kind: RoleKind, name: &str) -> Rule {
    let resources = match kind {
        RoleKind::ClusterRole => "clusterroles",
        RoleKind::Role => "roles",
    };
    Rule {
        api_groups: vec!["rbac.authorization.k8s.io".to_owned()],
        resources: vec![resources.to_owned()],
        verbs: vec!["bind".to_owned()],
        resource_names: vec![name.to_owned()],
        non_resource_urls: Vec::new(),
    }
}

/// A `ClusterRole` that, applied, gives the operator these rules to hand out.
fn grantable(policy: &Policy, rules: &[Rule]) -> String {
    let mut text = format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata:\n  name: curfew-grantable-{}\n  \
         labels: {{{GRANTABLE_LABEL}: \"true\"}}\nrules:\n",
        policy.name
    );
    for rule in rules {
        // JSON is YAML, and quotes what has to be quoted.
        let line = serde_json::to_string(rule).unwrap_or_default();
        // Writing to a string cannot fail.
        if writeln!(text, "- {line}").is_err() {
            break;
        }
    }
    text
}

fn joined(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

#[cfg(test)]
mod tests;
