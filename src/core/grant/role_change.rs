//! The named role or account changed.

use crate::api::{OnChange, ResolvedEntitlement, ResolvedRole};
use crate::core::facts::{Input, PolicyFacts};
use crate::core::grant::live::Live;
use crate::core::policy::entitlement::Access;
use crate::core::rbac::escalation::permits_persistence;
use crate::core::rbac::impersonation::allows_exactly;
use crate::core::rbac::roles::{ActAsAccounts, RoleFacts};

/// A change of an existing role that ends the access.
///
/// The policy can keep the access with `onChange: Keep`. Exception: rules that newly allow persistence always end the
/// access, because only access that was elevated from its start is guarded against persistence.
pub(crate) fn role_change(input: &Input<'_>, live: &Live<'_>) -> Option<String> {
    let resolved = live.status.resolved.as_ref()?;
    resolved.entitlements.iter().find_map(|entitlement| {
        let role = entitlement.role.as_ref()?;
        let there = input.roles.get(&(role.kind, role.name.clone()));
        if live.active && keeps(input.policy, entitlement, role) {
            let outgrown = there.is_some_and(|there| outgrows(there, entitlement, live));
            return outgrown.then(|| {
                format!(
                    "the rules of role {} now allow the subject to create objects that outlast the access",
                    role.name
                )
            });
        }
        match there {
            None => Some(format!("role {} was deleted", role.name)),
            Some(there) if there.uid != role.uid => {
                Some(format!("role {} was deleted and created again", role.name))
            }
            Some(there) if there.rules_hash() != role.rules_hash => {
                Some(format!("the rules of role {} changed", role.name))
            }
            Some(_) => identity_change(entitlement, input.identities),
        }
    })
}

/// Whether a role now allows persistence that its access is not guarded against.
fn outgrows(role: &RoleFacts, entitlement: &ResolvedEntitlement, live: &Live<'_>) -> bool {
    match &entitlement.act_as {
        Some(identity) => !allows_exactly(role.rules(), &identity.service_account),
        None => permits_persistence(role.rules()) && !live.is_elevated(&entitlement.name),
    }
}

fn identity_change(entitlement: &ResolvedEntitlement, identities: &ActAsAccounts) -> Option<String> {
    let identity = entitlement.act_as.as_ref()?;
    let called = format!(
        "service account {}/{}",
        identity.namespace, identity.service_account
    );
    match identities.get(&identity.service_account) {
        None => Some(format!("{called} was deleted")),
        Some(uid) if *uid != identity.uid => Some(format!("{called} was deleted and created again")),
        Some(_) => None,
    }
}

fn keeps(policy: &PolicyFacts, entitlement: &ResolvedEntitlement, role: &ResolvedRole) -> bool {
    policy
        .last_known()
        .and_then(|policy| policy.entitlement(&entitlement.name))
        .is_some_and(|offer| match &offer.access {
            Access::Role {
                kind,
                name,
                on_change,
                ..
            } => *kind == role.kind && *name == role.name && *on_change == OnChange::Keep,
            Access::ActAs {
                role: name,
                on_change,
                ..
            } => *name == role.name && *on_change == OnChange::Keep,
            Access::Rules { .. } => false,
        })
}
