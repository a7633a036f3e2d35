//! What may be written around a request: nothing that ends it unseen, nothing that speaks for Curfew.

use crate::api::{GROUP, REVOKE_FINALIZER, VERSION};

use super::expression::{metadata as metadata_variables, on, operator_asks, quoted, reserved_keys_kept};
use super::manifest::{Validating, demand, requests};
use super::{Guard, GuardSettings};

/// Finalizer that Argo CD puts on the objects of a sync hook when it creates them.
const ARGO_CD_HOOK: &str = "argocd.argoproj.io/hook-finalizer";

/// A day that exists in every year, whatever the month; the schema cannot count the days of a month, and CEL fails on
/// a day that is none. What is left out is refused by the operator.
const REAL_DAY: &str =
    "^[0-9]{4}-((0[13578]|1[02])-[0-9]{2}|(0[469]|11)-([012][0-9]|30)|02-([01][0-9]|2[0-8]))T";

/// Guards metadata and the end of grants.
pub(super) fn metadata(settings: &GuardSettings) -> [Guard; 2] {
    let operator = operator_asks(settings);
    let (ours, argo_cd) = (quoted(REVOKE_FINALIZER), quoted(ARGO_CD_HOOK));
    Validating {
        name: "grant",
        rules: vec![requests(GROUP, VERSION, &["CREATE", "UPDATE"], &["accessgrants"])],
        variables: metadata_variables(),
        validations: vec![
            demand(
                "variables.owners.all(owner, owner in variables.oldOwners)",
                "a grant has no owner, or it would vanish with it: leave metadata.ownerReferences out, and delete the \
                 grant to end it",
            ),
            demand(
                reserved_keys_kept(),
                "labels and annotations that start with access.curfew.dev/ are Curfew's: leave them out of a grant",
            ),
            demand(
                format!(
                    "variables.finalizers.all(finalizer, finalizer in variables.oldFinalizers ||\n\
                     finalizer == {argo_cd} || (finalizer == {ours} && request.operation == 'UPDATE' && {operator}))"
                ),
                "a finalizer would hold the grant back: leave metadata.finalizers out",
            ),
            demand(
                format!("!({ours} in variables.oldFinalizers) || {ours} in variables.finalizers || {operator}"),
                format!(
                    "{REVOKE_FINALIZER} stays until the access is proven gone: Curfew takes it off, see the grant's \
                     conditions for what it waits for"
                ),
            ),
            demand(
                on(
                    "CREATE",
                    &format!(
                        "!has(object.spec.notAfter) || !object.spec.notAfter.matches('{REAL_DAY}') ||\n\
                         timestamp(object.spec.notAfter) > timestamp(object.metadata.creationTimestamp)"
                    ),
                ),
                "spec.notAfter has passed: state a moment that lies ahead, or leave it out",
            ),
        ],
        ..Validating::default()
    }
    .guards()
}
