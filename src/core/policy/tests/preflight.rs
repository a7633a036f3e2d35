use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Deserialize;

use crate::api::{AccessPolicy, Escalation, Narrowing, RoleKind, Rule};
use crate::core::policy::preflight::{
    GRANTABLE_LABEL, OperatorRights, PolicyReadiness, cluster_roles, invalid, preflight,
};
use crate::core::policy::problem::Problem;
use crate::core::rbac::roles::{RoleFacts, RoleName, Roles};
use crate::core::testing::{identities, policy, role_entitlement, roles, rule, rules_entitlement, strings};

/// The `ClusterRole` that a message asks to apply.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Applied {
    api_version: String,
    kind: String,
    metadata: Metadata,
    rules: Vec<Rule>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    name: String,
    labels: std::collections::BTreeMap<String, String>,
}

fn view() -> RoleName {
    (RoleKind::ClusterRole, "view".to_owned())
}

fn all_rights() -> OperatorRights {
    OperatorRights {
        bindable: BTreeSet::from([view()]),
        held: vec![rule(&["create"], &["pods/exec"])],
    }
}

fn refused(policy: &AccessPolicy, rights: &OperatorRights) -> (&'static str, String) {
    let verdict = preflight(&policy.parsed(), &roles(), &identities(), rights).unwrap_err();
    (verdict.reason, verdict.message)
}

fn binds(resource: &str, name: &str) -> Rule {
    Rule {
        api_groups: strings(&["rbac.authorization.k8s.io"]),
        resources: strings(&[resource]),
        verbs: strings(&["bind"]),
        resource_names: strings(&[name]),
        non_resource_urls: Vec::new(),
    }
}

/// The `ClusterRole` in a message, read by a YAML parser.
fn applied(message: &str) -> Applied {
    let (_, yaml) = message.split_once("to allow it, apply:\n").unwrap();
    serde_yaml::from_str(yaml).unwrap()
}

/// Rights of the operator after that role is applied and aggregated.
fn rights_with(applied: &Applied, before: &OperatorRights) -> OperatorRights {
    let mut rights = before.clone();
    for rule in &applied.rules {
        if rule.verbs == ["bind"] {
            let kind = if rule.resources == ["roles"] {
                RoleKind::Role
            } else {
                RoleKind::ClusterRole
            };
            rights
                .bindable
                .extend(rule.resource_names.iter().map(|name| (kind, name.clone())));
        }
    }
    rights.held.extend(applied.rules.iter().cloned());
    rights
}

#[test]
fn a_policy_is_ready_if_its_roles_exist_and_can_be_granted() {
    assert_eq!(
        preflight(&policy().parsed(), &roles(), &identities(), &all_rights()),
        Ok(())
    );
    let wider = OperatorRights {
        held: vec![rule(&["create", "get"], &["pods/exec", "pods"])],
        ..all_rights()
    };
    assert_eq!(
        preflight(&policy().parsed(), &roles(), &identities(), &wider),
        Ok(())
    );
}

#[test]
fn a_missing_cluster_role_is_reported() {
    let offering = policy().with(|spec| {
        spec.entitlements.push(role_entitlement("a", "absent"));
        spec.entitlements.push(role_entitlement("b", "gone"));
    });
    assert_eq!(
        refused(&offering, &OperatorRights::default()),
        (
            "RoleNotFound",
            "spec.entitlements[a].role.name: ClusterRole absent does not exist; \
             spec.entitlements[b].role.name: ClusterRole gone does not exist"
                .to_owned()
        )
    );
}

#[test]
fn a_namespaced_role_need_not_exist_in_advance() {
    let mut own = role_entitlement("look", "debug");
    own.role.as_mut().unwrap().kind = RoleKind::Role;
    let policy = policy().with(|spec| spec.entitlements = vec![own]);
    let rights = OperatorRights {
        bindable: BTreeSet::from([(RoleKind::Role, "debug".to_owned())]),
        held: Vec::new(),
    };
    assert_eq!(
        preflight(&policy.parsed(), &roles(), &identities(), &rights),
        Ok(())
    );
    assert_eq!(cluster_roles(&policy.parsed()).count(), 0);
}

#[test]
fn an_escalating_role_is_forbidden_unless_the_policy_allows_it() {
    let mut entitlement = role_entitlement("fix", "maintain");
    let offering = |entitlement| policy().with(|spec| spec.entitlements = vec![entitlement]);
    let rights = OperatorRights {
        bindable: BTreeSet::from([(RoleKind::ClusterRole, "maintain".to_owned())]),
        held: Vec::new(),
    };
    let (reason, message) = refused(&offering(entitlement.clone()), &rights);
    assert_eq!(reason, "RoleForbidden");
    for needle in [
        "spec.entitlements[fix].role: maintain can be used to gain more access",
        "* pods",
        "escalation: Allow",
    ] {
        assert!(message.contains(needle), "{needle:?} is not in {message:?}");
    }
    entitlement.role.as_mut().unwrap().escalation = Escalation::Allow;
    assert_eq!(
        preflight(&offering(entitlement).parsed(), &roles(), &identities(), &rights),
        Ok(())
    );
}

