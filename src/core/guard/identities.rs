//! The namespace of the identities that people act as: nothing runs there, nothing is kept there, and no identity has
//! a token.

use k8s_openapi::api::admissionregistration::v1::NamedRuleWithOperations;

use crate::api::GRANT_UID_LABEL;

use super::expression::{list, quoted};
use super::manifest::{Validating, demand, only_namespace, requests};
use super::{Guard, GuardSettings};

/// What is harmless there: it runs nothing, holds no credential and gives nobody access. A list of what is allowed,
/// because nobody knows every kind that makes pods.
const HARMLESS: [&str; 6] = [
    "/serviceaccounts",
    "/configmaps",
    "/events",
    "events.k8s.io/events",
    "/resourcequotas",
    "/limitranges",
];

/// What Curfew makes there, each with a guard of its own.
const MADE_BY_CURFEW: [&str; 3] = [
    "batch/jobs",
    "rbac.authorization.k8s.io/roles",
    "rbac.authorization.k8s.io/rolebindings",
];

/// Nothing is made in that namespace but service accounts and what carries our label.
pub(super) fn nothing_lives_there(settings: &GuardSettings) -> [Guard; 2] {
    Validating {
        name: "identities",
        namespaces: only_namespace(&settings.identities),
        rules: vec![NamedRuleWithOperations {
            // Without the namespace itself, which may be labelled.
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
                list(MADE_BY_CURFEW),
                quoted(GRANT_UID_LABEL)
            ),
            format!(
                "namespace {} holds identities to act as, and nothing else: no pods, tokens, Secrets or bindings; use \
                 another namespace, and bind an identity from there or by a ClusterRoleBinding",
                settings.identities
            ),
        )],
        ..Validating::default()
    }
    .guards()
}
