//! Invariants of plans: any events, in any order, with a crash anywhere.
//!
//! A [`World`] plays the API server, the garbage collector, the Job controller and everyone else. It does not model:
//! two operators at the same time (the `resourceVersion` of the write-ahead), observations older than the last write,
//! time that passes within a reconcile, refusals of anything but `Create`, windows other than one in UTC, and grants
//! whose spec is edited (the CRD forbids it).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use crate::api::{
    AccessGrant, AccessGrantStatus, AccessPolicy, ArtifactKind, Escalation, FuseDemand, Narrowing, OnChange,
    PrincipalKind, REVOKE_FINALIZER, RoleKind, Rule, Subject,
};
use crate::core::artifact::found::{Content, Found};
use crate::core::artifact::fuse::{FuseState, LATE};
use crate::core::artifact::key::ArtifactKey;
use crate::core::artifact::{Artifact, Body, Holder};
use crate::core::facts::{PolicyFacts, Tried};
use crate::core::grant::transition::Transition;
use crate::core::plan::effect::{Effect, Plan};
use crate::core::policy::Policy;
use crate::core::rbac::roles::RoleFacts;
use crate::core::rbac::rules::canonical;
use crate::core::testing::{
    Situation, act_as_entitlement, at, grant, named, now, policy, principal, role_entitlement, rule,
    rules_entitlement, seconds,
};

/// Number of reconciles after which nothing is left to do, if nobody else does anything.
const RECONCILES: usize = 6;

/// The varying parts of a policy.
#[allow(clippy::struct_excessive_bools, reason = "each varies by itself")]
#[derive(Clone, Debug)]
struct Offer {
    max_minutes: u32,
    default_minutes: Option<u32>,
    lists_people: bool,
    lists_pipeline: bool,
    lists_dave: bool,
    look: Option<RoleOffer>,
    exec: Option<(Narrowing, Option<&'static str>)>,
    /// Whether people may act as node-reader; `Some(true)`: they keep that when the account changes.
    nodes: Option<bool>,
    /// From 09:00 to 10:00 UTC only.
    in_the_morning: bool,
    keep: bool,
    limit: u16,
    /// Demand for fuses. Without fuses nobody can act as node-reader.
    fuse: FuseDemand,
}

#[derive(Clone, Debug)]
struct RoleOffer {
    role: &'static str,
    keep: bool,
    knowingly: bool,
}

/// The varying parts of a request.
#[derive(Clone, Debug)]
struct Ask {
    pipeline: bool,
    receiver: Receiver,
    items: Items,
    /// Also asks to act as node-reader.
    acts: bool,
    minutes: Option<u32>,
    /// In seconds from the start.
    not_after: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Receiver {
    Requester,
    Dave,
    Mallory,
    Masters,
}

#[derive(Clone, Copy, Debug)]
enum Items {
    Default,
    Look,
    Exec(Option<&'static str>),
    Both,
}

/// State of the role view.
#[derive(Clone, Copy, Debug, PartialEq)]
enum View {
    AsItWas,
    Wider,
    Escalating,
    /// The role allows persistence.
    Lasting,
    Absent,
}

/// State of the service account to act as, and of the role that allows it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Account {
    AsItWas,
    /// The role allows to act as other accounts too.
    Wider,
    NoRole,
    Absent,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum PolicyState {
    Ready,
    /// Valid, but a role or a right is missing in the cluster.
    Lacking,
    Broken,
    Gone,
}

/// One event.
#[derive(Clone, Debug)]
enum Step {
    Reconcile,
    /// A reconcile that dies in that stage, after some of its effects.
    Crash {
        stage: usize,
        done: u8,
        backwards: bool,
    },
    Later(i64),
    /// Time goes on to so many seconds after the recorded expiry time.
    ToTheEnd(i64),
    /// A reconcile of a follower.
    Follow,
    CollectGarbage,
    Tamper(Tampering, usize),
    Policy(PolicyState),
    Edit(Offer),
    View(View),
    RemakeView,
    Account(Account),
    RemakeAccount,
    DeleteGrant,
    TerminateNamespace,
    Refuse(Option<ArtifactKind>),
    /// The Job controller starts or stops.
    JobController(bool),
    Rivals(usize),
}

/// Change by someone else to an object that has our label.
#[derive(Clone, Copy, Debug)]
enum Tampering {
    Delete,
    GiveToMallory,
    BindAdmin,
    Disown,
    Replace,
    /// Adds a foreign finalizer: the object stays after its deletion.
    Hold,
    Release,
    Plant,
}

struct World {
    situation: Situation,
    ask: Ask,
    offer: Offer,
    view: View,
    account: Account,
    /// Number of times that the service account was made again.
    accounts: u32,
    policy: PolicyState,
    /// Kind whose creation the API server refuses.
    refuses: Option<ArtifactKind>,
    /// Creation time and deadline in seconds of each fuse, by uid.
    fuses: BTreeMap<String, (Timestamp, i64)>,
    /// Expiry time of each lit fuse, by uid.
    burns: BTreeMap<String, Timestamp>,
    /// Whether the Job controller was ever stopped.
    was_dark: bool,
    /// Uids of objects that someone else made, or took from their owner.
    foreign: BTreeSet<String>,
    /// Uids of objects with a foreign finalizer.
    held: BTreeSet<String>,
    /// Whether anyone but the operator changed an artifact.
    tampered: bool,
    /// Policy, role and service account as they were when the access was recorded.
    granted: Option<(Offer, View, u32)>,
}

impl Offer {
    fn written(&self) -> AccessPolicy {
        policy().with(|spec| {
            spec.requesters = vec![principal(PrincipalKind::User, "nobody@example.com")];
            if self.lists_people {
                spec.requesters
                    .push(principal(PrincipalKind::Group, "payments-devs"));
            }
            if self.lists_pipeline {
                spec.requesters
                    .push(principal(PrincipalKind::ServiceAccount, "ci/deployer"));
            }
            spec.subjects.clear();
            if self.lists_dave {
                spec.subjects
                    .push(principal(PrincipalKind::User, "dave@example.com"));
            }
            spec.duration.max = minutes(self.max_minutes).as_str().into();
            spec.duration.default = self.default_minutes.map(|count| minutes(count).as_str().into());
            spec.on_policy_change = on_change(self.keep);
            spec.fuse = self.fuse;
            spec.limits.active_per_subject = self.limit;
            spec.retention = "1h".into();
            spec.entitlements.clear();
            if let Some(look) = &self.look {
                let mut entitlement = role_entitlement("look", look.role);
                let role = entitlement.role.as_mut().unwrap();
                role.on_change = on_change(look.keep);
                if look.knowingly {
                    role.escalation = Escalation::Allow;
                }
                spec.entitlements.push(entitlement);
            }
            if let Some((narrowing, object)) = self.exec {
                let mut entitlement = rules_entitlement("exec", narrowing);
                let rules = entitlement.rules.as_mut().unwrap();
                rules.items[0].resource_names = object.iter().map(ToString::to_string).collect();
                spec.entitlements.push(entitlement);
            }
            if let Some(keep) = self.nodes {
                let mut entitlement = act_as_entitlement("nodes", "node-reader");
                entitlement.act_as.as_mut().unwrap().on_change = on_change(keep);
                spec.entitlements.push(entitlement);
            }
        })
    }

