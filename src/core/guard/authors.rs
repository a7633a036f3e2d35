//! Guard for policy authors: an author must hold the access that the policy grants.

use crate::api::{GROUP, VERSION};
use crate::core::guard::cel::quoted;
use crate::core::guard::manifest::{Validating, demand, requests};
use crate::core::guard::{Guard, GuardSettings};

/// Maximum number of entitlements in a policy, as in the CRD.
const ENTITLEMENTS: usize = 16;

/// The author needs `bind` on each role, `escalate` on `clusterroles` for rules, and `impersonate` on each act-as
/// account. Checked when the spec is new or changed; a change of labels needs no rights.
pub(super) fn hold_what_they_hand_out(settings: &GuardSettings) -> [Guard; 2] {
    // One variable for each entitlement: an expression has a cost budget, and one check uses a third of it.
    let mut variables = vec![("entitlements".to_owned(), "object.spec.entitlements".to_owned())];
    variables.extend((0..ENTITLEMENTS).map(|index| (format!("e{index}"), author_holds(index, settings))));
    let all: Vec<String> = (0..ENTITLEMENTS)
        .map(|index| format!("variables.e{index}"))
        .collect();
    Validating {
        name: "policy-authors",
        rules: vec![requests(
            GROUP,
            VERSION,
            &["CREATE", "UPDATE"],
            &["accesspolicies"],
        )],
        conditions: vec![(
            "spec-changed",
            "oldObject == null || object.spec != oldObject.spec".to_owned(),
        )],
        variables,
        validations: vec![demand(
            all.join(" &&\n"),
            "You can only offer access that you hold: bind on each role, escalate on clusterroles for rules, \
             impersonate on each service account. Offer less, or ask an author who holds this access.",
        )],
        ..Validating::default()
    }
    .guards()
}

/// CEL: the author holds the entitlement at `index`, or the policy has no entitlement at `index`.
fn author_holds(index: usize, settings: &GuardSettings) -> String {
    let entitlement = format!("variables.entitlements[{index}]");
    let rbac = "authorizer.group('rbac.authorization.k8s.io')";
    let kinds = [
        (
            "role",
            format!(
                "{rbac}.resource({entitlement}.role.kind == 'ClusterRole' ? 'clusterroles' : 'roles')\
                 .name({entitlement}.role.name).check('bind').allowed()"
            ),
        ),
        (
            "rules",
            format!("{rbac}.resource('clusterroles').check('escalate').allowed()"),
        ),
        (
            "actAs",
            format!(
                "authorizer.group('').resource('serviceaccounts').namespace({})\
                 .name({entitlement}.actAs.serviceAccount).check('impersonate').allowed()",
                quoted(&settings.identities)
            ),
        ),
    ];
    let checks: Vec<String> = kinds
        .iter()
        .map(|(field, check)| format!("has({entitlement}.{field}) ? {check}"))
        .collect();
    // An entitlement of another kind is denied, so a new kind cannot be forgotten here.
    format!(
        "size(variables.entitlements) <= {index} || ({} : false)",
        checks.join(" : ")
    )
}
