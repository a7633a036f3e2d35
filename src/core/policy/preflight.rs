//! Checks that the roles of a policy exist and that the operator may grant what the policy offers. If a right
//! is missing, the message contains the RBAC objects to apply.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::api::{Escalation, RoleKind, Rule, reasons};
use crate::core::policy::Policy;
use crate::core::policy::entitlement::Access;
use crate::core::policy::problem::Problem;
use crate::core::rbac::describe::describe;
use crate::core::rbac::escalation::first_escalation;
use crate::core::rbac::impersonation::{allows_exactly, impersonation};
use crate::core::rbac::roles::{ActAsAccounts, RoleFacts, RoleName, Roles};
use crate::core::rbac::rules::covers;

/// Label of a `ClusterRole` that is aggregated into the rights that the operator may grant.
pub const GRANTABLE_LABEL: &str = "access.curfew.dev/aggregate-to-grantable";

/// Rights of the operator, as the API server answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperatorRights {
    /// Roles of the policy that the operator may bind.
    pub bindable: BTreeSet<RoleName>,
    /// Rules that the operator holds itself. RBAC lets it write only these into a Role.
    pub held: Vec<Rule>,
}

/// Why a policy is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyReadiness {
    /// Reason of the condition `Ready`.
    pub reason: &'static str,
    /// Everything that is missing, for people.
    pub message: String,
}

/// Names of the `ClusterRole`s that must exist for the policy to be ready. A `Role` is checked later, in the
/// namespace of each request.
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
            Access::ActAs { role, .. } => Some(role.as_str()),
            Access::Role { .. } | Access::Rules { .. } => None,
        })
}

/// Readiness of a policy that cannot be parsed.
pub fn invalid(problems: &[Problem]) -> PolicyReadiness {
    PolicyReadiness {
        reason: reasons::INVALID,
        message: joined(problems),
    }
}

/// Checks a parsed policy against the cluster.
///
/// # Errors
/// Returns one reason and a message with everything of that kind that is missing. A missing `ClusterRole`
/// comes first, then a forbidden role, then missing accounts and rights.
pub fn preflight(
    policy: &Policy,
    roles: &Roles,
    identities: &ActAsAccounts,
    rights: &OperatorRights,
) -> Result<(), PolicyReadiness> {
    let mut missing = MissingRights::default();
    for entitlement in &policy.entitlements {
        let field = format!("spec.entitlements[{}]", entitlement.name);
        match &entitlement.access {
            Access::Role {
                kind,
                name,
                escalation,
                ..
            } => missing.role(&field, &(*kind, name.clone()), *escalation, roles, rights),
            Access::Rules { rules, .. } => missing.own_rules(&field, rules, rights),
            Access::ActAs {
                namespace,
                service_account,
                role,
                ..
            } => {
                let field = format!("{field}.actAs");
                let key = (RoleKind::ClusterRole, role.clone());
                if !identities.contains_key(service_account) {
                    missing.no_identity(&field, namespace, service_account);
                }
                missing.impersonation(&field, service_account, role, roles.get(&key).map(AsRef::as_ref));
                missing.binding(field, &key, rights);
            }
        }
    }
    missing.verdict(policy)
}

/// Everything that the cluster lacks for a policy.
#[derive(Debug, Default)]
struct MissingRights {
    absent: Vec<Problem>,
    identities: Vec<Problem>,
    forbidden: Vec<Problem>,
    rights: Vec<Problem>,
    /// Objects to create, as YAML.
    objects: Vec<String>,
    /// Rules that the operator must be allowed to grant.
    rules: Vec<Rule>,
}

impl MissingRights {
    /// Checks an entitlement to an existing role.
    fn role(
        &mut self,
        field: &str,
        role: &RoleName,
        escalation: Escalation,
        roles: &Roles,
        rights: &OperatorRights,
    ) {
        let existing = roles.get(role);
        let (kind, name) = role;
        if *kind == RoleKind::ClusterRole && existing.is_none() {
            self.absent.push(Problem::new(
                format!("{field}.role.name"),
                format!("ClusterRole {name} does not exist"),
            ));
        }
        if let Some(rule) = existing.and_then(|role| first_escalation(role.rules()))
            && escalation == Escalation::Refuse
        {
            self.forbidden.push(Problem::new(
                format!("{field}.role"),
                format!(
                    "{name} can be used to gain more access ({rule}); to grant it, set escalation: Allow"
                ),
            ));
        }
        self.binding(format!("{field}.role"), role, rights);
    }

