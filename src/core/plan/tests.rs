use jiff::SignedDuration;

use super::*;
use crate::api::{
    ArtifactRecord, Day, DurationText, Escalation, FuseDemand, OnChange, ResolvedAccess, ResolvedEntitlement,
    ResolvedRole, RevocationCause, RoleKind, Rule, Selection, Subject,
};
use crate::core::facts::{Content, RoleFacts};
use crate::core::fixtures::{
    Situation, at, condition, grant, named, now, policy, role_entitlement, rule, seconds,
};
use crate::core::{Artifact, ArtifactKey, Body, GivenAccess, Holder, Policy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use std::sync::Arc;

/// `curfew-` and the first half of SHA-256 over the entropy 7 (16 bytes, big endian) and the entitlement's name.
const LOOK: &str = "curfew-49dba82a029a4e89ad94f585403ddf58";
const EXEC: &str = "curfew-35afead27ce01937e44201d4c93e8640";

/// Half an hour, what the policy gives to a request that says nothing.
const HALF_AN_HOUR: SignedDuration = SignedDuration::from_secs(1800);

fn end() -> Timestamp {
    at("2026-12-01T09:30:00Z")
}

fn alice() -> Subject {
    Subject::user("alice@example.com")
}

/// Asks for what the policy gives by default: the role view.
fn asked() -> Situation {
    Situation::of(grant("pay-123"), &policy())
}

/// Asks for the role and for the rules.
fn asked_for_both() -> Situation {
    Situation::of(grant("pay-123").asking_for(&["look", "exec"]), &policy())
}

/// Both are in force.
fn active() -> Situation {
    asked_for_both().pass()
}

/// Recorded, and nothing made of it.
fn recorded() -> Situation {
    let mut situation = asked_for_both();
    let intent = situation.plan().stages[0][0].clone();
    situation.apply(&intent).unwrap();
    situation
}

fn artifact(name: &str, body: Body) -> Artifact {
    Artifact {
        grant: GrantIdentity {
            namespace: "prod".to_owned(),
            name: "pay-123".to_owned(),
            uid: "uid-of-pay-123".to_owned(),
        },
        namespace: "prod".to_owned(),
        name: name.to_owned(),
        not_after: end(),
        holder: match body {
            Body::Fuse { .. } => Holder::Grant,
            Body::Role(_) | Body::Binding { .. } => Holder::Fuse,
        },
        body,
    }
}

/// What waits until these fuses are lit.
fn awaited(names: &[&str]) -> Effect {
    let key = |name: &&str| ArtifactKey {
        kind: ArtifactKind::Job,
        namespace: "prod".to_owned(),
        name: (*name).to_owned(),
    };
    Effect::AwaitFuses(names.iter().map(key).collect())
}

/// When to look again for a fuse that is not known to be lit.
fn soon() -> Timestamp {
    at("2026-12-01T09:00:30Z")
}

fn fuse(name: &str, seconds: i64) -> Effect {
    Effect::Create(artifact(name, Body::Fuse { seconds }))
}

fn role(name: &str, rules: &[Rule]) -> Effect {
    Effect::Create(artifact(name, Body::Role(rules.to_vec())))
}

fn binding(name: &str, (kind, role): (RoleKind, &str), subject: Subject) -> Effect {
    let role = (kind, role.to_owned());
    Effect::Create(artifact(name, Body::Binding { role, subject }))
}

fn target(kind: ArtifactKind, name: &str, uid: &str) -> Target {
    Target {
        kind,
        namespace: "prod".to_owned(),
        name: name.to_owned(),
        uid: Some(uid.to_owned()),
    }
}

fn record(kind: ArtifactKind, name: &str, entitlement: &str) -> ArtifactRecord {
    ArtifactRecord {
        kind,
        namespace: "prod".to_owned(),
        name: name.to_owned(),
        entitlement: entitlement.to_owned(),
        uid: None,
        enforced_by: Vec::new(),
    }
}

fn exec_rule() -> Rule {
    rule(&["create"], &["pods/exec"])
}

fn look_resolved() -> ResolvedEntitlement {
    ResolvedEntitlement {
        name: "look".to_owned(),
        role: Some(ResolvedRole {
            kind: RoleKind::ClusterRole,
            name: "view".to_owned(),
            uid: "uid-of-view".to_owned(),
            rules_hash: view().rules_hash().to_owned(),
        }),
        act_as: None,
        rules: Vec::new(),
    }
}

fn view() -> Arc<RoleFacts> {
    Arc::clone(&crate::core::fixtures::roles()[&(RoleKind::ClusterRole, "view".to_owned())])
}

fn exec_resolved() -> ResolvedEntitlement {
    ResolvedEntitlement {
        name: "exec".to_owned(),
        role: None,
        act_as: None,
        rules: vec![exec_rule()],
    }
}

fn activated(entitlements: &[ResolvedEntitlement]) -> Effect {
    Effect::Announce(Announcement::Activated {
        subject: Some(alice()),
        access: entitlements
            .iter()
            .map(|entitlement| GivenAccess::of(entitlement.clone(), &crate::core::fixtures::roles()))
            .collect(),
        expires_at: end(),
    })
}

/// The status that a plan records first.
fn intent(plan: &Plan) -> AccessGrantStatus {
    match &plan.stages[0][0] {
        Effect::Intend(status) => status.as_ref().clone(),
        other => panic!("{other:?} comes before the intent"),
    }
}

fn nothing_before(wake: Timestamp) -> Plan {
    Plan::wait_until(wake)
}

fn ended_as(cause: RevocationCause, message: &str, due: Timestamp) -> Ending {
    Ending {
        cause,
        message: message.to_owned(),
        by: None,
        due,
        was_active: true,
    }
}

fn tell_and_record(ending: Ending) -> [Vec<Effect>; 2] {
    [
        vec![Effect::Announce(Announcement::Ended(ending.clone()))],
        vec![Effect::RecordEnded(ending)],
    ]
}

/// The end of [`active`] while everything stands as it was made.
fn revocation(ending: Ending) -> Plan {
    let look = target(ArtifactKind::RoleBinding, LOOK, "uid-4");
    let exec = target(ArtifactKind::RoleBinding, EXEC, "uid-5");
    let exec_role = target(ArtifactKind::Role, EXEC, "uid-3");
    let [tell, record] = tell_and_record(ending);
    Plan {
        stages: vec![
            vec![Effect::Delete(look.clone()), Effect::Delete(exec.clone())],
            vec![
                Effect::Delete(target(ArtifactKind::Job, LOOK, "uid-1")),
                Effect::Delete(target(ArtifactKind::Job, EXEC, "uid-2")),
                Effect::Delete(exec_role.clone()),
            ],
            vec![Effect::ProveAbsent(vec![look, exec_role, exec])],
            tell,
            record,
        ],
        wake: None,
    }
}

/// How a plan ends the grant.
fn ending_of(plan: &Plan) -> &Ending {
    match plan.stages.last().map(Vec::as_slice) {
        Some([Effect::RecordEnded(ending)]) => ending,
        other => panic!("it does not end the grant but: {other:?}"),
    }
}

/// Why a plan denies the grant; it must do nothing else.
fn denial(situation: &Situation) -> (&'static str, String) {
    let plan = situation.plan();
    let [tell, record] = plan.stages.as_slice() else {
        panic!("it does not deny: {plan:?}");
    };
    assert_eq!(plan.wake, None);
    let [Effect::Announce(Announcement::Denied { reason, message })] = tell.as_slice() else {
        panic!("it does not tell of a denial: {plan:?}");
    };
    let [Effect::Record(status)] = record.as_slice() else {
        panic!("it does not record a denial: {plan:?}");
    };
    let accepted = &status.conditions[0];
    assert_eq!(
        (
            &*accepted.type_,
            &*accepted.status,
            &*accepted.reason,
            &accepted.message
        ),
        ("Accepted", "False", *reason, message)
    );
    assert!(status.ended_at.is_some());
    (reason, message.clone())
}

// Asking.

#[test]
fn a_role_is_given_by_an_intent_beside_a_fuse_then_a_binding() {
    let plan = asked().plan();
    let status = intent(&plan);
    let access = status.resolved.clone().unwrap();
    let making = "the access is being made";
    assert_eq!(
        status,
        AccessGrantStatus {
            observed_generation: Some(1),
            conditions: vec![
                condition("Active", "False", "Activating", making),
                condition("Reconciling", "True", "Activating", making),
            ],
            subject: Some(alice()),
            resolved: Some(ResolvedAccess {
                hash: access.hash,
                policy_generation: 3,
                duration: "30m".to_owned(),
                fuse: FuseDemand::Preferred,
                entitlements: vec![look_resolved()],
            }),
            approvals: Vec::new(),
            activated_at: None,
            expires_at: Some(MicroTime(end())),
            ended_at: None,
            artifacts: vec![
                record(ArtifactKind::Job, LOOK, "look"),
                record(ArtifactKind::RoleBinding, LOOK, "look"),
            ],
            enforced_by: String::new(),
            revocation: None,
        }
    );
    assert_eq!(
        plan,
        Plan {
            stages: vec![
                vec![Effect::Intend(Box::new(status)), fuse(LOOK, 1801)],
                vec![binding(LOOK, (RoleKind::ClusterRole, "view"), alice())],
                vec![activated(&[look_resolved()])],
                vec![awaited(&[LOOK])],
                vec![Effect::RecordActive],
            ],
            wake: Some(soon()),
        }
    );
}

#[test]
fn rules_are_given_by_a_role_of_their_own_between_fuse_and_binding() {
    let plan = asked_for_both().plan();
    let status = intent(&plan);
    assert_eq!(
        status.artifacts,
        [
            record(ArtifactKind::Job, LOOK, "look"),
            record(ArtifactKind::RoleBinding, LOOK, "look"),
            record(ArtifactKind::Job, EXEC, "exec"),
            record(ArtifactKind::Role, EXEC, "exec"),
            record(ArtifactKind::RoleBinding, EXEC, "exec"),
        ]
    );
    assert_eq!(
        plan,
        Plan {
            stages: vec![
                vec![
                    Effect::Intend(Box::new(status)),
                    fuse(LOOK, 1801),
                    fuse(EXEC, 1801)
                ],
                vec![role(EXEC, &[exec_rule()])],
                vec![
                    binding(LOOK, (RoleKind::ClusterRole, "view"), alice()),
                    binding(EXEC, (RoleKind::Role, EXEC), alice()),
                ],
                vec![activated(&[look_resolved(), exec_resolved()])],
                vec![awaited(&[LOOK, EXEC])],
                vec![Effect::RecordActive],
            ],
            wake: Some(soon()),
        }
    );
}

/// Alice asks for the role author, with which tokens are made, and for rules with which Secrets are written.
fn asked_for_what_outlasts() -> Situation {
    let lasting = policy().with(|spec| {
        spec.entitlements[0] = role_entitlement("look", "author");
        let rules = spec.entitlements[1].rules.as_mut().unwrap();
        rules.items[0].resources = vec!["secrets".to_owned()];
    });
    Situation::of(grant("pay-123").asking_for(&["look", "exec"]), &lasting)
}

fn marker(name: &str) -> Effect {
    binding(
        &format!("{name}-elevated"),
        (RoleKind::ClusterRole, "curfew-elevated"),
        alice(),
    )
}

#[test]
fn what_could_outlast_the_access_is_marked_before_there_is_access() {
    let plan = asked_for_what_outlasts().plan();
    let status = intent(&plan);
    let marked = |name: &str, entitlement: &str| {
        record(
            ArtifactKind::RoleBinding,
            &format!("{name}-elevated"),
            entitlement,
        )
    };
    assert_eq!(
        status.artifacts,
        [
            record(ArtifactKind::Job, LOOK, "look"),
            marked(LOOK, "look"),
            record(ArtifactKind::RoleBinding, LOOK, "look"),
            record(ArtifactKind::Job, EXEC, "exec"),
            record(ArtifactKind::Role, EXEC, "exec"),
            marked(EXEC, "exec"),
            record(ArtifactKind::RoleBinding, EXEC, "exec"),
        ]
    );
    assert_eq!(
        plan.stages[..3],
        [
            vec![
                Effect::Intend(Box::new(status)),
                fuse(LOOK, 1801),
                fuse(EXEC, 1801)
            ],
            vec![
                marker(LOOK),
                role(EXEC, &[rule(&["create"], &["secrets"])]),
                marker(EXEC)
            ],
            vec![
                binding(LOOK, (RoleKind::ClusterRole, "author"), alice()),
                binding(EXEC, (RoleKind::Role, EXEC), alice()),
            ],
        ]
    );
}

#[test]
fn the_mark_of_what_could_outlast_the_access_goes_after_it() {
    let over = asked_for_what_outlasts().pass().after(HALF_AN_HOUR).plan();
    let of = |kind, name: &str, suffix: &str, uid: &str| target(kind, &format!("{name}{suffix}"), uid);
    let look = target(ArtifactKind::RoleBinding, LOOK, "uid-6");
    let exec = target(ArtifactKind::RoleBinding, EXEC, "uid-7");
    let look_mark = of(ArtifactKind::RoleBinding, LOOK, "-elevated", "uid-3");
    let exec_role = target(ArtifactKind::Role, EXEC, "uid-4");
    let exec_mark = of(ArtifactKind::RoleBinding, EXEC, "-elevated", "uid-5");
    assert_eq!(
        over.stages[..3],
        [
            vec![Effect::Delete(look.clone()), Effect::Delete(exec.clone())],
            vec![
                Effect::Delete(target(ArtifactKind::Job, LOOK, "uid-1")),
                Effect::Delete(look_mark.clone()),
                Effect::Delete(target(ArtifactKind::Job, EXEC, "uid-2")),
                Effect::Delete(exec_role.clone()),
                Effect::Delete(exec_mark.clone()),
            ],
            vec![Effect::ProveAbsent(vec![
                look_mark, look, exec_role, exec_mark, exec
            ])],
        ]
    );
    assert_eq!(
        over.stages[1][1].precedence(),
        crate::core::Precedence::Record,
        "its going ends no access"
    );
}

#[test]
fn access_whose_mark_somebody_else_takes_ends() {
    let unmarked = asked_for_what_outlasts().pass().but(|it| {
        it.lose(ArtifactKind::RoleBinding, &format!("{LOOK}-elevated"));
    });
    let plan = unmarked.plan();
    let ending = ending_of(&plan);
    assert_eq!(ending.cause, RevocationCause::ArtifactChanged);
    assert_eq!(
        ending.message,
        format!("RoleBinding {LOOK}-elevated was deleted by somebody else")
    );
}

#[test]
fn a_role_that_comes_to_allow_what_outlasts_the_access_ends_it_even_where_the_policy_keeps_it() {
    let keeps = policy().with(|spec| {
        spec.entitlements[0].role.as_mut().unwrap().on_change = OnChange::Keep;
    });
    let tokens = rule(&["create"], &["serviceaccounts/token"]);
    let grown = Situation::of(grant("pay-123"), &keeps)
        .pass()
        .but(|it| set_view(it, "uid-of-view", std::slice::from_ref(&tokens)));
    let plan = grown.plan();
    let ending = ending_of(&plan);
    assert_eq!(ending.cause, RevocationCause::RoleChanged);
    assert_eq!(
        ending.message,
        "the rules of role view now allow to make what outlasts the access"
    );

    // Where it was marked from its beginning nothing is unguarded.
    let marked = Situation::of(grant("pay-123"), &keeps)
        .but(|it| set_view(it, "uid-of-view", std::slice::from_ref(&tokens)))
        .pass()
        .but(|it| set_view(it, "uid-of-view", &[tokens.clone(), rule(&["get"], &["pods"])]));
    assert_eq!(marked.plan(), nothing_before(end()));
}

#[test]
fn a_narrowed_request_gets_only_the_objects_it_names() {
    let situation = Situation::of(
        grant("pay-123").asking_for_objects("exec", &["api-1", "api-0"]),
        &policy(),
    );
    assert_eq!(
        situation.plan().stages[1],
        [role(EXEC, &[named(exec_rule(), &["api-0", "api-1"])])]
    );
}

#[test]
fn the_access_goes_to_the_subject_and_not_to_who_asks() {
    let robot = Subject::service_account("ci", "smoke-test");
    let situation = Situation::of(grant("pay-123").given_to(robot.clone()), &policy());
    let plan = situation.plan();
    assert_eq!(intent(&plan).subject, Some(robot.clone()));
    assert_eq!(
        plan.stages[1],
        [binding(LOOK, (RoleKind::ClusterRole, "view"), robot)]
    );
}

#[test]
fn the_end_is_the_earliest_of_duration_not_after_and_the_end_of_the_windows() {
    let office = || policy().open(&[Day::Tue], "08:00", "11:00");
    let hours = |hours| now().checked_add(SignedDuration::from_hours(hours)).unwrap();
    for (case, grant, policy, expected) in [
        ("the policy's default", grant("g"), policy(), end()),
        (
            "no default: its maximum",
            grant("g"),
            policy().with(|spec| spec.duration.default = None),
            hours(4),
        ),
        ("the duration", grant("g").lasting("1h"), office(), hours(1)),
        (
            "the duration before notAfter",
            grant("g").lasting("1h").until("2026-12-01T10:00:00.000001Z"),
            office(),
            hours(1),
        ),
        (
            "notAfter",
            grant("g").lasting("3h").until("2026-12-01T10:30:00+01:00"),
            office(),
            end(),
        ),
        (
            "the window's end",
            grant("g").lasting("3h").until("2026-12-01T11:00:01Z"),
            office(),
            hours(2),
        ),
    ] {
        let situation = Situation::of(grant, &policy);
        assert_eq!(
            intent(&situation.plan()).expires_at,
            Some(MicroTime(expected)),
            "{case}"
        );
        assert_eq!(situation.pass().plan(), nothing_before(expected), "{case}");
    }
}

#[test]
fn an_end_is_recorded_in_whole_microseconds_and_never_later_than_asked() {
    let situation = Situation::of(grant("g").until("2026-12-01T09:10:00.123456789Z"), &policy());
    assert_eq!(
        intent(&situation.plan()).expires_at,
        Some(MicroTime(at("2026-12-01T09:10:00.123456Z")))
    );
}

#[test]
fn an_end_within_the_present_microsecond_has_passed() {
    let situation = Situation::of(grant("g").until("2026-12-01T09:00:00.000000700Z"), &policy())
        .after(SignedDuration::from_nanos(500));
    assert_eq!(denial(&situation).0, reasons::NOT_AFTER_PASSED);
}

#[test]
fn a_fuse_never_burns_before_the_end() {
    for (late, expected) in [(0, 1801), (1, 1801), (999, 1801), (1000, 1800), (1_799_999, 2)] {
        let situation = recorded().after(SignedDuration::from_millis(late));
        assert_eq!(
            situation.plan().stages[0],
            [fuse(LOOK, expected), fuse(EXEC, expected)],
            "{late} ms"
        );
    }
}

#[test]
fn names_are_new_with_each_pass() {
    let plan = asked().but(|it| it.entropy = 8).plan();
    assert_eq!(
        intent(&plan).artifacts[0].name,
        "curfew-8048ec088b90aff7c152ab108f951b60"
    );
}

// Refusing.

#[test]
fn what_is_not_admitted_is_told_then_recorded_and_nothing_else() {
    let message = "spec.duration: 5h asked, at most 4h allowed by policy prod-debug";
    let situation = Situation::of(grant("pay-123").lasting("5h"), &policy());
    let status = AccessGrantStatus {
        observed_generation: Some(1),
        conditions: vec![
            condition("Accepted", "False", "DurationTooLong", message),
            condition("Active", "False", "Denied", message),
            condition("Ended", "True", "Denied", "never was in force"),
            condition("Ready", "False", "Denied", message),
            condition("Stalled", "True", "DurationTooLong", message),
        ],
        subject: Some(alice()),
        ended_at: Some(MicroTime(now())),
        ..AccessGrantStatus::default()
    };
    assert_eq!(
        situation.plan(),
        Plan {
            stages: vec![
                vec![Effect::Announce(Announcement::Denied {
                    reason: "DurationTooLong",
                    message: message.to_owned(),
                })],
                vec![Effect::Record(Box::new(status))],
            ],
            wake: None,
        }
    );
}

#[test]
fn refusals_beyond_the_request_itself_say_what_would_be_accepted() {
    let offers = |entitlement| policy().with(|spec| spec.entitlements = vec![entitlement]);
    let mut own_role = role_entitlement("look", "debug");
    own_role.role.as_mut().unwrap().kind = RoleKind::Role;
    let limited = |rivals: &[&str]| {
        let rivals = crate::core::fixtures::strings(rivals);
        asked().but(|it| it.rivals = rivals)
    };
    let cases: &[(&str, Situation, &str, &[&str])] = &[
        (
            "role missing",
            Situation::of(grant("g"), &offers(role_entitlement("look", "absent"))),
            reasons::ROLE_NOT_FOUND,
            &["spec.entitlements[look]: ", "ClusterRole absent does not exist"],
        ),
        (
            "role missing in the namespace",
            Situation::of(grant("g"), &offers(own_role)),
            reasons::ROLE_NOT_FOUND,
            &[
                "spec.entitlements[look]: ",
                "Role debug does not exist in this namespace",
            ],
        ),
        (
            "role with which more can be gained",
            Situation::of(grant("g"), &offers(role_entitlement("look", "maintain"))),
            reasons::ROLE_FORBIDDEN,
            &[
                "spec.entitlements[look]: ",
                "maintain can be used to gain more access",
                "* pods",
                "escalation: Allow",
            ],
        ),
        (
            "as many live grants as the policy allows",
            limited(&["dev/pay-7"]),
            reasons::LIMIT_REACHED,
            &[
                "user alice@example.com has 1 live grant under policy prod-debug",
                "(dev/pay-7)",
                "at most 1 allowed",
                "end one first",
            ],
        ),
        (
            "more live grants than the policy allows",
            limited(&["dev/pay-7", "prod/pay-8"]),
            reasons::LIMIT_REACHED,
            &[
                "has 2 live grants",
                "(dev/pay-7, prod/pay-8)",
                "at most 1 allowed",
            ],
        ),
        (
            "duration that is none",
            Situation::of(grant("g").lasting("1d"), &policy()),
            reasons::DURATION_INVALID,
            &["spec.duration: ", "\"1d\" is not a duration", "8h, 1h30m or 90s"],
        ),
        (
            "namespace gone",
            asked().but(|it| it.namespace = None),
            reasons::NAMESPACE_TERMINATING,
            &["metadata.namespace: ", "namespace prod is being deleted"],
        ),
    ];
    for (case, situation, reason, needles) in cases {
        let (given, message) = denial(situation);
        assert_eq!(given, *reason, "{case}: {message}");
        for needle in *needles {
            assert!(
                message.contains(needle),
                "{case}: {needle:?} is not in {message:?}"
            );
        }
    }
}

#[test]
fn a_role_with_which_more_can_be_gained_is_given_when_the_policy_says_so() {
    let mut knowingly = role_entitlement("look", "maintain");
    knowingly.role.as_mut().unwrap().escalation = Escalation::Allow;
    let policy = policy().with(|spec| spec.entitlements = vec![knowingly]);
    let plan = Situation::of(grant("pay-123"), &policy).plan();
    assert_eq!(
        plan.stages[1],
        [binding(LOOK, (RoleKind::ClusterRole, "maintain"), alice())]
    );
}

#[test]
fn a_limit_counts_the_others_only() {
    let policy = policy().with(|spec| spec.limits.active_per_subject = 2);
    let situation = Situation::of(grant("pay-123"), &policy).but(|it| it.rivals = vec!["prod/a".to_owned()]);
    assert_eq!(situation.plan().stages.last(), Some(&vec![Effect::RecordActive]));
}

#[test]
fn a_denied_request_is_over_and_stays_so() {
    let denied = Situation::of(grant("pay-123").lasting("5h"), &policy()).pass();
    let a_day_later = at("2026-12-02T09:00:00Z");
    assert_eq!(denied.plan(), nothing_before(a_day_later));
    // Also when it would be admitted now.
    let edited = policy().with(|spec| spec.duration.max = DurationText::from("8h"));
    assert_eq!(
        denied.but(|it| it.policy = edited.ready()).plan(),
        nothing_before(a_day_later)
    );
}

// Waiting for the policy.

fn absent() -> PolicyFacts {
    PolicyFacts::Absent {
        since: now(),
        why: "does not exist".to_owned(),
        text: None,
    }
}

fn unready(policy: Option<Policy>) -> PolicyFacts {
    PolicyFacts::Unready {
        since: now(),
        why: "ClusterRole view does not exist".to_owned(),
        policy: policy.map(Arc::new),
    }
}

#[test]
fn a_request_waits_five_seconds_for_its_policy_and_says_so_once() {
    let until = at("2026-12-01T09:00:05Z");
    for (facts, reason, message) in [
        (absent(), "PolicyNotFound", "policy prod-debug does not exist"),
        (
            unready(None),
            "PolicyNotReady",
            "policy prod-debug cannot be used: ClusterRole view does not exist",
        ),
        (
            unready(Some(policy().parsed())),
            "PolicyNotReady",
            "policy prod-debug cannot be used: ClusterRole view does not exist",
        ),
    ] {
        let waiting = asked().but(|it| it.policy = facts);
        let held = format!("spec.policyRef.name: {message}; waiting for it until 2026-12-01T09:00:05Z");
        let status = AccessGrantStatus {
            observed_generation: Some(1),
            conditions: vec![
                condition("Accepted", "Unknown", reason, &held),
                condition("Active", "False", "Pending", &held),
                condition("Ready", "False", "Pending", &held),
                condition("Reconciling", "True", reason, &held),
            ],
            ..AccessGrantStatus::default()
        };
        assert_eq!(
            waiting.plan(),
            Plan {
                stages: vec![vec![Effect::Record(Box::new(status))]],
                wake: Some(until),
            }
        );
        let waiting = waiting.pass();
        assert_eq!(waiting.plan(), nothing_before(until));
        let waiting = waiting.after(SignedDuration::from_millis(4_999));
        assert_eq!(waiting.plan(), nothing_before(until));
        let waiting = waiting.after(SignedDuration::from_millis(1));
        assert_eq!(
            denial(&waiting),
            (reason, format!("spec.policyRef.name: {message}"))
        );
    }
}

#[test]
fn a_request_older_than_the_absence_of_its_policy_waits_from_then_on() {
    let asked_at = at("2026-12-01T08:00:00Z");
    let waiting = asked().but(|it| {
        it.policy = absent();
        it.grant.metadata.creation_timestamp.as_mut().unwrap().0 = asked_at;
    });
    assert_eq!(waiting.plan().wake, Some(at("2026-12-01T09:00:05Z")));
}

#[test]
fn a_request_newer_than_the_absence_of_its_policy_waits_from_its_creation() {
    let waiting = asked().but(|it| {
        it.policy = PolicyFacts::Absent {
            since: at("2026-12-01T08:00:00Z"),
            why: "does not exist".to_owned(),
            text: None,
        };
    });
    assert_eq!(waiting.plan().wake, Some(at("2026-12-01T09:00:05Z")));
}

#[test]
fn a_request_that_waited_is_granted_as_any_other_once_the_policy_is_there() {
    let granted = asked_for_both()
        .but(|it| it.policy = absent())
        .pass()
        .after(seconds(2));
    let granted = granted.but(|it| it.policy = policy().ready());
    let plan = granted.plan();
    assert_eq!(
        intent(&plan).expires_at,
        Some(MicroTime(at("2026-12-01T09:30:02Z")))
    );
    assert_eq!(granted.pass().found.len(), 5);
}

#[test]
fn a_request_that_is_deleted_before_it_is_decided_is_left_alone() {
    let situation = Situation::of(grant("pay-123").being_deleted(), &policy());
    assert_eq!(situation.plan(), Plan::default());
}

// Crashes.

#[test]
fn after_a_crash_between_any_two_effects_exactly_the_rest_is_done() {
    let whole = asked_for_both().plan();
    let effects: Vec<Effect> = whole.stages.iter().flatten().cloned().collect();
    let telling = effects.len() - 3;
    for done in 1..=effects.len() {
        let mut crashed = asked_for_both();
        for effect in &effects[..done] {
            crashed.apply(effect).unwrap();
        }
        crashed.entropy = 8;
        // What was told and not recorded is told again, under the same Event name.
        let mut skipped = if done == effects.len() {
            done
        } else {
            done.min(telling)
        };
        let rest = whole.stages.iter().map(|stage| {
            let here = skipped.min(stage.len());
            skipped -= here;
            stage[here..].to_vec()
        });
        // Fuses that are lit are not waited for.
        let lit = done > telling + 1;
        let rest = rest.filter(|stage| !lit || !matches!(stage.as_slice(), [Effect::AwaitFuses(_)]));
        let wake = if lit { end() } else { soon() };
        assert_eq!(
            crashed.plan(),
            Plan::new(rest, Some(wake)),
            "after {done} effects"
        );
    }
}

#[test]
fn a_fuse_that_was_made_without_its_record_is_removed_by_the_next_pass() {
    let mut crashed = asked();
    let fuse = crashed.plan().stages[0][1].clone();
    crashed.apply(&fuse).unwrap();
    crashed.entropy = 8;
    let fresh = asked().but(|it| it.entropy = 8).plan();
    let removal = Effect::Delete(target(ArtifactKind::Job, LOOK, "uid-1"));
    // Not side by side this time: a write-ahead that always fails must not leave a fuse each time.
    let [intend, fuse] = fresh.stages[0].as_slice() else {
        panic!("{fresh:?}")
    };
    let mut apart = vec![vec![intend.clone()], vec![fuse.clone()]];
    apart.extend(fresh.stages[1..].iter().cloned());
    apart.push(vec![removal.clone()]);
    assert_eq!(crashed.plan(), Plan::new(apart, Some(soon())));

    let refused = crashed.clone().but(|it| it.policy = absent()).after(seconds(5));
    assert_eq!(refused.plan().stages.last(), Some(&vec![removal.clone()]));
    let deleted = crashed.but(|it| it.grant = it.grant.clone().being_deleted());
    assert_eq!(deleted.plan(), Plan::new([vec![removal]], None));
}

#[test]
fn a_fuse_that_goes_before_everything_is_made_is_made_again() {
    let mut crashed = recorded();
    for effect in crashed.plan().stages.iter().take(2).flatten() {
        crashed.apply(effect).unwrap();
    }
    crashed.lose(ArtifactKind::Job, EXEC);
    assert_eq!(crashed.plan().stages[0], [fuse(EXEC, 1801)]);
}

#[test]
fn a_plan_that_was_done_leaves_nothing_to_do() {
    assert_eq!(active().plan(), nothing_before(end()));
    assert_eq!(
        active().after(seconds(1800)).pass().plan(),
        nothing_before(at("2026-12-31T09:30:00Z"))
    );
}

#[test]
fn what_was_recorded_is_not_made_when_its_reasons_are_gone() {
    let unwanted = |situation: Situation| {
        let plan = situation.plan();
        let ending = ending_of(&plan);
        assert!(!ending.was_active);
        assert_eq!(ending.state(), reasons::FAILED);
        ending.cause
    };
    let edited = policy().with(|spec| {
        spec.on_policy_change = OnChange::Keep;
        spec.duration.max = DurationText::from("10m");
        spec.duration.default = None;
    });
    assert_eq!(
        unwanted(recorded().but(|it| it.policy = edited.ready())),
        RevocationCause::PolicyChanged
    );
    // An operator that takes over has judged no policy when it looks first: that is waited for, and nothing made.
    for (policy, cause) in [
        (absent(), RevocationCause::PolicyDeleted),
        (unready(None), RevocationCause::PolicyChanged),
    ] {
        let without = recorded().but(|it| it.policy = policy);
        assert_eq!(without.plan(), nothing_before(now() + seconds(5)));
        assert_eq!(unwanted(without.after(seconds(5))), cause);
    }
    assert_eq!(
        unwanted(recorded().but(|it| it.roles.clear())),
        RevocationCause::RoleChanged
    );
    let keeps = policy().with(|spec| {
        spec.entitlements[0].role.as_mut().unwrap().on_change = OnChange::Keep;
    });
    assert_eq!(
        unwanted(recorded().but(|it| {
            it.roles.clear();
            it.policy = keeps.ready();
        })),
        RevocationCause::RoleChanged
    );
}

// Ending.

#[test]
fn at_its_end_access_is_revoked_bindings_first_and_proven_absent_before_it_is_recorded() {
    let just_before = active().after(SignedDuration::from_micros(1_799_999_999));
    assert_eq!(just_before.plan(), nothing_before(end()));
    let message = "the end was reached at 2026-12-01T09:30:00Z";
    let over = just_before.after(SignedDuration::from_micros(1));
    assert_eq!(
        over.plan(),
        revocation(ended_as(RevocationCause::DeadlineReached, message, end()))
    );
}

#[test]
fn whoever_does_not_lead_ends_what_is_due_and_does_nothing_else() {
    let over = active().after(HALF_AN_HOUR);
    assert_eq!(over.plan_end(), over.plan());
    assert_eq!(active().plan_end(), nothing_before(end()));
    let ended = over.pass();
    let orphaned = active().but(|it| it.grant = it.grant.clone().being_deleted());
    let drifted = active().but(|it| it.found.clear());
    let refused = asked().but(|it| it.policy = absent()).after(seconds(60));
    let cases = [
        ("nobody has decided it", asked(), Plan::default()),
        ("it would be refused", refused, Plan::default()),
        ("it is being made", recorded(), nothing_before(end())),
        ("it was deleted", orphaned, nothing_before(end())),
        ("what was made is gone", drifted, nothing_before(end())),
        (
            "its record was kept long enough",
            ended.after(seconds(10_000 * 3600)),
            Plan::default(),
        ),
    ];
    for (what, situation, wanted) in cases {
        assert_ne!(situation.plan(), wanted, "{what}: a leader would do the same");
        assert_eq!(situation.plan_end(), wanted, "{what}");
    }
}

#[test]
fn lag_counts_from_the_recorded_end_however_late_anybody_looks() {
    let over = active().after(seconds(1800 + 3600));
    assert_eq!(ending_of(&over.plan()).due, end());
    let revocation = over.pass().grant.at_present().revocation.unwrap();
    assert_eq!(revocation.lag_milliseconds, Some(3_600_000));
}

#[test]
fn the_end_of_what_was_recorded_and_never_made_removes_it_by_name() {
    let over = recorded().after(HALF_AN_HOUR);
    let by_name = |kind, name: &str| Target {
        kind,
        namespace: "prod".to_owned(),
        name: name.to_owned(),
        uid: None,
    };
    let ending = Ending {
        was_active: false,
        ..ended_as(
            RevocationCause::DeadlineReached,
            "the end was reached at 2026-12-01T09:30:00Z",
            end(),
        )
    };
    let [tell, record] = tell_and_record(ending);
    let bindings = [
        by_name(ArtifactKind::RoleBinding, LOOK),
        by_name(ArtifactKind::RoleBinding, EXEC),
    ];
    let role = by_name(ArtifactKind::Role, EXEC);
    assert_eq!(
        over.plan(),
        Plan {
            stages: vec![
                bindings.iter().cloned().map(Effect::Delete).collect(),
                vec![
                    Effect::Delete(by_name(ArtifactKind::Job, LOOK)),
                    Effect::Delete(by_name(ArtifactKind::Job, EXEC)),
                    Effect::Delete(role.clone()),
                ],
                vec![Effect::ProveAbsent(vec![
                    bindings[0].clone(),
                    role,
                    bindings[1].clone()
                ])],
                tell,
                record,
            ],
            wake: None,
        }
    );
}

fn of_binding(it: &mut Situation, edit: impl FnOnce(&mut Found)) {
    let found = it
        .found
        .iter_mut()
        .find(|found| (found.kind(), found.name.as_str()) == (ArtifactKind::RoleBinding, LOOK));
    edit(found.unwrap());
}

fn give_to(found: &mut Found, others: Option<Vec<Subject>>) {
    if let Content::Binding { subjects, .. } = &mut found.content {
        *subjects = others;
    }
}

fn bind(found: &mut Found, kind: RoleKind, name: &str) {
    if let Content::Binding { role, .. } = &mut found.content {
        *role = (kind, name.to_owned());
    }
}

type Change = fn(&mut Situation);

#[test]
fn whatever_somebody_else_changes_of_what_was_made_ends_the_access() {
    let cases: &[(&str, Change)] = &[
        ("RoleBinding {LOOK} was deleted by somebody else", |it| {
            it.lose(ArtifactKind::RoleBinding, LOOK);
        }),
        ("RoleBinding {LOOK} was replaced by somebody else", |it| {
            of_binding(it, |found| found.uid = "another".to_owned());
        }),
        ("RoleBinding {LOOK}: its subjects were changed", |it| {
            let both = vec![alice(), Subject::user("mallory")];
            of_binding(it, |found| give_to(found, Some(both)));
        }),
        ("RoleBinding {LOOK}: its subjects were changed", |it| {
            of_binding(it, |found| give_to(found, Some(Vec::new())));
        }),
        ("RoleBinding {LOOK}: its subjects were changed", |it| {
            of_binding(it, |found| give_to(found, None));
        }),
        ("RoleBinding {LOOK}: it binds another role", |it| {
            of_binding(it, |found| bind(found, RoleKind::ClusterRole, "admin"));
        }),
        ("RoleBinding {LOOK}: it binds another role", |it| {
            of_binding(it, |found| bind(found, RoleKind::Role, "view"));
        }),
        ("RoleBinding {LOOK} is no longer held by what holds it", |it| {
            of_binding(it, |found| found.owner = None);
        }),
        ("RoleBinding {LOOK} is no longer held by what holds it", |it| {
            of_binding(it, |found| found.owner = Some("uid-of-pay-123".to_owned()));
        }),
        ("RoleBinding {LOOK}: is being deleted by somebody else", |it| {
            of_binding(it, |found| found.deleting = true);
        }),
        ("Job {LOOK} was deleted by somebody else", |it| {
            it.lose(ArtifactKind::Job, LOOK);
        }),
        ("Job {LOOK} is no longer held by what holds it", |it| {
            it.found[0].owner = None;
        }),
        ("Job {LOOK}: is being deleted by somebody else", |it| {
            it.found[0].deleting = true;
        }),
        ("Job {EXEC} was replaced by somebody else", |it| {
            it.found[1].uid = "another".to_owned();
        }),
        ("Role {EXEC}: its rules were changed", |it| {
            it.found[2].content = Content::Role(vec![rule(&["create"], &["pods/exec", "secrets"])]);
        }),
        ("Role {EXEC} is no longer held by what holds it", |it| {
            it.found[2].owner = Some("uid-1".to_owned());
        }),
    ];
    for (message, change) in cases {
        let message = message.replace("{LOOK}", LOOK).replace("{EXEC}", EXEC);
        let changed = active().but(change);
        let plan = changed.plan();
        let expected = ended_as(RevocationCause::ArtifactChanged, &message, now());
        assert_eq!(*ending_of(&plan), expected);
        assert_eq!(expected.state(), reasons::REVOKED);
        let ended = changed.pass();
        assert_eq!(ended.found, [], "{message}");
        let drifted = ended
            .grant
            .at_present()
            .conditions
            .into_iter()
            .find(|it| it.type_ == "Drifted");
        assert_eq!(
            drifted,
            Some(condition("Drifted", "True", "ArtifactChanged", &message))
        );
    }
}

#[test]
fn what_was_replaced_is_removed_as_what_it_is_now() {
    let replaced = active().but(|it| of_binding(it, |found| found.uid = "another".to_owned()));
    assert_eq!(
        replaced.plan().stages[0],
        [
            Effect::Delete(target(ArtifactKind::RoleBinding, LOOK, "another")),
            Effect::Delete(target(ArtifactKind::RoleBinding, EXEC, "uid-5")),
        ]
    );
}

#[test]
fn what_carries_the_label_and_is_not_recorded_is_removed_and_the_access_stays() {
    let planted = |it: &mut Situation| {
        for (name, kind_of) in [("planted", 3), ("planted", 4)] {
            let copy = Found {
                name: name.to_owned(),
                uid: format!("planted-{kind_of}"),
                ..it.found[kind_of - 1].clone()
            };
            it.found.push(copy);
        }
    };
    let situation = active().but(planted);
    assert_eq!(
        situation.plan(),
        Plan {
            stages: vec![
                vec![Effect::Delete(target(
                    ArtifactKind::RoleBinding,
                    "planted",
                    "planted-4"
                ))],
                vec![Effect::Delete(target(ArtifactKind::Role, "planted", "planted-3"))],
            ],
            wake: Some(end()),
        }
    );
    assert_eq!(situation.pass().found, active().found);
    // At the end it goes with the rest, and its absence is proven too.
    let over = active().but(planted).after(HALF_AN_HOUR).plan();
    assert_eq!(over.stages[0].len(), 3);
    assert_eq!(
        over.stages[2],
        [Effect::ProveAbsent(vec![
            target(ArtifactKind::RoleBinding, LOOK, "uid-4"),
            target(ArtifactKind::Role, EXEC, "uid-3"),
            target(ArtifactKind::RoleBinding, EXEC, "uid-5"),
            target(ArtifactKind::Role, "planted", "planted-3"),
            target(ArtifactKind::RoleBinding, "planted", "planted-4"),
        ])]
    );
}

fn set_view(it: &mut Situation, uid: &str, rules: &[Rule]) {
    let facts = RoleFacts::new(uid, rules);
    it.roles
        .insert((RoleKind::ClusterRole, "view".to_owned()), Arc::new(facts));
}

#[test]
fn a_role_that_changes_ends_the_access_unless_the_policy_keeps_it() {
    let keeping = policy().with(|spec| {
        spec.entitlements[0].role.as_mut().unwrap().on_change = OnChange::Keep;
    });
    let view = [rule(&["get", "list", "watch"], &["pods", "services"])];
    let cases: &[(&str, Change)] = &[
        ("the rules of role view changed", |it| {
            set_view(it, "uid-of-view", &[rule(&["get"], &["pods", "secrets"])]);
        }),
        ("the rules of role view changed", |it| {
            set_view(it, "uid-of-view", &[rule(&["get"], &["pods"])]);
        }),
        ("role view was deleted and made again", |it| {
            set_view(
                it,
                "another",
                &[rule(&["get", "list", "watch"], &["pods", "services"])],
            );
        }),
        ("role view was deleted", |it| it.roles.clear()),
    ];
    for (message, change) in cases {
        assert_eq!(
            active().but(change).plan(),
            revocation(ended_as(RevocationCause::RoleChanged, message, now()))
        );
        let kept = active().but(change).but(|it| it.policy = keeping.ready());
        assert_eq!(kept.plan(), nothing_before(end()), "{message}");
        let gone = active().but(change).but(|it| it.policy = absent());
        assert_eq!(ending_of(&gone.plan()).cause, RevocationCause::RoleChanged);
    }
    let same = active().but(|it| set_view(it, "uid-of-view", &view));
    assert_eq!(same.plan(), nothing_before(end()));
}

#[test]
fn a_policy_that_would_refuse_the_grant_now_ends_it_unless_it_keeps_it() {
    type Edit = fn(&mut crate::api::AccessPolicySpec);
    let cases: &[(&str, Edit)] = &[
        (
            "spec.duration: 30m asked, at most 10m allowed by policy prod-debug",
            |spec| {
                spec.duration.max = DurationText::from("10m");
                spec.duration.default = None;
            },
        ),
        ("spec.entitlements[look]: policy prod-debug offers exec", |spec| {
            spec.entitlements.remove(0);
        }),
        (
            "entitlement exec: not offered: create pods/exec, for every object",
            |spec| {
                spec.entitlements[1].rules.as_mut().unwrap().items[0].resource_names =
                    vec!["api-0".to_owned()];
            },
        ),
        ("entitlement look is another one now", |spec| {
            spec.entitlements[0].role.as_mut().unwrap().name = "maintain".to_owned();
        }),
        ("entitlement look is another one now", |spec| {
            spec.entitlements[0].role = None;
            spec.entitlements[0].rules = spec.entitlements[1].rules.clone();
        }),
        (
            "spec.requester: alice@example.com may not ask under policy prod-debug; it lists user carol@example.com, \
             service account ci/deployer",
            |spec| {
                spec.requesters.remove(0);
            },
        ),
        (
            "metadata.namespace: policy prod-debug covers namespaces with env=dev; prod is not one of them",
            |spec| {
                spec.namespace_selector
                    .match_labels
                    .insert("env".to_owned(), "dev".to_owned());
            },
        ),
        (
            "spec.reason: \"PAY-123 checkout returns 500\" does not match the required pattern \"INC-[0-9]+\"",
            |spec| spec.reason.as_mut().unwrap().pattern = Some("INC-[0-9]+".to_owned()),
        ),
    ];
    for (message, edit) in cases {
        let edited = policy().with(edit);
        let whole = format!("policy prod-debug would refuse it now: {message}");
        let expected = revocation(ended_as(RevocationCause::PolicyChanged, &whole, now()));
        assert_eq!(active().but(|it| it.policy = edited.ready()).plan(), expected);
        // A policy that also lacks something in the cluster says the same.
        let lacking = unready(Some(edited.parsed()));
        assert_eq!(active().but(|it| it.policy = lacking).plan(), expected);
        let keeping = edited.with(|spec| spec.on_policy_change = OnChange::Keep);
        let kept = active().but(|it| it.policy = keeping.ready());
        assert_eq!(kept.plan(), nothing_before(end()), "{message}");
    }
}

#[test]
fn a_policy_that_no_longer_hands_out_what_gains_more_ends_the_access() {
    let offering = |escalation| {
        let mut entitlement = role_entitlement("look", "maintain");
        entitlement.role.as_mut().unwrap().escalation = escalation;
        policy().with(|spec| spec.entitlements = vec![entitlement])
    };
    let active = Situation::of(grant("pay-123"), &offering(Escalation::Allow)).pass();
    let edited = unready(Some(offering(Escalation::Refuse).parsed()));
    let plan = active.but(|it| it.policy = edited).plan();
    let ending = ending_of(&plan);
    assert_eq!(ending.cause, RevocationCause::PolicyChanged);
    assert!(
        ending
            .message
            .contains("maintain can be used to gain more access"),
        "{}",
        ending.message
    );
}

#[test]
fn an_edit_that_still_admits_the_grant_changes_nothing() {
    let edits: &[fn(&mut crate::api::AccessPolicySpec)] = &[
        |spec| spec.duration.default = Some(DurationText::from("5m")),
        |spec| spec.duration.max = DurationText::from("30m"),
        |spec| spec.entitlements[1].selection = Selection::Default,
        |spec| {
            let items = &mut spec.entitlements[1].rules.as_mut().unwrap().items;
            items[0].verbs.push("get".to_owned());
        },
        |spec| {
            spec.requesters.remove(1);
        },
        |spec| spec.retention = DurationText::from("1h"),
    ];
    for (position, edit) in edits.iter().enumerate() {
        let edited = policy().with(edit);
        let plan = active().but(|it| it.policy = edited.ready()).plan();
        assert_eq!(plan, nothing_before(end()), "edit {position}");
    }
    let lacking = active().but(|it| it.policy = unready(Some(policy().parsed())));
    assert_eq!(lacking.after(seconds(600)).plan(), nothing_before(end()));
}

#[test]
fn conditions_are_judged_until_the_access_is_in_force_and_not_after_it() {
    let closed = policy().demanding("never", "false", "nobody may");
    assert_eq!(
        active().but(|it| it.policy = closed.ready()).plan(),
        nothing_before(end())
    );
    let brief = policy().demanding("early", "now < timestamp('2026-12-01T09:00:01Z')", "come earlier");
    let begun = Situation::of(grant("pay-123"), &brief).pass();
    assert_eq!(begun.clone().after(seconds(600)).plan(), nothing_before(end()));
    // Recorded, but not made: the pass that was to make it died.
    let mut recorded = Situation::of(grant("pay-123"), &brief);
    let intent = recorded.plan().stages[0][0].clone();
    recorded.apply(&intent).unwrap();
    let ending = recorded.after(seconds(1)).plan();
    assert_eq!(
        ending_of(&ending).message,
        "policy prod-debug would refuse it now: spec: condition early of policy prod-debug is not met: come earlier"
    );
}

#[test]
fn windows_given_to_a_policy_end_live_access_when_they_close() {
    let closing = policy().open(&[], "08:00", "09:10");
    let edited = active().but(|it| it.policy = closing.ready());
    assert_eq!(edited.plan(), nothing_before(at("2026-12-01T09:10:00Z")));
    let plan = edited.after(seconds(600)).plan();
    assert_eq!(
        *ending_of(&plan),
        ended_as(
            RevocationCause::PolicyChanged,
            "policy prod-debug would refuse it now: metadata.creationTimestamp: no window of policy prod-debug is \
             open at 2026-12-01T09:10:00Z; the next opens at 2026-12-02T08:00:00Z",
            at("2026-12-01T09:10:00Z"),
        )
    );
    let keeping = closing.with(|spec| spec.on_policy_change = OnChange::Keep);
    let kept = active().but(|it| it.policy = keeping.ready()).after(seconds(600));
    assert_eq!(kept.plan(), nothing_before(end()));
}

#[test]
fn a_policy_that_is_gone_or_unreadable_ends_access_after_a_minute_and_not_before() {
    for (facts, cause, message) in [
        (
            absent(),
            RevocationCause::PolicyDeleted,
            "policy prod-debug does not exist",
        ),
        (
            unready(None),
            RevocationCause::PolicyChanged,
            "policy prod-debug cannot be used: ClusterRole view does not exist",
        ),
    ] {
        let a_minute_later = at("2026-12-01T09:01:00Z");
        let orphaned = active().but(|it| it.policy = facts);
        assert_eq!(orphaned.plan(), nothing_before(a_minute_later));
        let orphaned = orphaned.after(SignedDuration::from_millis(59_999));
        assert_eq!(orphaned.plan(), nothing_before(a_minute_later));
        let back = orphaned.clone().but(|it| it.policy = policy().ready());
        assert_eq!(back.after(seconds(60)).plan(), nothing_before(end()));
        let orphaned = orphaned.after(SignedDuration::from_millis(1));
        assert_eq!(
            orphaned.plan(),
            revocation(ended_as(cause, message, a_minute_later))
        );
    }
}

#[test]
fn the_end_of_a_grant_is_not_put_off_by_the_absence_of_its_policy() {
    let late = active().after(seconds(1790)).but(|it| {
        it.policy = PolicyFacts::Absent {
            since: it.now,
            why: "does not exist".to_owned(),
            text: None,
        };
    });
    assert_eq!(late.plan(), nothing_before(end()));
}

#[test]
fn a_deleted_grant_and_a_deleted_namespace_end_the_access() {
    let cases: &[(&str, Change)] = &[
        ("the grant was deleted", |it| {
            it.grant = it.grant.clone().being_deleted();
        }),
        ("the namespace is being deleted", |it| {
            it.namespace.as_mut().unwrap().terminating = true;
        }),
        ("the namespace is being deleted", |it| it.namespace = None),
    ];
    for (message, change) in cases {
        assert_eq!(
            active().but(change).plan(),
            revocation(ended_as(RevocationCause::GrantDeleted, message, now()))
        );
    }
}

#[test]
fn access_that_the_api_server_refuses_to_make_fails_and_what_was_made_goes() {
    let mut refused = recorded();
    for effect in refused.plan().stages.iter().take(2).flatten() {
        refused.apply(effect).unwrap();
    }
    let answer = "rolebindings.rbac.authorization.k8s.io is forbidden";
    refused = refused.refused(ArtifactKind::RoleBinding, "prod", LOOK, answer);
    let ending = Ending {
        was_active: false,
        ..ended_as(RevocationCause::RefusedByApiServer, answer, now())
    };
    assert_eq!(*ending_of(&refused.plan()), ending);
    let failed = refused.pass();
    assert_eq!(failed.found, []);
    let status = failed.grant.at_present();
    assert_eq!(
        status.conditions,
        [
            condition(
                "Accepted",
                "True",
                "PolicySatisfied",
                "the policy admits the request"
            ),
            condition("Active", "False", "Failed", answer),
            condition("Ended", "True", "RefusedByApiServer", answer),
            condition("Ready", "False", "Failed", answer),
            condition("Stalled", "True", "RefusedByApiServer", answer),
        ]
    );
    // What the API server said is over once it is recorded.
    assert_eq!(
        failed.but(|it| it.tried.refused.clear()).plan().stages,
        Vec::<Vec<Effect>>::new()
    );
}

#[test]
fn the_first_cause_in_a_fixed_order_is_the_one_recorded() {
    let mut all = active().but(|it| {
        it.grant = it.grant.clone().being_deleted();
        *it = it
            .clone()
            .refused(ArtifactKind::RoleBinding, "prod", LOOK, "forbidden");
        it.found.clear();
        it.roles.clear();
        it.policy = absent();
        it.now = end();
    });
    let causes: &[(RevocationCause, Change)] = &[
        (RevocationCause::DeadlineReached, |it| {
            it.now = at("2026-12-01T09:20:00Z");
        }),
        (RevocationCause::GrantDeleted, |it| {
            it.grant.metadata.deletion_timestamp = None;
        }),
        (RevocationCause::RefusedByApiServer, |it| it.tried.refused.clear()),
        (RevocationCause::ArtifactChanged, |it| it.found = active().found),
        (RevocationCause::RoleChanged, |it| it.roles = active().roles),
        (RevocationCause::PolicyDeleted, |it| it.policy = policy().ready()),
    ];
    for (cause, removed) in causes {
        assert_eq!(ending_of(&all.plan()).cause, *cause);
        removed(&mut all);
    }
    assert_eq!(all.plan(), nothing_before(end()));
}

// After the end.

#[test]
fn whatever_is_left_after_the_end_is_removed_bindings_first() {
    let over = active().after(HALF_AN_HOUR).pass();
    let left = over.clone().but(|it| it.found = active().found);
    let leftovers = [
        target(ArtifactKind::RoleBinding, LOOK, "uid-4"),
        target(ArtifactKind::RoleBinding, EXEC, "uid-5"),
    ];
    let rest = [
        target(ArtifactKind::Job, LOOK, "uid-1"),
        target(ArtifactKind::Job, EXEC, "uid-2"),
        target(ArtifactKind::Role, EXEC, "uid-3"),
    ];
    let removals = [
        leftovers.map(Effect::Delete).to_vec(),
        rest.map(Effect::Delete).to_vec(),
    ];
    let kept_until = at("2026-12-31T09:30:00Z");
    assert_eq!(left.plan(), Plan::new(removals.clone(), Some(kept_until)));
    let deleted = left.but(|it| it.grant = it.grant.clone().being_deleted());
    assert_eq!(deleted.plan(), Plan::new(removals, None));
}

#[test]
fn an_ended_grant_is_deleted_when_it_has_been_kept_long_enough_and_not_before() {
    let over = active().after(HALF_AN_HOUR).pass();
    let kept_until = at("2026-12-31T09:30:00Z");
    let almost = over.clone().but(|it| it.now = at("2026-12-31T09:29:59.999999Z"));
    assert_eq!(almost.plan(), nothing_before(kept_until));
    let then = over.clone().but(|it| it.now = kept_until);
    assert_eq!(then.plan(), Plan::new([vec![Effect::DeleteGrant]], None));

    // Not twice, and never before what it left is gone.
    let deleted = then.clone().but(|it| it.grant = it.grant.clone().being_deleted());
    assert_eq!(deleted.plan(), Plan::default());
    let left = then.clone().but(|it| it.found.push(active().found[3].clone()));
    assert_eq!(
        left.plan(),
        Plan::new(
            [vec![Effect::Delete(target(
                ArtifactKind::RoleBinding,
                LOOK,
                "uid-4"
            ))]],
            None
        )
    );
    let owned = then.but(|it| {
        it.grant.metadata.labels =
            Some([("argocd.argoproj.io/instance".to_owned(), "shop".to_owned())].into());
    });
    assert_eq!(owned.plan(), Plan::default());
}

#[test]
fn a_revoked_grant_is_kept_as_long_as_any_and_a_denied_one_for_a_day() {
    let revoked = active().but(|it| it.found.clear()).pass();
    assert_eq!(revoked.plan(), nothing_before(at("2026-12-31T09:00:00Z")));
    let denied = Situation::of(grant("g").lasting("5h"), &policy()).pass();
    assert_eq!(denied.plan(), nothing_before(at("2026-12-02T09:00:00Z")));
}

#[test]
fn ending_access_goes_before_making_it_and_that_before_bookkeeping() {
    use super::super::Precedence::{Begin, End, Record};
    let precedences = |plan: Plan| {
        let effects = plan.stages.into_iter().flatten();
        effects.map(|effect| effect.precedence()).collect::<Vec<_>>()
    };
    assert_eq!(
        precedences(asked_for_both().plan()),
        [Begin, Begin, Begin, Begin, Begin, Begin, Record, Record, Record]
    );
    assert_eq!(
        precedences(active().after(HALF_AN_HOUR).plan()),
        [End, End, Record, Record, Record, Record, Record, Record]
    );
}
