//! Tests of plans where fuses are required, refused, unlit, or not wanted.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::{ArtifactKind, ArtifactRecord, Enforcer, FuseDemand, RevocationCause, RoleKind, conditions};
use crate::core::artifact::fuse::FuseState;
use crate::core::artifact::key::ArtifactKey;
use crate::core::artifact::target::Target;
use crate::core::artifact::{Artifact, Body, GrantIdentity, Holder};
use crate::core::grant::transition::Transition;
use crate::core::plan::effect::{Effect, EffectKind as Kind, Plan};
use crate::core::testing::{Situation, act_as_entitlement, at, condition, grant, now, policy, seconds};

/// `curfew-` and the first half of SHA-256 over the entropy 7 (16 bytes, big endian) and the entitlement's name.
const LOOK: &str = "curfew-49dba82a029a4e89ad94f585403ddf58";
const EXEC: &str = "curfew-35afead27ce01937e44201d4c93e8640";
const NODES: &str = "curfew-2cb8fc8a0d5803ac2d528cfe6a81f732";

const QUOTA: &str = "create fuse: exceeded quota: no-jobs (403)";

fn end() -> Timestamp {
    at("2026-12-01T09:30:00Z")
}

/// A request for the role view under a policy with this `fuse`.
fn asked(demand: FuseDemand) -> Situation {
    Situation::of(grant("pay-123"), &policy().with(|spec| spec.fuse = demand))
}

/// The same request, while no Job controller runs.
fn without_job_controller(demand: FuseDemand) -> Situation {
    asked(demand).but(|situation| situation.nobody_lights = true)
}

/// The same request after a first plan whose fuse the API server refused.
fn without_fuse(demand: FuseDemand) -> Situation {
    let mut situation = asked(demand);
    let intent = situation.plan().stages[0][0].clone();
    situation.apply(&intent).unwrap();
    situation.refused(ArtifactKind::Job, "prod", LOOK, QUOTA)
}

/// The next reconcile, which has tried nothing yet.
fn next_reconcile(situation: Situation) -> Situation {
    situation.but(|situation| situation.tried = crate::core::facts::Tried::default())
}

fn key(kind: ArtifactKind, name: &str) -> ArtifactKey {
    ArtifactKey {
        kind,
        namespace: "prod".to_owned(),
        name: name.to_owned(),
    }
}

fn awaited() -> Effect {
    Effect::AwaitFuses(vec![key(ArtifactKind::Job, LOOK)])
}

fn binding(situation: &Situation, holder: Holder) -> Effect {
    Effect::Create(Artifact {
        grant: GrantIdentity::from(&situation.grant),
        namespace: "prod".to_owned(),
        name: LOOK.to_owned(),
        not_after: end(),
        holder,
        body: Body::Binding {
            role: (RoleKind::ClusterRole, "view".to_owned()),
            subject: crate::api::Subject::user("alice@example.com"),
        },
    })
}

fn fused_condition(situation: &Situation) -> Option<Condition> {
    let status = situation.grant.at_present();
    let mut conditions = status.conditions.into_iter();
    conditions.find(|condition| condition.type_ == conditions::FUSED)
}

fn unfused(plan: &Plan) -> Vec<(&'static str, bool)> {
    let effects = plan.stages.iter().flatten();
    effects
        .filter_map(|effect| match effect {
            Effect::Announce(Transition::Unfused { reason, given, .. }) => Some((*reason, *given)),
            _ => None,
        })
        .collect()
}

fn kinds(plan: &Plan) -> Vec<Vec<crate::core::plan::effect::EffectKind>> {
    let stages = plan.stages.iter();
    stages
        .map(|stage| stage.iter().map(Effect::kind).collect())
        .collect()
}

#[test]
fn active_and_fused_are_written_in_one_update() {
    let active = asked(FuseDemand::Preferred)
        .but(|situation| situation.sweep_lives = true)
        .pass();
    assert_eq!(
        fused_condition(&active),
        Some(condition(
            "Fused",
            "True",
            "FuseLit",
            "at the end Kubernetes itself removes the access"
        ))
    );
    let status = active.grant.at_present();
    let every = [Enforcer::Controller, Enforcer::Fuse, Enforcer::Sweep];
    let enforced = |record: &ArtifactRecord| record.enforced_by == every;
    assert!(status.artifacts.iter().all(enforced), "{:?}", status.artifacts);
    assert_eq!(status.enforced_by, "Controller, Fuse, Sweep");
    assert_eq!(active.plan(), Plan::wait_until(end()));
    // A sweep that stops raises an alert of its own; grants are not written.
    let silent = active.but(|situation| situation.sweep_lives = false);
    assert_eq!(silent.plan(), Plan::wait_until(end()));
}