    fn parsed(&self) -> Policy {
        let written = self.written();
        if self.in_the_morning {
            written.open(&[], "09:00", "10:00").parsed()
        } else {
            written.parsed()
        }
    }
}

fn minutes(count: u32) -> String {
    format!("{count}m")
}

fn on_change(keep: bool) -> OnChange {
    if keep { OnChange::Keep } else { OnChange::Revoke }
}

impl Ask {
    fn grant(&self) -> AccessGrant {
        let mut asked = grant("pay-123");
        if self.pipeline {
            asked = asked.asked_by_pipeline();
        }
        asked = match self.receiver {
            Receiver::Requester => asked,
            Receiver::Dave | Receiver::Mallory | Receiver::Masters => asked.given_to(self.subject()),
        };
        asked = match self.items {
            Items::Default => asked,
            Items::Look => asked.asking_for(&["look"]),
            Items::Exec(None) => asked.asking_for(&["exec"]),
            Items::Exec(Some(object)) => asked.asking_for_objects("exec", &[object]),
            Items::Both => asked.asking_for(&["look", "exec"]),
        };
        if self.acts {
            if asked.spec.entitlements.is_none() {
                asked = asked.asking_for(&["look"]);
            }
            asked = asked.and_for("nodes");
        }
        if let Some(count) = self.minutes {
            asked = asked.lasting(&minutes(count));
        }
        match self.hard_end() {
            Some(end) => asked.until(&end.to_string()),
            None => asked,
        }
    }

    fn subject(&self) -> Subject {
        match (self.receiver, self.pipeline) {
            (Receiver::Requester, false) => Subject::user("alice@example.com"),
            (Receiver::Requester, true) => Subject::service_account("ci", "deployer"),
            (Receiver::Dave, _) => Subject::user("dave@example.com"),
            (Receiver::Mallory, _) => Subject::user("mallory@example.com"),
            (Receiver::Masters, _) => Subject::user("system:admin"),
        }
    }

    fn hard_end(&self) -> Option<Timestamp> {
        self.not_after
            .map(|after| now().checked_add(seconds(after)).unwrap())
    }

    fn looks(&self) -> bool {
        matches!(self.items, Items::Default | Items::Look | Items::Both)
    }

    fn execs(&self) -> bool {
        matches!(self.items, Items::Exec(_) | Items::Both)
    }

    fn object(&self) -> Option<&'static str> {
        match self.items {
            Items::Exec(object) => object,
            Items::Default | Items::Look | Items::Both => None,
        }
    }
}

/// Rules of the role view.
fn view_rules(view: View) -> Vec<Rule> {
    canonical(&match view {
        View::AsItWas => vec![rule(&["get"], &["pods"])],
        View::Wider => vec![rule(&["get"], &["pods", "secrets"])],
        View::Escalating => vec![rule(&["*"], &["pods"])],
        View::Lasting => vec![rule(&["create"], &["secrets"])],
        View::Absent => Vec::new(),
    })
}

impl World {
    fn new(ask: Ask, offer: Offer) -> Self {
        let mut world = Self {
            situation: Situation::of(ask.grant(), &policy()),
            ask,
            offer,
            view: View::AsItWas,
            account: Account::AsItWas,
            accounts: 0,
            policy: PolicyState::Ready,
            refuses: None,
            fuses: BTreeMap::new(),
            burns: BTreeMap::new(),
            was_dark: false,
            foreign: BTreeSet::new(),
            held: BTreeSet::new(),
            tampered: false,
            granted: None,
        };
        world.set_policy(PolicyState::Ready);
        world.set_view(View::AsItWas);
        world.set_account(Account::AsItWas);
        world
    }

    fn set_account(&mut self, account: Account) {
        self.account = account;
        let role = (RoleKind::ClusterRole, "curfew-act-as-node-reader".to_owned());
        self.situation.roles.remove(&role);
        let names: &[&str] = match account {
            Account::NoRole => &[],
            Account::Wider => &["node-reader", "node-writer"],
            Account::AsItWas | Account::Absent => &["node-reader"],
        };
        if !names.is_empty() {
            let rules = [named(rule(&["impersonate"], &["serviceaccounts"]), names)];
            let facts = RoleFacts::new("uid-of-act-as", &rules);
            self.situation.roles.insert(role, Arc::new(facts));
        }
        self.situation.identities.clear();
        if account != Account::Absent {
            let uid = format!("account-{}", self.accounts);
            self.situation.identities.insert("node-reader".to_owned(), uid);
        }
    }

    /// Whether people may act as the service account, if the request asks for that.
    fn account_is_fine(&self) -> bool {
        !self.ask.acts || self.account == Account::AsItWas
    }

    /// Whether the service account is unchanged since it was granted, or the policy keeps access despite the change.
    fn account_is_as_granted(&self) -> bool {
        let (_, _, accounts) = self.granted.as_ref().expect("never granted");
        let same = self.account == Account::AsItWas && self.accounts == *accounts;
        // A role that allows to act as others is never kept.
        let kept = self.offer.nodes == Some(true) && self.account != Account::Wider;
        !self.ask.acts || same || kept
    }

    fn has_finalizer(&self) -> bool {
        let finalizers = &self.situation.grant.metadata.finalizers;
        finalizers
            .iter()
            .flatten()
            .any(|finalizer| finalizer == REVOKE_FINALIZER)
    }

    fn set_policy(&mut self, state: PolicyState) {
        self.policy = state;
        let parsed = Arc::new(self.offer.parsed());
        let (since, why) = (self.situation.now, "something".to_owned());
        self.situation.policy = match state {
            PolicyState::Ready => PolicyFacts::Ready(parsed),
            PolicyState::Lacking => PolicyFacts::Unready {
                since,
                why,
                policy: Some(parsed),
            },
            PolicyState::Broken => PolicyFacts::Unready {
                since,
                why,
                policy: None,
            },
            PolicyState::Gone => PolicyFacts::Absent {
                since,
                why,
                text: None,
            },
        };
    }

