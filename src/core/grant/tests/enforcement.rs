use super::*;
use crate::core::testing::{at, now, seconds};

#[test]
fn a_fuse_is_lit_once_it_is_started_in_time_and_not_suspended() {
    let after = |count| now().checked_add(seconds(count)).ok();
    for (suspended, started, fuse_state) in [
        (false, None, FuseState::NotStarted),
        (false, after(0), FuseState::Lit),
        (false, after(60), FuseState::Lit),
        (false, after(61), FuseState::Late { made: now() }),
        // The Job controller clears the start time of a suspended Job; the recorded one can still be there.
        (true, None, FuseState::Suspended),
        (true, after(0), FuseState::Suspended),
    ] {
        assert_eq!(
            FuseState::of(suspended, Some(now()), started),
            fuse_state,
            "{started:?}"
        );
    }
    assert_eq!(FuseState::of(false, None, Some(now())), FuseState::Lit);
}

fn record(kind: ArtifactKind, name: &str) -> ArtifactRecord {
    ArtifactRecord {
        kind,
        namespace: "prod".to_owned(),
        name: name.to_owned(),
        entitlement: "look".to_owned(),
        uid: None,
        enforced_by: Vec::new(),
    }
}

/// Two entitlements, the second with an elevation marker.
fn status() -> AccessGrantStatus {
    AccessGrantStatus {
        artifacts: vec![
            record(ArtifactKind::Job, "curfew-a"),
            record(ArtifactKind::RoleBinding, "curfew-a"),
            record(ArtifactKind::Job, "curfew-b"),
            record(ArtifactKind::RoleBinding, "curfew-b-elevated"),
            record(ArtifactKind::RoleBinding, "curfew-b"),
        ],
        ..AccessGrantStatus::default()
    }
}

fn backstops(a: Option<FuseState>, b: Option<FuseState>) -> Backstops {
    let fuse = |name, fuse_state: Option<FuseState>| {
        Some((ArtifactKey::from(&record(ArtifactKind::Job, name)), fuse_state?))
    };
    Backstops {
        fuse_states: [fuse("curfew-a", a), fuse("curfew-b", b)]
            .into_iter()
            .flatten()
            .collect(),
        ..Backstops::default()
    }
}

#[test]
fn the_condition_reports_the_worst_fuse() {
    let lit = Some(FuseState::Lit);
    for (a, b, reason) in [
        (lit, lit, "FuseLit"),
        (lit, Some(FuseState::NotStarted), "FuseNotLit"),
        (
            Some(FuseState::Suspended),
            Some(FuseState::NotStarted),
            "FuseNotLit",
        ),
        (Some(FuseState::Late { made: now() }), lit, "FuseLate"),
        (lit, None, "FuseRefused"),
    ] {
        let fused = Fused::of(&status(), &backstops(a, b), now()).unwrap();
        assert_eq!(
            (fused.reason, fused.lit),
            (reason, reason == "FuseLit"),
            "{a:?} {b:?}"
        );
    }
    let suspended = Fused::of(&status(), &backstops(Some(FuseState::Suspended), lit), now()).unwrap();
    assert_eq!(
        suspended.message,
        "Job prod/curfew-a is suspended by someone, and does not end the access"
    );
    let mut without = status();
    without
        .artifacts
        .retain(|record| record.kind != ArtifactKind::Job);
    assert_eq!(Fused::of(&without, &Backstops::default(), now()), None);
}

#[test]
fn enforced_by_lists_the_layers_that_end_all_of_the_access() {
    let mut status = status();
    let backstops = Backstops {
        sweep_lives: true,
        ..backstops(Some(FuseState::Lit), Some(FuseState::NotStarted))
    };
    let enforced: Vec<_> = status
        .artifacts
        .iter()
        .map(|record| enforcers(record, &status.artifacts, &backstops))
        .collect();
    let (all, unfused) = (
        vec![Enforcer::Controller, Enforcer::Fuse, Enforcer::Sweep],
        vec![Enforcer::Controller, Enforcer::Sweep],
    );
    assert_eq!(
        enforced,
        [&all, &all, &unfused, &unfused, &unfused].map(Clone::clone)
    );
    for (record, enforced) in status.artifacts.iter_mut().zip(enforced) {
        record.enforced_by = enforced;
    }
    assert_eq!(common_enforcers(&status.artifacts), "Controller, Sweep");
    status.artifacts.truncate(2);
    assert_eq!(common_enforcers(&status.artifacts), "Controller, Fuse, Sweep");
}

#[test]
fn a_refused_fuse_keeps_its_first_message() {
    let mut status = status();
    let fuse = ArtifactKey::from(&record(ArtifactKind::Job, "curfew-a"));
    let refused = |words: &str| Backstops {
        refused: BTreeMap::from([(fuse.clone(), words.to_owned())]),
        ..backstops(None, Some(FuseState::Lit))
    };
    let fused = Fused::of(&status, &refused("quota: used 3"), now()).unwrap();
    assert_eq!(fused.message, "quota: used 3");
    assert!(fused.is_alarming(&status));
    status.conditions.push(crate::core::testing::condition(
        "Fused",
        "False",
        "FuseRefused",
        "quota: used 3",
    ));
    let again = Fused::of(&status, &refused("quota: used 4"), at("2026-12-01T09:10:00Z")).unwrap();
    assert!(again.is_said(&status) && !again.is_alarming(&status));
    let untried = Fused::of(&status, &backstops(None, Some(FuseState::Lit)), now()).unwrap();
    assert_eq!(untried.message, "quota: used 3");
}
