//! Guard for `RoleBinding`s of Curfew: a `RoleBinding` can only lose subjects.

use k8s_openapi::api::admissionregistration::v1::Validation;

use crate::api::{ELEVATED_ROLE, MARKER_SUFFIX};
use crate::core::guard::cel::{
    ends_in_time, has_one_owner, list, metadata, metadata_only_narrowed_or_handed_over, on,
    only_curfew_creates, operator_asks,
};
use crate::core::guard::manifest::{Validating, demand, ours, requests};
use crate::core::guard::persistence::elevation;
use crate::core::guard::{Guard, GuardSettings};

/// Guard for `RoleBinding`s with Curfew's label, elevation markers among them.
pub(super) fn only_narrows(settings: &GuardSettings) -> [Guard; 2] {
    let mut variables = metadata();
    variables.extend(elevation());
    let named = format!(
        "object.metadata.name == owner.name ||\n\
         (object.metadata.name == owner.name + '{MARKER_SUFFIX}' &&\n\
         object.roleRef.kind == 'ClusterRole' && object.roleRef.name == '{ELEVATED_ROLE}')"
    );
    Validating {
        name: "binding",
        objects: ours(),
        rules: vec![requests(
            "rbac.authorization.k8s.io",
            "v1",
            &["CREATE", "UPDATE", "DELETE"],
            &["rolebindings"],
        )],
        variables,
        validations: [creation(settings, &named), changes(settings, &named)].concat(),
        ..Validating::default()
    }
    .guards()
}

/// Validations of a new `RoleBinding`.
fn creation(settings: &GuardSettings, named: &str) -> Vec<Validation> {
    let reserved = list([&settings.namespace, &settings.identities]);
    vec![
        only_curfew_creates(settings, "RoleBindings"),
        has_one_owner(settings, "A RoleBinding of Curfew", named),
        ends_in_time(settings, "A RoleBinding of Curfew"),
        demand(
            on(
                "CREATE",
                &format!(
                    "has(object.subjects) && size(object.subjects) == 1 && object.subjects.all(subject, \
                     subject.kind != 'Group' && !subject.name.startsWith('system:') &&\n\
                     !(subject.kind == 'ServiceAccount' && subject.?namespace.orValue('') in {reserved})) &&\n\
                     !object.roleRef.name.startsWith('system:')"
                ),
            ),
            "The subject must be one user or service account: no group, no system: name, no account of Curfew. The \
             role must not start with system:. Choose another subject or role.",
        ),
    ]
}

/// Validations of an update or deletion of a `RoleBinding`.
fn changes(settings: &GuardSettings, named: &str) -> Vec<Validation> {
    vec![
        demand(
            on("UPDATE", &metadata_only_narrowed_or_handed_over(settings, named)),
            "Labels, end, owner and finalizers of this RoleBinding cannot be changed. To end the access, delete its \
             AccessGrant. To get other access, create another AccessGrant.",
        ),
        demand(
            on(
                "UPDATE",
                "!has(object.subjects) || size(object.subjects) == 0 ||\n\
                 (has(oldObject.subjects) && object.subjects == oldObject.subjects)",
            ),
            "The subjects of this RoleBinding can only be removed. If someone else needs access, create an \
             AccessGrant for them.",
        ),
        // Without the marker, its holder could create objects that outlast the access. The holder cannot empty the
        // marker either, because that is a write to RBAC, which the guard against persistence denies.
        demand(
            on(
                "DELETE",
                &format!(
                    "!oldObject.metadata.name.endsWith('{MARKER_SUFFIX}') || !variables.elevated ||\n\
                     variables.permanent || {}",
                    operator_asks(settings)
                ),
            ),
            "You have temporary access and cannot delete this elevation marker, because it must stay as long as the \
             access. To end the access, ask someone to delete its AccessGrant.",
        ),
    ]
}