    fn set_view(&mut self, view: View) {
        self.view = view;
        let name = (RoleKind::ClusterRole, "view".to_owned());
        let uid = match self.situation.roles.get(&name) {
            Some(role) => role.uid.clone(),
            None => format!("view-since-{}", self.situation.now),
        };
        self.situation.roles.remove(&name);
        if view != View::Absent {
            let facts = RoleFacts::new(uid, &view_rules(view));
            self.situation.roles.insert(name, Arc::new(facts));
        }
    }

    /// Whether the policy accepts the request now, by a simple model. `granted`: the duration in minutes, if it was
    /// granted.
    fn admits(&self, granted: Option<u32>) -> bool {
        let (ask, offer) = (&self.ask, &self.offer);
        let listed = if ask.pipeline {
            offer.lists_pipeline
        } else {
            offer.lists_people
        };
        let end = match ask.hard_end() {
            Some(end) => end > self.situation.now,
            None => !ask.pipeline,
        };
        let receives = match ask.receiver {
            Receiver::Requester => true,
            Receiver::Dave => offer.lists_dave,
            Receiver::Mallory | Receiver::Masters => false,
        };
        let asked = granted
            .or(ask.minutes)
            .or(offer.default_minutes)
            .unwrap_or(offer.max_minutes);
        let looks = !ask.looks() || offer.look.is_some();
        let execs = !ask.execs()
            || match (offer.exec, ask.object()) {
                (None, _)
                | (Some((Narrowing::Required, _)), None)
                | (Some((Narrowing::Forbidden, _)), Some(_)) => false,
                (Some((_, Some(offered))), Some(asked)) => offered == asked,
                (Some(_), _) => true,
            };
        let acts = !ask.acts || offer.nodes.is_some();
        let hour = self.situation.now.as_second() / 3600 % 24;
        let open = !offer.in_the_morning || hour == 9;
        let alive = self
            .situation
            .namespace
            .as_ref()
            .is_some_and(|namespace| !namespace.terminating);
        listed && end && receives && asked <= offer.max_minutes && looks && execs && acts && open && alive
    }

    /// Whether the role to bind, if any, exists and may be granted.
    fn role_is_fine(&self) -> bool {
        let offered = self.offer.look.as_ref().filter(|_| self.ask.looks());
        offered.is_none_or(|look| match (look.role, self.view) {
            ("view", View::AsItWas | View::Wider | View::Lasting) => true,
            ("view", View::Absent) => false,
            // view has become escalating, or the role is maintain, which always is.
            _ => look.knowingly,
        })
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Reconcile => {
                self.reconcile();
                self.settled();
            }
            Step::Crash {
                stage,
                done,
                backwards,
            } => self.crash(*stage, *done, *backwards),
            Step::Later(count) => {
                self.situation.now = self.situation.now.checked_add(seconds(*count)).unwrap();
            }
            Step::ToTheEnd(after) => {
                if let Some(end) = self.expires_at() {
                    self.situation.now = self.situation.now.max(end.checked_add(seconds(*after)).unwrap());
                }
            }
            Step::Follow => {
                let plan = if self.situation.gone {
                    Plan::default()
                } else {
                    self.situation.plan_end()
                };
                self.follow(&plan, usize::MAX, 0, false);
            }
            Step::CollectGarbage => self.collect_garbage(),
            Step::Tamper(tampering, which) => self.tamper(*tampering, *which),
            Step::Policy(state) => self.set_policy(*state),
            Step::Edit(offer) => {
                self.offer = offer.clone();
                self.set_policy(self.policy);
            }
            Step::View(view) => self.set_view(*view),
            Step::RemakeView => {
                self.situation
                    .roles
                    .remove(&(RoleKind::ClusterRole, "view".to_owned()));
                self.set_view(self.view);
            }
            Step::Account(account) => self.set_account(*account),
            Step::RemakeAccount => {
                self.accounts += 1;
                self.set_account(self.account);
            }
            Step::DeleteGrant => self.situation.grant = self.situation.grant.clone().being_deleted(),
            Step::TerminateNamespace => {
                self.situation.namespace.as_mut().unwrap().terminating = true;
            }
            Step::Refuse(kind) => self.refuses = *kind,
            Step::JobController(there) => {
                self.situation.nobody_lights = !there;
                self.was_dark |= !there;
            }
            Step::Rivals(count) => {
                self.situation.rivals = (0..*count).map(|n| format!("dev/other-{n}")).collect();
            }
        }
        self.light();
        self.invariants();
    }

    /// The Job controller, if it runs, starts fuses that are not started.
    fn light(&mut self) {
        if self.situation.nobody_lights {
            return;
        }
        for found in &mut self.situation.found {
            let Content::Fuse(fuse_state @ FuseState::NotStarted) = &mut found.content else {
                continue;
            };
            if let Some((made, burns)) = self.fuses.get(&found.uid) {
                *fuse_state = FuseState::of(false, Some(*made), Some(self.situation.now));
                self.burns.insert(
                    found.uid.clone(),
                    self.situation.now.checked_add(seconds(*burns)).unwrap(),
                );
            }
        }
    }

    /// A reconcile without a crash. Returns whether anything was to do, except to retry refused creations.
    fn reconcile(&mut self) -> bool {
        let idle = self.to_do().stages.is_empty();
        while let Some((refused, continued)) = self.run(usize::MAX, 0, false) {
            let tried = &mut self.situation.tried;
            if refused.is_empty() && (!continued || tried.awaited_fuses) {
                break;
            }
            tried.awaited_fuses |= refused.is_empty();
            tried.refused.extend(refused);
        }
        self.situation.tried = Tried::default();
        !idle
    }

    /// The plan, except for retries of refused creations.
    fn to_do(&self) -> Plan {
        let mut situation = self.situation.clone();
        loop {
            let plan = situation.plan();
            let refused: BTreeMap<_, _> = plan
                .stages
                .iter()
                .flatten()
                .filter_map(|effect| match effect {
                    Effect::Create(made) if self.refuses == Some(made.kind()) => Some(made.key()),
                    _ => None,
                })
                .filter(|key| !situation.tried.refused.contains_key(key))
                .map(|key| (key, "forbidden".to_owned()))
                .collect();
            if refused.is_empty() {
                return plan;
            }
            situation.tried.refused.extend(refused);
        }
    }

    fn crash(&mut self, stage: usize, done: u8, backwards: bool) {
        self.run(stage, done, backwards);
    }

    /// Applies the stages before `last`, and the effects of that stage whose bit in `done` is set. Returns the refused
    /// creations, and whether the plan is to be continued; `None` after any other failure or a crash.
    fn run(
        &mut self,
        last: usize,
        done: u8,
        backwards: bool,
    ) -> Option<(BTreeMap<ArtifactKey, String>, bool)> {
        if self.situation.gone {
            return None;
        }
        self.situation.entropy += 1;
        let plan = self.situation.plan();
        let refused = self.follow(&plan, last, done, backwards)?;
        Some((refused, plan.is_to_be_continued()))
    }

