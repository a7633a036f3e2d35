//! What Curfew's own accounts may touch: a stolen token of theirs is worth no more than this.

use k8s_openapi::api::admissionregistration::v1::NamedRuleWithOperations;

use super::expression::{labelled, list, operator_asks, quoted};
use super::manifest::{Validating, demand, requests};
use super::{CANARY, Guard, GuardSettings};

/// Of Jobs and RBAC, only what carries our label; the sweeper only deletes, and takes off what holds back a binding that
/// is being deleted. That it does no more there is for the guard of bindings to see to.
pub(super) fn labelled_only(settings: &GuardSettings) -> [Guard; 2] {
    let writes = &["CREATE", "UPDATE", "DELETE"];
    Validating {
        name: "own-hands",
        rules: vec![
            requests("batch", "v1", writes, &["jobs"]),
            requests(
                "rbac.authorization.k8s.io",
                "v1",
                writes,
                &["roles", "rolebindings", "clusterroles", "clusterrolebindings"],
            ),
        ],
        conditions: vec![we_ask(settings)],
        validations: vec![
            demand(
                format!("{} && {}", labelled("object"), labelled("oldObject")),
                "Curfew touches only what carries its label access.curfew.dev/grant-uid: use an account of your own",
            ),
            demand(
                format!(
                    "request.operation == 'DELETE' || {} ||\n\
                     (request.operation == 'UPDATE' && request.resource.resource == 'rolebindings' &&\n\
                     has(oldObject.metadata.deletionTimestamp))",
                    operator_asks(settings)
                ),
                "the sweeper only deletes, and frees a binding that is being deleted: use an account of your own",
            ),
        ],
        ..Validating::default()
    }
    .guards()
}

/// No request for access, no decision about one, no Secret, nothing in or through pods, and a token only for the
/// canary. What the operator may hand out it holds itself, and this is what of it does most harm.
pub(super) fn limits(settings: &GuardSettings) -> [Guard; 2] {
    Validating {
        name: "own-limits",
        rules: limited(),
        conditions: vec![we_ask(settings)],
        validations: vec![demand(
            format!(
                "request.resource.resource == 'serviceaccounts' && request.namespace == {} &&\n\
                 request.name == {} && {}",
                quoted(&settings.namespace),
                quoted(CANARY),
                operator_asks(settings)
            ),
            "Curfew's own accounts ask for no access and decide nothing, make no token, Secret or pod, and enter none: \
             use an account of your own",
        )],
        ..Validating::default()
    }
    .guards()
}

fn limited() -> Vec<NamedRuleWithOperations> {
    vec![
        requests(
            "access.curfew.dev",
            "v1alpha1",
            &["CREATE"],
            &["accessgrants", "accessdecisions"],
        ),
        requests("", "v1", &["CREATE"], &["serviceaccounts/token"]),
        requests("", "v1", &["CREATE", "UPDATE", "DELETE"], &["secrets"]),
        requests("", "v1", &["CREATE"], &["pods"]),
        requests(
            "",
            "v1",
            &["CONNECT"],
            &[
                "pods/attach",
                "pods/exec",
                "pods/portforward",
                "pods/proxy",
                "services/proxy",
            ],
        ),
    ]
}

fn we_ask(settings: &GuardSettings) -> (&'static str, String) {
    let us = list([settings.operator_username(), settings.sweeper_username()]);
    ("our-own-account", format!("request.userInfo.username in {us}"))
}
