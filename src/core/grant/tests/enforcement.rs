use super::*;
use crate::core::testing::{at, now, seconds};

#[test]
fn a_fuse_is_lit_once_it_is_started_in_time_and_not_suspended() {
    let after = |count| now().checked_add(seconds(count)).ok();
    for (suspended, started, flame) in [
        (false, None, Flame::NotStarted),
        (false, after(0), Flame::Lit),
        (false, after(60), Flame::Lit),
        (false, after(61), Flame::Late { made: now() }),
        // The Job controller clears the start time of a suspended Job; the recorded one can still be there.
        (true, None, Flame::Suspended),
        (true, after(0), Flame::Suspended),
    ] {
        assert_eq!(Flame::of(suspended, Some(now()), started), flame, "{started:?}");
    }
    assert_eq!(Flame::of(false, None, Some(now())), Flame::Lit);
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

fn backstops(a: Option<Flame>, b: Option<Flame>) -> Backstops {
    let fuse =
        |name, flame: Option<Flame>| Some((ArtifactKey::from(&record(ArtifactKind::Job, name)), flame?));
    Backstops {
        flames: [fuse("curfew-a", a), fuse("curfew-b", b)]
            .into_iter()
            .flatten()
            .collect(),
        ..Backstops::default()
    }
}

#[test]
fn the_condition_reports_the_worst_fuse() {
    let lit = Some(Flame::Lit);
    for (a, b, reason) in [
        (lit, lit, "FuseLit"),
        (lit, Some(Flame::NotStarted), "FuseNotLit"),
        (Some(Flame::Suspended), Some(Flame::NotStarted), "FuseNotLit"),
        (Some(Flame::Late { made: now() }), lit, "FuseLate"),
        (lit, None, "FuseRefused"),
    ] {
        let fused = Fused::of(&status(), &backstops(a, b), now()).unwrap();
        assert_eq!(
            (fused.reason, fused.lit),
            (reason, reason == "FuseLit"),
            "{a:?} {b:?}"
        );
    }
    let suspended = Fused::of(&status(), &backstops(Some(Flame::Suspended), lit), now()).unwrap();
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
        ..backstops(Some(Flame::Lit), Some(Flame::NotStarted))
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
        ..backstops(None, Some(Flame::Lit))
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
    let untried = Fused::of(&status, &backstops(None, Some(Flame::Lit)), now()).unwrap();
    assert_eq!(untried.message, "quota: used 3");
}