#[test]
fn a_required_fuse_must_be_lit_before_access_is_given() {
    let asked = asked(FuseDemand::Required);
    let plan = asked.plan();
    assert_eq!(
        kinds(&plan),
        [vec![Kind::RecordStatus, Kind::CreateFuse], vec![Kind::AwaitFuses]]
    );
    assert!(plan.is_to_be_continued());
    let mut lit = asked;
    for effect in plan.stages.iter().flatten() {
        lit.apply(effect).unwrap();
    }
    lit.tried.awaited_fuses = true;
    assert_eq!(
        kinds(&lit.plan()),
        [
            vec![Kind::CreateBinding],
            vec![Kind::Announce],
            vec![Kind::RecordStatus]
        ]
    );
    assert_eq!(lit.plan().stages[0], [binding(&lit, Holder::Fuse)]);
}

#[test]
fn an_unlit_required_fuse_delays_access_and_alerts_after_30s() {
    let waiting = next_reconcile(without_job_controller(FuseDemand::Required).pass());
    let why = format!("Job prod/{LOOK} is not started by kube-controller-manager");
    assert_eq!(
        fused_condition(&waiting),
        Some(condition("Fused", "False", "FuseNotLit", &why))
    );
    let status = waiting.grant.at_present();
    assert_eq!(status.activated_at, None);
    let active = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == "Active")
        .unwrap();
    assert_eq!(
        (&*active.status, &*active.reason, &*active.message),
        ("False", "Activating", &*format!("waits for its fuse: {why}"))
    );
    assert!(waiting.find(ArtifactKind::RoleBinding, LOOK).is_none());
    let half_a_minute_later = at("2026-12-01T09:00:30Z");
    assert_eq!(waiting.plan(), Plan::wait_until(half_a_minute_later));

    let late = waiting.clone().after(seconds(30));
    assert_eq!(unfused(&late.plan()), [("FuseNotStarted", false)]);
    let announced = late.pass();
    assert_eq!(fused_condition(&announced).unwrap().reason, "FuseNotStarted");
    assert_eq!(announced.plan(), Plan::wait_until(end()), "announced twice");

    // The access follows once the fuse is lit.
    let lit = announced.burning(FuseState::Lit).pass();
    assert!(lit.grant.at_present().activated_at.is_some());
    assert_eq!(fused_condition(&lit).unwrap().status, "True");
}

#[test]
fn a_required_fuse_that_is_never_lit_ends_the_grant_without_access() {
    let over = without_job_controller(FuseDemand::Required)
        .pass()
        .after(seconds(1800));
    let ended = over.pass();
    assert_eq!(ended.found, []);
    let status = ended.grant.at_present();
    assert_eq!(status.activated_at, None);
    assert_eq!(status.revocation.unwrap().cause, RevocationCause::DeadlineReached);
}

#[test]
fn a_refused_required_fuse_is_retried_every_30s() {
    let refused = without_fuse(FuseDemand::Required);
    let plan = refused.plan();
    assert_eq!(kinds(&plan), [vec![Kind::Announce], vec![Kind::RecordStatus]]);
    assert_eq!(unfused(&plan), [("FuseRefused", false)]);
    assert_eq!(plan.wake, Some(at("2026-12-01T09:00:30Z")));
    let waiting = refused.pass();
    assert_eq!(
        fused_condition(&waiting),
        Some(condition("Fused", "False", "FuseRefused", QUOTA))
    );
    assert!(
        waiting.plan().stages.is_empty(),
        "announced twice: {:?}",
        waiting.plan()
    );

    let again = next_reconcile(waiting).after(seconds(30));
    assert_eq!(
        kinds(&again.plan()),
        [vec![Kind::CreateFuse], vec![Kind::AwaitFuses]]
    );
    let active = next_reconcile(again.pass()).pass();
    assert!(active.grant.at_present().activated_at.is_some());
}

#[test]
fn retries_of_a_refused_fuse_become_rarer() {
    let waiting = without_fuse(FuseDemand::Required).pass();
    for (minutes, pause) in [(0, 30), (4, 30), (10, 60), (20, 120)] {
        let later = waiting.clone().after(seconds(minutes * 60));
        let wake = later.now.checked_add(seconds(pause)).unwrap();
        assert_eq!(later.plan().wake, Some(wake), "after {minutes} minutes");
    }
}

