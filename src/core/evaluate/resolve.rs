//! Effective access of an admitted request: the roles as they are now, and one hash over all of it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::json;

use crate::api::{
    Escalation, ResolvedAccess, ResolvedEntitlement, ResolvedIdentity, ResolvedRole, RoleKind, Subject,
    reasons,
};
use crate::core::digest::sha256;
use crate::core::evaluate::admit::Admitted;
use crate::core::facts::NamespaceFacts;
use crate::core::policy::Policy;
use crate::core::policy::entitlement::{Access, Entitlement};
use crate::core::rbac::describe::describe;
use crate::core::rbac::escalation::{first_escalation, permits_persistence};
use crate::core::rbac::impersonation::{allows_exactly, impersonation};
use crate::core::rbac::roles::{ActAsAccounts, Roles};
use crate::core::request::refusal::{Refusal, Refusals};
use crate::core::settings::Settings;
use crate::core::time::duration::AccessDuration;

/// The effective access and its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// User or service account that receives the access.
    pub subject: Subject,
    /// The access as recorded in the grant's status.
    pub access: ResolvedAccess,
    /// Names of the entitlements whose rules, as they are now, allow persistence: creating something that
    /// outlasts the access. Entitlements to act as a service account are never among them. There, the guards
    /// treat the service account itself as elevated, permanently.
    pub elevated: BTreeSet<String>,
    /// Access duration, counted from activation.
    pub duration: AccessDuration,
    /// Latest end that the request names (`spec.notAfter`).
    pub not_after: Option<Timestamp>,
    /// When the open windows close; `None` if the policy has no windows.
    pub window_end: Option<Timestamp>,
}

