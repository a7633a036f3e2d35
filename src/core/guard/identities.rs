//! Guard for the namespace of the act-as accounts: nothing runs there, and no account there has a token.

use k8s_openapi::api::admissionregistration::v1::NamedRuleWithOperations;

use crate::api::GRANT_UID_LABEL;
use crate::core::guard::cel::{list, quoted};
use crate::core::guard::manifest::{Validating, demand, only_namespace, requests};
use crate::core::guard::{Guard, GuardSettings};

/// Resources that are allowed in the namespace: they run nothing, hold no credential and give nobody access. The list
/// says what is allowed, because a list of all resources that create pods cannot be complete.
const HARMLESS: [&str; 6] = [
    "/serviceaccounts",
    "/configmaps",
    "/events",
    "events.k8s.io/events",
    "/resourcequotas",
    "/limitranges",
];

/// Resources that Curfew creates in the namespace. Each has its own guard.
const CREATED_BY_CURFEW: [&str; 3] = [
    "batch/jobs",
    "rbac.authorization.k8s.io/roles",
    "rbac.authorization.k8s.io/rolebindings",
];

/// Only service accounts, harmless objects and objects with Curfew's label can be created in that namespace.
pub(super) fn nothing_lives_there(settings: &GuardSettings) -> [Guard; 2] {
    Validating {
        name: "identities",
        namespaces: only_namespace(&settings.identities),
        rules: vec![NamedRuleWithOperations {
            // The Namespace object itself may be changed, for example its labels.
            scope: Some("Namespaced".to_owned()),
            ..requests("*", "*", &["CREATE", "UPDATE", "CONNECT"], &["*/*"])
        }],
        variables: vec![
            (
                "resource".to_owned(),
                "request.resource.group + '/' + request.resource.resource".to_owned(),
            ),
            (
                "subresource".to_owned(),
                "has(request.subResource) ? request.subResource : ''".to_owned(),
            ),
        ],
        validations: vec![demand(
            format!(
                "(variables.subresource in ['', 'status'] && variables.resource in {}) ||\n\
                 (variables.subresource == 'status' && variables.resource == 'batch/jobs') ||\n\
                 (variables.subresource == '' && variables.resource in {} &&\n\
                 has(object.metadata.labels) && {} in object.metadata.labels)",
                list(HARMLESS),
                list(CREATED_BY_CURFEW),
                quoted(GRANT_UID_LABEL)
            ),
            format!(
                "Namespace {} is only for service accounts to act as: no pods, tokens, Secrets or bindings. Use \
                 another namespace. To bind such an account, create a RoleBinding in another namespace or a \
                 ClusterRoleBinding.",
                settings.identities
            ),
        )],
        ..Validating::default()
    }
    .guards()
}
