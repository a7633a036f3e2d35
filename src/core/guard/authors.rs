//! Whoever writes a policy holds what it hands out.

use crate::api::{GROUP, VERSION};

use super::expression::quoted;
use super::manifest::{Validating, demand, requests};
use super::{Guard, GuardSettings};

/// The schema admits so many entitlements in a policy.
const ENTITLEMENTS: usize = 16;

/// `bind` on each role, `escalate` on `clusterroles` for rules of one's own, and `impersonate` on each identity. Asked
/// when the spec is new or changed: a label needs no rights.
pub(super) fn hold_what_they_hand_out(settings: &GuardSettings) -> [Guard; 2] {
    // One check for each variable: an expression has a budget, of which a check costs a third.
    let mut variables = vec![("entitlements".to_owned(), "object.spec.entitlements".to_owned())];
    variables.extend((0..ENTITLEMENTS).map(|index| (format!("e{index}"), holds(index, settings))));
    let all: Vec<String> = (0..ENTITLEMENTS)
        .map(|index| format!("variables.e{index}"))
        .collect();
    Validating {
        name: "authors",
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
            "you may only hand out what you hold: bind on each role, escalate on clusterroles for rules, \
             impersonate on each identity; have the policy written by somebody who does, or hand out less",
        )],
        ..Validating::default()
    }
    .guards()
}

/// Whether the author holds the entitlement of that index, if there is one.
fn holds(index: usize, settings: &GuardSettings) -> String {
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
    // What is none of these kinds is refused: a kind that is added has to be guarded.
    format!(
        "size(variables.entitlements) <= {index} || ({} : false)",
        checks.join(" : ")
    )
}