impl Resolved {
    /// When access ends that is activated at `activation`. This is the earliest of the access duration,
    /// `spec.notAfter`, the end of the windows and the cluster's cap.
    pub fn expires_at(&self, activation: Timestamp, settings: &Settings) -> Timestamp {
        [
            Some(self.duration.after(activation)),
            Some(settings.cap.after(activation)),
            self.not_after,
            self.window_end,
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(activation)
    }
}

/// Resolves an admitted request against roles and service accounts as they are now.
///
/// # Errors
/// Returns one refusal for each entitlement that cannot be granted: its role or service account does not
/// exist, or its role allows gaining more access.
pub fn resolve(
    admission: Admitted,
    policy: &Policy,
    namespace: &NamespaceFacts,
    roles: &Roles,
    identities: &ActAsAccounts,
) -> Result<Resolved, Refusals> {
    let mut refusals = Vec::new();
    let mut entitlements = Vec::new();
    for entitlement in &admission.entitlements {
        match resolve_entitlement(entitlement, roles, identities) {
            Ok(resolved) => entitlements.push(resolved),
            Err(refusal) => refusals.push(refusal),
        }
    }
    Refusals::from_list(refusals)?;
    let elevated = entitlements
        .iter()
        .filter(|entitlement| allows_persistence(entitlement, roles))
        .map(|entitlement| entitlement.name.clone())
        .collect();
    let hash = access_hash(&admission, &entitlements, policy, namespace);
    Ok(Resolved {
        access: ResolvedAccess {
            hash,
            policy_generation: policy.generation,
            duration: admission.duration.to_string(),
            fuse: policy.fuse,
            entitlements,
        },
        elevated,
        subject: admission.subject,
        duration: admission.duration,
        not_after: admission.not_after,
        window_end: admission.window_end,
    })
}

fn resolve_entitlement(
    entitlement: &Entitlement,
    roles: &Roles,
    identities: &ActAsAccounts,
) -> Result<ResolvedEntitlement, Refusal> {
    match &entitlement.access {
        Access::Rules { rules, .. } => Ok(ResolvedEntitlement {
            name: entitlement.name.clone(),
            role: None,
            act_as: None,
            rules: rules.clone(),
        }),
        Access::Role {
            kind,
            name,
            escalation,
            ..
        } => resolve_role(&entitlement.name, *kind, name, *escalation, roles),
        Access::ActAs {
            namespace,
            service_account,
            role,
            ..
        } => resolve_act_as(
            &entitlement.name,
            (namespace, service_account),
            role,
            roles,
            identities,
        ),
    }
}

fn resolve_role(
    entitlement: &str,
    kind: RoleKind,
    name: &str,
    escalation: Escalation,
    roles: &Roles,
) -> Result<ResolvedEntitlement, Refusal> {
    let field = format!("spec.entitlements[{entitlement}]");
    let forbid = |message: String| Refusal::new(reasons::ROLE_FORBIDDEN, field.clone(), message);
    let Some(role) = roles.get(&(kind, name.to_owned())) else {
        return Err(Refusal::new(
            reasons::ROLE_NOT_FOUND,
            field,
            match kind {
                RoleKind::ClusterRole => format!("ClusterRole {name} does not exist"),
                RoleKind::Role => format!("Role {name} does not exist in this namespace"),
            },
        ));
    };
    if let Some(rule) = first_escalation(role.rules()).filter(|_| escalation == Escalation::Refuse) {
        return Err(forbid(format!(
            "{name} can be used to gain more access ({rule}); to grant it, set escalation: Allow in the policy"
        )));
    }
    Ok(ResolvedEntitlement {
        name: entitlement.to_owned(),
        role: Some(ResolvedRole {
            kind,
            name: name.to_owned(),
            uid: role.uid.clone(),
            rules_hash: role.rules_hash().to_owned(),
        }),
        act_as: None,
        rules: Vec::new(),
    })
}

fn resolve_act_as(
    entitlement: &str,
    (namespace, service_account): (&str, &str),
    role_name: &str,
    roles: &Roles,
    identities: &ActAsAccounts,
) -> Result<ResolvedEntitlement, Refusal> {
    let refuse = |reason, message: String| {
        Err(Refusal::new(
            reason,
            format!("spec.entitlements[{entitlement}]"),
            message,
        ))
    };
    let Some(uid) = identities.get(service_account) else {
        return refuse(
            reasons::IDENTITY_NOT_FOUND,
            format!("service account {namespace}/{service_account} does not exist"),
        );
    };
    let Some(role) = roles.get(&(RoleKind::ClusterRole, role_name.to_owned())) else {
        return refuse(
            reasons::IDENTITY_NOT_FOUND,
            format!("ClusterRole {role_name}, which allows acting as {service_account}, does not exist"),
        );
    };
    if !allows_exactly(role.rules(), service_account) {
        return refuse(
            reasons::ROLE_FORBIDDEN,
            format!(
                "ClusterRole {role_name} must allow exactly: {}",
                describe(&impersonation(service_account))
            ),
        );
    }
    Ok(ResolvedEntitlement {
        name: entitlement.to_owned(),
        role: Some(ResolvedRole {
            kind: RoleKind::ClusterRole,
            name: role_name.to_owned(),
            uid: role.uid.clone(),
            rules_hash: role.rules_hash().to_owned(),
        }),
        act_as: Some(ResolvedIdentity {
            namespace: namespace.to_owned(),
            service_account: service_account.to_owned(),
            uid: uid.clone(),
        }),
        rules: Vec::new(),
    })
}

/// Whether the access, by the rules it has now, allows persistence.
fn allows_persistence(entitlement: &ResolvedEntitlement, roles: &Roles) -> bool {
    if entitlement.act_as.is_some() {
        return false;
    }
    let role = entitlement.role.as_ref();
    let named = role.and_then(|role| roles.get(&(role.kind, role.name.clone())));
    permits_persistence(named.map_or(&entitlement.rules, |role| role.rules()))
}

/// SHA-256 over everything that an approval approves. The fields have a fixed order and the rules are
/// canonical, and therefore the same access always has the same hash.
fn access_hash(
    admission: &Admitted,
    entitlements: &[ResolvedEntitlement],
    policy: &Policy,
    namespace: &NamespaceFacts,
) -> String {
    sha256(&json!([
        "curfew/v1alpha1",
        policy.uid,
        namespace.uid,
        admission.subject,
        admission.duration.seconds(),
        admission.not_after.map(Timestamp::as_microsecond),
        policy.fuse,
        entitlements,
    ]))
}

#[cfg(test)]
#[path = "tests/resolve.rs"]
mod tests;
