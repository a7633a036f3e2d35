//! One reconcile of one grant: lock, check preconditions, observe, decide, refresh, apply.

use std::sync::Arc;

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use crate::api::{AccessGrant, RevocationCause, Subject};
use crate::app::operator::context::Operator;
use crate::app::operator::key_lock::KeyGuard;
use crate::app::operator::metrics::ReconcileStep;
use crate::cluster::client::error::Error;
use crate::cluster::grant::applied::Interrupted;
use crate::cluster::grant::apply::Application;
use crate::cluster::grant::observe::{Observation, observe};
use crate::cluster::grant::refresh::refresh;
use crate::cluster::objects::keys::GrantKey;
use crate::core::facts::{Input, Tried};
use crate::core::grant::live::Live;
use crate::core::grant::transition::Transition;
use crate::core::guard::state::GuardState;
use crate::core::plan::effect::{Effect, EffectKind, Plan, Precedence};
use crate::core::plan::{plan, plan_end};
use crate::core::request::Request;

/// How long the expiry task alone handles an overdue grant. It is longer than 1,000 revocations at once take (4 s).
/// After that the controller tries too.
const TO_EXPIRY: SignedDuration = SignedDuration::from_secs(10);

/// What a limit of a policy counts: the live grants of a subject, or the waiting requests of a requester.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Limited {
    Subject(Subject),
    Requester(String),
}

/// Why a reconcile runs, and what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Something changed. The reconcile may do everything, and only a leader may run it.
    None,
    /// The grant is due to expire. The reconcile only ends overdue access, and any replica may run it.
    Due,
}

/// State of guards and clocks at the start of a reconcile.
struct Preconditions {
    guards: GuardState,
    skewed: Option<String>,
}

/// How much of a plan was applied.
enum Applied {
    /// The whole plan.
    Whole,
    /// A part. An urgent reconcile waits for the lock, or this process no longer leads.
    Interrupted,
}

/// Locks on the limits of a policy. While they are held, no other request is counted against the same limits.
type LimitLocks<'a> = Vec<KeyGuard<'a, (String, Limited)>>;

/// A reconcile that failed.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Failed {
    /// The first error.
    pub error: Error,
    /// Whether the reconcile was ending access. Then it is retried as soon as an expiry is.
    pub ending: bool,
    /// Span of the reconcile: namespace, grant and uid for log lines about the failure.
    pub span: Span,
}

/// Reconciles one grant. Returns when to reconcile again if nothing changes; `None`: not at all.
///
/// # Guarantees
/// - Only one reconcile runs for a grant at a time in this process.
/// - `refresh` reads live what a final decision depends on, before `apply` writes.
/// - `apply` is the only step that writes. It runs the stages of the plan in order.
///
/// # Errors
/// The first effect or read that failed. The next reconcile observes again, so nothing has to be undone.
pub async fn reconcile(
    operator: &Operator,
    key: &GrantKey,
    urgency: Urgency,
) -> Result<Option<Timestamp>, Failed> {
    operator.wait_until_synced().await;
    let cluster = &operator.cluster;
    let Some(grant) = cluster.index.get_grant(key) else {
        return Ok(None);
    };
    if urgency == Urgency::None && is_left_to_expiry(operator, &grant) {
        return Ok(Some(cluster.clock.now()));
    }
    let uid = grant.uid().unwrap_or_default();
    // At level ERROR: a filter that shows a line shows the span of the line as well.
    let span = tracing::error_span!(
        "reconcile",
        namespace = key.namespace,
        grant = key.name,
        uid,
        expiry = urgency == Urgency::Due
    );
    let reconcile = Reconcile {
        operator,
        key,
        urgency,
        span: span.clone(),
    };
    reconcile.run(&uid).instrument(span).await
}

/// Whether the expiry task handles this grant at the moment: the grant has just expired, or the API server has just come
/// back. The expiry task revokes in the order of expiry; two tasks would revoke in no order.
fn is_left_to_expiry(operator: &Operator, grant: &AccessGrant) -> bool {
    let Some(live) = grant.status.as_ref().and_then(Live::of) else {
        return false;
    };
    let overdue = operator.cluster.clock.now().duration_since(live.expires_at);
    !overdue.is_negative() && (overdue < TO_EXPIRY || operator.cluster.reach.is_unsettled())
}

