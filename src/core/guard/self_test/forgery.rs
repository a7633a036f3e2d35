//! Forgeries: each is a request that Curfew or a person could make, except for one thing that its guard must deny.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

use crate::api::{
    AccessDecision, AccessDecisionSpec, AccessGrant, AccessGrantSpec, DecisionKind, GRANT_UID_LABEL,
    GrantRef, NAME_PREFIX, PolicyRef, RoleKind, Subject, UserInfo,
};
use crate::core::artifact::{Artifact, Body, GrantIdentity, Holder};
use crate::core::guard::CANARY;
use crate::core::time::duration::AccessDuration;

/// A request that a guard must deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Forgery {
    /// A grant with another user as requester.
    AnotherRequester,
    /// A grant that states fewer groups than its requester has.
    HiddenGroup,
    /// A grant with Curfew's label.
    ReservedLabel,
    /// A grant with an owner: the garbage collector could delete it and so end the access silently.
    OwnedGrant,
    /// A decision with another user as decider.
    AnotherDecider,
    /// An approval by a service account.
    ApprovalByServiceAccount,
    /// A decision with an owner: the garbage collector could delete the record.
    OwnedDecision,
    /// A status that the operator did not write.
    Status,
    /// A fuse that the operator did not make.
    Fuse,
    /// A Role that the operator did not make.
    Role,
    /// A binding that the operator did not make.
    Binding,
    /// A Job without Curfew's label, created by the operator: with a stolen token, such a Job could run pods.
    UnlabelledJob,
}

/// Account that tries a forgery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forger {
    /// The canary, with its own token.
    Canary,
    /// The operator, with its own token.
    Operator,
}

/// Place and time of a forgery.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// Namespace of the forgery.
    pub namespace: &'a str,
    /// Name of an existing grant in that namespace.
    pub grant: &'a str,
    /// The canary's user name and groups.
    pub canary: &'a UserInfo,
    /// Fuse cap: the longest access duration in this cluster.
    pub cap: AccessDuration,
    /// Time of the forgery.
    pub now: Timestamp,
}

/// Request to the API server, made as a dry run.
#[derive(Clone, Debug, PartialEq)]
pub enum Attempt {
    /// Create this grant.
    Grant(Box<AccessGrant>),
    /// Create this decision.
    Decision(Box<AccessDecision>),
    /// Patch the status of the scene's grant (a merge patch).
    Status(Value),
    /// Create this artifact as Curfew does.
    Artifact(Artifact),
    /// Create this artifact as Curfew does, but without Curfew's label.
    Unlabelled(Artifact),
}

/// No grant has this uid.
const NO_UID: &str = "00000000-0000-4000-8000-000000000000";

/// Longest access duration of a forged artifact. The fuse cap may be shorter.
const DURATION: Duration = Duration::from_mins(1);

impl Forgery {
    /// All forgeries.
    pub const ALL: [Self; 12] = [
        Self::AnotherRequester,
        Self::HiddenGroup,
        Self::ReservedLabel,
        Self::OwnedGrant,
        Self::AnotherDecider,
        Self::ApprovalByServiceAccount,
        Self::OwnedDecision,
        Self::Status,
        Self::Fuse,
        Self::Role,
        Self::Binding,
        Self::UnlabelledJob,
    ];

