//! Fixtures of the tests of `core`: one request, one policy, one namespace, a clock that does not move, and a fake
//! cluster that applies plans.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::api::{
    AccessGrant, AccessGrantSpec, AccessGrantStatus, AccessPolicy, AccessPolicySpec, ActAsEntitlement,
    ApprovalSpec, ApprovalStage, ArtifactKind, DecisionKind, DurationLimits, DurationText, Entitlement,
    EntitlementRequest, Escalation, FuseDemand, GrantableRule, Limits, NamespaceSelector, Narrowing,
    OnChange, Path, PolicyRef, Principal, PrincipalKind, REVOKE_FINALIZER, ReasonDemands, RequestCondition,
    RoleEntitlement, RoleKind, Rule, RulesEntitlement, Selection, Subject, UserInfo, Window, conditions,
};
use crate::core::artifact::found::{Content, Found};
use crate::core::artifact::fuse::FuseState;
use crate::core::artifact::key::ArtifactKey;
use crate::core::artifact::{Artifact, Body, Holder};
use crate::core::decision::blocking::Block;
use crate::core::decision::{Authority, Decision};
use crate::core::facts::{Input, NamespaceFacts, PolicyFacts, Tried};
use crate::core::grant::status;
use crate::core::grant::status::Uids;
use crate::core::grant::transition::Transition;
use crate::core::guard::state::GuardState;
use crate::core::plan::effect::{Effect, Plan};
use crate::core::plan::{plan, plan_end};
use crate::core::policy::Policy;
use crate::core::rbac::roles::{ActAsAccounts, RoleFacts, Roles};
use crate::core::request::caller::Caller;
use crate::core::settings::Settings;
use crate::core::time::duration::AccessDuration;

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The instant at which every situation begins, a Tuesday morning.
pub(crate) fn now() -> Timestamp {
    at("2026-12-01T09:00:00Z")
}

pub(crate) fn seconds(count: i64) -> SignedDuration {
    SignedDuration::from_secs(count)
}

