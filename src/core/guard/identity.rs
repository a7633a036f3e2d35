//! A field that says who makes a request, in which the API server itself puts whoever it authenticated.

use k8s_openapi::api::admissionregistration::v1::{NamedRuleWithOperations, Validation};

use super::Guard;
use super::manifest::{demand, demand_saying, patching};

/// Fills `spec.FIELD` in where the request leaves it out.
pub(super) fn themselves(field: &str, rule: NamedRuleWithOperations) -> [Guard; 2] {
    patching(
        field,
        rule,
        ("not-stated", format!("!has(object.spec.{field})")),
        // A patch, because an apply configuration may not set an atomic list.
        format!(
            "[JSONPatch{{op: \"add\", path: \"/spec/{field}\", value: Object.spec.{field}{{\
             username: request.userInfo.username, \
             groups: has(request.userInfo.groups) ? request.userInfo.groups : []}}}}]"
        ),
    )
}

/// `spec.FIELD` names whoever makes the request.
pub(super) fn is_the_user(field: &str) -> Validation {
    demand_saying(
        &format!("has(object.spec.{field}) && object.spec.{field}.username == request.userInfo.username"),
        &format!(
            "'spec.{field}.username must be you, ' + request.userInfo.username + ': leave spec.{field} out, \
             or state it as kubectl auth whoami prints it'"
        ),
    )
}

/// `spec.FIELD` has all their groups. Equality, not inclusion: somebody who may hide a group evades a rule about that
/// group.
pub(super) fn has_all_their_groups(field: &str) -> Validation {
    demand(
        format!(
            "has(object.spec.{field}) &&\n\
             (has(object.spec.{field}.groups) ? object.spec.{field}.groups : []) == \
             (has(request.userInfo.groups) ? request.userInfo.groups : [])"
        ),
        format!(
            "spec.{field}.groups must be all of your groups, in the order in which kubectl auth whoami prints \
             them; or leave spec.{field} out"
        ),
    )
}