    /// The same for any plan.
    fn follow(
        &mut self,
        plan: &Plan,
        last: usize,
        done: u8,
        backwards: bool,
    ) -> Option<BTreeMap<ArtifactKey, String>> {
        for (position, effects) in plan.stages.iter().enumerate() {
            assert!(!effects.is_empty());
            let mut chosen: Vec<&Effect> = effects
                .iter()
                .enumerate()
                .filter(|(bit, _)| position < last || done >> (bit % 8) & 1 == 1)
                .map(|(_, effect)| effect)
                .collect();
            if backwards {
                chosen.reverse();
            }
            let mut failed = false;
            let mut refused = BTreeMap::new();
            for effect in chosen {
                match self.effect(effect) {
                    Ok(()) => {}
                    Err(Some(key)) => {
                        refused.insert(key, "forbidden".to_owned());
                    }
                    Err(None) => failed = true,
                }
                self.invariants();
            }
            if position == last || failed {
                return None;
            }
            if !refused.is_empty() {
                return Some(refused);
            }
        }
        Some(BTreeMap::new())
    }

    /// Applies one effect. The error is the key of a refused creation, or `None` for any other failure.
    fn effect(&mut self, effect: &Effect) -> Result<(), Option<ArtifactKey>> {
        match effect {
            Effect::Intend(status) => {
                self.may_be_intended(status);
                self.granted = Some((self.offer.clone(), self.view, self.accounts));
            }
            Effect::Create(artifact) => {
                if self.refuses == Some(artifact.kind()) {
                    return Err(Some(artifact.key()));
                }
                self.may_be_made(artifact);
            }
            Effect::Delete(target) => {
                let stays =
                    |found: &&mut Found| found.key() == target.key() && self.held.contains(&found.uid);
                if let Some(found) = self.situation.found.iter_mut().find(stays) {
                    found.deleting = true;
                    return Ok(());
                }
            }
            Effect::RecordEnded(_) => {
                let access: Vec<&Found> = self
                    .situation
                    .found
                    .iter()
                    .filter(|found| gives_access(found))
                    .collect();
                assert!(access.is_empty(), "recorded as ended with {access:?}");
                assert!(
                    matches!(self.situation.told.last(), Some(Transition::Ended(_))),
                    "not announced"
                );
            }
            Effect::RecordActive => {
                assert!(
                    matches!(
                        self.situation.told.last(),
                        Some(Transition::Activated { .. } | Transition::Unfused { .. })
                    ),
                    "not announced"
                );
            }
            Effect::AwaitFuses(_) => {
                self.light();
                return Ok(());
            }
            Effect::Record(status) => {
                let announced = matches!(self.situation.told.last(), Some(Transition::Denied { .. }));
                assert!(status.ended_at.is_none() || announced, "not announced");
                let waits = status
                    .conditions
                    .iter()
                    .any(|condition| condition.type_ == "Fused");
                assert!(status.expires_at.is_none() || waits);
            }
            Effect::DeleteGrant => {
                let access = self
                    .situation
                    .found
                    .iter()
                    .filter(|found| !self.held.contains(&found.uid));
                assert_eq!(access.count(), 0, "the grant is deleted before its artifacts");
            }
            Effect::AddFinalizer => assert!(
                self.ask.acts,
                "a finalizer, although the grant owns all artifacts"
            ),
            Effect::RemoveFinalizer => {
                let access: Vec<&Found> = self
                    .situation
                    .found
                    .iter()
                    .filter(|found| gives_access(found))
                    .collect();
                assert!(access.is_empty(), "S5: finalizer removed with {access:?}");
                let status = self.situation.grant.at_present();
                assert!(status.ended_at.is_some() || status.expires_at.is_none());
            }
            Effect::ProveAbsent(_)
            | Effect::Announce(_)
            | Effect::RecordVerdict(_)
            | Effect::HandOver(_)
            | Effect::RecordFuses => {}
        }
        match self.situation.apply(effect) {
            Ok(()) => {}
            // A foreign finalizer blocks a deletion.
            Err(_) if matches!(effect, Effect::ProveAbsent(_)) && !self.held.is_empty() => return Err(None),
            Err(refusal) => panic!("{effect:?}: {refusal}"),
        }
        if let Effect::Create(artifact) = effect
            && let Body::Fuse { seconds: burns_after } = artifact.body
        {
            let burns = self.situation.now.checked_add(seconds(burns_after)).unwrap();
            assert!(burns >= artifact.not_after, "a fuse expires before the access");
            let late = burns.duration_since(artifact.not_after);
            assert!(late <= seconds(2), "a fuse expires {late} late");
            let fuse = self.situation.found.last().unwrap();
            self.fuses
                .insert(fuse.uid.clone(), (self.situation.now, burns_after));
        }
        Ok(())
    }

    fn may_be_intended(&self, status: &AccessGrantStatus) {
        assert!(
            self.situation.grant.at_present().expires_at.is_none(),
            "two write-aheads"
        );
        let end = status.expires_at.as_ref().unwrap().0;
        let longest = seconds(i64::from(self.offer.max_minutes) * 60);
        assert!(self.situation.now < end, "expired before it began");
        assert!(
            end <= self.situation.now.checked_add(longest).unwrap(),
            "longer than the policy allows"
        );
        assert!(
            self.ask.hard_end().is_none_or(|hard| end <= hard),
            "beyond notAfter"
        );
        assert!(
            !self.offer.in_the_morning || end <= at("2026-12-01T10:00:00Z"),
            "beyond the window"
        );
        assert!(self.policy == PolicyState::Ready && self.admits(None));
        assert!(self.role_is_fine() && self.account_is_fine());
        assert!(self.situation.rivals.len() < usize::from(self.offer.limit));
    }

