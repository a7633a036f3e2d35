//! Granting a request, and denying it.

use super::*;
use crate::api::reasons;

// Requests.

#[test]
fn a_role_is_granted_by_write_ahead_and_fuse_then_a_binding() {
    let plan = asked().plan();
    let status = intent(&plan);
    let access = status.resolved.clone().unwrap();
    let message = "the access is being made";
    assert_eq!(
        status,
        AccessGrantStatus {
            observed_generation: Some(1),
            conditions: vec![
                condition("Active", "False", "Activating", message),
                condition("Reconciling", "True", "Activating", message),
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
fn rules_get_a_role_of_their_own_between_fuse_and_binding() {
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

/// A request for access that allows persistence: the role author makes tokens, and the rules write Secrets.
fn asked_for_persistence() -> Situation {
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
fn access_that_allows_persistence_is_marked_before_it_is_given() {
    let plan = asked_for_persistence().plan();
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
fn the_elevation_marker_is_deleted_after_the_binding() {
    let over = asked_for_persistence().pass().after(HALF_AN_HOUR).plan();
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
        crate::core::plan::effect::Precedence::Record,
        "deleting a marker ends no access"
    );
}

#[test]
fn deleting_the_elevation_marker_ends_the_access() {
    let unmarked = asked_for_persistence().pass().but(|situation| {
        situation.lose(ArtifactKind::RoleBinding, &format!("{LOOK}-elevated"));
    });
    let plan = unmarked.plan();
    let ending = ending_of(&plan);
    assert_eq!(ending.cause, RevocationCause::ArtifactChanged);
    assert_eq!(
        ending.message,
        format!("RoleBinding {LOOK}-elevated was deleted by someone else")
    );
}

#[test]
fn a_role_that_gains_persistence_ends_the_access_despite_keep() {
    let keeps = policy().with(|spec| {
        spec.entitlements[0].role.as_mut().unwrap().on_change = OnChange::Keep;
    });
    let tokens = rule(&["create"], &["serviceaccounts/token"]);
    let grown = Situation::of(grant("pay-123"), &keeps)
        .pass()
        .but(|situation| set_view(situation, "uid-of-view", std::slice::from_ref(&tokens)));
    let plan = grown.plan();
    let ending = ending_of(&plan);
    assert_eq!(ending.cause, RevocationCause::RoleChanged);
    assert_eq!(
        ending.message,
        "the rules of role view now allow the subject to create objects that outlast the access"
    );

    // Access that was marked from its beginning is guarded already.
    let marked = Situation::of(grant("pay-123"), &keeps)
        .but(|situation| set_view(situation, "uid-of-view", std::slice::from_ref(&tokens)))
        .pass()
        .but(|situation| {
            set_view(
                situation,
                "uid-of-view",
                &[tokens.clone(), rule(&["get"], &["pods"])],
            );
        });
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
fn access_goes_to_the_subject_and_not_to_the_requester() {
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
fn access_expires_at_the_earliest_of_duration_not_after_and_window() {
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
fn expires_at_is_rounded_down_to_microseconds() {
    let situation = Situation::of(grant("g").until("2026-12-01T09:10:00.123456789Z"), &policy());
    assert_eq!(
        intent(&situation.plan()).expires_at,
        Some(MicroTime(at("2026-12-01T09:10:00.123456Z")))
    );
}

#[test]
fn a_not_after_within_this_microsecond_has_passed() {
    let situation = Situation::of(grant("g").until("2026-12-01T09:00:00.000000700Z"), &policy())
        .after(SignedDuration::from_nanos(500));
    assert_eq!(denial(&situation).0, reasons::NOT_AFTER_PASSED);
}

#[test]
fn a_fuse_never_expires_before_the_access() {
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
fn artifact_names_differ_between_attempts() {
    let plan = asked().but(|situation| situation.entropy = 8).plan();
    assert_eq!(
        intent(&plan).artifacts[0].name,
        "curfew-8048ec088b90aff7c152ab108f951b60"
    );
}

// Denials.

#[test]
fn a_denial_is_announced_then_recorded_and_makes_nothing() {
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
                vec![Effect::Announce(Transition::Denied {
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
fn refusals_say_what_would_be_accepted() {
    let offers = |entitlement| policy().with(|spec| spec.entitlements = vec![entitlement]);
    let mut own_role = role_entitlement("look", "debug");
    own_role.role.as_mut().unwrap().kind = RoleKind::Role;
    let limited = |rivals: &[&str]| {
        let rivals = crate::core::testing::strings(rivals);
        asked().but(|situation| situation.rivals = rivals)
    };
    let cases: &[(&str, Situation, &str, &[&str])] = &[
        (
            "the role does not exist",
            Situation::of(grant("g"), &offers(role_entitlement("look", "absent"))),
            reasons::ROLE_NOT_FOUND,
            &["spec.entitlements[look]: ", "ClusterRole absent does not exist"],
        ),
        (
            "the role does not exist in the namespace",
            Situation::of(grant("g"), &offers(own_role)),
            reasons::ROLE_NOT_FOUND,
            &[
                "spec.entitlements[look]: ",
                "Role debug does not exist in this namespace",
            ],
        ),
        (
            "the role is escalating",
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
            "not a duration",
            Situation::of(grant("g").lasting("1d"), &policy()),
            reasons::DURATION_INVALID,
            &["spec.duration: ", "\"1d\" is not a duration", "8h, 1h30m or 90s"],
        ),
        (
            "the namespace does not exist",
            asked().but(|situation| situation.namespace = None),
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
fn an_escalating_role_is_granted_if_the_policy_allows_it() {
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
fn the_limit_counts_other_grants_only() {
    let policy = policy().with(|spec| spec.limits.active_per_subject = 2);
    let situation = Situation::of(grant("pay-123"), &policy)
        .but(|situation| situation.rivals = vec!["prod/a".to_owned()]);
    assert_eq!(situation.plan().stages.last(), Some(&vec![Effect::RecordActive]));
}

#[test]
fn a_denied_request_stays_denied() {
    let denied = Situation::of(grant("pay-123").lasting("5h"), &policy()).pass();
    let a_day_later = at("2026-12-02T09:00:00Z");
    assert_eq!(denied.plan(), nothing_before(a_day_later));
    // The policy would accept it now.
    let edited = policy().with(|spec| spec.duration.max = DurationText::from("8h"));
    assert_eq!(
        denied.but(|situation| situation.policy = edited.ready()).plan(),
        nothing_before(a_day_later)
    );
}

// Crashes.

#[test]
fn after_a_crash_the_next_plan_is_exactly_the_rest() {
    let whole = asked_for_both().plan();
    let effects: Vec<Effect> = whole.stages.iter().flatten().cloned().collect();
    let announcement = effects.len() - 3;
    for done in 1..=effects.len() {
        let mut crashed = asked_for_both();
        for effect in &effects[..done] {
            crashed.apply(effect).unwrap();
        }
        crashed.entropy = 8;
        // An announcement without its record is repeated, under the same Event name.
        let mut skipped = if done == effects.len() {
            done
        } else {
            done.min(announcement)
        };
        let rest = whole.stages.iter().map(|stage| {
            let here = skipped.min(stage.len());
            skipped -= here;
            stage[here..].to_vec()
        });
        // The plan does not wait for lit fuses.
        let lit = done > announcement + 1;
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
fn a_fuse_without_a_record_is_deleted_by_the_next_plan() {
    let mut crashed = asked();
    let fuse = crashed.plan().stages[0][1].clone();
    crashed.apply(&fuse).unwrap();
    crashed.entropy = 8;
    let fresh = asked().but(|situation| situation.entropy = 8).plan();
    let removal = Effect::Delete(target(ArtifactKind::Job, LOOK, "uid-1"));
    // Not at the same time: a write-ahead that always fails must not leave a fuse each time.
    let [intend, fuse] = fresh.stages[0].as_slice() else {
        panic!("{fresh:?}")
    };
    let mut apart = vec![vec![intend.clone()], vec![fuse.clone()]];
    apart.extend(fresh.stages[1..].iter().cloned());
    apart.push(vec![removal.clone()]);
    assert_eq!(crashed.plan(), Plan::new(apart, Some(soon())));

    let refused = crashed
        .clone()
        .but(|situation| situation.policy = absent())
        .after(seconds(5));
    assert_eq!(refused.plan().stages.last(), Some(&vec![removal.clone()]));
    let deleted = crashed.but(|situation| situation.grant = situation.grant.clone().being_deleted());
    assert_eq!(deleted.plan(), Plan::new([vec![removal]], None));
}

#[test]
fn a_fuse_lost_during_activation_is_made_again() {
    let mut crashed = recorded();
    for effect in crashed.plan().stages.iter().take(2).flatten() {
        crashed.apply(effect).unwrap();
    }
    crashed.lose(ArtifactKind::Job, EXEC);
    assert_eq!(crashed.plan().stages[0], [fuse(EXEC, 1801)]);
}

#[test]
fn an_applied_plan_leaves_nothing_to_do() {
    assert_eq!(active().plan(), nothing_before(end()));
    assert_eq!(
        active().after(seconds(1800)).pass().plan(),
        nothing_before(at("2026-12-31T09:30:00Z"))
    );
}

#[test]
fn recorded_access_is_not_made_once_it_would_be_denied() {
    let unwanted = |situation: Situation| {
        let plan = situation.plan();
        let ending = ending_of(&plan);
        assert!(!ending.was_active);
        assert_eq!(ending.state().as_str(), reasons::FAILED);
        ending.cause
    };
    let edited = policy().with(|spec| {
        spec.on_policy_change = OnChange::Keep;
        spec.duration.max = DurationText::from("10m");
        spec.duration.default = None;
    });
    assert_eq!(
        unwanted(recorded().but(|situation| situation.policy = edited.ready())),
        RevocationCause::PolicyChanged
    );
    // A new leader has not checked the policies yet. Until then nothing is made.
    for (policy, cause) in [
        (absent(), RevocationCause::PolicyDeleted),
        (unready(None), RevocationCause::PolicyChanged),
    ] {
        let without = recorded().but(|situation| situation.policy = policy);
        assert_eq!(without.plan(), nothing_before(now() + seconds(5)));
        assert_eq!(unwanted(without.after(seconds(5))), cause);
    }
    assert_eq!(
        unwanted(recorded().but(|situation| situation.roles.clear())),
        RevocationCause::RoleChanged
    );
    let keeps = policy().with(|spec| {
        spec.entitlements[0].role.as_mut().unwrap().on_change = OnChange::Keep;
    });
    assert_eq!(
        unwanted(recorded().but(|situation| {
            situation.roles.clear();
            situation.policy = keeps.ready();
        })),
        RevocationCause::RoleChanged
    );
}
