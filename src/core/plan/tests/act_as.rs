use std::collections::BTreeSet;
use std::sync::Arc;

use crate::api::{
    AccessPolicy, ArtifactKind, ArtifactRecord, OnChange, PrincipalKind, REVOKE_FINALIZER,
    ResolvedEntitlement, ResolvedIdentity, ResolvedRole, RevocationCause, RoleKind, Rule, Subject, reasons,
};
use crate::core::artifact::found::{Content, Found};
use crate::core::artifact::key::ArtifactKey;
use crate::core::artifact::target::Target;
use crate::core::artifact::{Artifact, Body, GrantIdentity, Holder};
use crate::core::audit::record::GivenAccess;
use crate::core::grant::transition::Transition;
use crate::core::plan::effect::{Effect, Plan, Precedence};
use crate::core::policy::preflight::{OperatorRights, PolicyReadiness, preflight};
use crate::core::rbac::impersonation::{allows_exactly, impersonation};
use crate::core::rbac::roles::{ActAsAccounts, RoleFacts, Roles};
use crate::core::testing::{
    Situation, act_as_entitlement, at, grant, identities, named, policy, principal, roles, rule, seconds,
};

/// `curfew-` and the first half of SHA-256 over the entropy 7 (16 bytes, big endian) and `nodes`.
const NODES: &str = "curfew-2cb8fc8a0d5803ac2d528cfe6a81f732";
const ROLE: &str = "curfew-act-as-node-reader";

fn offering() -> AccessPolicy {
    policy().with(|spec| spec.entitlements.push(act_as_entitlement("nodes", "node-reader")))
}

/// A request of Alice to act as node-reader.
fn asked() -> Situation {
    Situation::of(grant("pay-123").asking_for(&["nodes"]), &offering())
}

fn end() -> jiff::Timestamp {
    at("2026-12-01T09:30:00Z")
}

fn alice() -> Subject {
    Subject::user("alice@example.com")
}

fn creation(body: Body) -> Effect {
    Effect::Create(Artifact {
        grant: GrantIdentity {
            namespace: "prod".to_owned(),
            name: "pay-123".to_owned(),
            uid: "uid-of-pay-123".to_owned(),
        },
        namespace: "curfew-identities".to_owned(),
        name: NODES.to_owned(),
        not_after: end(),
        holder: match body {
            Body::Fuse { .. } => Holder::Nothing,
            Body::Role(_) | Body::Binding { .. } => Holder::Fuse,
        },
        body,
    })
}

fn target(kind: ArtifactKind, uid: &str) -> Target {
    Target {
        kind,
        namespace: "curfew-identities".to_owned(),
        name: NODES.to_owned(),
        uid: Some(uid.to_owned()),
    }
}

fn resolved() -> ResolvedEntitlement {
    let role = &roles()[&(RoleKind::ClusterRole, ROLE.to_owned())];
    ResolvedEntitlement {
        name: "nodes".to_owned(),
        role: Some(ResolvedRole {
            kind: RoleKind::ClusterRole,
            name: ROLE.to_owned(),
            uid: role.uid.clone(),
            rules_hash: role.rules_hash().to_owned(),
        }),
        act_as: Some(ResolvedIdentity {
            namespace: "curfew-identities".to_owned(),
            service_account: "node-reader".to_owned(),
            uid: "uid-of-node-reader".to_owned(),
        }),
        rules: Vec::new(),
    }
}

fn ending(situation: &Situation) -> (RevocationCause, String) {
    let plan = situation.plan();
    let ending = plan.stages.iter().flatten().find_map(|effect| match effect {
        Effect::RecordEnded(ending) => Some((ending.cause, ending.message.clone())),
        _ => None,
    });
    ending.unwrap_or_else(|| panic!("the plan does not end the grant: {plan:?}"))
}