    /// S1, S3, S4, S8: an artifact that is made is recorded, its grant is live, and the policy offers it at this
    /// instant.
    fn may_be_made(&self, artifact: &Artifact) {
        if artifact.kind() == ArtifactKind::Job {
            return;
        }
        let status = self.situation.grant.at_present();
        let record = status
            .artifacts
            .iter()
            .find(|record| ArtifactKey::from(*record) == artifact.key())
            .expect("made without a record");
        let fuse = self.situation.there(&artifact.key().of_fuse());
        match self.demand() {
            FuseDemand::Required => assert_eq!(
                fuse.map(|fuse| &fuse.content),
                Some(&Content::Fuse(FuseState::Lit)),
                "made before its fuse is lit"
            ),
            FuseDemand::Preferred => {
                assert!(fuse.is_some() || artifact.holder == Holder::Grant);
                assert!(artifact.holder == Holder::Fuse || artifact.namespace == "prod");
            }
            FuseDemand::None => assert_eq!(artifact.holder, Holder::Grant),
        }
        assert_eq!(status.ended_at, None, "made after the end");
        assert_eq!(artifact.not_after, status.expires_at.unwrap().0);
        assert!(
            self.situation.now < artifact.not_after,
            "made at or after its end"
        );
        assert!(
            self.situation.grant.metadata.deletion_timestamp.is_none(),
            "made for a deleted grant"
        );
        assert!(
            matches!(self.policy, PolicyState::Ready | PolicyState::Lacking),
            "made without a policy"
        );
        let granted = granted_minutes(&status.resolved.unwrap().duration);
        assert!(
            self.admits(Some(granted)),
            "made, although the policy does not accept the request"
        );
        assert!(self.lies_within(), "made, although the policy does not offer it");
        match (&artifact.body, record.entitlement.as_str()) {
            (Body::Role(rules), "exec") => assert_eq!(*rules, self.exec_rules()),
            (Body::Binding { role, subject }, "exec") => {
                assert_eq!(*subject, self.ask.subject());
                assert_eq!(*role, (RoleKind::Role, artifact.name.clone()));
                let bound = self
                    .situation
                    .find(ArtifactKind::Role, &artifact.name)
                    .expect("bound before its Role");
                assert_eq!(bound.content, Content::Role(self.exec_rules()));
            }
            (Body::Binding { role, subject }, "look") if artifact.name.ends_with("-elevated") => {
                assert!(self.is_elevated(), "marked, although it allows no persistence");
                assert_eq!(*subject, self.ask.subject());
                assert_eq!(*role, (RoleKind::ClusterRole, "curfew-elevated".to_owned()));
            }
            (Body::Binding { role, subject }, "look") => {
                let mark = format!("{}-elevated", artifact.name);
                let is_there = self.situation.find(ArtifactKind::RoleBinding, &mark).is_some();
                assert_eq!(is_there, self.is_elevated());
                assert_eq!(*subject, self.ask.subject());
                let offered = self.offer.look.as_ref().expect("not offered");
                assert_eq!(*role, (RoleKind::ClusterRole, offered.role.to_owned()));
                assert!(self.role_is_fine());
            }
            (Body::Binding { role, subject }, "nodes") => {
                assert_eq!(*subject, self.ask.subject());
                assert_eq!(
                    *role,
                    (RoleKind::ClusterRole, "curfew-act-as-node-reader".to_owned())
                );
                assert_eq!(artifact.namespace, "curfew-identities");
                assert!(
                    self.has_finalizer(),
                    "bound in another namespace without a finalizer"
                );
                assert!(self.account_is_as_granted() && self.account != Account::NoRole);
            }
            other => panic!("never made: {other:?}"),
        }
    }

    /// Demand for fuses at the time of the grant.
    fn demand(&self) -> FuseDemand {
        let resolved = self.situation.grant.at_present().resolved;
        resolved.map_or(self.offer.fuse, |access| access.fuse)
    }

    /// Whether the granted look allows persistence.
    fn is_elevated(&self) -> bool {
        let (offer, view, _) = self.granted.as_ref().expect("never granted");
        *view == View::Lasting && offer.look.as_ref().is_some_and(|look| look.role == "view")
    }

    /// The object for which exec was granted; `None`: every object.
    fn exec_object(&self) -> Option<&'static str> {
        let (offer, _, _) = self.granted.as_ref().expect("never granted");
        self.ask.object().or(offer.exec.expect("not offered").1)
    }

    fn exec_rules(&self) -> Vec<Rule> {
        let whole = rule(&["create"], &["pods/exec"]);
        vec![match self.exec_object() {
            Some(object) => named(whole, &[object]),
            None => whole,
        }]
    }

    /// S4: whether the policy still offers the granted access.
    fn lies_within(&self) -> bool {
        let (granted, view, _) = self.granted.as_ref().expect("never granted");
        let looks = !self.ask.looks()
            || match (&granted.look, &self.offer.look) {
                (Some(granted), Some(offered)) => {
                    let escalates = granted.role == "maintain" || *view == View::Escalating;
                    granted.role == offered.role && (offered.knowingly || !escalates)
                }
                _ => false,
            };
        let execs = !self.ask.execs()
            || self
                .offer
                .exec
                .is_some_and(|(_, offered)| offered.is_none() || offered == self.exec_object());
        let fused = self.offer.fuse != FuseDemand::Required || granted.fuse != FuseDemand::None;
        looks && execs && fused && (!self.ask.acts || self.offer.nodes.is_some())
    }

    /// Whether the role is unchanged since it was granted, or the policy keeps access despite the change.
    fn role_is_as_granted(&self) -> bool {
        let (granted, view, _) = self.granted.as_ref().expect("never granted");
        let bound = granted
            .look
            .as_ref()
            .filter(|look| self.ask.looks() && look.role == "view");
        let minds = || {
            self.offer
                .look
                .as_ref()
                .is_none_or(|offered| !offered.keep || offered.role != "view")
        };
        let outgrown = self.view == View::Lasting && !self.is_elevated();
        bound.is_none() || *view == self.view || !(minds() || outgrown)
    }

    fn expires_at(&self) -> Option<Timestamp> {
        self.situation.grant.at_present().expires_at.map(|end| end.0)
    }

    fn is_ended(&self) -> bool {
        self.situation.gone || self.situation.grant.at_present().ended_at.is_some()
    }

    /// Removes objects whose owner is gone, and expired fuses.
    fn collect_garbage(&mut self) {
        let burnt = |found: &Found| {
            self.burns
                .get(&found.uid)
                .is_some_and(|at| *at <= self.situation.now)
        };
        let before = self.situation.found.len();
        let mut kept: Vec<Found> = self
            .situation
            .found
            .iter()
            .filter(|found| !burnt(found))
            .cloned()
            .collect();
        // Twice, since dependants of dependants go in the same step.
        for _ in 0..2 {
            let mut uids: BTreeSet<String> = kept.iter().map(|found| found.uid.clone()).collect();
            if !self.situation.gone {
                uids.extend(self.situation.grant.metadata.uid.clone());
            }
            kept.retain(|found| {
                let owned = found.owner.as_ref().is_none_or(|owner| uids.contains(owner));
                owned || self.held.contains(&found.uid)
            });
        }
        self.tampered |= kept.len() != before;
        self.situation.found = kept;
    }