/// A reconcile that runs.
struct Reconcile<'a> {
    operator: &'a Operator,
    key: &'a GrantKey,
    urgency: Urgency,
    span: Span,
}

impl<'a> Reconcile<'a> {
    /// Runs the steps, and runs them again after the API server refused a creation, or after the wait for fuses.
    async fn run(&self, uid: &str) -> Result<Option<Timestamp>, Failed> {
        let lock = self.timed(ReconcileStep::Lock, self.lock(uid)).await;
        // The last holder of the lock may have written the grant.
        let Some(mut grant) = self.operator.cluster.index.get_grant(self.key) else {
            return Ok(None);
        };
        let preconditions = self.preconditions(&grant, &lock);
        let preconditions = self.timed(ReconcileStep::Preconditions, preconditions).await;
        let mut request = self.undecided(&grant);
        let mut limits = self.lock_limits(&grant, request.as_ref()).await;
        let mut tried = Tried::default();
        let mut application = None;
        loop {
            let now = self.operator.cluster.clock.now();
            let observed = observe(&self.operator.cluster, grant, request.as_ref(), now);
            let observed = self.timed(ReconcileStep::Observe, observed).await;
            let mut seen = observed.map_err(|error| self.failed(error, &tried, false))?;
            let mut plan = self.decide(&seen, &preconditions, &tried);
            if self.urgency == Urgency::None && rests_on_watched_facts(&plan) {
                let refreshed = refresh(&self.operator.cluster, seen, &self.operator.settings, now);
                let refreshed = self.timed(ReconcileStep::Refresh, refreshed).await;
                seen = refreshed.map_err(|error| self.failed(error, &tried, false))?;
                plan = self.decide(&seen, &preconditions, &tried);
            }
            let application = application.get_or_insert_with(|| self.application(&seen));
            application.find(seen.found());
            let applied = self.apply(application, &plan, std::mem::take(&mut limits), &lock);
            match self.timed(ReconcileStep::Apply, applied).await {
                Ok(Applied::Whole) if self.is_to_be_continued(&plan, &tried) => tried.awaited_fuses = true,
                Ok(Applied::Whole) => return Ok(plan.wake),
                // The urgent reconcile may have had nothing to do, so this one runs again.
                Ok(Applied::Interrupted) => return Ok(Some(self.operator.cluster.clock.now())),
                // A refused creation is never tried again, so the loop ends.
                Err(interrupted) if self.urgency == Urgency::None && !interrupted.refused.is_empty() => {
                    tried.refused.extend(interrupted.refused);
                }
                Err(interrupted) => return Err(self.failed(interrupted.error, &tried, ends(&plan))),
            }
            grant = application.grant();
            request = None;
        }
    }

