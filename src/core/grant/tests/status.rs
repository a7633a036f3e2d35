use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, Time};
use serde_json::json;

use crate::api::{
    AccessGrant, AccessGrantStatus, ArtifactKind, ArtifactRecord, Enforcer, Revocation, RevocationCause,
    conditions, reasons,
};
use crate::core::artifact::fuse::FuseState;
use crate::core::artifact::key::ArtifactKey;
use crate::core::grant::enforcement::Backstops;
use crate::core::grant::revocation::DueRevocation;
use crate::core::grant::status::{Uids, active, denied, ended, held, replacement, says_the_same};
use crate::core::plan::effect::Effect;
use crate::core::request::refusal::{Refusal, Refusals};
use crate::core::testing::{Situation, at, condition, grant, now, policy, seconds};
use crate::core::time::timestamp::micro_time;

const LATER: &str = "2026-12-01T09:00:07Z";

fn later() -> Timestamp {
    at(LATER)
}

/// A new grant as the API server stores it, with the defaults of the schema.
fn created() -> AccessGrant {
    let mut created = grant("pay-123");
    let unknown = |type_: &str, status: &str| Condition {
        observed_generation: None,
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
        ..condition(type_, status, "Pending", "waiting for Curfew")
    };
    created.status = Some(AccessGrantStatus {
        conditions: vec![unknown("Active", "False"), unknown("Reconciling", "True")],
        ..AccessGrantStatus::default()
    });
    created
}

fn with(mut grant: AccessGrant, status: AccessGrantStatus) -> AccessGrant {
    grant.status = Some(status);
    grant
}

fn in_force() -> AccessGrant {
    Situation::of(created(), &policy()).pass().grant
}

fn recorded() -> AccessGrant {
    let situation = Situation::of(created(), &policy());
    let Effect::Intend(status) = situation.plan().stages[0][0].clone() else {
        panic!("nothing intended");
    };
    with(situation.grant, *status)
}

fn refused() -> Refusals {
    Refusal::new(
        reasons::DURATION_TOO_LONG,
        "spec.duration",
        "5h asked, at most 4h allowed",
    )
    .into()
}

fn ending(cause: RevocationCause, was_active: bool) -> DueRevocation {
    DueRevocation {
        cause,
        message: "someone did something".to_owned(),
        by: None,
        due: now(),
        was_active,
    }
}

const CAUSES: [RevocationCause; 7] = [
    RevocationCause::DeadlineReached,
    RevocationCause::ArtifactChanged,
    RevocationCause::RoleChanged,
    RevocationCause::PolicyChanged,
    RevocationCause::PolicyDeleted,
    RevocationCause::GrantDeleted,
    RevocationCause::RefusedByApiServer,
];

fn find<'a>(status: &'a AccessGrantStatus, type_: &str) -> Option<&'a Condition> {
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)
}

#[test]
fn a_condition_gets_a_new_time_only_if_its_status_changes() {
    let wanted = ("Active", "False", "Expired", "another message");
    let before = |type_, status| vec![condition(type_, status, "Pending", "a message")];
    for (case, previous, since) in [
        ("the same status", before("Active", "False"), now()),
        ("another status", before("Active", "True"), later()),
        ("another type", before("Ready", "False"), later()),
        ("none before", Vec::new(), later()),
        (
            "the default of the schema",
            created().at_present().conditions,
            later(),
        ),
    ] {
        let expected = Condition {
            last_transition_time: Time(since),
            observed_generation: Some(4),
            ..condition("Active", "False", "Expired", "another message")
        };
        assert_eq!(
            crate::core::conditions::condition(&previous, &wanted, Some(4), later()),
            expected,
            "{case}"
        );
    }
}

/// A lit fuse, and a sweep that renews its heartbeat.
fn lit() -> Backstops {
    let records = recorded().at_present().artifacts;
    Backstops {
        fuse_states: records
            .iter()
            .map(|record| (record.into(), FuseState::Lit))
            .collect(),
        refused: BTreeMap::new(),
        sweep_lives: true,
    }
}