    fn tamper(&mut self, tampering: Tampering, which: usize) {
        if let Tampering::Release = tampering {
            let held = std::mem::take(&mut self.held);
            self.situation
                .found
                .retain(|found| !(found.deleting && held.contains(&found.uid)));
            return;
        }
        if self.situation.gone {
            // An object planted for a deleted grant is an orphan, which is not part of the plan of a grant.
            return;
        }
        self.tampered = true;
        let fresh = format!("foreign-{}", self.situation.entropy);
        self.situation.entropy += 1;
        if let Tampering::Plant = tampering {
            let admin = (RoleKind::ClusterRole, "admin".to_owned());
            self.foreign.insert(fresh.clone());
            let namespace = ["prod", "curfew-identities"][which % 2];
            self.situation.found.push(Found {
                namespace: namespace.to_owned(),
                name: fresh.clone(),
                uid: fresh,
                deleting: false,
                owner: None,
                content: Content::Binding {
                    role: admin,
                    subjects: Some(vec![Subject::user("mallory@example.com")]),
                },
            });
            return;
        }
        let count = self.situation.found.len();
        if count == 0 {
            return;
        }
        let found = &mut self.situation.found[which % count];
        match (tampering, &mut found.content) {
            (Tampering::Delete, _) if !self.held.contains(&found.uid) => {
                self.situation.found.remove(which % count);
            }
            (Tampering::GiveToMallory, Content::Binding { subjects, .. }) => {
                *subjects = Some(vec![Subject::user("mallory@example.com")]);
            }
            (Tampering::BindAdmin, Content::Binding { role, .. }) => {
                *role = (RoleKind::ClusterRole, "admin".to_owned());
            }
            // A fuse in another namespace has no owner.
            (Tampering::Disown, _) if found.owner.is_some() => {
                found.owner = None;
                self.foreign.insert(found.uid.clone());
            }
            (Tampering::Replace, _) => {
                let replaced = std::mem::replace(&mut found.uid, fresh.clone());
                let burns = self.burns.get(&replaced).copied();
                self.burns.extend(burns.map(|burns| (fresh.clone(), burns)));
                let fuse = self.fuses.get(&replaced).copied();
                self.fuses.extend(fuse.map(|fuse| (fresh.clone(), fuse)));
                if self.foreign.contains(&replaced) {
                    self.foreign.insert(fresh);
                }
            }
            (Tampering::Hold, _) => {
                self.held.insert(found.uid.clone());
            }
            _ => {}
        }
    }

    /// Invariants at every instant, also in the middle of a reconcile.
    fn invariants(&self) {
        let status = self.situation.grant.at_present();
        for found in self.situation.found.iter().filter(|found| gives_access(found)) {
            let ours = !self.foreign.contains(&found.uid);
            let recorded = status
                .artifacts
                .iter()
                .any(|record| ArtifactKey::from(record) == found.key());
            let owned = found.namespace == "prod";
            assert!(
                owned || self.has_finalizer() || !ours,
                "no finalizer with {found:?}"
            );
            assert!(recorded || !ours, "S1: {found:?} is not recorded");
            assert!(!(self.is_ended() && ours), "S8: ended with {found:?}");
        }
        let in_force = status
            .conditions
            .iter()
            .any(|condition| condition.type_ == "Active" && condition.status == "True");
        assert!(!(in_force && status.ended_at.is_some()), "S8: ended and active");
        let there = |name: &str| self.situation.find(ArtifactKind::RoleBinding, name).is_some();
        let markers = status.artifacts.iter().map(|record| record.name.as_str());
        for marker in markers.filter(|name| name.ends_with("-elevated")) {
            let binding = marker.trim_end_matches("-elevated");
            assert!(
                self.tampered || !there(binding) || there(marker),
                "elevated without a marker"
            );
        }
        self.fuses_hold();
        self.followers_only_end_what_is_due();
    }

    /// A follower plans the same as a leader for expired access, and nothing else.
    fn followers_only_end_what_is_due(&self) {
        if self.situation.gone {
            return;
        }
        let plan = self.situation.plan_end();
        match self.expires_at().filter(|_| !self.is_ended()) {
            Some(end) if end <= self.situation.now => assert_eq!(plan, self.situation.plan()),
            end => assert_eq!((plan.stages.len(), plan.wake), (0, end)),
        }
    }

    /// With only Kubernetes itself alive, no access outlives its expiry time by more than the grace of its fuse, plus
    /// the time by which the fuse was lit late. Exception: access without a lit fuse, where the policy tolerates that.
    fn fuses_hold(&self) {
        let Some(end) = self.expires_at() else {
            return;
        };
        let dark = if self.was_dark { LATE } else { seconds(0) };
        let latest = self
            .situation
            .now
            .max(end.checked_add(seconds(2) + dark).unwrap());
        let mut alone = World {
            situation: self.situation.clone(),
            ask: self.ask.clone(),
            offer: self.offer.clone(),
            view: self.view,
            account: self.account,
            accounts: self.accounts,
            policy: self.policy,
            refuses: None,
            fuses: self.fuses.clone(),
            burns: self.burns.clone(),
            was_dark: self.was_dark,
            foreign: self.foreign.clone(),
            held: self.held.clone(),
            tampered: true,
            granted: None,
        };
        alone.light();
        let lit: BTreeSet<String> = alone
            .situation
            .found
            .iter()
            .filter(|found| found.content == Content::Fuse(FuseState::Lit))
            .map(|found| found.uid.clone())
            .collect();
        let demand = self.demand();
        let tolerated = |found: &Found| {
            demand != FuseDemand::Required && found.owner.as_ref().is_none_or(|owner| !lit.contains(owner))
        };
        alone.situation.now = latest;
        alone.collect_garbage();
        let disowned = |found: &Found| {
            // Someone else took this object, or the fuse that owns it, out of the chain of owners.
            let chain = [Some(&found.uid), found.owner.as_ref()];
            chain
                .into_iter()
                .flatten()
                .any(|uid| self.foreign.contains(uid) || self.held.contains(uid))
        };
        let left: Vec<&Found> = alone
            .situation
            .found
            .iter()
            .filter(|found| gives_access(found) && !disowned(found) && !tolerated(found))
            .collect();
        assert!(left.is_empty(), "with the operator dead, {left:?} outlives {end}");
    }

