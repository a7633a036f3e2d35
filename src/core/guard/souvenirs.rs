//! Whoever holds access for a time makes nothing meanwhile that would outlast it.
//!
//! Asked of the authorizer, by a permission that comes and goes with the access, so that it costs the same however
//! many grants there are. Grants as parameters of the policy cost 0.25 ms for each of them.

use k8s_openapi::api::admissionregistration::v1::Validation;

use super::expression::{operator_asks, quoted};
use super::manifest::{Validating, demand, requests};
use super::{Guard, GuardSettings};

/// RBAC, tokens, certificates, and policies under which access would be given again.
pub(super) fn none(settings: &GuardSettings) -> [Guard; 2] {
    let make = &["CREATE", "UPDATE"];
    Validating {
        rules: vec![
            requests(
                "rbac.authorization.k8s.io",
                "v1",
                make,
                &["roles", "rolebindings", "clusterroles", "clusterrolebindings"],
            ),
            requests("", "v1", &["CREATE"], &["serviceaccounts/token"]),
            requests(
                "certificates.k8s.io",
                "v1",
                make,
                &[
                    "certificatesigningrequests",
                    "certificatesigningrequests/approval",
                ],
            ),
            requests("access.curfew.dev", "v1alpha1", make, &["accesspolicies"]),
        ],
        conditions: vec![others(settings)],
        ..elevated("no-souvenirs", settings)
    }
    .guards()
}

/// Secrets that become tokens. A policy of its own, because it looks into the object.
pub(super) fn no_token_secrets(settings: &GuardSettings) -> [Guard; 2] {
    Validating {
        rules: vec![requests("", "v1", &["CREATE", "UPDATE"], &["secrets"])],
        conditions: vec![
            (
                "token",
                "has(object.type) && object.type == 'kubernetes.io/service-account-token'".to_owned(),
            ),
            others(settings),
        ],
        ..elevated("no-token-secrets", settings)
    }
    .guards()
}

/// The operator makes bindings all day, and every one of them ends.
fn others(settings: &GuardSettings) -> (&'static str, String) {
    ("not-the-operator", format!("!({})", operator_asks(settings)))
}

fn elevated(name: &'static str, settings: &GuardSettings) -> Validating {
    let mut variables = vec![(
        "identity".to_owned(),
        format!(
            "request.userInfo.username.startsWith({})",
            quoted(&settings.identity_prefix())
        ),
    )];
    variables.extend(elevation());
    Validating {
        name,
        variables,
        validations: vec![refusal()],
        ..Validating::default()
    }
}

/// Variables for whether whoever asks holds the mark of the elevated where they ask, `held`, and whether they hold
/// everything, `always`.
pub(super) fn elevation() -> Vec<(String, String)> {
    // Cluster-scoped requests have no namespace: there only a cluster-wide binding of the mark counts.
    let mut variables = vec![(
        "scope".to_owned(),
        "has(request.namespace) ? request.namespace : ''".to_owned(),
    )];
    // Nobody is ever given `none`: whoever holds it holds everything, and that not for a time.
    for (variable, elevation) in [("held", "active"), ("always", "none")] {
        variables.push((
            variable.to_owned(),
            format!(
                "authorizer.group('access.curfew.dev').resource('elevations').namespace(variables.scope)\
                 .name('{elevation}').check('hold').allowed()"
            ),
        ));
    }
    variables
}

fn refusal() -> Validation {
    demand(
        "!variables.identity && (!variables.held || variables.always)",
        "you hold temporary access, and this would outlast it: make it when the access has ended, or have it made by \
         somebody who may do so permanently",
    )
}
