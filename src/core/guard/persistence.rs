//! Guards against persistence (MITRE ATT&CK TA0003): a user with temporary access cannot create something that would
//! outlast the access.
//!
//! A guard asks the authorizer for a permission that the elevation marker gives and that ends with the access. The cost
//! does not depend on the number of grants. With grants as parameters of the policy, each grant would cost 0.25 ms.

use k8s_openapi::api::admissionregistration::v1::Validation;

use crate::core::guard::cel::{operator_asks, quoted};
use crate::core::guard::manifest::{Validating, demand, requests};
use crate::core::guard::{Guard, GuardSettings};

/// No RBAC objects, tokens or certificates, and no policies that would grant access again.
pub(super) fn none(settings: &GuardSettings) -> [Guard; 2] {
    let writes = &["CREATE", "UPDATE"];
    Validating {
        rules: vec![
            requests(
                "rbac.authorization.k8s.io",
                "v1",
                writes,
                &["roles", "rolebindings", "clusterroles", "clusterrolebindings"],
            ),
            requests("", "v1", &["CREATE"], &["serviceaccounts/token"]),
            requests(
                "certificates.k8s.io",
                "v1",
                writes,
                &[
                    "certificatesigningrequests",
                    "certificatesigningrequests/approval",
                ],
            ),
            requests("access.curfew.dev", "v1alpha1", writes, &["accesspolicies"]),
        ],
        conditions: vec![not_the_operator(settings)],
        ..denied_if_elevated("no-persistence", settings)
    }
    .guards()
}

/// No Secrets that become tokens. This is a separate policy because its condition reads the type of the object.
pub(super) fn no_token_secrets(settings: &GuardSettings) -> [Guard; 2] {
    Validating {
        rules: vec![requests("", "v1", &["CREATE", "UPDATE"], &["secrets"])],
        conditions: vec![
            (
                "token",
                "has(object.type) && object.type == 'kubernetes.io/service-account-token'".to_owned(),
            ),
            not_the_operator(settings),
        ],
        ..denied_if_elevated("no-token-secrets", settings)
    }
    .guards()
}

/// Condition that exempts the operator: it creates bindings all day, and each of them ends.
fn not_the_operator(settings: &GuardSettings) -> (&'static str, String) {
    ("not-the-operator", format!("!({})", operator_asks(settings)))
}

/// Policy without rules or conditions that denies users with temporary access and act-as accounts.
fn denied_if_elevated(name: &'static str, settings: &GuardSettings) -> Validating {
    let mut variables = vec![(
        "actsAs".to_owned(),
        format!(
            "request.userInfo.username.startsWith({})",
            quoted(&settings.identity_prefix())
        ),
    )];
    variables.extend(elevation());
    Validating {
        name,
        variables,
        validations: vec![no_elevation()],
        ..Validating::default()
    }
}

/// CEL variables about the user. `elevated`: the user holds the permission of the elevation marker in the namespace of
/// the request. `permanent`: the user holds all permissions, and therefore also that one, but permanently.
pub(super) fn elevation() -> Vec<(String, String)> {
    // A cluster-scoped request has no namespace: only a cluster-wide binding of the marker counts.
    let mut variables = vec![(
        "scope".to_owned(),
        "has(request.namespace) ? request.namespace : ''".to_owned(),
    )];
    // Curfew never grants `none`, so a user who holds it holds all permissions.
    for (variable, elevation) in [("elevated", "active"), ("permanent", "none")] {
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

fn no_elevation() -> Validation {
    demand(
        "!variables.actsAs && (!variables.elevated || variables.permanent)",
        "You have temporary access and cannot create or change this, because it would outlast the access. Ask someone \
         with permanent access, or try again when your access has ended.",
    )
}