#[test]
fn missing_rights_are_reported_as_a_cluster_role_to_apply() {
    let (reason, message) = refused(&policy(), &OperatorRights::default());
    assert_eq!(reason, "RightsMissing");
    assert_eq!(
        message,
        r#"spec.entitlements[look].role: Curfew may not bind view; spec.entitlements[exec].rules: Curfew may not grant create pods/exec; to allow it, apply:
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: curfew-grantable-prod-debug
  labels: {access.curfew.dev/aggregate-to-grantable: "true"}
rules:
- {"apiGroups":["rbac.authorization.k8s.io"],"resources":["clusterroles"],"verbs":["bind"],"resourceNames":["view"]}
- {"apiGroups":[""],"resources":["pods/exec"],"verbs":["create"]}
"#
    );
    assert_eq!(
        applied(&message),
        Applied {
            api_version: "rbac.authorization.k8s.io/v1".to_owned(),
            kind: "ClusterRole".to_owned(),
            metadata: Metadata {
                name: "curfew-grantable-prod-debug".to_owned(),
                labels: [(GRANTABLE_LABEL.to_owned(), "true".to_owned())].into(),
            },
            rules: vec![binds("clusterroles", "view"), rule(&["create"], &["pods/exec"])],
        }
    );
}

#[test]
fn rights_already_held_are_not_reported() {
    let can_bind = OperatorRights {
        held: Vec::new(),
        ..all_rights()
    };
    assert_eq!(
        applied(&refused(&policy(), &can_bind).1).rules,
        [rule(&["create"], &["pods/exec"])]
    );
    let can_grant_rules = OperatorRights {
        bindable: BTreeSet::from([(RoleKind::Role, "view".to_owned())]),
        ..all_rights()
    };
    assert_eq!(
        applied(&refused(&policy(), &can_grant_rules).1).rules,
        [binds("clusterroles", "view")]
    );
}

#[test]
fn applying_the_reported_role_makes_the_policy_ready() {
    let mut own = role_entitlement("own", "it's: \"a\" #role\\{}");
    own.role.as_mut().unwrap().kind = RoleKind::Role;
    let mut odd = rules_entitlement("odd", Narrowing::Optional);
    let item = &mut odd.rules.as_mut().unwrap().items[0];
    item.resource_names = strings(&[
        "null", "true", "0x1", "- a", "a: b", "ünï", "\"", "'", "\\", "%", "[x]",
    ]);
    item.api_groups = strings(&["", "apps", "*"]);
    item.verbs = strings(&["get", "list"]);
    let policy = policy().with(|spec| spec.entitlements.extend([own, odd]));
    for before in [
        OperatorRights::default(),
        OperatorRights {
            bindable: BTreeSet::new(),
            ..all_rights()
        },
        OperatorRights {
            held: Vec::new(),
            ..all_rights()
        },
    ] {
        let (reason, message) = refused(&policy, &before);
        assert_eq!(reason, "RightsMissing");
        let after = rights_with(&applied(&message), &before);
        assert_eq!(
            preflight(&policy.parsed(), &roles(), &identities(), &after),
            Ok(())
        );
    }
}

#[test]
fn readiness_reports_missing_roles_before_missing_rights() {
    let mut offering = policy().with(|spec| {
        spec.entitlements.push(role_entitlement("a", "absent"));
        spec.entitlements.push(role_entitlement("fix", "maintain"));
    });
    let reasons = |policy: &AccessPolicy| refused(policy, &OperatorRights::default()).0;
    assert_eq!(reasons(&offering), "RoleNotFound");
    offering.spec.entitlements.remove(2);
    assert_eq!(reasons(&offering), "RoleForbidden");
    offering.spec.entitlements.pop();
    assert_eq!(reasons(&offering), "RightsMissing");
}

#[test]
fn problems_of_the_text_make_a_policy_invalid() {
    let problems = [
        Problem::new("spec.retention", "too long"),
        Problem::new("spec.windows[0]", "no zone"),
    ];
    assert_eq!(
        invalid(&problems),
        PolicyReadiness {
            reason: "Invalid",
            message: "spec.retention: too long; spec.windows[0]: no zone".to_owned(),
        }
    );
}

#[test]
fn cluster_roles_lists_every_named_cluster_role() {
    let parsed = policy()
        .with(|spec| spec.entitlements.push(role_entitlement("a", "absent")))
        .parsed();
    assert_eq!(cluster_roles(&parsed).collect::<Vec<_>>(), ["view", "absent"]);
}

#[test]
fn an_existing_namespaced_role_is_checked_for_escalation() {
    let mut own = role_entitlement("own", "debug");
    own.role.as_mut().unwrap().kind = RoleKind::Role;
    let policy = policy().with(|spec| spec.entitlements = vec![own]);
    let name = (RoleKind::Role, "debug".to_owned());
    let escalating = RoleFacts::new("u", &[rule(&["*"], &["pods"])]);
    let rights = OperatorRights {
        bindable: BTreeSet::from([name.clone()]),
        held: Vec::new(),
    };
    let verdict = preflight(
        &policy.parsed(),
        &Roles::from([(name, Arc::new(escalating))]),
        &identities(),
        &rights,
    );
    assert_eq!(verdict.unwrap_err().reason, "RoleForbidden");
}