    /// Name of the guard that must deny it.
    pub const fn guard(self) -> &'static str {
        match self {
            Self::AnotherRequester | Self::HiddenGroup => "curfew-requester",
            Self::ReservedLabel | Self::OwnedGrant => "curfew-grant",
            Self::AnotherDecider | Self::ApprovalByServiceAccount => "curfew-decider",
            Self::OwnedDecision => "curfew-decision",
            Self::Status => "curfew-status",
            Self::Fuse => "curfew-fuse",
            Self::Role => "curfew-role",
            Self::Binding => "curfew-binding",
            Self::UnlabelledJob => "curfew-own-accounts",
        }
    }

    /// Account that tries it.
    pub const fn forger(self) -> Forger {
        match self {
            Self::UnlabelledJob => Forger::Operator,
            _ => Forger::Canary,
        }
    }

    /// Description for messages.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::AnotherRequester => "a grant in someone else's name",
            Self::HiddenGroup => "a grant that hides a group",
            Self::ReservedLabel => "a grant with a reserved label",
            Self::OwnedGrant => "a grant with an owner",
            Self::AnotherDecider => "a decision in someone else's name",
            Self::ApprovalByServiceAccount => "an approval by a service account",
            Self::OwnedDecision => "a decision with an owner",
            Self::Status => "a status that Curfew did not write",
            Self::Fuse => "a forged fuse of Curfew",
            Self::Role => "a forged Role of Curfew",
            Self::Binding => "a forged RoleBinding of Curfew",
            Self::UnlabelledJob => "a Job of Curfew without its label",
        }
    }

    /// The request to make.
    pub fn attempt(self, scene: &Scene<'_>) -> Attempt {
        let grant = |edit: fn(&mut AccessGrant)| {
            let mut grant = honest_grant(scene);
            edit(&mut grant);
            Attempt::Grant(Box::new(grant))
        };
        let decision = |edit: fn(&mut AccessDecision)| {
            let mut decision = honest_decision(scene);
            edit(&mut decision);
            Attempt::Decision(Box::new(decision))
        };
        match self {
            Self::AnotherRequester => grant(|grant| {
                "someone-else".clone_into(&mut requester(grant).username);
            }),
            Self::HiddenGroup => grant(|grant| {
                requester(grant).groups.pop();
            }),
            Self::ReservedLabel => grant(|grant| {
                let label = (GRANT_UID_LABEL.to_owned(), NO_UID.to_owned());
                grant.metadata.labels = Some(BTreeMap::from([label]));
            }),
            Self::OwnedGrant => grant(|grant| {
                grant.metadata.owner_references = Some(vec![missing_owner()]);
            }),
            Self::AnotherDecider => decision(|decision| {
                "someone-else".clone_into(&mut decision.spec.decider.get_or_insert_default().username);
            }),
            Self::ApprovalByServiceAccount => decision(|decision| {
                decision.spec.decision = DecisionKind::Approve;
                decision.spec.access_hash = Some(format!("sha256:{:064}", 0));
            }),
            Self::OwnedDecision => decision(|decision| {
                decision.metadata.owner_references = Some(vec![missing_owner()]);
            }),
            // No grant has this generation, because the spec of a grant never changes.
            Self::Status => Attempt::Status(json!({"status": {"observedGeneration": 1_000_000}})),
            Self::Fuse => Attempt::Artifact(artifact(scene, fuse(scene))),
            Self::Role => Attempt::Artifact(artifact(scene, Body::Role(Vec::new()))),
            Self::Binding => Attempt::Artifact(artifact(
                scene,
                Body::Binding {
                    // The canary holds this role. RBAC denies a binding to other roles before admission runs.
                    role: (RoleKind::ClusterRole, CANARY.to_owned()),
                    subject: Subject::user("nobody"),
                },
            )),
            Self::UnlabelledJob => Attempt::Unlabelled(Artifact {
                // The prefix `curfew-` is reserved, so another guard would deny it.
                name: "not-labelled".to_owned(),
                ..artifact(scene, fuse(scene))
            }),
        }
    }
}

/// A grant of the canary that no guard denies.
fn honest_grant(scene: &Scene<'_>) -> AccessGrant {
    let mut grant = AccessGrant::new(
        "canary",
        AccessGrantSpec {
            policy_ref: PolicyRef {
                name: "self-test".to_owned(),
            },
            reason: "forgery of the self-test: must be denied".to_owned(),
            requester: Some(scene.canary.clone()),
            ..AccessGrantSpec::default()
        },
    );
    grant.metadata.namespace = Some(scene.namespace.to_owned());
    grant
}

/// A decision of the canary that no guard denies: service accounts may decide Revoke.
fn honest_decision(scene: &Scene<'_>) -> AccessDecision {
    let mut decision = AccessDecision::new(
        "canary",
        AccessDecisionSpec {
            grant_ref: GrantRef {
                name: scene.grant.to_owned(),
                uid: NO_UID.to_owned(),
            },
            decision: DecisionKind::Revoke,
            access_hash: None,
            decider: Some(scene.canary.clone()),
            reason: Some("forgery of the self-test: must be denied".to_owned()),
        },
    );
    decision.metadata.namespace = Some(scene.namespace.to_owned());
    decision
}

/// Reference to an owner that does not exist.
fn missing_owner() -> OwnerReference {
    OwnerReference {
        api_version: "v1".to_owned(),
        kind: "ConfigMap".to_owned(),
        name: "nothing".to_owned(),
        uid: NO_UID.to_owned(),
        ..OwnerReference::default()
    }
}

fn requester(grant: &mut AccessGrant) -> &mut UserInfo {
    grant.spec.requester.get_or_insert_default()
}

/// Access duration of a forged artifact.
fn duration(scene: &Scene<'_>) -> Duration {
    DURATION.min(Duration::from_secs(u64::from(scene.cap.seconds())))
}

fn fuse(scene: &Scene<'_>) -> Body {
    Body::Fuse {
        seconds: i64::try_from(duration(scene).as_secs()).unwrap_or(1),
    }
}

