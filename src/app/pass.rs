//! One pass over one grant: lock, observe, plan, apply.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use tokio::sync::watch;

use super::deadlines::Deadlines;
use super::keylock::{KeyGuard, KeyLocks};
use super::lease::Leadership;
use super::self_test::SelfTest;
use super::skew::SkewWatch;
use crate::api::{AccessGrant, RevocationCause, Subject};
use crate::cluster::{Application, Edges, Error, GrantKey, Interrupted, Observation, freshen, observe};
use crate::core::self_test::Standing;
use crate::core::{
    Announcement, Class, Effect, EffectKind, Input, Live, Plan, Precedence, Request, Settings, Tried, plan,
    plan_end,
};

/// How long whatever is past its end is left to the expiry lane: longer than 1,000 ends at once take (4 s), so that only
/// what that lane cannot end is tried by the other one as well.
const TO_EXPIRY: SignedDuration = SignedDuration::from_secs(10);

/// Everything a pass needs. Shared by both lanes.
pub struct Passes {
    /// The outside.
    pub edges: Edges,
    /// What the operator was told.
    pub settings: Settings,
    /// When live grants end.
    pub deadlines: Arc<Deadlines>,
    /// What may keep access from being given.
    pub gates: Gates,
    /// Whether this process leads.
    pub leadership: Leadership,
    /// Whether every watch has delivered its first list: before that, absence means nothing.
    pub synced: watch::Receiver<bool>,
    grant_locks: KeyLocks<String>,
    limit_locks: KeyLocks<(String, Limited)>,
}

/// What may keep access from being given anywhere.
#[derive(Clone)]
pub struct Gates {
    /// Whether the admission guards stand.
    pub guards: Arc<SelfTest>,
    /// Whether the clocks agree.
    pub skews: Arc<SkewWatch>,
}

/// What a pass was told at the gates.
struct Told {
    guards: Standing,
    skewed: Option<String>,
}

/// What limits count, of one policy: live grants of a subject, and requests of somebody that wait.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Limited {
    Subject(Subject),
    Requester(String),
}

/// Whether a pass is made because access is due to end, and with it what the pass may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Something changed: everything, which only a leader may.
    None,
    /// The end is reached: it ends access that is past its end and does nothing else, which anybody may.
    Due,
}

/// How much of a plan was applied.
enum Applied {
    /// All of it.
    Whole,
    /// Not all: bookkeeping gave way to somebody urgent, or this process leads no more.
    Interrupted,
}

/// A pass that failed.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Failed {
    /// Why.
    pub error: Error,
    /// Whether it was ending access.
    pub ending: bool,
}

impl Passes {
    /// Passes over the grants of a store.
    pub fn new(
        edges: Edges,
        settings: Settings,
        deadlines: Arc<Deadlines>,
        gates: Gates,
        leadership: Leadership,
        synced: watch::Receiver<bool>,
    ) -> Self {
        let (grant_locks, limit_locks) = (KeyLocks::default(), KeyLocks::default());
        Self {
            edges,
            settings,
            deadlines,
            gates,
            leadership,
            synced,
            grant_locks,
            limit_locks,
        }
    }

    /// Waits until every watch has delivered its first list.
    pub async fn wait_until_synced(&self) {
        // The sender lives as long as the process; without it nothing will ever be synced.
        if self.synced.clone().wait_for(|synced| *synced).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Locks what concerns one grant, by its uid.
    pub async fn lock(&self, uid: &str) -> KeyGuard<'_, String> {
        self.grant_locks.lock(uid.to_owned()).await
    }

