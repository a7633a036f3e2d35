//! Guards for requests: the API server attests the requester.

use k8s_openapi::api::admissionregistration::v1::NamedRuleWithOperations;

use crate::api::{GROUP, VERSION};
use crate::core::guard::Guard;
use crate::core::guard::attestation::{has_all_their_groups, is_the_user, themselves};
use crate::core::guard::manifest::{Validating, demand_saying, requests};

/// Fills in `spec.requester` if the grant does not have it.
pub(super) fn fills_in() -> [Guard; 2] {
    themselves("requester", grant_creation())
}

/// `spec.requester` must be the user who creates the grant. The user needs the verb `request` on the policy in this
/// namespace.
pub(super) fn states_themselves() -> [Guard; 2] {
    Validating {
        name: "requester",
        rules: vec![grant_creation()],
        validations: vec![
            is_the_user("requester"),
            has_all_their_groups("requester"),
            // RBAC does not know the verb `request`. This check lets RBAC say who may request which policy, and where.
            demand_saying(
                "authorizer.group('access.curfew.dev').resource('accesspolicies').namespace(request.namespace)\
                 .name(object.spec.policyRef.name).check('request').allowed()",
                "'You may not request accesspolicies/' + object.spec.policyRef.name + ' in namespace ' + \
                 request.namespace + '. Choose another spec.policyRef, or ask an administrator for the ClusterRole \
                 curfew-requester in this namespace.'",
            ),
        ],
        ..Validating::default()
    }
    .guards()
}

fn grant_creation() -> NamedRuleWithOperations {
    requests(GROUP, VERSION, &["CREATE"], &["accessgrants"])
}