#[test]
fn transition_times_are_the_times_of_changes_in_a_whole_life() {
    let active = active(&recorded(), &Uids::new(), &lit(), later(), later());
    let times = |status: &AccessGrantStatus| {
        let each = status.conditions.iter();
        each.map(|it| (it.type_.clone(), it.last_transition_time.0))
            .collect::<Vec<_>>()
    };
    let named = |list: &[(&str, Timestamp)]| {
        list.iter()
            .map(|(type_, at)| ((*type_).to_owned(), *at))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        times(&active),
        named(&[
            ("Accepted", later()),
            ("Active", later()),
            ("Ready", later()),
            ("Fused", later())
        ])
    );
    let end = at("2026-12-01T09:30:00Z");
    let over = ended(
        &with(recorded(), active),
        &ending(RevocationCause::DeadlineReached, true),
        end,
    );
    assert_eq!(
        times(&over),
        named(&[("Accepted", later()), ("Active", end), ("Ended", end)])
    );
}

#[test]
fn kstatus_tools_wait_while_reconciling_and_stop_at_stalled() {
    let held = held(&created(), reasons::POLICY_NOT_FOUND, "no policy", now());
    let waiting = [("held", held), ("activating", recorded().at_present())];
    for (case, status) in waiting {
        let reconciling = find(&status, "Reconciling").map(|it| it.status.as_str());
        assert_eq!(reconciling, Some("True"), "{case}");
        assert_eq!(find(&status, "Stalled"), None, "{case}");
        assert!(
            find(&status, "Ready").is_none_or(|ready| ready.status == "False"),
            "{case}"
        );
        assert_eq!(find(&status, "Ended"), None, "{case}");
    }
    let mut over = vec![(denied(&created(), None, &refused(), now()), "Denied")];
    for cause in CAUSES {
        for was_active in [true, false] {
            let ending = ending(cause, was_active);
            over.push((ended(&in_force(), &ending, later()), ending.state().as_str()));
        }
    }
    for (status, state) in &over {
        let fruitless = matches!(*state, "Denied" | "Failed");
        let stalled = find(status, "Stalled").map(|it| it.status.as_str());
        assert_eq!(stalled, fruitless.then_some("True"), "{state}");
        let ready = find(status, "Ready").map(|it| it.status.as_str());
        assert_eq!(ready, fruitless.then_some("False"), "{state}");
        assert_eq!(find(status, "Reconciling"), None, "{state}");
        assert_eq!(find(status, "Ended").unwrap().status, "True", "{state}");
        let active = find(status, "Active").unwrap();
        assert_eq!(
            (active.status.as_str(), active.reason.as_str()),
            ("False", *state)
        );
        assert!(status.ended_at.is_some());
    }
    let active = in_force().at_present();
    assert_eq!(find(&active, "Ready").unwrap().status, "True");
    for type_ in ["Reconciling", "Stalled", "Drifted"] {
        assert_eq!(find(&active, type_), None, "{type_}");
    }
}

#[test]
fn the_state_of_an_ended_grant_follows_its_cause() {
    use RevocationCause::{ArtifactChanged, DeadlineReached, GrantDeleted, RefusedByApiServer};
    for (cause, was_active, state, reason) in [
        (DeadlineReached, true, "Expired", "DeadlineReached"),
        (DeadlineReached, false, "Expired", "DeadlineReached"),
        (RefusedByApiServer, false, "Failed", "RefusedByApiServer"),
        (ArtifactChanged, true, "Revoked", "ArtifactChanged"),
        (ArtifactChanged, false, "Failed", "ArtifactChanged"),
        (RevocationCause::RoleChanged, true, "Revoked", "RoleChanged"),
        (RevocationCause::PolicyChanged, true, "Revoked", "PolicyChanged"),
        (RevocationCause::PolicyDeleted, true, "Revoked", "PolicyDeleted"),
        (RevocationCause::PolicyDeleted, false, "Failed", "PolicyDeleted"),
        (GrantDeleted, true, "Revoked", "GrantDeleted"),
    ] {
        let ending = ending(cause, was_active);
        assert_eq!(
            (ending.state().as_str(), ending.reason()),
            (state, reason),
            "{cause:?} {was_active}"
        );
    }
    for cause in CAUSES {
        let status = ended(&in_force(), &ending(cause, true), now());
        let drifted = find(&status, "Drifted").map(|it| it.status.as_str());
        assert_eq!(drifted, (cause == ArtifactChanged).then_some("True"), "{cause:?}");
    }
}