    /// Locks what concerns one grant, by its uid, to end its access: bookkeeping that is under way gives way.
    pub async fn lock_to_end(&self, uid: &str) -> KeyGuard<'_, String> {
        self.grant_locks.lock_urgently(uid.to_owned()).await
    }

    /// Does what there is to do about one grant, and answers when to look again.
    pub async fn run(&self, key: &GrantKey, urgency: Urgency) -> Result<Option<Timestamp>, Failed> {
        self.wait_until_synced().await;
        let index = &self.edges.index;
        let Some(grant) = index.get_grant(key) else {
            return Ok(None);
        };
        if urgency == Urgency::None && self.is_left_to_expiry(&grant) {
            return Ok(Some(self.edges.clock.now()));
        }
        let uid = grant.uid().unwrap_or_default();
        let alone = match urgency {
            Urgency::Due => self.lock_to_end(&uid).await,
            Urgency::None => self.lock(&uid).await,
        };
        // Whoever held the lock has written since.
        let Some(grant) = index.get_grant(key) else {
            return Ok(None);
        };
        let told = self.ask_at_the_gates(key, &grant, urgency, &alone).await;
        let request = match urgency {
            Urgency::None => undecided(&grant),
            Urgency::Due => None,
        };
        let limits = match &request {
            Some(request) => self.lock_limits(&grant, request).await,
            None => Vec::new(),
        };
        match urgency {
            Urgency::None => {
                self.bring_about(grant, request.as_ref(), &told, limits, &alone)
                    .await
            }
            Urgency::Due => self.end(grant, &told, &alone).await,
        }
    }

    /// Whether a grant's end has come, or the API server has come back, so lately that the expiry lane is at it, which
    /// goes by the ends: two lanes would end access in no order.
    fn is_left_to_expiry(&self, grant: &AccessGrant) -> bool {
        let Some(live) = grant.status.as_ref().and_then(Live::of) else {
            return false;
        };
        let now = self.edges.clock.now();
        let overdue = now.duration_since(live.expires_at);
        !overdue.is_negative() && (overdue < TO_EXPIRY || self.edges.reach.is_unsettled())
    }

    /// Does what there is to do about a grant: decides, applies that, and decides again where the API server has refused
    /// to make something, or fuses were waited for.
    async fn bring_about(
        &self,
        grant: Arc<AccessGrant>,
        request: Option<&Request>,
        told: &Told,
        limits: Vec<KeyGuard<'_, (String, Limited)>>,
        alone: &KeyGuard<'_, String>,
    ) -> Result<Option<Timestamp>, Failed> {
        let mut tried = Tried::default();
        let (seen, mut plan) = self.decide(grant, request, told, &tried).await?;
        let mut application = self.application(&seen);
        let mut applied = self
            .apply(&mut application, &plan, Urgency::None, limits, alone)
            .await;
        loop {
            match applied {
                Ok(Applied::Whole) if plan.is_to_be_continued() && !tried.awaited_fuses => {
                    tried.awaited_fuses = true;
                }
                Ok(Applied::Whole) => return Ok(plan.wake),
                // Whoever was urgent may have had nothing to do.
                Ok(Applied::Interrupted) => return Ok(Some(self.edges.clock.now())),
                Err(interrupted) if interrupted.refused.is_empty() => {
                    return Err(Failed {
                        error: interrupted.error,
                        ending: ends(&plan) || !tried.refused.is_empty(),
                    });
                }
                // Nothing that was refused is tried again, so this ends.
                Err(interrupted) => tried.refused.extend(interrupted.refused),
            }
            let (seen, next) = self.decide(application.grant(), None, told, &tried).await?;
            application.find(seen.found());
            plan = next;
            applied = self
                .apply(&mut application, &plan, Urgency::None, Vec::new(), alone)
                .await;
        }
    }

    /// Ends access that is past its end.
    async fn end(
        &self,
        grant: Arc<AccessGrant>,
        told: &Told,
        alone: &KeyGuard<'_, String>,
    ) -> Result<Option<Timestamp>, Failed> {
        let (seen, plan) = self.decide_end(grant, told).await?;
        let mut application = self.application(&seen);
        match self
            .apply(&mut application, &plan, Urgency::Due, Vec::new(), alone)
            .await
        {
            Ok(Applied::Whole) => Ok(plan.wake),
            // Whoever was urgent may have had nothing to do.
            Ok(Applied::Interrupted) => Ok(Some(self.edges.clock.now())),
            Err(interrupted) => Err(Failed {
                error: interrupted.error,
                ending: ends(&plan),
            }),
        }
    }

    fn application(&self, seen: &Observation) -> Application<'_> {
        let seen_at = self.edges.index.first_seen(&seen.grant.uid().unwrap_or_default());
        Application::new(&self.edges, Arc::clone(&seen.grant), seen.found(), seen_at)
    }

    /// Locks what the limits of a request's policy count. Whoever only waits is counted by requester, and requests that
    /// cannot wait do not queue for that. Always in this order, so that no two wait for each other.
    async fn lock_limits(
        &self,
        grant: &AccessGrant,
        request: &Request,
    ) -> Vec<KeyGuard<'_, (String, Limited)>> {
        let policy = &grant.spec.policy_ref.name;
        let waits = request.not_before.is_some() || self.edges.index.asks_people(policy);
        let requester = waits.then(|| Limited::Requester(request.requester.username.clone()));
        let mut locks = Vec::new();
        for limited in requester
            .into_iter()
            .chain([Limited::Subject(request.subject.clone())])
        {
            locks.push(self.limit_locks.lock((policy.clone(), limited)).await);
        }
        locks
    }

    /// Whether the clocks agree, and whether the guards stand; the latter is asked only where access may be given.
    /// Whoever comes to end access does not wait for the answer.
    async fn ask_at_the_gates(
        &self,
        key: &GrantKey,
        grant: &AccessGrant,
        urgency: Urgency,
        alone: &KeyGuard<'_, String>,
    ) -> Told {
        if urgency == Urgency::Due {
            return Told {
                guards: Standing::unasked(),
                skewed: None,
            };
        }
        let guards = if awaits_access(grant) {
            tokio::select! {
                standing = self.gates.guards.standing(key) => standing,
                () = alone.urged() => Standing::unasked(),
            }
        } else {
            Standing::unasked()
        };
        Told {
            guards,
            skewed: self.gates.skews.objection(),
        }
    }

    fn input<'a>(&'a self, seen: &'a Observation, told: &'a Told, tried: &'a Tried) -> Input<'a> {
        seen.input(&self.settings, &told.guards, told.skewed.as_deref(), tried)
    }

    async fn decide(
        &self,
        grant: Arc<AccessGrant>,
        request: Option<&Request>,
        told: &Told,
        tried: &Tried,
    ) -> Result<(Observation, Plan), Failed> {
        let ending = !tried.refused.is_empty();
        let failed = |error| Failed { error, ending };
        let now = self.edges.clock.now();
        let seen = observe(&self.edges, grant, request, now).await.map_err(failed)?;
        let decided = plan(&self.input(&seen, told, tried), self.edges.clock.now());
        if !rests_on_watched_facts(&decided) {
            return Ok((seen, decided));
        }
        let seen = freshen(&self.edges, seen, &self.settings, now)
            .await
            .map_err(failed)?;
        let decided = plan(&self.input(&seen, told, tried), self.edges.clock.now());
        Ok((seen, decided))
    }

    async fn decide_end(&self, grant: Arc<AccessGrant>, told: &Told) -> Result<(Observation, Plan), Failed> {
        let failed = |error| Failed { error, ending: true };
        let seen = observe(&self.edges, grant, None, self.edges.clock.now())
            .await
            .map_err(failed)?;
        let decided = plan_end(
            &self.input(&seen, told, &Tried::default()),
            self.edges.clock.now(),
        );
        Ok((seen, decided))
    }

    async fn apply(
        &self,
        application: &mut Application<'_>,
        plan: &Plan,
        urgency: Urgency,
        mut limits: Vec<KeyGuard<'_, (String, Limited)>>,
        alone: &KeyGuard<'_, String>,
    ) -> Result<Applied, Interrupted> {
        for stage in &plan.stages {
            // A term that is over drops this pass; a process that was suspended gets here first.
            if urgency == Urgency::None && !self.leadership.leads() {
                return Ok(Applied::Interrupted);
            }
            // What is told and recorded of access that began must not delay its end: it waits for slots, or on a slow
            // API server, while this pass holds the lock. Whoever ends the access tells and records that.
            let result = if ends(plan) || !is_bookkeeping(stage) {
                application.stage(stage).await
            } else {
                tokio::select! {
                    result = application.stage(stage) => result,
                    () = alone.urged() => return Ok(Applied::Interrupted),
                }
            };
            // The write-ahead, or the record that it waits, is what the next count sees, and the expiry lane.
            if !limits.is_empty()
                && stage
                    .iter()
                    .any(|effect| effect.kind() == EffectKind::RecordStatus)
            {
                limits.clear();
                self.deadlines.follow(&application.grant());
            }
            result?;
        }
        Ok(Applied::Whole)
    }
}

