//! Guards for decisions: the API server attests the decider, and only people approve or deny.

use k8s_openapi::api::admissionregistration::v1::NamedRuleWithOperations;

use crate::api::{GROUP, VERSION};
use crate::core::guard::Guard;
use crate::core::guard::attestation::{has_all_their_groups, is_the_user, themselves};
use crate::core::guard::cel::{metadata as metadata_variables, reserved_keys_kept};
use crate::core::guard::manifest::{Validating, demand, requests};

/// Fills in `spec.decider` if the decision does not have it.
pub(super) fn fills_in() -> [Guard; 2] {
    themselves("decider", decision_creation())
}

/// `spec.decider` must be the user who creates the decision, and only people approve or deny.
///
/// Someone who can edit a namespace can act as each service account in it, so a service account cannot approve or deny.
/// A service account may revoke.
pub(super) fn states_themselves() -> [Guard; 2] {
    Validating {
        name: "decider",
        rules: vec![decision_creation()],
        validations: vec![
            is_the_user("decider"),
            has_all_their_groups("decider"),
            demand(
                "object.spec.decision == 'Revoke' || !request.userInfo.username.startsWith('system:serviceaccount:')",
                "A service account cannot approve or deny, because a person must be accountable. Ask a person to \
                 decide. A service account may only decide Revoke.",
            ),
        ],
        ..Validating::default()
    }
    .guards()
}

/// A decision is a record: it has no owner that would delete it, and no finalizer that would keep it.
pub(super) fn metadata() -> [Guard; 2] {
    Validating {
        name: "decision",
        rules: vec![requests(
            GROUP,
            VERSION,
            &["CREATE", "UPDATE"],
            &["accessdecisions"],
        )],
        variables: metadata_variables(),
        validations: vec![
            demand(
                "variables.owners.all(owner, owner in variables.oldOwners)",
                "A decision must have no owner, because it would be deleted with its owner. Leave \
                 metadata.ownerReferences out.",
            ),
            demand(
                reserved_keys_kept(),
                "Labels and annotations that start with access.curfew.dev/ are reserved for Curfew. Do not add, change \
                 or remove them.",
            ),
            demand(
                "variables.finalizers.all(finalizer, finalizer in variables.oldFinalizers)",
                "A finalizer would keep a deleted decision. Leave metadata.finalizers out.",
            ),
        ],
        ..Validating::default()
    }
    .guards()
}

fn decision_creation() -> NamedRuleWithOperations {
    requests(GROUP, VERSION, &["CREATE"], &["accessdecisions"])
}