#[test]
fn act_as_is_bound_after_the_grant_has_a_finalizer() {
    let plan = asked().plan();
    let [Effect::Intend(status), fuse] = plan.stages[0].as_slice() else {
        panic!("{plan:?}");
    };
    let record = |kind| ArtifactRecord {
        kind,
        namespace: "curfew-identities".to_owned(),
        name: NODES.to_owned(),
        entitlement: "nodes".to_owned(),
        uid: None,
        enforced_by: Vec::new(),
    };
    assert_eq!(
        status.artifacts,
        [record(ArtifactKind::Job), record(ArtifactKind::RoleBinding)]
    );
    assert_eq!(status.resolved.as_ref().unwrap().entitlements, [resolved()]);
    assert_eq!(*fuse, creation(Body::Fuse { seconds: 1801 }));
    let role = (RoleKind::ClusterRole, ROLE.to_owned());
    let subject = alice();
    assert_eq!(
        plan.stages[1..],
        [
            vec![Effect::AddFinalizer],
            vec![creation(Body::Binding { role, subject })],
            vec![Effect::Announce(Transition::Activated {
                subject: Some(alice()),
                access: vec![GivenAccess::of(resolved(), &roles())],
                expires_at: end(),
            })],
            vec![Effect::AwaitFuses(vec![ArtifactKey {
                kind: ArtifactKind::Job,
                namespace: "curfew-identities".to_owned(),
                name: NODES.to_owned(),
            }])],
            vec![Effect::RecordActive],
        ]
    );
    assert_eq!(plan.wake, Some(at("2026-12-01T09:00:30Z")));
    assert_eq!(Effect::AddFinalizer.precedence(), Precedence::Begin);
}

#[test]
fn only_act_as_grants_get_a_finalizer() {
    let both = Situation::of(grant("pay-123").asking_for(&["look", "nodes"]), &offering());
    let plan = both.plan();
    assert_eq!(plan.stages[1], [Effect::AddFinalizer], "once");
    let look = Situation::of(grant("pay-123").asking_for(&["look"]), &offering()).plan();
    assert!(
        !look
            .stages
            .iter()
            .flatten()
            .any(|effect| *effect == Effect::AddFinalizer)
    );
}

#[test]
fn a_finalizer_is_added_once() {
    let mut crashed = asked();
    for effect in crashed.plan().stages.iter().take(2).flatten() {
        crashed.apply(effect).unwrap();
    }
    let rest = crashed.plan();
    let role = (RoleKind::ClusterRole, ROLE.to_owned());
    let subject = alice();
    assert_eq!(rest.stages[0], [creation(Body::Binding { role, subject })]);
}

#[test]
fn the_finalizer_goes_after_the_proof_and_the_record() {
    let over = asked().pass().after(seconds(1800));
    let plan = over.plan();
    let binding = target(ArtifactKind::RoleBinding, "uid-2");
    let [record, let_go] = &plan.stages[4..] else {
        panic!("{plan:?}");
    };
    assert_eq!(
        plan.stages[..3],
        [
            vec![Effect::Delete(binding.clone())],
            vec![Effect::Delete(target(ArtifactKind::Job, "uid-1"))],
            vec![Effect::ProveAbsent(vec![binding])],
        ]
    );
    assert!(
        matches!(record.as_slice(), [Effect::RecordEnded(_)]),
        "{record:?}"
    );
    assert_eq!(*let_go, [Effect::RemoveFinalizer]);
    let after = over.pass();
    assert_eq!(after.grant.metadata.finalizers, Some(Vec::new()));
    assert!(!after.gone, "an ended grant stays as a record");
}

#[test]
fn a_deleted_grant_disappears_after_the_proof_of_absence() {
    let deleted = asked()
        .pass()
        .but(|situation| situation.grant = situation.grant.clone().being_deleted());
    assert_eq!(ending(&deleted).0, RevocationCause::GrantDeleted);
    let after = deleted.pass();
    assert!(after.gone);
    assert_eq!(after.found, []);
}