#[test]
fn an_active_status_has_the_end_and_the_artifact_uids() {
    let recorded = recorded();
    let records = recorded.at_present().artifacts;
    let [fuse, binding] = records.as_slice() else {
        panic!("{records:?}");
    };
    let uids = Uids::from([
        (fuse.into(), "fuse".to_owned()),
        // The same name, but another kind or namespace.
        (
            ArtifactKey {
                kind: ArtifactKind::Role,
                ..binding.into()
            },
            "role".to_owned(),
        ),
        (
            ArtifactKey {
                namespace: "curfew-identities".to_owned(),
                ..binding.into()
            },
            "elsewhere".to_owned(),
        ),
    ]);
    let since = at("2026-12-01T09:00:07.123456789Z");
    let status = active(&recorded, &uids, &lit(), since, later());
    let present = recorded.at_present();
    let until = "until 2026-12-01T09:30:00Z";
    let every = vec![Enforcer::Controller, Enforcer::Fuse, Enforcer::Sweep];
    let changed = |type_, status, reason, message| Condition {
        last_transition_time: Time(later()),
        ..condition(type_, status, reason, message)
    };
    assert_eq!(
        status,
        AccessGrantStatus {
            conditions: vec![
                changed(
                    "Accepted",
                    "True",
                    "PolicySatisfied",
                    "the policy admits the request"
                ),
                changed("Active", "True", "Active", until),
                changed("Ready", "True", "Active", until),
                changed(
                    "Fused",
                    "True",
                    "FuseLit",
                    "at the end Kubernetes itself removes the access"
                ),
            ],
            activated_at: Some(MicroTime(at("2026-12-01T09:00:07.123456Z"))),
            artifacts: vec![
                ArtifactRecord {
                    uid: Some("fuse".to_owned()),
                    enforced_by: every.clone(),
                    ..fuse.clone()
                },
                ArtifactRecord {
                    enforced_by: every,
                    ..binding.clone()
                },
            ],
            enforced_by: "Controller, Fuse, Sweep".to_owned(),
            ..present
        }
    );
}

#[test]
fn an_ended_status_keeps_the_record_and_has_the_lag() {
    let before = in_force();
    let status = ended(&before, &ending(RevocationCause::RoleChanged, true), later());
    assert_eq!(
        AccessGrantStatus {
            conditions: Vec::new(),
            ..status
        },
        AccessGrantStatus {
            conditions: Vec::new(),
            ended_at: Some(MicroTime(later())),
            revocation: Some(Revocation {
                cause: RevocationCause::RoleChanged,
                by: None,
                message: "someone did something".to_owned(),
                lag_milliseconds: Some(7000),
            }),
            ..before.at_present()
        }
    );
}

