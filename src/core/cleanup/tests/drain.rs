use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde_json::json;

use super::*;
use crate::api::{AccessGrantStatus, ArtifactKind, MARKER_SUFFIX, NAME_PREFIX};
use crate::core::artifact::key::ArtifactKey;

const ARGO_CD: &str = "argocd.argoproj.io/hook-finalizer";

fn asked(name: &str, ends: Option<&str>) -> DrainedGrant {
    DrainedGrant {
        namespace: "prod".to_owned(),
        name: name.to_owned(),
        uid: format!("uid of {name}"),
        resource_version: None,
        ends: ends.map(|end| end.parse().unwrap()),
        over: false,
        deleting: false,
        finalizers: Vec::new(),
        by: "alice".to_owned(),
    }
}

fn made(kind: ArtifactKind, name: &str, not_after: Option<&str>) -> LabelledObject {
    LabelledObject {
        key: ArtifactKey {
            kind,
            namespace: "prod".to_owned(),
            name: name.to_owned(),
        },
        uid: format!("uid of {name}"),
        resource_version: Some("7".to_owned()),
        grant_uid: "grant".to_owned(),
        not_after: not_after.map(str::to_owned),
        finalizers: Vec::new(),
    }
}

fn names(grants: &[DrainedGrant]) -> Vec<&str> {
    grants.iter().map(|grant| grant.name.as_str()).collect()
}

#[test]
fn ended_grants_stay_and_waiting_grants_are_not_deleted_again() {
    for (over, deleting, finalizers, records, expected) in [
        (false, false, &[][..], false, "delete"),
        (false, false, &[REVOKE_FINALIZER], false, "delete"),
        (false, false, &[ARGO_CD], false, "delete"),
        (false, true, &[REVOKE_FINALIZER], false, "wait"),
        (false, true, &[ARGO_CD], false, "wait"),
        (true, false, &[], false, "keep"),
        (true, false, &[], true, "delete"),
        (true, false, &[ARGO_CD], false, "keep"),
        // It delays the deletion of its namespace and of the CRD; only the operator can release it.
        (true, false, &[REVOKE_FINALIZER], false, "wait"),
        (true, true, &[REVOKE_FINALIZER, ARGO_CD], true, "wait"),
    ] {
        let grant = DrainedGrant {
            over,
            deleting,
            finalizers: finalizers.iter().map(|&finalizer| finalizer.to_owned()).collect(),
            ..asked("one", None)
        };
        let draining = drain(
            vec![grant],
            Vec::new(),
            true,
            DrainOptions {
                records,
                ..DrainOptions::default()
            },
        );
        let what = match (draining.grants.len(), draining.waiting.len(), draining.records) {
            (1, 0, 0) => "delete",
            (0, 1, 0) => "wait",
            (0, 0, 1) => "keep",
            other => panic!("{other:?}"),
        };
        assert_eq!(what, expected, "over {over}, deleting {deleting}, {finalizers:?}");
        assert_eq!(draining.is_empty(), expected == "keep");
    }
}

#[test]
fn the_operators_finalizer_is_reported_before_others() {
    for (finalizers, expected) in [
        (&[][..], None),
        (&[ARGO_CD], Some(HeldBy::Others(vec![ARGO_CD.to_owned()]))),
        (&[ARGO_CD, REVOKE_FINALIZER], Some(HeldBy::Operator)),
    ] {
        let mut grant = asked("one", None);
        grant.finalizers = finalizers.iter().map(|&finalizer| finalizer.to_owned()).collect();
        assert_eq!(grant.held_by(), expected);
    }
}