/// Whether access is yet to be given: the grant is neither over nor on its way out, and not all of it was made.
fn awaits_access(grant: &AccessGrant) -> bool {
    let status = grant.status.as_ref();
    grant.metadata.deletion_timestamp.is_none()
        && status.is_none_or(|status| status.ended_at.is_none() && status.activated_at.is_none())
}

/// The request of a grant that nobody has decided.
fn undecided(grant: &AccessGrant) -> Option<Request> {
    let decided = grant
        .status
        .as_ref()
        .is_some_and(|status| status.ended_at.is_some() || Live::of(status).is_some());
    if decided { None } else { Request::parse(grant).ok() }
}

/// Whether a plan refuses or ends something because of what watches say of namespace, policy or roles: that is final,
/// so it is read again first. So it is before access that people approved: what they saw must be what they give, and a
/// watch may lag behind whoever changed it since. Deadlines and deletions stand by themselves, and changed artifacts
/// have been read live.
fn rests_on_watched_facts(plan: &Plan) -> bool {
    let rests = |effect: &Effect| match effect {
        Effect::Announce(Announcement::Denied { .. }) => true,
        Effect::Intend(status) => !status.approvals.is_empty(),
        Effect::RecordEnded(ending) => matches!(
            ending.cause,
            RevocationCause::RoleChanged | RevocationCause::PolicyChanged | RevocationCause::PolicyDeleted
        ),
        _ => false,
    };
    plan.stages.iter().flatten().any(rests)
}

fn is_bookkeeping(stage: &[Effect]) -> bool {
    stage
        .iter()
        .all(|effect| effect.precedence() == Precedence::Record)
}

fn ends(plan: &Plan) -> bool {
    plan.stages
        .iter()
        .flatten()
        .any(|effect| matches!(effect, Effect::RecordEnded(_)))
}

impl Failed {
    /// What kind of failure it is.
    pub fn class(&self) -> Class {
        self.error.class()
    }
}