    /// Measures the time of one step. The future is boxed: in one piece, a running reconcile would take 18 KiB.
    fn timed<'f, T: Send>(
        &'f self,
        step: ReconcileStep,
        work: impl Future<Output = T> + Send + 'f,
    ) -> BoxFuture<'f, T> {
        Box::pin(async move {
            let began = Instant::now();
            let result = work.await;
            self.operator.metrics.step_took(step, began.elapsed());
            result
        })
    }

    async fn lock(&self, uid: &str) -> KeyGuard<'a, String> {
        match self.urgency {
            Urgency::Due => self.operator.lock_to_end(uid).await,
            Urgency::None => self.operator.lock(uid).await,
        }
    }

    /// State of guards and clocks. The guards are checked only if access may be granted. A reconcile that only ends
    /// access does not wait for the answer.
    async fn preconditions(&self, grant: &AccessGrant, lock: &KeyGuard<'_, String>) -> Preconditions {
        if self.urgency == Urgency::Due {
            return Preconditions {
                guards: GuardState::unasked(),
                skewed: None,
            };
        }
        let guards = if awaits_access(grant) {
            tokio::select! {
                state = self.operator.guards.standing(self.key) => state,
                () = lock.urged() => GuardState::unasked(),
            }
        } else {
            GuardState::unasked()
        };
        Preconditions {
            guards,
            skewed: self.operator.skew.objection(),
        }
    }

    /// The request of a grant without a decision, if this reconcile may decide.
    fn undecided(&self, grant: &AccessGrant) -> Option<Request> {
        let decided = grant
            .status
            .as_ref()
            .is_some_and(|status| status.ended_at.is_some() || Live::of(status).is_some());
        if decided || self.urgency == Urgency::Due {
            None
        } else {
            Request::parse(grant).ok()
        }
    }

    /// Locks the limits of the policy. A request that may wait is counted by requester too; other requests do not queue
    /// for that lock. The order is always the same, so that no two reconciles wait for each other.
    async fn lock_limits(&self, grant: &AccessGrant, request: Option<&Request>) -> LimitLocks<'a> {
        let Some(request) = request else {
            return Vec::new();
        };
        let policy = &grant.spec.policy_ref.name;
        let waits = request.not_before.is_some() || self.operator.cluster.index.asks_people(policy);
        let requester = waits.then(|| Limited::Requester(request.requester.username.clone()));
        let subject = Limited::Subject(request.subject.clone());
        let mut locks = Vec::new();
        for limited in requester.into_iter().chain([subject]) {
            let lock = self.operator.limit_locks.lock((policy.clone(), limited));
            locks.push(lock.await);
        }
        locks
    }

    /// Decides. Pure: the result depends on the arguments, the settings and the time only.
    fn decide(&self, seen: &Observation, preconditions: &Preconditions, tried: &Tried) -> Plan {
        let began = Instant::now();
        let input: Input<'_> = seen.input(
            &self.operator.settings,
            &preconditions.guards,
            preconditions.skewed.as_deref(),
            tried,
        );
        let now = self.operator.cluster.clock.now();
        let plan = match self.urgency {
            Urgency::None => plan(&input, now),
            Urgency::Due => plan_end(&input, now),
        };
        self.operator
            .metrics
            .step_took(ReconcileStep::Decide, began.elapsed());
        plan
    }

    fn application(&self, seen: &Observation) -> Application<'a> {
        let cluster = &self.operator.cluster;
        let first_seen = cluster.index.first_seen(&seen.grant.uid().unwrap_or_default());
        Application::new(cluster, Arc::clone(&seen.grant), seen.found(), first_seen)
    }

    fn is_to_be_continued(&self, plan: &Plan, tried: &Tried) -> bool {
        self.urgency == Urgency::None && plan.is_to_be_continued() && !tried.awaited_fuses
    }

    /// Applies the stages of a plan, one after the other.
    async fn apply(
        &self,
        application: &mut Application<'_>,
        plan: &Plan,
        mut limits: LimitLocks<'_>,
        lock: &KeyGuard<'_, String>,
    ) -> Result<Applied, Interrupted> {
        for stage in &plan.stages {
            // The end of the term drops this reconcile. A process that was suspended gets here first.
            if self.urgency == Urgency::None && !self.operator.leadership.leads() {
                return Ok(Applied::Interrupted);
            }
            // Events and records about the start of access must not delay its end: they may wait for a permit, or for a
            // slow API server, while this reconcile holds the lock. The urgent reconcile writes them then.
            let result = if ends(plan) || !is_bookkeeping(stage) {
                application.stage(stage).await
            } else {
                tokio::select! {
                    result = application.stage(stage) => result,
                    () = lock.urged() => return Ok(Applied::Interrupted),
                }
            };
            // The next count and the expiry task see the write-ahead, or the record that the request waits.
            let records = |effect: &Effect| effect.kind() == EffectKind::RecordStatus;
            if !limits.is_empty() && stage.iter().any(records) {
                limits.clear();
                self.operator.expirations.follow(&application.grant());
            }
            result?;
        }
        Ok(Applied::Whole)
    }

    fn failed(&self, error: Error, tried: &Tried, ends: bool) -> Failed {
        Failed {
            error,
            ending: ends || self.urgency == Urgency::Due || !tried.refused.is_empty(),
            span: self.span.clone(),
        }
    }
}

/// Whether access is yet to be granted: the grant has neither ended nor been deleted, and is not active.
fn awaits_access(grant: &AccessGrant) -> bool {
    let status = grant.status.as_ref();
    grant.metadata.deletion_timestamp.is_none()
        && status.is_none_or(|status| status.ended_at.is_none() && status.activated_at.is_none())
}

/// Whether a plan denies or ends something because of a watched namespace, policy or role, or grants approved access.
/// A watch may lag, and such a decision is final; approvers must get exactly the access that they saw. Deadlines and
/// deletions need no second read. Changed artifacts were read live before.
fn rests_on_watched_facts(plan: &Plan) -> bool {
    let rests = |effect: &Effect| match effect {
        Effect::Announce(Transition::Denied { .. }) => true,
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