#[test]
fn without_operator_releases_a_grant_without_artifacts() {
    let held = |over: bool, deleting: bool, finalizer: &str| DrainedGrant {
        over,
        deleting,
        finalizers: vec![finalizer.to_owned()],
        ..asked("one", None)
    };
    let mut binding = made(ArtifactKind::RoleBinding, "curfew-x", None);
    binding.grant_uid = "uid of one".to_owned();
    let others = made(ArtifactKind::RoleBinding, "curfew-y", None);
    for (grant, found, whole, without_operator, released) in [
        (held(false, true, REVOKE_FINALIZER), vec![], true, true, true),
        (
            held(true, false, REVOKE_FINALIZER),
            vec![others],
            true,
            true,
            true,
        ),
        // Not requested; an artifact is left; the list is incomplete; the grant is live; the finalizer is not Curfew's.
        (held(false, true, REVOKE_FINALIZER), vec![], true, false, false),
        (
            held(false, true, REVOKE_FINALIZER),
            vec![binding],
            true,
            true,
            false,
        ),
        (held(false, true, REVOKE_FINALIZER), vec![], false, true, false),
        (held(false, false, REVOKE_FINALIZER), vec![], true, true, false),
        (held(false, true, ARGO_CD), vec![], true, true, false),
    ] {
        let demands = DrainOptions {
            without_operator,
            ..DrainOptions::default()
        };
        let draining = drain(vec![grant.clone()], found, whole, demands);
        assert_eq!(draining.released.len() == 1, released, "{grant:?}");
        assert_eq!(
            draining.released.len() + draining.waiting.len() + draining.grants.len(),
            1,
            "{grant:?}"
        );
    }
}

#[test]
fn grants_are_deleted_earliest_end_first_then_without_access() {
    let draining = drain(
        vec![
            asked("pending", None),
            asked("late", Some("2026-01-01T13:00:00Z")),
            asked("early", Some("2026-01-01T12:00:00Z")),
            asked("before", Some("2026-01-01T12:00:00Z")),
        ],
        Vec::new(),
        true,
        DrainOptions::default(),
    );
    assert_eq!(names(&draining.grants), ["before", "early", "late", "pending"]);
}

#[test]
fn artifacts_are_removed_in_order_before_or_after_their_end() {
    let name = |number: u32| format!("{NAME_PREFIX}{number:032x}");
    let marker = format!("{}{MARKER_SUFFIX}", name(1));
    let (past, future) = (Some("2020-01-01T00:00:00Z"), Some("2999-01-01T00:00:00Z"));
    let draining = drain(
        Vec::new(),
        vec![
            made(ArtifactKind::Job, &name(1), future),
            made(ArtifactKind::Role, &name(1), future),
            made(ArtifactKind::RoleBinding, &marker, future),
            made(ArtifactKind::RoleBinding, &name(1), future),
            made(ArtifactKind::RoleBinding, &name(2), past),
            made(ArtifactKind::RoleBinding, "says-no-end", None),
        ],
        true,
        DrainOptions::default(),
    );
    let turns = draining
        .made
        .each_ref()
        .map(|turn| turn.iter().map(|what| what.key.name.as_str()).collect::<Vec<_>>());
    let (one, two) = (name(1), name(2));
    assert_eq!(
        turns,
        [
            vec!["says-no-end", two.as_str(), one.as_str()],
            vec![marker.as_str()],
            vec![one.as_str()],
            vec![one.as_str()],
        ]
    );
    assert_eq!(draining.len(), 6);
    let versions = |what: &LabelledObject| what.resource_version.is_none();
    assert!(
        draining.made.iter().flatten().all(versions),
        "what has changed goes as well"
    );
}

#[test]
fn drain_is_done_after_two_complete_empty_rounds() {
    let nothing = DrainRound::default();
    let some = DrainRound {
        found: 2,
        gone: 2,
        ..nothing
    };
    let unread = DrainRound { unread: 1, ..nothing };
    for (rounds, expected) in [
        (vec![nothing], NextRound::Look(QUIET_FOR)),
        (vec![nothing, nothing], NextRound::Done),
        (vec![some], NextRound::Look(AGAIN_AFTER)),
        (vec![some, nothing], NextRound::Look(QUIET_FOR)),
        (vec![some, nothing, nothing], NextRound::Done),
        (vec![nothing, some, nothing], NextRound::Look(QUIET_FOR)),
        (vec![nothing, unread], NextRound::Look(AGAIN_AFTER)),
        (vec![nothing, unread, nothing], NextRound::Look(QUIET_FOR)),
        // A failed read can succeed later, after any number of rounds.
        (vec![unread; 50], NextRound::Look(AGAIN_AFTER)),
    ] {
        let mut course = DrainProgress::default();
        let last = rounds.iter().map(|round| course.after(round)).last();
        assert_eq!(last, Some(expected), "{rounds:?}");
    }
}