#[test]
fn after_an_outage_a_deleted_grant_loses_its_finalizer() {
    let burnt = asked()
        .pass()
        .but(|situation| situation.grant = situation.grant.clone().being_deleted())
        .but(|situation| situation.found.clear())
        .after(seconds(4000));
    assert_eq!(ending(&burnt).0, RevocationCause::DeadlineReached);
    assert!(burnt.pass().gone);
}

#[test]
fn a_finalizer_left_by_a_crash_is_removed() {
    let died = asked()
        .pass()
        .after(seconds(1800))
        .pass()
        .but(|situation| situation.grant.metadata.finalizers = Some(vec![REVOKE_FINALIZER.to_owned()]));
    assert_eq!(died.plan().stages, [[Effect::RemoveFinalizer]]);

    // Leftovers are deleted first, and proven absent.
    let left = died.but(|situation| situation.found = asked().pass().found);
    let binding = target(ArtifactKind::RoleBinding, "uid-2");
    assert_eq!(
        left.plan().stages,
        [
            vec![Effect::Delete(binding.clone())],
            vec![Effect::Delete(target(ArtifactKind::Job, "uid-1"))],
            vec![Effect::ProveAbsent(vec![binding])],
            vec![Effect::RemoveFinalizer],
        ]
    );
}

#[test]
fn a_request_with_our_finalizer_from_the_start_can_be_deleted() {
    let undecided = asked()
        .but(|situation| situation.grant.metadata.finalizers = Some(vec![REVOKE_FINALIZER.to_owned()]))
        .but(|situation| situation.grant = situation.grant.clone().being_deleted());
    assert_eq!(undecided.plan(), Plan::new([vec![Effect::RemoveFinalizer]], None));
}

#[test]
fn an_owner_added_to_an_act_as_fuse_ends_the_access() {
    let owned = asked().pass().but(|situation| {
        situation.found[0].owner = Some("somebody".to_owned());
    });
    assert_eq!(
        ending(&owned),
        (
            RevocationCause::ArtifactChanged,
            format!("Job {NODES} has lost its owner")
        )
    );
}

#[test]
fn the_same_name_in_another_namespace_is_another_artifact() {
    let planted = asked().pass().but(|situation| {
        situation.found.push(Found {
            namespace: "prod".to_owned(),
            name: NODES.to_owned(),
            uid: "planted".to_owned(),
            deleting: false,
            owner: None,
            content: Content::Binding {
                role: (RoleKind::ClusterRole, "admin".to_owned()),
                subjects: Some(vec![alice()]),
            },
        });
    });
    let removal = Effect::Delete(Target {
        namespace: "prod".to_owned(),
        ..target(ArtifactKind::RoleBinding, "planted")
    });
    assert_eq!(planted.plan(), Plan::new([vec![removal]], Some(end())));
}

type Change = fn(&mut Situation);

fn widen(situation: &mut Situation) {
    let rule = named(
        rule(&["impersonate"], &["serviceaccounts"]),
        &["node-reader", "root"],
    );
    let facts = RoleFacts::new("uid-of-curfew-act-as-node-reader", &[rule]);
    situation
        .roles
        .insert((RoleKind::ClusterRole, ROLE.to_owned()), Arc::new(facts));
}

fn lose_role(situation: &mut Situation) {
    situation.roles.remove(&(RoleKind::ClusterRole, ROLE.to_owned()));
}