#[test]
fn long_messages_are_cut_and_short_ones_are_not() {
    let of_length = |length: usize| "ü".repeat(length);
    let clipped = |length: usize| format!("{}…", of_length(length - 1));
    for (given, expected) in [
        (of_length(1024), of_length(1024)),
        (of_length(1025), clipped(1024)),
        (of_length(100_000), clipped(1024)),
    ] {
        let ending = DueRevocation {
            message: given.clone(),
            ..ending(RevocationCause::RefusedByApiServer, false)
        };
        let over = ended(&recorded(), &ending, later());
        assert_eq!(over.revocation.as_ref().unwrap().message, expected);
        for type_ in ["Active", "Ended", "Ready", "Stalled"] {
            assert_eq!(find(&over, type_).unwrap().message, expected, "{type_}");
        }
        let held = held(&created(), reasons::POLICY_NOT_READY, &given, now());
        for type_ in ["Accepted", "Active", "Ready", "Reconciling"] {
            assert_eq!(find(&held, type_).unwrap().message, expected, "{type_}");
        }
    }
    let refusals = Refusal::new(reasons::LIMIT_REACHED, "f", of_length(2000)).into();
    let denied = denied(&created(), None, &refusals, now());
    assert_eq!(
        find(&denied, "Accepted").unwrap().message,
        format!("f: {}…", of_length(1020))
    );
}

#[test]
fn statuses_with_other_transition_times_say_the_same() {
    let held_at = |at| held(&created(), reasons::POLICY_NOT_FOUND, "no policy", at);
    assert!(says_the_same(&held_at(now()), &held_at(later())));
    let different = held(&created(), reasons::POLICY_NOT_FOUND, "another", now());
    assert!(!says_the_same(&held_at(now()), &different));
    let newer = AccessGrantStatus {
        observed_generation: Some(2),
        ..held_at(now())
    };
    assert!(!says_the_same(&held_at(now()), &newer));
    assert!(!says_the_same(&created().at_present(), &held_at(now())));
}

#[test]
fn a_replacement_has_the_version_and_the_whole_status() {
    let mut before = in_force();
    before.metadata.resource_version = Some("77".to_owned());
    before.metadata.labels = Some([("team".to_owned(), "payments".to_owned())].into());
    let mut after = before.at_present();
    after.ended_at = Some(MicroTime(later()));
    after.artifacts.clear();
    let sent = serde_json::to_value(replacement(&before, &after)).unwrap();
    assert_eq!(
        sent["metadata"],
        json!({
            "name": "pay-123", "namespace": "prod", "uid": "uid-of-pay-123", "resourceVersion": "77",
        })
    );
    assert_eq!(sent["status"], serde_json::to_value(&after).unwrap());
    assert_eq!(
        (&sent["kind"], &sent["apiVersion"]),
        (&json!("AccessGrant"), &json!("access.curfew.dev/v1alpha1"))
    );
}

#[test]
fn times_are_cut_to_microseconds() {
    for (given, expected) in [
        ("2026-12-01T09:00:00.123456999Z", "2026-12-01T09:00:00.123456Z"),
        ("2026-12-01T09:00:00.123456Z", "2026-12-01T09:00:00.123456Z"),
        ("2026-12-01T09:00:00Z", "2026-12-01T09:00:00Z"),
    ] {
        assert_eq!(micro_time(at(given)), MicroTime(at(expected)));
    }
    let soon = now().checked_add(seconds(1)).unwrap();
    assert!(micro_time(soon) > micro_time(now()));
}

#[test]
fn a_held_request_keeps_its_approved_condition() {
    let mut asked = created();
    let approved = condition(
        conditions::APPROVED,
        "Unknown",
        reasons::AWAITING_APPROVAL,
        "0 of 1 from team",
    );
    asked
        .status
        .get_or_insert_default()
        .conditions
        .push(approved.clone());
    let first = held(&asked, reasons::POLICY_NOT_FOUND, "no policy", now());
    assert!(first.conditions.contains(&approved), "{:?}", first.conditions);
    let waiting = with(asked, first.clone());
    assert_eq!(
        held(&waiting, reasons::POLICY_NOT_FOUND, "no policy", now()),
        first
    );
    let denied = denied(&waiting, None, &refused(), later());
    let approved = denied
        .conditions
        .iter()
        .find(|condition| condition.type_ == conditions::APPROVED)
        .unwrap();
    assert_eq!(
        (approved.status.as_str(), approved.reason.as_str()),
        ("False", reasons::DURATION_TOO_LONG)
    );
}
