//! Attestation: `spec.requester` and `spec.decider` are the user whom the API server authenticated.

use k8s_openapi::api::admissionregistration::v1::{NamedRuleWithOperations, Validation};

use crate::core::guard::Guard;
use crate::core::guard::manifest::{demand, demand_saying, patching};

/// Fills in `spec.FIELD` if the object does not have it.
pub(super) fn themselves(field: &str, rule: NamedRuleWithOperations) -> [Guard; 2] {
    patching(
        field,
        rule,
        ("not-stated", format!("!has(object.spec.{field})")),
        // A JSON patch, because an apply configuration cannot set an atomic list.
        format!(
            "[JSONPatch{{op: \"add\", path: \"/spec/{field}\", value: Object.spec.{field}{{\
             username: request.userInfo.username, \
             groups: has(request.userInfo.groups) ? request.userInfo.groups : []}}}}]"
        ),
    )
}

/// `spec.FIELD.username` must be the user who makes the request.
pub(super) fn is_the_user(field: &str) -> Validation {
    demand_saying(
        format!("has(object.spec.{field}) && object.spec.{field}.username == request.userInfo.username"),
        format!(
            "'spec.{field}.username must be you, ' + request.userInfo.username + '. Leave spec.{field} out, \
             or copy it from kubectl auth whoami.'"
        ),
    )
}

/// `spec.FIELD.groups` must equal the groups of the user. A subset is not enough: a user who hides a group could evade
/// a rule about that group.
pub(super) fn has_all_their_groups(field: &str) -> Validation {
    demand(
        format!(
            "has(object.spec.{field}) &&\n\
             (has(object.spec.{field}.groups) ? object.spec.{field}.groups : []) == \
             (has(request.userInfo.groups) ? request.userInfo.groups : [])"
        ),
        format!(
            "spec.{field}.groups must be all of your groups, in the same order. Leave spec.{field} out, or copy it \
             from kubectl auth whoami."
        ),
    )
}