#[test]
fn without_a_preferred_fuse_the_grant_owns_the_access_and_alerts() {
    let refused = without_fuse(FuseDemand::Preferred);
    let plan = refused.plan();
    assert_eq!(
        kinds(&plan),
        [
            vec![Kind::CreateBinding],
            vec![Kind::Announce, Kind::Announce],
            vec![Kind::RecordStatus]
        ]
    );
    assert_eq!(plan.stages[0], [binding(&refused, Holder::Grant)]);
    assert_eq!(unfused(&plan), [("FuseRefused", true)]);
    let active = refused.pass();
    assert_eq!(
        fused_condition(&active),
        Some(condition("Fused", "False", "FuseRefused", QUOTA))
    );
    assert_eq!(active.grant.at_present().enforced_by, "Controller");
    assert!(crate::core::grant::enforcement::is_unfused(
        &active.grant.at_present()
    ));
    let owner = &active.find(ArtifactKind::RoleBinding, LOOK).unwrap().owner;
    assert_eq!(owner.as_deref(), Some("uid-of-pay-123"));
    assert!(
        active.plan().stages.is_empty(),
        "announced twice: {:?}",
        active.plan()
    );
}

#[test]
fn artifacts_are_handed_over_once_the_fuse_can_be_made() {
    let unfused = next_reconcile(without_fuse(FuseDemand::Preferred).pass()).after(seconds(30));
    let plan = unfused.plan();
    let handed = Effect::HandOver(Target::from(
        unfused.find(ArtifactKind::RoleBinding, LOOK).unwrap(),
    ));
    assert_eq!(
        plan.stages[1..],
        [vec![handed], vec![awaited()], vec![Effect::RecordFuses]]
    );
    assert_eq!(kinds(&plan)[0], [Kind::CreateFuse]);
    let fused = unfused.pass();
    assert_eq!(fused_condition(&fused).unwrap().status, "True");
    let status = fused.grant.at_present();
    assert_eq!(status.enforced_by, "Controller, Fuse");
    let fuse = fused.find(ArtifactKind::Job, LOOK).unwrap();
    assert_eq!(status.artifacts[0].uid.as_ref(), Some(&fuse.uid));
    let held = fused.find(ArtifactKind::RoleBinding, LOOK).unwrap();
    assert_eq!(held.owner.as_ref(), Some(&fuse.uid));
    assert_eq!(fused.plan(), Plan::wait_until(end()));
    // From then on only that fuse may own it.
    let taken_back = fused.but(|situation| situation.found[0].owner = Some("uid-of-pay-123".to_owned()));
    let ending = taken_back.plan();
    let taken = ending.stages.iter().flatten().any(|effect| {
        matches!(effect, Effect::RecordEnded(ending) if ending.cause == RevocationCause::ArtifactChanged)
    });
    assert!(taken, "{ending:?}");
}

#[test]
fn a_hand_over_is_completed_after_a_crash_anywhere() {
    let unfused = next_reconcile(without_fuse(FuseDemand::Preferred).pass()).after(seconds(30));
    let effects: Vec<Effect> = unfused.plan().stages.into_iter().flatten().collect();
    for done in 0..=effects.len() {
        let mut died = unfused.clone();
        for effect in &effects[..done] {
            died.apply(effect).unwrap();
        }
        let completed = died.burning(FuseState::Lit).pass();
        assert_eq!(completed.plan(), Plan::wait_until(end()), "after {done} effects");
        assert_eq!(
            fused_condition(&completed).unwrap().status,
            "True",
            "after {done} effects"
        );
    }
}

#[test]
fn an_unlit_preferred_fuse_does_not_delay_access() {
    let active = without_job_controller(FuseDemand::Preferred).pass();
    assert!(active.grant.at_present().activated_at.is_some());
    assert_eq!(fused_condition(&active).unwrap().reason, "FuseNotLit");
    assert_eq!(active.grant.at_present().enforced_by, "Controller");
    let half_a_minute_later = at("2026-12-01T09:00:30Z");
    assert_eq!(active.plan(), Plan::wait_until(half_a_minute_later));
    let late = active.clone().after(seconds(30));
    assert_eq!(unfused(&late.plan()), [("FuseNotStarted", true)]);
    // One more write once the fuse is lit.
    let lit = active.burning(FuseState::Lit);
    assert_eq!(lit.plan().stages, [[Effect::RecordFuses]]);
    let lit = lit.pass();
    assert_eq!(fused_condition(&lit).unwrap().status, "True");
    assert_eq!(lit.grant.at_present().enforced_by, "Controller, Fuse");
}

#[test]
fn a_fuse_that_stops_being_lit_alerts_at_once() {
    for (fuse_state, reason) in [
        (FuseState::Suspended, "FuseSuspended"),
        (FuseState::NotStarted, "FuseNotStarted"),
        (FuseState::Late { made: now() }, "FuseLate"),
    ] {
        let out = asked(FuseDemand::Required).pass().burning(fuse_state);
        let plan = out.plan();
        assert_eq!(kinds(&plan), [vec![Kind::Announce], vec![Kind::RecordStatus]]);
        assert_eq!(unfused(&plan), [(reason, true)]);
        let said_so = out.pass();
        assert_eq!(fused_condition(&said_so).unwrap().reason, reason);
        assert!(said_so.plan().stages.is_empty(), "announced twice");
        assert!(crate::core::grant::enforcement::is_unfused(
            &said_so.grant.at_present()
        ));
    }
}