    /// Checks an entitlement with rules of its own. RBAC lets the operator write only rules that it holds.
    fn own_rules(&mut self, field: &str, rules: &[Rule], rights: &OperatorRights) {
        for rule in rules {
            if covers(&rights.held, std::slice::from_ref(rule)).is_err() {
                self.rights.push(Problem::new(
                    format!("{field}.rules"),
                    format!("Curfew may not grant {}", describe(rule)),
                ));
                self.rules.push(rule.clone());
            }
        }
    }

    fn binding(&mut self, field: String, role: &RoleName, rights: &OperatorRights) {
        if rights.bindable.contains(role) {
            return;
        }
        let (kind, name) = role;
        self.rights
            .push(Problem::new(field, format!("Curfew may not bind {name}")));
        self.rules.push(bind_rule(*kind, name));
    }

    fn no_identity(&mut self, field: &str, namespace: &str, service_account: &str) {
        self.identities.push(Problem::new(
            format!("{field}.serviceAccount"),
            format!("service account {namespace}/{service_account} does not exist"),
        ));
        self.objects.push(format!(
            "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: {service_account}\n  namespace: {namespace}\n"
        ));
    }

    fn impersonation(&mut self, field: &str, service_account: &str, name: &str, role: Option<&RoleFacts>) {
        let only = impersonation(service_account);
        match role {
            None => {
                self.identities.push(Problem::new(
                    field,
                    format!("ClusterRole {name}, which allows acting as {service_account}, does not exist"),
                ));
                self.objects.push(cluster_role(name, "", &[only]));
            }
            Some(role) if !allows_exactly(role.rules(), service_account) => {
                self.forbidden.push(Problem::new(
                    field,
                    format!("ClusterRole {name} must allow exactly: {}", describe(&only)),
                ));
            }
            Some(_) => {}
        }
    }

    /// Builds the result. The first kind of problem, in a fixed order, gives the reason.
    fn verdict(mut self, policy: &Policy) -> Result<(), PolicyReadiness> {
        if !self.absent.is_empty() {
            return Err(PolicyReadiness {
                reason: reasons::ROLE_NOT_FOUND,
                message: joined(&self.absent),
            });
        }
        if !self.forbidden.is_empty() {
            return Err(PolicyReadiness {
                reason: reasons::ROLE_FORBIDDEN,
                message: joined(&self.forbidden),
            });
        }
        let reason = if self.identities.is_empty() {
            reasons::RIGHTS_MISSING
        } else {
            reasons::IDENTITY_NOT_FOUND
        };
        let problems = [self.identities, self.rights].concat();
        if problems.is_empty() {
            return Ok(());
        }
        if !self.rules.is_empty() {
            self.objects.push(grantable_role(policy, &self.rules));
        }
        Err(PolicyReadiness {
            reason,
            message: format!(
                "{}; to allow it, apply:\n{}",
                joined(&problems),
                self.objects.join("---\n")
            ),
        })
    }
}

fn bind_rule(kind: RoleKind, name: &str) -> Rule {
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

/// YAML of a `ClusterRole` that lets the operator grant these rules.
fn grantable_role(policy: &Policy, rules: &[Rule]) -> String {
    let labels = format!("  labels: {{{GRANTABLE_LABEL}: \"true\"}}\n");
    cluster_role(&format!("curfew-grantable-{}", policy.name), &labels, rules)
}

/// YAML of a `ClusterRole`. `more` is inserted into its metadata.
fn cluster_role(name: &str, more: &str, rules: &[Rule]) -> String {
    let mut text = format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata:\n  name: {name}\n{more}rules:\n"
    );
    for rule in rules {
        // JSON is valid YAML, with every quote that is needed.
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
#[path = "tests/preflight.rs"]
mod tests;
