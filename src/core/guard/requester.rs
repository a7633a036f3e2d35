//! Who asks: filled in by the API server, and never anybody else.

use crate::api::{GROUP, VERSION};

use super::Guard;
use super::manifest::{Validating, demand, demand_saying, patching, requests};

/// Fills in who asks where the request leaves it out.
pub(super) fn fills_in() -> [Guard; 2] {
    patching(
        "requester",
        &[asking()],
        ("not-stated", "!has(object.spec.requester)"),
        // A patch, because an apply configuration may not set an atomic list.
        "[JSONPatch{op: \"add\", path: \"/spec/requester\", value: Object.spec.requester{\
         username: request.userInfo.username, \
         groups: has(request.userInfo.groups) ? request.userInfo.groups : []}}]",
    )
}

/// Whoever asks states exactly themselves, and may ask for this policy here.
pub(super) fn states_themselves() -> [Guard; 2] {
    Validating {
        name: "requester",
        rules: vec![asking()],
        validations: vec![
            demand_saying(
                "has(object.spec.requester) && object.spec.requester.username == request.userInfo.username",
                "'spec.requester.username must be you, ' + request.userInfo.username + ': leave spec.requester out, \
                 or state it as kubectl auth whoami prints it'",
            ),
            // Equality, not inclusion: somebody who may hide a group evades a rule about that group.
            demand(
                "has(object.spec.requester) &&\n\
                 (has(object.spec.requester.groups) ? object.spec.requester.groups : []) == \
                 (has(request.userInfo.groups) ? request.userInfo.groups : [])",
                "spec.requester.groups must be all of your groups, in the order in which kubectl auth whoami prints \
                 them; or leave spec.requester out",
            ),
            // Makes the verb `request` mean something: RBAC can say which policies somebody may ask for, and where.
            demand_saying(
                "authorizer.group('access.curfew.dev').resource('accesspolicies').namespace(request.namespace)\
                 .name(object.spec.policyRef.name).check('request').allowed()",
                "'you may not request accesspolicies/' + object.spec.policyRef.name + ' in namespace ' + \
                 request.namespace + ': choose another spec.policyRef, or ask for the ClusterRole curfew-requester \
                 in this namespace'",
            ),
        ],
        ..Validating::default()
    }
    .guards()
}

fn asking() -> serde_json::Value {
    requests(GROUP, VERSION, &["CREATE"], &["accessgrants"])
}