#[test]
fn drain_gives_up_after_five_rounds_of_refusals_only() {
    let refused = |found, gone, refused, unread| DrainRound {
        found,
        gone,
        refused,
        unread,
    };
    for (round, gives_up) in [
        // Two of four lists.
        (refused(0, 0, 2, 0), true),
        (refused(3, 0, 3, 0), true),
        (refused(3, 0, 4, 0), true),
        // An object waits for the operator, was deleted, or could not be read for another reason.
        (refused(3, 0, 2, 0), false),
        (refused(3, 1, 2, 0), false),
        (refused(0, 0, 1, 1), false),
        (refused(3, 0, 0, 0), false),
    ] {
        let mut course = DrainProgress::default();
        let nexts: Vec<NextRound> = (0..5).map(|_| course.after(&round)).collect();
        let again = NextRound::Look(AGAIN_AFTER);
        assert_eq!(nexts[..4], [again; 4], "{round:?}");
        assert_eq!(nexts[4] == NextRound::GiveUp, gives_up, "{round:?}");
    }
    let mut course = DrainProgress::default();
    let mut next = NextRound::Done;
    for _ in 0..5 {
        for round in [refused(0, 0, 2, 0), refused(0, 0, 2, 0), refused(1, 1, 0, 0)] {
            next = course.after(&round);
        }
    }
    assert_eq!(next, NextRound::Look(AGAIN_AFTER), "in a row");
}

#[test]
fn new_requests_are_counted_by_requester_and_tool() {
    let by = |who: &str, name: &str| DrainedGrant {
        by: who.to_owned(),
        ..asked(name, None)
    };
    let mut new_requests = NewRequests::default();
    let round = |grants: Vec<DrainedGrant>| {
        drain(
            grants,
            Vec::new(),
            true,
            DrainOptions {
                records: true,
                ..DrainOptions::default()
            },
        )
    };
    new_requests.seen(&round(vec![by("alice", "first")]));
    assert!(new_requests.by().is_empty(), "it was there before");
    new_requests.seen(&round(vec![by("alice", "first"), by("robot", "again")]));
    new_requests.seen(&round(vec![by("robot", "again"), by("robot", "and-again")]));
    let over = DrainedGrant {
        over: true,
        ..by("carol", "record")
    };
    new_requests.seen(&round(vec![over]));
    assert_eq!(new_requests.by(), &BTreeMap::from([("robot".to_owned(), 2)]));
}

#[test]
fn drain_reads_the_fields_it_needs_from_a_grant() {
    let mut grant: AccessGrant = serde_json::from_value(json!({
        "apiVersion": "access.curfew.dev/v1alpha1", "kind": "AccessGrant",
        "metadata": {"name": "one", "namespace": "prod", "uid": "u", "finalizers": [REVOKE_FINALIZER],
            "managedFields": [{"manager": "argocd-controller"}]},
        "spec": {"policyRef": {"name": "p"}, "reason": "r", "requester": {"username": "alice", "groups": []}},
    }))
    .unwrap();
    let end: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
    let fresh = DrainedGrant {
        uid: "u".to_owned(),
        finalizers: vec![REVOKE_FINALIZER.to_owned()],
        by: "alice (kept by Argo CD)".to_owned(),
        ..asked("one", None)
    };
    assert_eq!(DrainedGrant::from(&grant), fresh);
    grant.status = Some(AccessGrantStatus {
        expires_at: Some(MicroTime(end)),
        ended_at: Some(MicroTime(end)),
        ..AccessGrantStatus::default()
    });
    grant.spec.requester = None;
    grant.metadata.managed_fields = None;
    let ended = DrainedGrant {
        ends: Some(end),
        over: true,
        by: "unknown requester".to_owned(),
        ..fresh
    };
    assert_eq!(DrainedGrant::from(&grant), ended);
}
