//! Who decides: filled in by the API server, never anybody else, and to give access a person.

use k8s_openapi::api::admissionregistration::v1::NamedRuleWithOperations;

use crate::api::{GROUP, VERSION};

use super::Guard;
use super::expression::{metadata as metadata_variables, reserved_keys_kept};
use super::identity::{has_all_their_groups, is_the_user, themselves};
use super::manifest::{Validating, demand, requests};

/// Fills in who decides where the decision leaves it out.
pub(super) fn fills_in() -> [Guard; 2] {
    themselves("decider", deciding())
}

/// Whoever decides states exactly themselves. Whoever may edit a namespace can act as any service account of it, so
/// none of those says what others may have; to end access is open to them, where they may.
pub(super) fn states_themselves() -> [Guard; 2] {
    Validating {
        name: "decider",
        rules: vec![deciding()],
        validations: vec![
            is_the_user("decider"),
            has_all_their_groups("decider"),
            demand(
                "object.spec.decision == 'Revoke' || !request.userInfo.username.startsWith('system:serviceaccount:')",
                "a service account neither approves nor denies, since nobody would be accountable: a person decides; \
                 decision Revoke is open to it",
            ),
        ],
        ..Validating::default()
    }
    .guards()
}

/// A decision is a record: nothing takes it along, and nothing holds it back.
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
                "a decision has no owner, or it would vanish with it: leave metadata.ownerReferences out",
            ),
            demand(
                reserved_keys_kept(),
                "labels and annotations that start with access.curfew.dev/ are Curfew's: leave them out of a decision",
            ),
            demand(
                "variables.finalizers.all(finalizer, finalizer in variables.oldFinalizers)",
                "a finalizer would hold the decision back: leave metadata.finalizers out",
            ),
        ],
        ..Validating::default()
    }
    .guards()
}

fn deciding() -> NamedRuleWithOperations {
    requests(GROUP, VERSION, &["CREATE"], &["accessdecisions"])
}