#[test]
fn a_changed_service_account_or_role_ends_act_as() {
    let keeping = offering().with(|spec| {
        let identity = spec.entitlements.last_mut().unwrap().act_as.as_mut().unwrap();
        identity.on_change = OnChange::Keep;
    });
    let remake: Change = |situation| {
        situation
            .identities
            .insert("node-reader".to_owned(), "another".to_owned());
    };
    let delete: Change = |situation| situation.identities.clear();
    for (change, message, kept) in [
        (
            delete,
            "service account curfew-identities/node-reader was deleted",
            true,
        ),
        (
            remake,
            "service account curfew-identities/node-reader was deleted and created again",
            true,
        ),
        (lose_role, "role curfew-act-as-node-reader was deleted", true),
        (
            widen,
            "the rules of role curfew-act-as-node-reader changed",
            false,
        ),
    ] {
        let changed = asked().pass().but(change);
        assert_eq!(
            ending(&changed),
            (RevocationCause::RoleChanged, message.to_owned())
        );
        let changed = Situation::of(grant("pay-123").asking_for(&["nodes"]), &keeping)
            .pass()
            .but(change);
        if kept {
            assert_eq!(changed.plan(), Plan::wait_until(end()), "{message}");
        } else {
            assert_eq!(ending(&changed).0, RevocationCause::RoleChanged);
        }
    }
}

#[test]
fn offering_the_act_as_role_itself_is_another_entitlement() {
    let otherwise = policy().with(|spec| {
        spec.entitlements
            .push(crate::core::testing::role_entitlement("nodes", ROLE));
    });
    let edited = asked()
        .pass()
        .but(|situation| situation.policy = otherwise.ready());
    assert_eq!(
        ending(&edited),
        (
            RevocationCause::PolicyChanged,
            "policy prod-debug would deny it now: entitlement nodes now grants something else".to_owned()
        )
    );
}

/// Reason and message of a denial.
fn denial(situation: &Situation) -> (&'static str, String) {
    match situation.plan().stages.first().map(Vec::as_slice) {
        Some([Effect::Announce(Transition::Denied { reason, message })]) => (reason, message.clone()),
        other => panic!("not denied: {other:?}"),
    }
}

#[test]
fn a_denial_names_the_missing_act_as_objects() {
    let cases: [(Change, &str, &str); 3] = [
        (
            |situation| situation.identities.clear(),
            reasons::IDENTITY_NOT_FOUND,
            "spec.entitlements[nodes]: service account curfew-identities/node-reader does not exist",
        ),
        (
            lose_role,
            reasons::IDENTITY_NOT_FOUND,
            "spec.entitlements[nodes]: ClusterRole curfew-act-as-node-reader, which allows acting as node-reader, \
             does not exist",
        ),
        (
            widen,
            reasons::ROLE_FORBIDDEN,
            "spec.entitlements[nodes]: ClusterRole curfew-act-as-node-reader must allow exactly: impersonate \
             serviceaccounts named node-reader",
        ),
    ];
    for (change, reason, message) in cases {
        assert_eq!(denial(&asked().but(change)), (reason, message.to_owned()));
    }
}

#[test]
fn act_as_is_not_narrowed_and_its_account_is_no_subject() {
    let narrowed = Situation::of(grant("g").asking_for_objects("nodes", &["node-0"]), &offering());
    assert_eq!(
        denial(&narrowed),
        (
            reasons::NARROWING_REFUSED,
            "spec.entitlements[nodes].resourceNames: a service account has the rights it has and cannot be narrowed; \
             leave resourceNames out"
                .to_owned()
        )
    );
    let lists = offering().with(|spec| {
        spec.subjects = vec![principal(
            PrincipalKind::ServiceAccount,
            "curfew-identities/node-reader",
        )];
    });
    let robot = Subject::service_account("curfew-identities", "node-reader");
    let given = Situation::of(grant("g").given_to(robot), &lists);
    assert_eq!(denial(&given).0, reasons::SUBJECT_FORBIDDEN);
}

#[test]
fn event_and_audit_name_subject_and_act_as_account() {
    let active = asked().pass();
    let [announcement] = active.told.as_slice() else {
        panic!("{:?}", active.told);
    };
    assert_eq!(
        announcement.event(&active.grant, active.now).note,
        "user alice@example.com has nodes (acting as service account curfew-identities/node-reader) until \
         2026-12-01T09:30:00Z"
    );
    let audit = announcement.audit(&active.grant, active.now);
    assert_eq!(
        audit.artifacts,
        [
            format!("Job/curfew-identities/{NODES}"),
            format!("RoleBinding/curfew-identities/{NODES}")
        ]
    );
    let audit = serde_json::to_value(audit).unwrap();
    assert_eq!(audit["access"][0]["actAs"]["serviceAccount"], "node-reader");
}

