//! A binding of ours only ever becomes less.

use crate::api::{ELEVATED_ROLE, MARKER_SUFFIX};

use super::expression::{
    creator_asks, ends_within_cap, held_by_fuse_or_grant, list, metadata,
    metadata_only_narrowed_or_handed_over, on, operator_asks,
};
use super::manifest::{Validating, demand, ours, requests};
use super::souvenirs::elevation;
use super::{Guard, GuardSettings};

/// Bindings with our label.
pub(super) fn only_narrows(settings: &GuardSettings) -> [Guard; 2] {
    let mut variables = metadata();
    variables.extend(elevation());
    let reserved = list([&settings.namespace, &settings.identities]);
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
        validations: vec![
            demand(
                on("CREATE", &creator_asks(settings)),
                "only Curfew makes these: leave the label access.curfew.dev/grant-uid out, or ask for access with an \
                 AccessGrant",
            ),
            demand(
                on("CREATE", &held_by_fuse_or_grant(settings, &named)),
                "a binding of Curfew is held by exactly one fuse, of its own name, or by the grant it is labelled with: \
                 leave making it to Curfew",
            ),
            demand(
                on("CREATE", &format!("size(variables.finalizers) == 0 && {}", ends_within_cap(settings.cap))),
                format!(
                    "a binding of Curfew has no finalizer and states access.curfew.dev/not-after, at most {} ahead: \
                     ask for a shorter time",
                    settings.cap
                ),
            ),
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
                "access goes to one person or service account, never to a group, a system: name or an account of \
                 Curfew, and never by a system: role: name another subject or role",
            ),
            demand(
                on("UPDATE", &metadata_only_narrowed_or_handed_over(settings, &named)),
                "labels, end, fuse and finalizers of this binding do not change: delete its AccessGrant to end the \
                 access, make another one for more",
            ),
            demand(
                on(
                    "UPDATE",
                    "!has(object.subjects) || size(object.subjects) == 0 ||\n\
                     (has(oldObject.subjects) && object.subjects == oldObject.subjects)",
                ),
                "the subjects of this binding can only be emptied: make an AccessGrant for whoever else needs access",
            ),
            // Whoever it marks would be free to make what outlasts their access. They may not empty it either: that is
            // a write of RBAC.
            demand(
                on(
                    "DELETE",
                    &format!(
                        "!oldObject.metadata.name.endsWith('{MARKER_SUFFIX}') || !variables.held ||\n\
                         variables.always || {}",
                        operator_asks(settings)
                    ),
                ),
                "while you hold temporary access, the mark stays while the access does: to end that, have its \
                 AccessGrant deleted",
            ),
        ],
        ..Validating::default()
    }
    .guards()
}
