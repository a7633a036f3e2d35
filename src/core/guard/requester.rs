//! Who asks: filled in by the API server, and never anybody else.

use k8s_openapi::api::admissionregistration::v1::NamedRuleWithOperations;

use crate::api::{GROUP, VERSION};

use super::Guard;
use super::identity::{has_all_their_groups, is_the_user, themselves};
use super::manifest::{Validating, demand_saying, requests};

/// Fills in who asks where the request leaves it out.
pub(super) fn fills_in() -> [Guard; 2] {
    themselves("requester", asking())
}

/// Whoever asks states exactly themselves, and may ask for this policy here.
pub(super) fn states_themselves() -> [Guard; 2] {
    Validating {
        name: "requester",
        rules: vec![asking()],
        validations: vec![
            is_the_user("requester"),
            has_all_their_groups("requester"),
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

fn asking() -> NamedRuleWithOperations {
    requests(GROUP, VERSION, &["CREATE"], &["accessgrants"])
}