    /// Invariants after a complete reconcile.
    fn settled(&mut self) {
        if self.held.is_empty() && !self.situation.gone {
            if !self.tampered {
                let again = self.to_do();
                assert!(again.stages.is_empty(), "not a fixpoint: {again:?}");
            }
            self.until_nothing_is_left_to_do();
        }
        if self.situation.gone || !self.held.is_empty() {
            return;
        }
        let status = self.situation.grant.at_present();
        if self.situation.found.iter().any(gives_access) {
            // S2 with a live replica, S3, S4: a policy backs all access that exists.
            let end = self.expires_at().expect("S1");
            assert!(self.situation.now < end && status.ended_at.is_none());
            let active = status.activated_at.is_some();
            assert!(self.situation.grant.metadata.deletion_timestamp.is_none());
            for found in &self.situation.found {
                assert!(
                    !self.foreign.contains(&found.uid),
                    "a foreign object is left: {found:?}"
                );
            }
            let subject = self.ask.subject();
            for found in &self.situation.found {
                if let Content::Binding { role, subjects } = &found.content {
                    assert_eq!(
                        subjects.as_deref(),
                        Some(std::slice::from_ref(&subject)),
                        "in force for others"
                    );
                    assert_ne!(role.1, "admin", "in force with another role");
                }
            }
            let resolved = status.resolved.unwrap();
            let backed = match &self.situation.policy {
                PolicyFacts::Absent { since, .. }
                | PolicyFacts::Unready {
                    since, policy: None, ..
                } => {
                    // Half-made access waits for its policy as long as a request does.
                    let grace = if active { 60 } else { 5 };
                    self.situation.now.duration_since(*since) < SignedDuration::from_secs(grace)
                }
                PolicyFacts::Ready(_) | PolicyFacts::Unready { .. } => {
                    let mut said = status.conditions.iter();
                    let waits = said.any(|said| said.type_ == "Fused" && said.status == "False");
                    assert!(active || waits, "half made, although it waits for no fuse");
                    let granted = granted_minutes(&resolved.duration);
                    assert!(self.role_is_as_granted(), "in force, although its role changed");
                    assert!(
                        self.account_is_as_granted(),
                        "in force, although its service account changed"
                    );
                    self.offer.keep || (self.admits(Some(granted)) && self.lies_within())
                }
            };
            assert!(backed, "in force, although no policy backs it");
        }
    }

    fn until_nothing_is_left_to_do(&mut self) {
        for _ in 0..RECONCILES {
            if self.situation.gone || !self.reconcile() {
                return;
            }
            self.collect_garbage();
        }
        let plan = self.to_do();
        assert!(
            plan.stages.is_empty(),
            "after {RECONCILES} reconciles there is still {plan:?}"
        );
    }

    /// L1: after all faults stop, the access expires and reconciles go on.
    fn finish(&mut self) {
        self.refuses = None;
        self.situation.nobody_lights = false;
        self.light();
        self.tamper(Tampering::Release, 0);
        // An undecided request may still be granted, and ends later.
        for _ in 0..2 {
            self.situation.now = self.situation.now.checked_add(seconds(6)).unwrap();
            self.situation.now = self
                .expires_at()
                .map_or(self.situation.now, |end| self.situation.now.max(end));
            self.until_nothing_is_left_to_do();
        }
        assert_eq!(self.situation.found, [], "artifacts are left");
        let deleted_undecided =
            self.situation.grant.metadata.deletion_timestamp.is_some() && self.expires_at().is_none();
        assert!(self.is_ended() || deleted_undecided, "the grant never ended");
        assert!(!self.has_finalizer(), "the finalizer is left without artifacts");
    }
}

fn gives_access(found: &Found) -> bool {
    found.kind() != ArtifactKind::Job
}

fn granted_minutes(duration: &str) -> u32 {
    crate::core::time::duration::AccessDuration::parse(duration)
        .unwrap()
        .seconds()
        / 60
}

fn offers() -> impl Strategy<Value = Offer> {
    let role = (
        prop_oneof![4 => Just("view"), 1 => Just("maintain")],
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(role, keep, knowingly)| RoleOffer {
            role,
            keep,
            knowingly,
        });
    let narrowing = prop_oneof![
        3 => Just(Narrowing::Optional),
        1 => Just(Narrowing::Required),
        1 => Just(Narrowing::Forbidden)
    ];
    let exec = (narrowing, prop_oneof![2 => Just(None), 1 => Just(Some("api-0"))]);
    let mostly = || prop::bool::weighted(0.85);
    (
        (
            prop::sample::select(vec![1, 10, 60, 240]),
            prop_oneof![Just(None), Just(Some(1))],
        ),
        (mostly(), mostly(), mostly()),
        prop::option::weighted(0.9, role),
        (
            prop::option::weighted(0.8, exec),
            prop::option::weighted(0.8, any::<bool>()),
        ),
        prop::bool::weighted(0.2),
        any::<bool>(),
        1_u16..=2,
        demands(),
    )
        .prop_map(
            |(lengths, lists, look, (exec, nodes), in_the_morning, keep, limit, fuse)| Offer {
                max_minutes: lengths.0,
                default_minutes: lengths.1,
                lists_people: lists.0,
                lists_pipeline: lists.1,
                lists_dave: lists.2,
                look,
                exec,
                nodes: nodes.filter(|_| fuse != FuseDemand::None),
                in_the_morning,
                keep,
                limit,
                fuse,
            },
        )
}

fn demands() -> impl Strategy<Value = FuseDemand> {
    prop_oneof![
        3 => Just(FuseDemand::Preferred),
        2 => Just(FuseDemand::Required),
        1 => Just(FuseDemand::None)
    ]
}

fn asks() -> impl Strategy<Value = Ask> {
    let receiver = prop_oneof![
        6 => Just(Receiver::Requester),
        2 => Just(Receiver::Dave),
        1 => Just(Receiver::Mallory),
        1 => Just(Receiver::Masters)
    ];
    let items = prop_oneof![
        2 => Just(Items::Default),
        1 => Just(Items::Look),
        1 => Just(Items::Exec(None)),
        1 => Just(Items::Exec(Some("api-0"))),
        1 => Just(Items::Exec(Some("api-9"))),
        3 => Just(Items::Both)
    ];
    (
        prop::bool::weighted(0.2),
        receiver,
        items,
        prop::bool::weighted(0.4),
        prop::option::of(prop::sample::select(vec![1, 10, 10, 60, 300])),
        prop::option::of(prop::sample::select(vec![-60, 0, 45, 600, 7200, 7200])),
    )
        .prop_map(|(pipeline, receiver, items, acts, minutes, not_after)| Ask {
            pipeline,
            receiver,
            items,
            acts,
            minutes,
            not_after,
        })
}

