//! Ending access, and the grant after its end.

use super::*;

// Ending.

#[test]
fn expired_access_is_deleted_and_proven_absent_before_the_record() {
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
fn a_follower_ends_expired_access_and_does_nothing_else() {
    let over = active().after(HALF_AN_HOUR);
    assert_eq!(over.plan_end(), over.plan());
    assert_eq!(active().plan_end(), nothing_before(end()));
    let ended = over.pass();
    let orphaned = active().but(|situation| situation.grant = situation.grant.clone().being_deleted());
    let drifted = active().but(|situation| situation.found.clear());
    let refused = asked()
        .but(|situation| situation.policy = absent())
        .after(seconds(60));
    let cases = [
        ("nobody has decided it", asked(), Plan::default()),
        ("it would be refused", refused, Plan::default()),
        ("it is being made", recorded(), nothing_before(end())),
        ("it was deleted", orphaned, nothing_before(end())),
        ("what was made is gone", drifted, nothing_before(end())),
        (
            "its retention has passed",
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
fn lag_counts_from_the_recorded_expiry_time() {
    let over = active().after(seconds(1800 + 3600));
    assert_eq!(ending_of(&over.plan()).due, end());
    let revocation = over.pass().grant.at_present().revocation.unwrap();
    assert_eq!(revocation.lag_milliseconds, Some(3_600_000));
}

#[test]
fn recorded_artifacts_without_a_uid_are_deleted_by_name() {
    let over = recorded().after(HALF_AN_HOUR);
    let by_name = |kind, name: &str| Target {
        kind,
        namespace: "prod".to_owned(),
        name: name.to_owned(),
        uid: None,
    };
    let ending = DueRevocation {
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

// After the end.

#[test]
fn leftovers_after_the_end_are_deleted_bindings_first() {
    let over = active().after(HALF_AN_HOUR).pass();
    let left = over.clone().but(|situation| situation.found = active().found);
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
    let deleted = left.but(|situation| situation.grant = situation.grant.clone().being_deleted());
    assert_eq!(deleted.plan(), Plan::new(removals, None));
}

#[test]
fn an_ended_grant_is_deleted_after_its_retention_and_not_before() {
    let over = active().after(HALF_AN_HOUR).pass();
    let kept_until = at("2026-12-31T09:30:00Z");
    let almost = over
        .clone()
        .but(|situation| situation.now = at("2026-12-31T09:29:59.999999Z"));
    assert_eq!(almost.plan(), nothing_before(kept_until));
    let then = over.clone().but(|situation| situation.now = kept_until);
    assert_eq!(then.plan(), Plan::new([vec![Effect::DeleteGrant]], None));

    // Not twice, and not before its leftovers are gone.
    let deleted = then
        .clone()
        .but(|situation| situation.grant = situation.grant.clone().being_deleted());
    assert_eq!(deleted.plan(), Plan::default());
    let left = then
        .clone()
        .but(|situation| situation.found.push(active().found[3].clone()));
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
    let owned = then.but(|situation| {
        situation.grant.metadata.labels =
            Some([("argocd.argoproj.io/instance".to_owned(), "shop".to_owned())].into());
    });
    assert_eq!(owned.plan(), Plan::default());
}

#[test]
fn a_revoked_grant_is_kept_for_its_retention_and_a_denied_one_for_a_day() {
    let revoked = active().but(|situation| situation.found.clear()).pass();
    assert_eq!(revoked.plan(), nothing_before(at("2026-12-31T09:00:00Z")));
    let denied = Situation::of(grant("g").lasting("5h"), &policy()).pass();
    assert_eq!(denied.plan(), nothing_before(at("2026-12-02T09:00:00Z")));
}

#[test]
fn revoking_precedes_granting_and_granting_precedes_bookkeeping() {
    use crate::core::plan::effect::Precedence::{Begin, End, Record};
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
