//! The forgeries: each is what Curfew or a person would do, but for the one thing its guard has to refuse.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

use crate::api::{
    AccessDecision, AccessDecisionSpec, AccessGrant, AccessGrantSpec, DecisionKind, GRANT_UID_LABEL,
    GrantRef, NAME_PREFIX, PolicyRef, RoleKind, Subject, UserInfo,
};
use crate::core::guard::CANARY;
use crate::core::{Artifact, Body, GrantIdentity, Holder, Span};

/// Something that has to be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Forgery {
    /// A grant that names somebody else as its requester.
    AnotherRequester,
    /// A grant that states fewer groups than its requester has.
    HiddenGroup,
    /// A grant with the label of what is made for grants.
    ReservedLabel,
    /// A grant that somebody owns: the garbage collector would end it without a word.
    OwnedGrant,
    /// A decision that names somebody else as its decider.
    AnotherDecider,
    /// An approval by a service account.
    ApprovalByServiceAccount,
    /// A decision that somebody owns.
    OwnedDecision,
    /// A status that the operator did not write.
    Status,
    /// A fuse that the operator did not make.
    Fuse,
    /// A Role that the operator did not make.
    Role,
    /// A binding that the operator did not make.
    Binding,
    /// A Job without the label, by the operator: a stolen token would run pods by one.
    UnlabelledJob,
}

/// Who tries a forgery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forger {
    /// The canary.
    Canary,
    /// The operator itself.
    Operator,
}

/// Where a forgery is tried.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Name of a grant that is there.
    pub grant: &'a str,
    /// The canary.
    pub canary: &'a UserInfo,
    /// The longest any access may last.
    pub cap: Span,
    /// When.
    pub now: Timestamp,
}

/// What is asked of the API server, as a dry run.
#[derive(Clone, Debug, PartialEq)]
pub enum Attempt {
    /// Create this grant.
    Grant(Box<AccessGrant>),
    /// Create this decision.
    Decision(Box<AccessDecision>),
    /// Patch the status of the scene's grant (a merge patch).
    Status(Value),
    /// Create this, just as Curfew would.
    Artifact(Artifact),
    /// Create this as Curfew would, but without its label.
    Unlabelled(Artifact),
}

/// No grant has this uid.
const NO_UID: &str = "00000000-0000-4000-8000-000000000000";

/// How long the access of a forged artifact would last, at most.
const LASTING: Duration = Duration::from_mins(1);

impl Forgery {
    /// All of them.
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

    /// Name of the guard that has to refuse it.
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
            Self::UnlabelledJob => "curfew-own-hands",
        }
    }

    /// Who tries it.
    pub const fn forger(self) -> Forger {
        match self {
            Self::UnlabelledJob => Forger::Operator,
            _ => Forger::Canary,
        }
    }

    /// What it is, for people.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::AnotherRequester => "a grant in somebody else's name",
            Self::HiddenGroup => "a grant that hides a group",
            Self::ReservedLabel => "a grant with a reserved label",
            Self::OwnedGrant => "a grant with an owner",
            Self::AnotherDecider => "a decision in somebody else's name",
            Self::ApprovalByServiceAccount => "an approval by a service account",
            Self::OwnedDecision => "a decision with an owner",
            Self::Status => "a status that Curfew did not write",
            Self::Fuse => "a fuse as if made by Curfew",
            Self::Role => "a Role as if made by Curfew",
            Self::Binding => "a RoleBinding as if made by Curfew",
            Self::UnlabelledJob => "a Job of Curfew's without its label",
        }
    }

    /// What to ask of the API server.
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
                "somebody-else".clone_into(&mut requester(grant).username);
            }),
            Self::HiddenGroup => grant(|grant| {
                requester(grant).groups.pop();
            }),
            Self::ReservedLabel => grant(|grant| {
                let label = (GRANT_UID_LABEL.to_owned(), NO_UID.to_owned());
                grant.metadata.labels = Some(BTreeMap::from([label]));
            }),
            Self::OwnedGrant => grant(|grant| {
                grant.metadata.owner_references = Some(vec![nothing()]);
            }),
            Self::AnotherDecider => decision(|decision| {
                "somebody-else".clone_into(&mut decision.spec.decider.get_or_insert_default().username);
            }),
            Self::ApprovalByServiceAccount => decision(|decision| {
                decision.spec.decision = DecisionKind::Approve;
                decision.spec.access_hash = Some(format!("sha256:{:064}", 0));
            }),
            Self::OwnedDecision => decision(|decision| {
                decision.metadata.owner_references = Some(vec![nothing()]);
            }),
            // A generation that no grant reaches: its spec never changes.
            Self::Status => Attempt::Status(json!({"status": {"observedGeneration": 1_000_000}})),
            Self::Fuse => Attempt::Artifact(artifact(scene, fuse(scene))),
            Self::Role => Attempt::Artifact(artifact(scene, Body::Role(Vec::new()))),
            Self::Binding => Attempt::Artifact(artifact(
                scene,
                Body::Binding {
                    // One that the canary holds: RBAC refuses to bind more before admission is asked.
                    role: (RoleKind::ClusterRole, CANARY.to_owned()),
                    subject: Subject::user("nobody"),
                },
            )),
            Self::UnlabelledJob => Attempt::Unlabelled(Artifact {
                // The prefix is reserved, which is another guard's to refuse.
                name: "not-labelled".to_owned(),
                ..artifact(scene, fuse(scene))
            }),
        }
    }
}

