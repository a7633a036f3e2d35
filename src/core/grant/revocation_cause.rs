//! What ends it now: the ordered list.

use jiff::Timestamp;

use crate::api::RevocationCause;
use crate::core::facts::Input;
use crate::core::grant::decisions::revoking;
use crate::core::grant::drift::drift;
use crate::core::grant::live::Live;
use crate::core::grant::policy_change::policy_change;
use crate::core::grant::revocation::DueRevocation;
use crate::core::grant::role_change::role_change;

/// The revocation that is due now, if any. The first cause in this order counts: end reached, Revoke decision, grant or
/// namespace deleted, creation refused, drift, role changed, policy changed.
pub fn ending(input: &Input<'_>, live: &Live<'_>, now: Timestamp) -> Option<DueRevocation> {
    if now >= live.expires_at {
        return Some(DueRevocation::at_its_time(live));
    }
    if let Some(decision) = revoking(input) {
        return Some(DueRevocation::decided(decision, now, live.active));
    }
    let (cause, message) = if input.grant.metadata.deletion_timestamp.is_some() {
        (RevocationCause::GrantDeleted, "the grant was deleted".to_owned())
    } else if input.namespace.is_none_or(|namespace| namespace.terminating) {
        (
            RevocationCause::GrantDeleted,
            "the namespace is being deleted".to_owned(),
        )
    } else if let Some(refused) = input.tried.refusal() {
        (RevocationCause::RefusedByApiServer, refused.to_owned())
    } else if let Some(message) = drift(input, live, now) {
        (RevocationCause::ArtifactChanged, message)
    } else if let Some(message) = role_change(input, live) {
        (RevocationCause::RoleChanged, message)
    } else {
        policy_change(input, live, now)?
    };
    Some(DueRevocation {
        cause,
        message,
        by: None,
        due: now,
        was_active: live.active,
    })
}