// Preflight.

fn only() -> AccessPolicy {
    policy().with(|spec| spec.entitlements = vec![act_as_entitlement("nodes", "node-reader")])
}

fn readiness(roles: &Roles, identities: &ActAsAccounts, may_bind: bool) -> Result<(), PolicyReadiness> {
    let bindable = may_bind.then(|| (RoleKind::ClusterRole, ROLE.to_owned()));
    let rights = OperatorRights {
        bindable: BTreeSet::from_iter(bindable),
        held: Vec::new(),
    };
    preflight(&only().parsed(), roles, identities, &rights)
}

#[test]
fn an_act_as_policy_with_all_objects_is_ready() {
    assert_eq!(readiness(&roles(), &identities(), true), Ok(()));
}

#[test]
fn an_act_as_policy_lists_missing_objects_as_yaml() {
    let verdict = readiness(&Roles::new(), &ActAsAccounts::new(), false).unwrap_err();
    assert_eq!(verdict.reason, reasons::IDENTITY_NOT_FOUND);
    let (_, yaml) = verdict.message.split_once("to allow it, apply:\n").unwrap();
    let objects: Vec<serde_json::Value> = serde_yaml::Deserializer::from_str(yaml)
        .map(|document| serde::Deserialize::deserialize(document).unwrap())
        .collect();
    let named: Vec<_> = objects
        .iter()
        .map(|object| {
            (
                object["kind"].as_str().unwrap(),
                object["metadata"]["name"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        named,
        [
            ("ServiceAccount", "node-reader"),
            ("ClusterRole", ROLE),
            ("ClusterRole", "curfew-grantable-prod-debug"),
        ]
    );
    assert_eq!(objects[0]["metadata"]["namespace"], "curfew-identities");
    let rules: Vec<Rule> = serde_json::from_value(objects[1]["rules"].clone()).unwrap();
    assert!(allows_exactly(&rules, "node-reader"));
    assert_eq!(objects[2]["rules"][0]["verbs"][0], "bind");
    assert_eq!(objects[2]["rules"][0]["resourceNames"][0], ROLE);
}

#[test]
fn the_yaml_has_missing_objects_only() {
    let verdict = readiness(&roles(), &identities(), false).unwrap_err();
    assert_eq!(verdict.reason, reasons::RIGHTS_MISSING);
    assert!(
        !verdict.message.contains("kind: ServiceAccount"),
        "{}",
        verdict.message
    );
    assert!(
        !verdict.message.contains(&format!("name: {ROLE}\n")),
        "{}",
        verdict.message
    );
}

#[test]
fn an_act_as_role_must_allow_exactly_one_account() {
    let exactly = impersonation("node-reader");
    let others: [&[Rule]; 5] = [
        &[],
        &[rule(&["impersonate"], &["serviceaccounts"])],
        &[named(rule(&["impersonate"], &["serviceaccounts"]), &["root"])],
        &[named(rule(&["impersonate"], &["users"]), &["node-reader"])],
        &[exactly.clone(), rule(&["get"], &["pods"])],
    ];
    for rules in others {
        let role = Arc::new(RoleFacts::new("uid", rules));
        let roles = Roles::from([((RoleKind::ClusterRole, ROLE.to_owned()), role)]);
        let verdict = readiness(&roles, &identities(), true).unwrap_err();
        assert_eq!(verdict.reason, reasons::ROLE_FORBIDDEN, "{rules:?}");
    }
    // The same rule twice is the same role.
    assert!(allows_exactly(&[exactly.clone(), exactly], "node-reader"));
}
