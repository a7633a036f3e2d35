//! Tests of plans for grants that need no approval, and their fixtures.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use crate::api::{
    AccessGrantStatus, ArtifactKind, ArtifactRecord, Day, DurationText, Escalation, FuseDemand, OnChange,
    ResolvedAccess, ResolvedEntitlement, ResolvedRole, RevocationCause, RoleKind, Rule, Selection, Subject,
};
use crate::core::artifact::found::Content;
use crate::core::artifact::key::ArtifactKey;
use crate::core::artifact::target::Target;
use crate::core::artifact::{Artifact, Body, GrantIdentity, Holder};
use crate::core::audit::record::GivenAccess;
use crate::core::facts::PolicyFacts;
use crate::core::grant::revocation::DueRevocation;
use crate::core::grant::transition::Transition;
use crate::core::plan::effect::{Effect, Plan};
use crate::core::policy::Policy;
use crate::core::rbac::roles::RoleFacts;
use crate::core::testing::{
    Situation, at, condition, grant, named, now, policy, role_entitlement, rule, seconds,
};

#[cfg(test)]
mod act_as;
#[cfg(test)]
mod approvals;
mod changes;
#[cfg(test)]
mod decided;
mod ending;
#[cfg(test)]
mod fused;
mod granting;
#[cfg(test)]
mod guarded;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod skewed;
mod waiting;
#[cfg(test)]
mod wording;

/// `curfew-` and the first half of SHA-256 over the entropy 7 (16 bytes, big endian) and the entitlement's name.
const LOOK: &str = "curfew-49dba82a029a4e89ad94f585403ddf58";
const EXEC: &str = "curfew-35afead27ce01937e44201d4c93e8640";

/// Default duration of the policy.
const HALF_AN_HOUR: SignedDuration = SignedDuration::from_secs(1800);

fn end() -> Timestamp {
    at("2026-12-01T09:30:00Z")
}

fn alice() -> Subject {
    Subject::user("alice@example.com")
}

/// A request for the default entitlement: the role view.
fn asked() -> Situation {
    Situation::of(grant("pay-123"), &policy())
}

/// A request for the role and for the rules.
fn asked_for_both() -> Situation {
    Situation::of(grant("pay-123").asking_for(&["look", "exec"]), &policy())
}

/// The role and the rules are in force.
fn active() -> Situation {
    asked_for_both().pass()
}

/// The write-ahead is recorded, and no artifact is made.
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

/// The wait for these fuses.
fn awaited(names: &[&str]) -> Effect {
    let key = |name: &&str| ArtifactKey {
        kind: ArtifactKind::Job,
        namespace: "prod".to_owned(),
        name: (*name).to_owned(),
    };
    Effect::AwaitFuses(names.iter().map(key).collect())
}

/// When a fuse that is not known to be lit is checked again.
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
    Arc::clone(&crate::core::testing::roles()[&(RoleKind::ClusterRole, "view".to_owned())])
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
    Effect::Announce(Transition::Activated {
        subject: Some(alice()),
        access: entitlements
            .iter()
            .map(|entitlement| GivenAccess::of(entitlement.clone(), &crate::core::testing::roles()))
            .collect(),
        expires_at: end(),
    })
}

/// The write-ahead of a plan.
fn intent(plan: &Plan) -> AccessGrantStatus {
    match &plan.stages[0][0] {
        Effect::Intend(status) => status.as_ref().clone(),
        other => panic!("{other:?} comes before the write-ahead"),
    }
}

fn nothing_before(wake: Timestamp) -> Plan {
    Plan::wait_until(wake)
}

fn ended_as(cause: RevocationCause, message: &str, due: Timestamp) -> DueRevocation {
    DueRevocation {
        cause,
        message: message.to_owned(),
        by: None,
        due,
        was_active: true,
    }
}

fn tell_and_record(ending: DueRevocation) -> [Vec<Effect>; 2] {
    [
        vec![Effect::Announce(Transition::Ended(ending.clone()))],
        vec![Effect::RecordEnded(ending)],
    ]
}

/// The plan that ends [`active`] while no artifact has changed.
fn revocation(ending: DueRevocation) -> Plan {
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

/// The ending that a plan records.
fn ending_of(plan: &Plan) -> &DueRevocation {
    match plan.stages.last().map(Vec::as_slice) {
        Some([Effect::RecordEnded(ending)]) => ending,
        other => panic!("the plan does not end the grant: {other:?}"),
    }
}

/// Reason and message of a plan that denies the grant and does nothing else.
fn denial(situation: &Situation) -> (&'static str, String) {
    let plan = situation.plan();
    let [tell, record] = plan.stages.as_slice() else {
        panic!("the plan does not deny: {plan:?}");
    };
    assert_eq!(plan.wake, None);
    let [Effect::Announce(Transition::Denied { reason, message })] = tell.as_slice() else {
        panic!("the plan does not announce a denial: {plan:?}");
    };
    let [Effect::Record(status)] = record.as_slice() else {
        panic!("the plan does not record a denial: {plan:?}");
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

type Change = fn(&mut Situation);

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

fn set_view(situation: &mut Situation, uid: &str, rules: &[Rule]) {
    let facts = RoleFacts::new(uid, rules);
    situation
        .roles
        .insert((RoleKind::ClusterRole, "view".to_owned()), Arc::new(facts));
}
