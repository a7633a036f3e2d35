//! Guards for Curfew's own accounts. They limit what a stolen token of such an account can do.

use k8s_openapi::api::admissionregistration::v1::NamedRuleWithOperations;

use crate::core::guard::cel::{labelled, list, operator_asks, quoted};
use crate::core::guard::manifest::{Validating, demand, requests};
use crate::core::guard::{CANARY, Guard, GuardSettings};

/// Operator and sweeper may write only Jobs and RBAC objects that carry Curfew's label.
///
/// The sweeper may only delete, and update a `RoleBinding` that is being deleted, to remove its finalizers. The guard
/// `curfew-binding` denies other changes in such an update.
pub(super) fn labelled_only(settings: &GuardSettings) -> [Guard; 2] {
    let writes = &["CREATE", "UPDATE", "DELETE"];
    Validating {
        name: "own-accounts",
        rules: vec![
            requests("batch", "v1", writes, &["jobs"]),
            requests(
                "rbac.authorization.k8s.io",
                "v1",
                writes,
                &["roles", "rolebindings", "clusterroles", "clusterrolebindings"],
            ),
        ],
        conditions: vec![curfew_asks(settings)],
        validations: vec![
            demand(
                format!("{} && {}", labelled("object"), labelled("oldObject")),
                "Curfew's service accounts may only change objects with the label access.curfew.dev/grant-uid. Use \
                 your own account.",
            ),
            demand(
                format!(
                    "request.operation == 'DELETE' || {} ||\n\
                     (request.operation == 'UPDATE' && request.resource.resource == 'rolebindings' &&\n\
                     has(oldObject.metadata.deletionTimestamp))",
                    operator_asks(settings)
                ),
                "The sweeper's service account may only delete, or remove finalizers from a RoleBinding that is being \
                 deleted. Use your own account.",
            ),
        ],
        ..Validating::default()
    }
    .guards()
}

/// Operator and sweeper may not create grants, decisions, Secrets or pods, or connect to pods. The operator may create
/// tokens only for the canary.
///
/// The operator holds all rights that it can grant. This guard takes away the most harmful of them.
pub(super) fn limits(settings: &GuardSettings) -> [Guard; 2] {
    Validating {
        name: "own-limits",
        rules: limited_requests(),
        conditions: vec![curfew_asks(settings)],
        validations: vec![demand(
            format!(
                "request.resource.resource == 'serviceaccounts' && request.namespace == {} &&\n\
                 request.name == {} && {}",
                quoted(&settings.namespace),
                quoted(CANARY),
                operator_asks(settings)
            ),
            "Curfew's service accounts may not request access, decide, create tokens, Secrets or pods, or connect to \
             pods. Use your own account.",
        )],
        ..Validating::default()
    }
    .guards()
}

fn limited_requests() -> Vec<NamedRuleWithOperations> {
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

/// Condition: the operator or the sweeper makes the request.
fn curfew_asks(settings: &GuardSettings) -> (&'static str, String) {
    let accounts = list([settings.operator_username(), settings.sweeper_username()]);
    (
        "our-own-account",
        format!("request.userInfo.username in {accounts}"),
    )
}
