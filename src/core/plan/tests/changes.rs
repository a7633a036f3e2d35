//! Changes in the cluster while access is live.

use super::*;
use crate::api::reasons;
use crate::core::artifact::found::Found;

fn of_binding(situation: &mut Situation, edit: impl FnOnce(&mut Found)) {
    let found = situation
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

#[test]
fn any_change_to_an_artifact_by_someone_else_ends_the_access() {
    let cases: &[(&str, Change)] = &[
        ("RoleBinding {LOOK} was deleted by someone else", |situation| {
            situation.lose(ArtifactKind::RoleBinding, LOOK);
        }),
        ("RoleBinding {LOOK} was replaced by someone else", |situation| {
            of_binding(situation, |found| found.uid = "another".to_owned());
        }),
        ("RoleBinding {LOOK}: its subjects were changed", |situation| {
            let both = vec![alice(), Subject::user("mallory")];
            of_binding(situation, |found| give_to(found, Some(both)));
        }),
        ("RoleBinding {LOOK}: its subjects were changed", |situation| {
            of_binding(situation, |found| give_to(found, Some(Vec::new())));
        }),
        ("RoleBinding {LOOK}: its subjects were changed", |situation| {
            of_binding(situation, |found| give_to(found, None));
        }),
        ("RoleBinding {LOOK}: its role was changed", |situation| {
            of_binding(situation, |found| bind(found, RoleKind::ClusterRole, "admin"));
        }),
        ("RoleBinding {LOOK}: its role was changed", |situation| {
            of_binding(situation, |found| bind(found, RoleKind::Role, "view"));
        }),
        ("RoleBinding {LOOK} has lost its owner", |situation| {
            of_binding(situation, |found| found.owner = None);
        }),
        ("RoleBinding {LOOK} has lost its owner", |situation| {
            of_binding(situation, |found| found.owner = Some("uid-of-pay-123".to_owned()));
        }),
        (
            "RoleBinding {LOOK}: is being deleted by someone else",
            |situation| {
                of_binding(situation, |found| found.deleting = true);
            },
        ),
        ("Job {LOOK} was deleted by someone else", |situation| {
            situation.lose(ArtifactKind::Job, LOOK);
        }),
        ("Job {LOOK} has lost its owner", |situation| {
            situation.found[0].owner = None;
        }),
        ("Job {LOOK}: is being deleted by someone else", |situation| {
            situation.found[0].deleting = true;
        }),
        ("Job {EXEC} was replaced by someone else", |situation| {
            situation.found[1].uid = "another".to_owned();
        }),
        ("Role {EXEC}: its rules were changed", |situation| {
            situation.found[2].content = Content::Role(vec![rule(&["create"], &["pods/exec", "secrets"])]);
        }),
        ("Role {EXEC} has lost its owner", |situation| {
            situation.found[2].owner = Some("uid-1".to_owned());
        }),
    ];
    for (message, change) in cases {
        let message = message.replace("{LOOK}", LOOK).replace("{EXEC}", EXEC);
        let changed = active().but(change);
        let plan = changed.plan();
        let expected = ended_as(RevocationCause::ArtifactChanged, &message, now());
        assert_eq!(*ending_of(&plan), expected);
        assert_eq!(expected.state().as_str(), reasons::REVOKED);
        let ended = changed.pass();
        assert_eq!(ended.found, [], "{message}");
        let drifted = ended
            .grant
            .at_present()
            .conditions
            .into_iter()
            .find(|condition| condition.type_ == "Drifted");
        assert_eq!(
            drifted,
            Some(condition("Drifted", "True", "ArtifactChanged", &message))
        );
    }
}

#[test]
fn a_replaced_artifact_is_deleted_by_its_new_uid() {
    let replaced = active().but(|situation| of_binding(situation, |found| found.uid = "another".to_owned()));
    assert_eq!(
        replaced.plan().stages[0],
        [
            Effect::Delete(target(ArtifactKind::RoleBinding, LOOK, "another")),
            Effect::Delete(target(ArtifactKind::RoleBinding, EXEC, "uid-5")),
        ]
    );
}

#[test]
fn a_labelled_object_without_a_record_is_deleted_and_access_stays() {
    let planted = |situation: &mut Situation| {
        for (name, kind_of) in [("planted", 3), ("planted", 4)] {
            let copy = Found {
                name: name.to_owned(),
                uid: format!("planted-{kind_of}"),
                ..situation.found[kind_of - 1].clone()
            };
            situation.found.push(copy);
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
    // At the end it is deleted with the rest, and proven absent.
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

#[test]
fn a_changed_role_ends_the_access_unless_on_change_is_keep() {
    let keeping = policy().with(|spec| {
        spec.entitlements[0].role.as_mut().unwrap().on_change = OnChange::Keep;
    });
    let view = [rule(&["get", "list", "watch"], &["pods", "services"])];
    let cases: &[(&str, Change)] = &[
        ("the rules of role view changed", |situation| {
            set_view(situation, "uid-of-view", &[rule(&["get"], &["pods", "secrets"])]);
        }),
        ("the rules of role view changed", |situation| {
            set_view(situation, "uid-of-view", &[rule(&["get"], &["pods"])]);
        }),
        ("role view was deleted and created again", |situation| {
            set_view(
                situation,
                "another",
                &[rule(&["get", "list", "watch"], &["pods", "services"])],
            );
        }),
        ("role view was deleted", |situation| situation.roles.clear()),
    ];
    for (message, change) in cases {
        assert_eq!(
            active().but(change).plan(),
            revocation(ended_as(RevocationCause::RoleChanged, message, now()))
        );
        let kept = active()
            .but(change)
            .but(|situation| situation.policy = keeping.ready());
        assert_eq!(kept.plan(), nothing_before(end()), "{message}");
        let gone = active().but(change).but(|situation| situation.policy = absent());
        assert_eq!(ending_of(&gone.plan()).cause, RevocationCause::RoleChanged);
    }
    let same = active().but(|situation| set_view(situation, "uid-of-view", &view));
    assert_eq!(same.plan(), nothing_before(end()));
}

#[test]
fn a_policy_edit_that_denies_the_grant_ends_it_unless_it_says_keep() {
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
        ("entitlement look now grants something else", |spec| {
            spec.entitlements[0].role.as_mut().unwrap().name = "maintain".to_owned();
        }),
        ("entitlement look now grants something else", |spec| {
            spec.entitlements[0].role = None;
            spec.entitlements[0].rules = spec.entitlements[1].rules.clone();
        }),
        (
            "spec.requester: alice@example.com may not request access under policy prod-debug; its requesters are \
             user carol@example.com, service account ci/deployer",
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
        let whole = format!("policy prod-debug would deny it now: {message}");
        let expected = revocation(ended_as(RevocationCause::PolicyChanged, &whole, now()));
        assert_eq!(
            active().but(|situation| situation.policy = edited.ready()).plan(),
            expected
        );
        // The same for a policy that is not ready.
        let lacking = unready(Some(edited.parsed()));
        assert_eq!(
            active().but(|situation| situation.policy = lacking).plan(),
            expected
        );
        let keeping = edited.with(|spec| spec.on_policy_change = OnChange::Keep);
        let kept = active().but(|situation| situation.policy = keeping.ready());
        assert_eq!(kept.plan(), nothing_before(end()), "{message}");
    }
}

#[test]
fn forbidding_escalation_in_the_policy_ends_escalating_access() {
    let offering = |escalation| {
        let mut entitlement = role_entitlement("look", "maintain");
        entitlement.role.as_mut().unwrap().escalation = escalation;
        policy().with(|spec| spec.entitlements = vec![entitlement])
    };
    let active = Situation::of(grant("pay-123"), &offering(Escalation::Allow)).pass();
    let edited = unready(Some(offering(Escalation::Refuse).parsed()));
    let plan = active.but(|situation| situation.policy = edited).plan();
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
fn a_policy_edit_that_still_accepts_the_grant_changes_nothing() {
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
        let plan = active().but(|situation| situation.policy = edited.ready()).plan();
        assert_eq!(plan, nothing_before(end()), "edit {position}");
    }
    let lacking = active().but(|situation| situation.policy = unready(Some(policy().parsed())));
    assert_eq!(lacking.after(seconds(600)).plan(), nothing_before(end()));
}

#[test]
fn conditions_are_evaluated_until_access_is_active_and_not_later() {
    let closed = policy().demanding("never", "false", "nobody may");
    assert_eq!(
        active().but(|situation| situation.policy = closed.ready()).plan(),
        nothing_before(end())
    );
    let early = policy().demanding("early", "now < timestamp('2026-12-01T09:00:01Z')", "come earlier");
    let begun = Situation::of(grant("pay-123"), &early).pass();
    assert_eq!(begun.clone().after(seconds(600)).plan(), nothing_before(end()));
    // Recorded, but not made: a crash came after the write-ahead.
    let mut recorded = Situation::of(grant("pay-123"), &early);
    let intent = recorded.plan().stages[0][0].clone();
    recorded.apply(&intent).unwrap();
    let ending = recorded.after(seconds(1)).plan();
    assert_eq!(
        ending_of(&ending).message,
        "policy prod-debug would deny it now: spec: condition early of policy prod-debug is not met: come earlier"
    );
}

#[test]
fn a_window_added_to_a_policy_ends_live_access_when_it_closes() {
    let closing = policy().open(&[], "08:00", "09:10");
    let edited = active().but(|situation| situation.policy = closing.ready());
    assert_eq!(edited.plan(), nothing_before(at("2026-12-01T09:10:00Z")));
    let plan = edited.after(seconds(600)).plan();
    assert_eq!(
        *ending_of(&plan),
        ended_as(
            RevocationCause::PolicyChanged,
            "policy prod-debug would deny it now: metadata.creationTimestamp: no window of policy prod-debug is \
             open at 2026-12-01T09:10:00Z; the next opens at 2026-12-02T08:00:00Z",
            at("2026-12-01T09:10:00Z"),
        )
    );
    let keeping = closing.with(|spec| spec.on_policy_change = OnChange::Keep);
    let kept = active()
        .but(|situation| situation.policy = keeping.ready())
        .after(seconds(600));
    assert_eq!(kept.plan(), nothing_before(end()));
}

#[test]
fn a_missing_or_unreadable_policy_ends_access_after_60s() {
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
        let orphaned = active().but(|situation| situation.policy = facts);
        assert_eq!(orphaned.plan(), nothing_before(a_minute_later));
        let orphaned = orphaned.after(SignedDuration::from_millis(59_999));
        assert_eq!(orphaned.plan(), nothing_before(a_minute_later));
        let back = orphaned
            .clone()
            .but(|situation| situation.policy = policy().ready());
        assert_eq!(back.after(seconds(60)).plan(), nothing_before(end()));
        let orphaned = orphaned.after(SignedDuration::from_millis(1));
        assert_eq!(
            orphaned.plan(),
            revocation(ended_as(cause, message, a_minute_later))
        );
    }
}

#[test]
fn a_missing_policy_does_not_extend_the_access() {
    let late = active().after(seconds(1790)).but(|situation| {
        situation.policy = PolicyFacts::Absent {
            since: situation.now,
            why: "does not exist".to_owned(),
            text: None,
        };
    });
    assert_eq!(late.plan(), nothing_before(end()));
}

#[test]
fn a_deleted_grant_and_a_deleted_namespace_end_the_access() {
    let cases: &[(&str, Change)] = &[
        ("the grant was deleted", |situation| {
            situation.grant = situation.grant.clone().being_deleted();
        }),
        ("the namespace is being deleted", |situation| {
            situation.namespace.as_mut().unwrap().terminating = true;
        }),
        ("the namespace is being deleted", |situation| {
            situation.namespace = None;
        }),
    ];
    for (message, change) in cases {
        assert_eq!(
            active().but(change).plan(),
            revocation(ended_as(RevocationCause::GrantDeleted, message, now()))
        );
    }
}

#[test]
fn a_refused_creation_fails_the_grant_and_deletes_its_artifacts() {
    let mut refused = recorded();
    for effect in refused.plan().stages.iter().take(2).flatten() {
        refused.apply(effect).unwrap();
    }
    let answer = "rolebindings.rbac.authorization.k8s.io is forbidden";
    refused = refused.refused(ArtifactKind::RoleBinding, "prod", LOOK, answer);
    let ending = DueRevocation {
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
    // The refusal has no effect after it is recorded.
    assert_eq!(
        failed
            .but(|situation| situation.tried.refused.clear())
            .plan()
            .stages,
        Vec::<Vec<Effect>>::new()
    );
}

#[test]
fn the_first_cause_in_a_fixed_order_is_recorded() {
    let mut all = active().but(|situation| {
        situation.grant = situation.grant.clone().being_deleted();
        *situation = situation
            .clone()
            .refused(ArtifactKind::RoleBinding, "prod", LOOK, "forbidden");
        situation.found.clear();
        situation.roles.clear();
        situation.policy = absent();
        situation.now = end();
    });
    let causes: &[(RevocationCause, Change)] = &[
        (RevocationCause::DeadlineReached, |situation| {
            situation.now = at("2026-12-01T09:20:00Z");
        }),
        (RevocationCause::GrantDeleted, |situation| {
            situation.grant.metadata.deletion_timestamp = None;
        }),
        (RevocationCause::RefusedByApiServer, |situation| {
            situation.tried.refused.clear();
        }),
        (RevocationCause::ArtifactChanged, |situation| {
            situation.found = active().found;
        }),
        (RevocationCause::RoleChanged, |situation| {
            situation.roles = active().roles;
        }),
        (RevocationCause::PolicyDeleted, |situation| {
            situation.policy = policy().ready();
        }),
    ];
    for (cause, removed) in causes {
        assert_eq!(ending_of(&all.plan()).cause, *cause);
        removed(&mut all);
    }
    assert_eq!(all.plan(), nothing_before(end()));
}