/// A request that the policy accepts.
fn admitted() -> impl Strategy<Value = (Ask, Offer)> {
    (asks(), offers()).prop_map(|(mut ask, mut offer)| {
        offer.lists_people = true;
        offer.lists_pipeline = true;
        offer.lists_dave = true;
        offer
            .look
            .get_or_insert(RoleOffer {
                role: "view",
                keep: false,
                knowingly: false,
            })
            .role = "view";
        offer.exec = Some((Narrowing::Optional, offer.exec.and_then(|exec| exec.1)));
        if offer.fuse == FuseDemand::None {
            ask.acts = false;
        } else {
            offer.nodes.get_or_insert(false);
        }
        if matches!(ask.receiver, Receiver::Mallory | Receiver::Masters) {
            ask.receiver = Receiver::Requester;
        }
        if matches!(ask.items, Items::Exec(Some("api-9"))) {
            ask.items = Items::Exec(Some("api-0"));
        }
        ask.minutes = ask.minutes.filter(|count| *count <= offer.max_minutes);
        ask.not_after = ask.not_after.filter(|after| *after > 0);
        if ask.pipeline {
            ask.not_after.get_or_insert(600);
        }
        (ask, offer)
    })
}

fn steps() -> impl Strategy<Value = Step> {
    let tampering = prop::sample::select(vec![
        Tampering::Delete,
        Tampering::GiveToMallory,
        Tampering::BindAdmin,
        Tampering::Disown,
        Tampering::Replace,
        Tampering::Hold,
        Tampering::Release,
        Tampering::Plant,
    ]);
    let kinds = || {
        prop::sample::select(vec![
            ArtifactKind::Job,
            ArtifactKind::Role,
            ArtifactKind::RoleBinding,
        ])
    };
    let states = vec![
        PolicyState::Ready,
        PolicyState::Lacking,
        PolicyState::Broken,
        PolicyState::Gone,
    ];
    let views = vec![
        View::AsItWas,
        View::Wider,
        View::Escalating,
        View::Lasting,
        View::Absent,
    ];
    let accounts = vec![Account::AsItWas, Account::Wider, Account::NoRole, Account::Absent];
    prop_oneof![
        5 => Just(Step::Reconcile),
        6 => (0_usize..7, any::<u8>(), any::<bool>())
            .prop_map(|(stage, done, backwards)| Step::Crash { stage, done, backwards }),
        3 => Just(Step::Follow),
        3 => prop::sample::select(vec![0, 1, 4, 5, 30, 59, 61, 600, 3600]).prop_map(Step::Later),
        2 => (-2_i64..=2).prop_map(Step::ToTheEnd),
        2 => Just(Step::CollectGarbage),
        3 => (tampering, any::<usize>()).prop_map(|(what, which)| Step::Tamper(what, which)),
        2 => prop::sample::select(states).prop_map(Step::Policy),
        1 => offers().prop_map(Step::Edit),
        1 => prop::sample::select(views).prop_map(Step::View),
        1 => Just(Step::RemakeView),
        1 => prop::sample::select(accounts).prop_map(Step::Account),
        1 => Just(Step::RemakeAccount),
        1 => Just(Step::DeleteGrant),
        1 => Just(Step::TerminateNamespace),
        1 => prop::option::of(kinds()).prop_map(Step::Refuse),
        1 => any::<bool>().prop_map(Step::JobController),
        1 => (0_usize..3).prop_map(Step::Rivals),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1024) })]

    #[test]
    fn invariants_hold_for_any_request_and_it_ends_without_a_trace(
        ask in asks(),
        offer in offers(),
        script in prop::collection::vec(steps(), 0..24),
    ) {
        let mut world = World::new(ask, offer);
        for step in &script {
            world.step(step);
        }
        world.finish();
    }

    #[test]
    fn invariants_hold_for_granted_access_and_it_ends_without_a_trace(
        (ask, offer) in admitted(),
        script in prop::collection::vec(steps(), 0..16),
    ) {
        let mut world = World::new(ask, offer);
        for step in &script {
            world.step(step);
        }
        world.finish();
    }

    #[test]
    fn a_request_is_granted_exactly_when_the_model_accepts_it(
        ask in asks(),
        offer in offers(),
        rivals in 0_usize..3,
        later in prop::sample::select(vec![0_i64, 44, 45, 3599, 3600]),
        view in prop::sample::select(
            vec![View::AsItWas, View::Wider, View::Escalating, View::Lasting, View::Absent]
        ),
        account in prop::sample::select(
            vec![Account::AsItWas, Account::AsItWas, Account::Wider, Account::NoRole, Account::Absent]
        ),
    ) {
        let mut world = World::new(ask, offer);
        world.step(&Step::Rivals(rivals));
        world.step(&Step::View(view));
        world.step(&Step::Account(account));
        world.step(&Step::Later(later));
        let expected = world.admits(None)
            && world.role_is_fine()
            && world.account_is_fine()
            && rivals < usize::from(world.offer.limit);
        world.reconcile();
        let status = world.situation.grant.at_present();
        prop_assert_eq!(status.activated_at.is_some(), expected);
        prop_assert_eq!(status.ended_at.is_some(), !expected);
        prop_assert_eq!(world.situation.found.iter().any(gives_access), expected);
    }

    #[test]
    fn an_activation_is_completed_after_a_crash_anywhere(
        (ask, offer) in admitted(),
        view in prop::sample::select(vec![View::AsItWas, View::Lasting]),
        crashes in prop::collection::vec((0_usize..6, any::<u8>(), any::<bool>()), 0..6),
    ) {
        let mut world = World::new(ask, offer);
        world.set_view(view);
        for (stage, done, backwards) in crashes {
            world.step(&Step::Crash { stage, done, backwards });
        }
        world.step(&Step::Reconcile);
        let status = world.situation.grant.at_present();
        prop_assert!(status.activated_at.is_some());
        // The objects in the cluster are exactly the recorded ones.
        let mut found: Vec<_> =
            world.situation.found.iter().map(|found| (found.key(), Some(found.uid.clone()))).collect();
        let mut recorded: Vec<_> =
            status.artifacts.iter().map(|record| (ArtifactKey::from(record), record.uid.clone())).collect();
        found.sort();
        recorded.sort();
        prop_assert_eq!(found, recorded);
        world.finish();
    }

    #[test]
    fn a_revocation_is_completed_after_a_crash_anywhere(
        (ask, offer) in admitted(),
        view in prop::sample::select(vec![View::AsItWas, View::Lasting]),
        crashes in prop::collection::vec((0_usize..6, any::<u8>(), any::<bool>()), 0..6),
        after in 0_i64..5000,
    ) {
        let mut world = World::new(ask, offer);
        world.set_view(view);
        world.step(&Step::Reconcile);
        world.step(&Step::ToTheEnd(after));
        for (stage, done, backwards) in crashes {
            world.step(&Step::Crash { stage, done, backwards });
        }
        world.step(&Step::Reconcile);
        prop_assert!(world.is_ended());
        prop_assert_eq!(world.situation.found, []);
    }
}
