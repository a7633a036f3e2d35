//! Names of the roles and service accounts that a grant or its policy refers to.

use crate::api::{AccessGrant, RoleKind};
use crate::core::facts::PolicyFacts;
use crate::core::policy::Policy;

pub(crate) fn role_names(grant: &AccessGrant, policy: &PolicyFacts) -> Vec<(RoleKind, String)> {
    let resolved = grant.status.iter().filter_map(|status| status.resolved.as_ref());
    let held = resolved
        .flat_map(|access| &access.entitlements)
        .filter_map(|entitlement| entitlement.role.as_ref());
    let mut names: Vec<_> = held.map(|role| (role.kind, role.name.clone())).collect();
    if let Some(policy) = known(policy) {
        names.extend(policy.role_names().map(|(kind, name)| (kind, name.to_owned())));
    }
    names
}

pub(crate) fn identity_names(grant: &AccessGrant, policy: &PolicyFacts) -> Vec<String> {
    let resolved = grant.status.iter().filter_map(|status| status.resolved.as_ref());
    let held = resolved
        .flat_map(|access| &access.entitlements)
        .filter_map(|entitlement| entitlement.act_as.as_ref());
    let mut names: Vec<_> = held.map(|identity| identity.service_account.clone()).collect();
    if let Some(policy) = known(policy) {
        names.extend(policy.identities().map(str::to_owned));
    }
    names
}

fn known(policy: &PolicyFacts) -> Option<&Policy> {
    match policy {
        PolicyFacts::Ready(policy)
        | PolicyFacts::Unready {
            policy: Some(policy), ..
        } => Some(policy),
        PolicyFacts::Absent { .. } | PolicyFacts::Unready { policy: None, .. } => None,
    }
}