fn artifact(scene: &Scene<'_>, body: Body) -> Artifact {
    Artifact {
        grant: GrantIdentity {
            namespace: scene.namespace.to_owned(),
            name: scene.grant.to_owned(),
            uid: NO_UID.to_owned(),
        },
        namespace: scene.namespace.to_owned(),
        name: format!("{NAME_PREFIX}{:032x}", 0),
        not_after: scene
            .now
            .saturating_add(duration(scene))
            .unwrap_or(Timestamp::MAX),
        holder: match body {
            Body::Fuse { .. } => Holder::Grant,
            Body::Role(_) | Body::Binding { .. } => Holder::Fuse,
        },
        body,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::guard::self_test::canary::canary_identity;
    use crate::core::guard::{Guard, GuardKind, GuardSettings, guards};

    fn scene(canary: &UserInfo) -> Scene<'_> {
        Scene {
            namespace: "prod",
            grant: "pay-123",
            canary,
            cap: AccessDuration::MAX,
            now: "2026-12-01T09:00:00Z".parse().unwrap(),
        }
    }

    fn settings() -> GuardSettings {
        GuardSettings {
            namespace: "curfew-system".to_owned(),
            operator: "curfew".to_owned(),
            sweeper: "curfew-sweep".to_owned(),
            identities: "curfew-identities".to_owned(),
            cap: AccessDuration::MAX,
            creators: Vec::new(),
        }
    }

    #[test]
    fn a_forged_grant_has_exactly_one_forged_field() {
        let canary = canary_identity(&settings());
        let scene = scene(&canary);
        let honest = honest_grant(&scene);
        for forgery in [
            Forgery::AnotherRequester,
            Forgery::HiddenGroup,
            Forgery::ReservedLabel,
            Forgery::OwnedGrant,
        ] {
            let Attempt::Grant(forged) = forgery.attempt(&scene) else {
                panic!("{forgery:?} is not a grant");
            };
            let (Some(requester), Some(own)) = (&forged.spec.requester, &honest.spec.requester) else {
                panic!("{forgery:?} has no requester");
            };
            let lies = [
                requester.username != own.username,
                requester.groups != own.groups,
                forged.metadata.labels.is_some(),
                forged.metadata.owner_references.is_some(),
            ];
            assert_eq!(
                lies.iter().filter(|lie| **lie).count(),
                1,
                "{forgery:?}: {lies:?}"
            );
            assert!(requester.groups.iter().all(|group| own.groups.contains(group)));
        }
    }

    #[test]
    fn a_forged_decision_has_exactly_one_forged_field() {
        let canary = canary_identity(&settings());
        let scene = scene(&canary);
        for forgery in [
            Forgery::AnotherDecider,
            Forgery::ApprovalByServiceAccount,
            Forgery::OwnedDecision,
        ] {
            let Attempt::Decision(forged) = forgery.attempt(&scene) else {
                panic!("{forgery:?} is not a decision");
            };
            let decider = forged.spec.decider.as_ref().unwrap();
            let lies = [
                *decider != canary,
                forged.spec.decision != DecisionKind::Revoke,
                forged.metadata.owner_references.is_some(),
            ];
            assert_eq!(
                lies.iter().filter(|lie| **lie).count(),
                1,
                "{forgery:?}: {lies:?}"
            );
            assert_eq!(
                forged.spec.access_hash.is_some(),
                forged.spec.decision == DecisionKind::Approve
            );
        }
    }

    #[test]
    fn the_operator_tries_only_the_unlabelled_job() {
        let by_operator: Vec<_> = Forgery::ALL
            .into_iter()
            .filter(|forgery| forgery.forger() == Forger::Operator)
            .collect();
        assert_eq!(by_operator, [Forgery::UnlabelledJob]);
    }

    #[test]
    fn a_forged_binding_binds_the_canary_role_within_the_cap() {
        let canary = canary_identity(&settings());
        let short = Scene {
            cap: AccessDuration::from_seconds(30).unwrap(),
            ..scene(&canary)
        };
        let Attempt::Artifact(forged) = Forgery::Binding.attempt(&short) else {
            panic!("not an artifact");
        };
        assert_eq!(forged.not_after.duration_since(short.now).as_secs(), 30);
        assert_eq!(
            forged.body,
            Body::Binding {
                role: (RoleKind::ClusterRole, "curfew-canary".to_owned()),
                subject: Subject::user("nobody"),
            }
        );
    }

    #[test]
    fn every_forgery_has_a_guard_that_denies_it() {
        let guards = guards(&settings());
        for forgery in Forgery::ALL {
            let denies =
                |guard: &&Guard| guard.kind == GuardKind::ValidatingPolicy && guard.name == forgery.guard();
            assert!(guards.iter().any(|guard| denies(&guard)), "{forgery:?}");
        }
    }
}
