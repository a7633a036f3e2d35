//! Guard for the metadata and the end of grants.

use crate::api::{GROUP, REVOKE_FINALIZER, VERSION};
use crate::core::guard::cel::{
    metadata as metadata_variables, on, operator_asks, quoted, reserved_keys_kept,
};
use crate::core::guard::manifest::{Validating, demand, requests};
use crate::core::guard::{Guard, GuardSettings};

/// Finalizer that Argo CD sets on the objects of a sync hook when it creates them.
const ARGO_CD_HOOK: &str = "argocd.argoproj.io/hook-finalizer";

/// Pattern of a timestamp whose day exists in every year. The schema cannot check the days of a month, and
/// `timestamp()` of CEL fails for a day that does not exist. The operator denies the other days.
const REAL_DAY: &str =
    "^[0-9]{4}-((0[13578]|1[02])-[0-9]{2}|(0[469]|11)-([012][0-9]|30)|02-([01][0-9]|2[0-8]))T";

/// A grant has no owner, reserved label or finalizer, and its end is in the future.
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
                "A grant must have no owner, because it would be deleted with its owner. Leave \
                 metadata.ownerReferences out. To end access, delete the grant.",
            ),
            demand(
                reserved_keys_kept(),
                "Labels and annotations that start with access.curfew.dev/ are reserved for Curfew. Do not add, change \
                 or remove them.",
            ),
            demand(
                format!(
                    "variables.finalizers.all(finalizer, finalizer in variables.oldFinalizers ||\n\
                     finalizer == {argo_cd} || (finalizer == {ours} && request.operation == 'UPDATE' && {operator}))"
                ),
                "A finalizer would keep a deleted grant. Leave metadata.finalizers out.",
            ),
            demand(
                format!("!({ours} in variables.oldFinalizers) || {ours} in variables.finalizers || {operator}"),
                format!(
                    "Only Curfew removes the finalizer {REVOKE_FINALIZER}, after it has proven that the access is \
                     gone. Read the grant's conditions to see what Curfew waits for."
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
                "spec.notAfter has passed. Set a later time, or leave it out.",
            ),
        ],
        ..Validating::default()
    }
    .guards()
}