#[test]
fn a_required_fuse_lit_late_is_made_again_with_the_time_left() {
    let waiting = next_reconcile(without_job_controller(FuseDemand::Required).pass()).after(seconds(120));
    let late = waiting
        .but(|situation| situation.nobody_lights = false)
        .burning(FuseState::Late { made: now() });
    let plan = late.plan();
    assert_eq!(kinds(&plan), [vec![Kind::DeleteFuse], vec![Kind::AwaitFuses]]);
    let mut again = late;
    for effect in plan.stages.iter().flatten() {
        again.apply(effect).unwrap();
    }
    again.tried.awaited_fuses = true;
    let [stage] = again.plan().stages.try_into().unwrap();
    let [Effect::Create(fuse)] = stage.as_slice() else {
        panic!("{stage:?}");
    };
    assert_eq!(fuse.body, Body::Fuse { seconds: 1681 });
    // A new fuse is left alone for a minute. Otherwise two clocks that differ would make one fuse after another.
    let young = without_job_controller(FuseDemand::Required)
        .pass()
        .burning(FuseState::Late { made: now() });
    assert_eq!(unfused(&young.plan()), [("FuseLate", false)]);
    assert_eq!(young.plan().wake, Some(at("2026-12-01T09:01:00Z")));
}

#[test]
fn without_fuses_the_grant_owns_all_and_has_no_fused_condition() {
    let both = Situation::of(
        grant("pay-123").asking_for(&["look", "exec"]),
        &policy().with(|spec| spec.fuse = FuseDemand::None),
    );
    assert_eq!(
        kinds(&both.plan()),
        [
            vec![Kind::RecordStatus],
            vec![Kind::CreateRole],
            vec![Kind::CreateBinding, Kind::CreateBinding],
            vec![Kind::Announce],
            vec![Kind::RecordStatus]
        ]
    );
    let active = both.pass();
    assert!(active.find(ArtifactKind::Job, EXEC).is_none());
    let owners: Vec<_> = active.found.iter().map(|found| found.owner.as_deref()).collect();
    assert_eq!(owners, [Some("uid-of-pay-123"); 3]);
    assert_eq!(fused_condition(&active), None);
    assert!(!crate::core::grant::enforcement::is_unfused(
        &active.grant.at_present()
    ));
    assert_eq!(active.plan(), Plan::wait_until(end()));
    let disowned = active.but(|situation| situation.found[0].owner = None).pass();
    assert_eq!(
        disowned.grant.at_present().revocation.unwrap().cause,
        RevocationCause::ArtifactChanged
    );
}

#[test]
fn requiring_fuses_ends_access_that_has_none() {
    let active = asked(FuseDemand::None).pass();
    let stricter = policy().with(|spec| spec.fuse = FuseDemand::Required);
    let over = active.but(|situation| situation.policy = stricter.ready()).pass();
    let revocation = over.grant.at_present().revocation.unwrap();
    assert_eq!(revocation.cause, RevocationCause::PolicyChanged);
    assert!(
        revocation.message.contains("it requires a fuse now"),
        "{revocation:?}"
    );
}

#[test]
fn act_as_waits_for_a_refused_fuse_but_not_for_an_unlit_one() {
    let offering = policy().with(|spec| spec.entitlements.push(act_as_entitlement("nodes", "node-reader")));
    let asked = Situation::of(grant("pay-123").asking_for(&["look", "nodes"]), &offering);
    let unlit = asked
        .clone()
        .but(|situation| situation.nobody_lights = true)
        .pass();
    assert!(unlit.grant.at_present().activated_at.is_some());

    let mut refused = asked;
    for effect in &refused.plan().stages[0][..2] {
        refused.apply(effect).unwrap();
    }
    let refused = refused.refused(ArtifactKind::Job, "curfew-identities", NODES, QUOTA);
    assert_eq!(unfused(&refused.plan()), [("FuseRefused", false)]);
    let waiting = next_reconcile(refused.pass());
    assert!(
        waiting.find(ArtifactKind::RoleBinding, LOOK).is_none(),
        "only part of the access was given"
    );
    assert_eq!(waiting.grant.metadata.finalizers, None);
    let active = next_reconcile(waiting.pass()).pass();
    assert!(active.grant.at_present().activated_at.is_some());
}