/// The canary asks, in its own name.
fn honest_grant(scene: &Scene<'_>) -> AccessGrant {
    let mut grant = AccessGrant::new(
        "canary",
        AccessGrantSpec {
            policy_ref: PolicyRef {
                name: "self-test".to_owned(),
            },
            reason: "a forgery that has to be refused".to_owned(),
            requester: Some(scene.canary.clone()),
            ..AccessGrantSpec::default()
        },
    );
    grant.metadata.namespace = Some(scene.namespace.to_owned());
    grant
}

/// The canary would end access, which is open to service accounts.
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
            reason: Some("a forgery that has to be refused".to_owned()),
        },
    );
    decision.metadata.namespace = Some(scene.namespace.to_owned());
    decision
}

/// An owner that is not there.
fn nothing() -> OwnerReference {
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

fn lasting(scene: &Scene<'_>) -> Duration {
    LASTING.min(Duration::from_secs(u64::from(scene.cap.seconds())))
}

fn fuse(scene: &Scene<'_>) -> Body {
    Body::Fuse {
        seconds: i64::try_from(lasting(scene).as_secs()).unwrap_or(1),
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
        not_after: scene.now.saturating_add(lasting(scene)).unwrap_or(Timestamp::MAX),
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
    use crate::core::guard::{Guard, GuardKind, GuardSettings, guards};
    use crate::core::self_test::canary_identity;

    fn scene(canary: &UserInfo) -> Scene<'_> {
        Scene {
            namespace: "prod",
            grant: "pay-123",
            canary,
            cap: Span::MAX,
            now: "2026-12-01T09:00:00Z".parse().unwrap(),
        }
    }

    fn settings() -> GuardSettings {
        GuardSettings {
            namespace: "curfew-system".to_owned(),
            operator: "curfew".to_owned(),
            sweeper: "curfew-sweep".to_owned(),
            identities: "curfew-identities".to_owned(),
            cap: Span::MAX,
            creators: Vec::new(),
        }
    }

    #[test]
    fn a_forged_grant_is_honest_but_for_one_thing() {
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
                panic!("{forgery:?} is no grant");
            };
            let (Some(requester), Some(own)) = (&forged.spec.requester, &honest.spec.requester) else {
                panic!("{forgery:?} names nobody");
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
    fn a_forged_decision_is_honest_but_for_one_thing() {
        let canary = canary_identity(&settings());
        let scene = scene(&canary);
        for forgery in [
            Forgery::AnotherDecider,
            Forgery::ApprovalByServiceAccount,
            Forgery::OwnedDecision,
        ] {
            let Attempt::Decision(forged) = forgery.attempt(&scene) else {
                panic!("{forgery:?} is no decision");
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
    fn the_operator_tries_only_what_the_canary_cannot() {
        let by_operator: Vec<_> = Forgery::ALL
            .into_iter()
            .filter(|forgery| forgery.forger() == Forger::Operator)
            .collect();
        assert_eq!(by_operator, [Forgery::UnlabelledJob]);
    }

    #[test]
    fn a_forged_binding_hands_out_what_the_canary_holds_within_the_cap() {
        let canary = canary_identity(&settings());
        let short = Scene {
            cap: Span::from_seconds(30).unwrap(),
            ..scene(&canary)
        };
        let Attempt::Artifact(forged) = Forgery::Binding.attempt(&short) else {
            panic!("no artifact");
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
    fn every_forgery_has_a_guard_that_has_to_refuse_it() {
        let guards = guards(&settings());
        for forgery in Forgery::ALL {
            let refuses =
                |guard: &&Guard| guard.kind == GuardKind::ValidatingPolicy && guard.name == forgery.guard();
            assert!(guards.iter().any(|guard| refuses(&guard)), "{forgery:?}");
        }
    }
}