pub(crate) fn strings(items: &[&str]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

pub(crate) fn settings() -> Settings {
    Settings {
        cap: AccessDuration::parse("8h").unwrap(),
        namespace: "curfew-system".to_owned(),
        identities: "curfew-identities".to_owned(),
    }
}

/// A rule about resources of the core API group.
pub(crate) fn rule(verbs: &[&str], resources: &[&str]) -> Rule {
    Rule {
        api_groups: strings(&[""]),
        resources: strings(resources),
        verbs: strings(verbs),
        ..Rule::default()
    }
}

pub(crate) fn named(rule: Rule, names: &[&str]) -> Rule {
    Rule {
        resource_names: strings(names),
        ..rule
    }
}

/// A request of Alice of payments-devs, in namespace prod under policy prod-debug, for its default entitlements.
pub(crate) fn grant(name: &str) -> AccessGrant {
    let mut grant = AccessGrant::new(
        name,
        AccessGrantSpec {
            policy_ref: PolicyRef {
                name: "prod-debug".to_owned(),
            },
            reason: "PAY-123 checkout returns 500".to_owned(),
            requester: None,
            subject: None,
            entitlements: None,
            duration: None,
            not_before: None,
            not_after: None,
            references: Vec::new(),
        },
    )
    .asked_by("alice@example.com", &["payments-devs", "system:authenticated"]);
    grant.metadata.namespace = Some("prod".to_owned());
    grant.metadata.uid = Some(format!("uid-of-{name}"));
    grant.metadata.resource_version = Some("1".to_owned());
    grant.metadata.generation = Some(1);
    grant.metadata.creation_timestamp = Some(Time(now()));
    grant
}

impl AccessGrant {
    pub(crate) fn with(mut self, edit: impl FnOnce(&mut AccessGrantSpec)) -> Self {
        edit(&mut self.spec);
        self
    }

    pub(crate) fn asked_by(self, username: &str, groups: &[&str]) -> Self {
        self.with(|spec| {
            spec.requester = Some(UserInfo {
                username: username.to_owned(),
                groups: strings(groups),
            });
        })
    }

    pub(crate) fn asked_by_pipeline(self) -> Self {
        self.asked_by(
            "system:serviceaccount:ci:deployer",
            &["system:serviceaccounts", "system:authenticated"],
        )
    }

    pub(crate) fn asking_for(self, names: &[&str]) -> Self {
        self.with(|spec| {
            spec.entitlements = Some(
                names
                    .iter()
                    .map(|name| EntitlementRequest {
                        name: (*name).to_owned(),
                        resource_names: None,
                    })
                    .collect(),
            );
        })
    }

    pub(crate) fn and_for(self, name: &str) -> Self {
        self.with(|spec| {
            spec.entitlements
                .get_or_insert_default()
                .push(EntitlementRequest {
                    name: name.to_owned(),
                    resource_names: None,
                });
        })
    }

    pub(crate) fn asking_for_objects(self, name: &str, objects: &[&str]) -> Self {
        self.with(|spec| {
            spec.entitlements
                .get_or_insert_default()
                .push(EntitlementRequest {
                    name: name.to_owned(),
                    resource_names: Some(strings(objects)),
                });
        })
    }

    pub(crate) fn because(self, reason: &str) -> Self {
        self.with(|spec| spec.reason = reason.to_owned())
    }

    pub(crate) fn lasting(self, duration: &str) -> Self {
        self.with(|spec| spec.duration = Some(DurationText::from(duration)))
    }

    pub(crate) fn until(self, not_after: &str) -> Self {
        self.with(|spec| spec.not_after = Some(not_after.to_owned()))
    }

    pub(crate) fn starting(self, not_before: &str) -> Self {
        self.with(|spec| spec.not_before = Some(not_before.to_owned()))
    }

    pub(crate) fn given_to(self, subject: Subject) -> Self {
        self.with(|spec| spec.subject = Some(subject))
    }

    pub(crate) fn being_deleted(mut self) -> Self {
        self.metadata.deletion_timestamp = Some(Time(now()));
        self
    }

    pub(crate) fn at_present(&self) -> AccessGrantStatus {
        self.status.clone().unwrap_or_default()
    }
}

pub(crate) fn principal(kind: PrincipalKind, name: &str) -> Principal {
    let (namespace, name) = match name.split_once('/') {
        Some((namespace, name)) => (Some(namespace.to_owned()), name),
        None => (None, name),
    };
    Principal {
        kind,
        name: name.to_owned(),
        namespace,
    }
}

/// A policy for payments-devs, carol and the pipeline, in namespaces with env=prod, for 30 minutes or up to 4 hours.
/// Its entitlements are look (default, `ClusterRole` view) and exec (on request, narrowed or not).
pub(crate) fn policy() -> AccessPolicy {
    let mut policy = AccessPolicy::new(
        "prod-debug",
        AccessPolicySpec {
            description: String::new(),
            namespace_selector: NamespaceSelector {
                match_labels: BTreeMap::from([("env".to_owned(), "prod".to_owned())]),
                match_expressions: Vec::new(),
            },
            requesters: vec![
                principal(PrincipalKind::Group, "payments-devs"),
                principal(PrincipalKind::User, "carol@example.com"),
                principal(PrincipalKind::ServiceAccount, "ci/deployer"),
            ],
            subjects: vec![
                principal(PrincipalKind::User, "dave@example.com"),
                principal(PrincipalKind::ServiceAccount, "ci/smoke-test"),
            ],
            path: Path::Automatic,
            windows: Vec::new(),
            conditions: Vec::new(),
            approval: None,
            duration: DurationLimits {
                default: Some(DurationText::from("30m")),
                max: DurationText::from("4h"),
            },
            reason: Some(ReasonDemands {
                min_length: Some(10),
                pattern: None,
            }),
            limits: Limits::default(),
            on_policy_change: OnChange::Revoke,
            fuse: FuseDemand::Preferred,
            retention: DurationText::from("720h"),
            entitlements: vec![
                role_entitlement("look", "view"),
                rules_entitlement("exec", Narrowing::Optional),
            ],
        },
    );
    policy.metadata.uid = Some("uid-of-prod-debug".to_owned());
    policy.metadata.generation = Some(3);
    policy
}

/// A default entitlement to the `ClusterRole` of that name.
pub(crate) fn role_entitlement(name: &str, role: &str) -> Entitlement {
    Entitlement {
        name: name.to_owned(),
        selection: Selection::Default,
        role: Some(RoleEntitlement {
            kind: RoleKind::ClusterRole,
            name: role.to_owned(),
            on_change: OnChange::Revoke,
            escalation: Escalation::Refuse,
        }),
        rules: None,
        act_as: None,
    }
}

/// An entitlement on request: `create` on pods/exec.
pub(crate) fn rules_entitlement(name: &str, narrowing: Narrowing) -> Entitlement {
    Entitlement {
        name: name.to_owned(),
        selection: Selection::OnRequest,
        role: None,
        rules: Some(RulesEntitlement {
            narrowing,
            items: vec![GrantableRule {
                api_groups: strings(&[""]),
                resources: strings(&["pods/exec"]),
                verbs: strings(&["create"]),
                resource_names: Vec::new(),
            }],
        }),
        act_as: None,
    }
}

/// An entitlement on request: to act as the service account of that name.
pub(crate) fn act_as_entitlement(name: &str, service_account: &str) -> Entitlement {
    Entitlement {
        name: name.to_owned(),
        selection: Selection::OnRequest,
        role: None,
        rules: None,
        act_as: Some(ActAsEntitlement {
            service_account: service_account.to_owned(),
            on_change: OnChange::Revoke,
        }),
    }
}

impl AccessPolicy {
    pub(crate) fn with(mut self, edit: impl FnOnce(&mut AccessPolicySpec)) -> Self {
        edit(&mut self.spec);
        self
    }

    pub(crate) fn open(self, days: &[crate::api::Day], from: &str, to: &str) -> Self {
        self.with(|spec| {
            spec.windows.push(Window {
                name: format!("from {from}"),
                time_zone: "UTC".to_owned(),
                days: days.to_vec(),
                from: from.to_owned(),
                to: to.to_owned(),
            });
        })
    }

    pub(crate) fn demanding(self, name: &str, expression: &str, message: &str) -> Self {
        self.with(|spec| {
            spec.conditions.push(RequestCondition {
                name: name.to_owned(),
                expression: expression.to_owned(),
                message: message.to_owned(),
            });
        })
    }

    /// Requires approvals. Each stage: name, required approvals, group of the approvers.
    pub(crate) fn approved_by(self, stages: &[(&str, u8, &str)]) -> Self {
        self.with(|spec| {
            spec.path = Path::Manual;
            spec.approval = Some(ApprovalSpec {
                required_when: None,
                timeout: DurationText::from("30m"),
                stages: stages
                    .iter()
                    .map(|(name, required, group)| ApprovalStage {
                        name: (*name).to_owned(),
                        required: *required,
                        approvers: vec![principal(PrincipalKind::Group, group)],
                    })
                    .collect(),
            });
        })
    }

    /// Requires the approvals only if the expression is true.
    pub(crate) fn when(self, expression: &str) -> Self {
        self.with(|spec| {
            spec.path = Path::SelfServe;
            if let Some(approval) = &mut spec.approval {
                approval.required_when = Some(expression.to_owned());
            }
        })
    }

    pub(crate) fn parsed(&self) -> Policy {
        Policy::parse(self, &settings()).unwrap()
    }

    pub(crate) fn ready(&self) -> PolicyFacts {
        PolicyFacts::Ready(Arc::new(self.parsed()))
    }
}

/// The roles of the cluster: view, maintain (escalating), author (makes tokens), and the role to act as node-reader.
pub(crate) fn roles() -> Roles {
    let role = |name: &str, rules: &[Rule]| {
        let facts = RoleFacts::new(format!("uid-of-{name}"), rules);
        ((RoleKind::ClusterRole, name.to_owned()), Arc::new(facts))
    };
    Roles::from([
        role("view", &[rule(&["get", "list", "watch"], &["pods", "services"])]),
        role("maintain", &[rule(&["*"], &["pods"])]),
        role("author", &[rule(&["create"], &["serviceaccounts/token"])]),
        role(
            "curfew-act-as-node-reader",
            &[named(
                rule(&["impersonate"], &["serviceaccounts"]),
                &["node-reader"],
            )],
        ),
    ])
}

/// The service accounts that people can act as: node-reader.
pub(crate) fn identities() -> ActAsAccounts {
    ActAsAccounts::from([("node-reader".to_owned(), "uid-of-node-reader".to_owned())])
}

/// All parts of an [`Input`], the present instant, and the announcements so far.
#[derive(Clone, Debug)]
pub(crate) struct Situation {
    pub(crate) grant: AccessGrant,
    pub(crate) namespace: Option<NamespaceFacts>,
    pub(crate) policy: PolicyFacts,
    pub(crate) roles: Roles,
    pub(crate) identities: ActAsAccounts,
    pub(crate) found: Vec<Found>,
    pub(crate) rivals: Vec<String>,
    pub(crate) pending: Vec<String>,
    pub(crate) decisions: Vec<Decision>,
    pub(crate) objections: Vec<Block>,
    pub(crate) guards: GuardState,
    pub(crate) skewed: Option<String>,
    pub(crate) tried: Tried,
    /// Whether no Job controller runs, so that fuses stay unlit.
    pub(crate) nobody_lights: bool,
    pub(crate) sweep_lives: bool,
    pub(crate) entropy: u128,
    pub(crate) settings: Settings,
    pub(crate) now: Timestamp,
    pub(crate) told: Vec<Transition>,
    /// Whether the grant object no longer exists.
    pub(crate) gone: bool,
    /// Number of artifacts made so far, for their uids.
    pub(crate) made: u32,
    /// Number of decisions made so far, for their uids.
    pub(crate) decided: usize,
}

impl Situation {
    /// This grant in a namespace that the policy selects, not planned yet.
    pub(crate) fn of(grant: AccessGrant, policy: &AccessPolicy) -> Self {
        Self {
            grant,
            namespace: Some(NamespaceFacts {
                uid: "uid-of-prod".to_owned(),
                labels: BTreeMap::from([("env".to_owned(), "prod".to_owned())]),
                terminating: false,
            }),
            policy: policy.ready(),
            roles: roles(),
            identities: identities(),
            found: Vec::new(),
            rivals: Vec::new(),
            pending: Vec::new(),
            decisions: Vec::new(),
            objections: Vec::new(),
            guards: GuardState::InForce,
            skewed: None,
            tried: Tried::default(),
            nobody_lights: false,
            sweep_lives: false,
            entropy: 7,
            settings: settings(),
            now: now(),
            told: Vec::new(),
            gone: false,
            made: 0,
            decided: 0,
        }
    }

    /// The same situation after a change.
    pub(crate) fn but(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The same situation, so much later.
    pub(crate) fn after(mut self, time: SignedDuration) -> Self {
        self.now = self.now.checked_add(time).unwrap();
        self
    }

    pub(crate) fn input(&self) -> Input<'_> {
        Input {
            grant: &self.grant,
            namespace: self.namespace.as_ref(),
            policy: &self.policy,
            roles: &self.roles,
            identities: &self.identities,
            found: &self.found,
            rivals: &self.rivals,
            pending: &self.pending,
            decisions: &self.decisions,
            objections: &self.objections,
            guards: &self.guards,
            skewed: self.skewed.as_deref(),
            tried: &self.tried,
            sweep_lives: self.sweep_lives,
            entropy: self.entropy,
            settings: &self.settings,
        }
    }

    pub(crate) fn plan(&self) -> Plan {
        plan(&self.input(), self.now)
    }

    /// A decision by a user of that group. An approval is of the access that is resolved now.
    pub(crate) fn decided(mut self, kind: DecisionKind, username: &str, group: &str) -> Self {
        let hash = self.grant.at_present().resolved.map(|access| access.hash);
        self.decided += 1;
        let number = self.decided;
        self.decisions.push(Decision {
            name: format!("decision-{number}"),
            uid: format!("uid-of-decision-{number}"),
            grant: self.grant.metadata.name.clone().unwrap_or_default(),
            grant_uid: self.grant.metadata.uid.clone().unwrap_or_default(),
            made_at: self.now,
            kind,
            access_hash: hash.filter(|_| kind == DecisionKind::Approve),
            decider: Caller {
                username: username.to_owned(),
                groups: strings(&[group, "system:authenticated"]),
            },
            reason: format!("so says {username}"),
            recorded: None,
            authority: Authority::NotHeld,
        });
        self
    }

    /// The plan of a follower.
    pub(crate) fn plan_end(&self) -> Plan {
        plan_end(&self.input(), self.now)
    }

    /// One reconcile: applies the whole plan, and the plan after the wait for fuses.
    pub(crate) fn pass(mut self) -> Self {
        let plan = self.plan();
        for effect in plan.stages.iter().flatten() {
            self.apply(effect).unwrap();
        }
        if plan.is_to_be_continued() {
            self.tried.awaited_fuses = true;
            for effect in self.plan().stages.iter().flatten() {
                self.apply(effect).unwrap();
            }
            self.tried.awaited_fuses = false;
        }
        self
    }

    /// The API server refuses this creation in this reconcile.
    pub(crate) fn refused(mut self, kind: ArtifactKind, namespace: &str, name: &str, words: &str) -> Self {
        let key = ArtifactKey {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        self.tried.refused.insert(key, words.to_owned());
        self
    }

    /// The same situation with all fuses in this state.
    pub(crate) fn burning(mut self, fuse_state: FuseState) -> Self {
        for found in &mut self.found {
            if let Content::Fuse(burning) = &mut found.content {
                *burning = fuse_state;
            }
        }
        self
    }

    fn uids(&self) -> Uids {
        let uids = self.found.iter();
        uids.map(|found| (found.key(), found.uid.clone())).collect()
    }

    /// Applies one effect as the layer `cluster` does. The error is the answer of the API server.
    pub(crate) fn apply(&mut self, effect: &Effect) -> Result<(), String> {
        match effect {
            Effect::Intend(status) | Effect::Record(status) => self.write(status.as_ref().clone()),
            Effect::RecordActive => {
                let backstops = self.input().backstops(&self.found);
                self.write(status::active(
                    &self.grant,
                    &self.uids(),
                    &backstops,
                    self.now,
                    self.now,
                ))
            }
            Effect::RecordFuses => {
                let backstops = self.input().backstops(&self.found);
                self.write(status::fused(&self.grant, &self.uids(), &backstops, self.now))
            }
            Effect::AwaitFuses(keys) => {
                for found in &mut self.found {
                    let awaited = keys.contains(&found.key()) && !self.nobody_lights;
                    if let (true, Content::Fuse(fuse_state @ FuseState::NotStarted)) =
                        (awaited, &mut found.content)
                    {
                        *fuse_state = FuseState::Lit;
                    }
                }
                Ok(())
            }
            Effect::HandOver(target) => {
                let fuse = self.there(&target.key().of_fuse()).map(|fuse| fuse.uid.clone());
                let fuse = fuse.ok_or_else(|| format!("{} has no fuse", target.name))?;
                let found = self.found.iter_mut().find(|found| found.key() == target.key());
                let found = found.ok_or_else(|| format!("{} is not there", target.name))?;
                found.owner = Some(fuse);
                Ok(())
            }
            Effect::RecordEnded(ending) => self.write(status::ended(&self.grant, ending, self.now)),
            Effect::AddFinalizer => self.hold(),
            Effect::RemoveFinalizer => {
                let finalizers = self.grant.metadata.finalizers.get_or_insert_default();
                finalizers.retain(|finalizer| finalizer != REVOKE_FINALIZER);
                self.gone = finalizers.is_empty() && self.grant.metadata.deletion_timestamp.is_some();
                Ok(())
            }
            Effect::Create(artifact) => self.make(artifact),
            Effect::Delete(target) => {
                self.found.retain(|found| {
                    found.key() != target.key() || target.uid.as_ref().is_some_and(|uid| *uid != found.uid)
                });
                Ok(())
            }
            Effect::ProveAbsent(targets) => {
                let there = targets.iter().find(|target| self.there(&target.key()).is_some());
                there.map_or(Ok(()), |target| Err(format!("{} is still there", target.name)))
            }
            Effect::Announce(announcement) => {
                self.told.push(announcement.clone());
                Ok(())
            }
            Effect::RecordVerdict(judged) => {
                let judged = judged.as_ref();
                for decision in &mut self.decisions {
                    if decision.uid == judged.decision.uid {
                        decision.recorded = Some(judged.verdict.standing);
                    }
                }
                Ok(())
            }
            Effect::DeleteGrant => {
                self.gone = true;
                Ok(())
            }
        }
    }

    pub(crate) fn find(&self, kind: ArtifactKind, name: &str) -> Option<&Found> {
        self.found
            .iter()
            .find(|found| found.kind() == kind && found.name == name)
    }

    pub(crate) fn there(&self, key: &ArtifactKey) -> Option<&Found> {
        self.found.iter().find(|found| found.key() == *key)
    }

    /// Adds our finalizer to the grant, by the rules of the API server.
    fn hold(&mut self) -> Result<(), String> {
        if self.grant.metadata.deletion_timestamp.is_some() {
            return Err("no new finalizers can be added if the object is being deleted".to_owned());
        }
        let finalizers = self.grant.metadata.finalizers.get_or_insert_default();
        if finalizers.iter().any(|finalizer| finalizer == REVOKE_FINALIZER) {
            return Err("the finalizer is there already".to_owned());
        }
        finalizers.push(REVOKE_FINALIZER.to_owned());
        Ok(())
    }

    /// Someone else deletes this artifact.
    pub(crate) fn lose(&mut self, kind: ArtifactKind, name: &str) {
        self.found
            .retain(|found| found.kind() != kind || found.name != name);
    }

    fn make(&mut self, artifact: &Artifact) -> Result<(), String> {
        if self.there(&artifact.key()).is_some() {
            return Err(format!("{} exists already", artifact.name));
        }
        let owner = match artifact.holder {
            Holder::Grant => self.grant.metadata.uid.clone(),
            Holder::Nothing => None,
            Holder::Fuse => {
                let fuse = self.there(&artifact.key().of_fuse());
                let fuse = fuse.ok_or_else(|| format!("{} has no fuse", artifact.name))?;
                Some(fuse.uid.clone())
            }
        };
        self.made += 1;
        self.found.push(Found {
            namespace: artifact.namespace.clone(),
            name: artifact.name.clone(),
            uid: format!("uid-{}", self.made),
            deleting: false,
            owner,
            content: content(artifact),
        });
        Ok(())
    }

    /// Writes the status as the API server does, with the transition rules of the CRD.
    fn write(&mut self, new: AccessGrantStatus) -> Result<(), String> {
        let old = self.grant.at_present();
        let in_force = |status: &AccessGrantStatus| {
            status
                .conditions
                .iter()
                .any(|condition| condition.type_ == conditions::ACTIVE && condition.status == "True")
        };
        if old.expires_at.is_some() && (new.expires_at.is_none() || new.expires_at > old.expires_at) {
            return Err("expiresAt only moves earlier".to_owned());
        }
        if old.expires_at.is_some() && new.resolved != old.resolved {
            return Err("status.resolved cannot change after expiresAt is set".to_owned());
        }
        if old.expires_at.is_some() && new.approvals != old.approvals {
            return Err("status.approvals cannot change after expiresAt is set".to_owned());
        }
        if old.ended_at.is_some() && new.ended_at != old.ended_at {
            return Err("an ended grant stays ended".to_owned());
        }
        if old.ended_at.is_some() && in_force(&new) {
            return Err("an ended grant never becomes active".to_owned());
        }
        self.grant.status = Some(new);
        Ok(())
    }
}

/// Content of an object in the cluster right after it was made.
pub(crate) fn content(artifact: &Artifact) -> Content {
    match &artifact.body {
        Body::Fuse { .. } => Content::Fuse(FuseState::NotStarted),
        Body::Role(rules) => Content::Role(rules.clone()),
        Body::Binding { role, subject } => Content::Binding {
            role: role.clone(),
            subjects: Some(vec![subject.clone()]),
        },
    }
}

/// A condition of generation 1 whose last transition is [`now`].
pub(crate) fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Condition {
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: Some(1),
        last_transition_time: Time(now()),
    }
}
