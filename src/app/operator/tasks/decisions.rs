//! Decisions that no reconcile of a grant handles: their grant does not exist, or no longer exists.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::Api;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{Instrument as _, field};

use crate::api::{AccessGrant, reasons};
use crate::app::operator::context::Operator;
use crate::app::operator::leader_task::{LeaderTask, retry, run_in_terms};
use crate::cluster::client::call;
use crate::cluster::client::error::Error;
use crate::cluster::grant::decisions;
use crate::cluster::grant::publish::publish;
use crate::cluster::objects::keys::{DecisionKey, GrantKey};
use crate::core::decision::verdict::{DecisionVerdict, Verdict};
use crate::core::grant::transition::Transition;
use crate::core::replica::retry::{Class, Lane};

/// How long after a decision appears its grant is looked up. The watch of grants may lag (p99 25 ms), and tools apply a
/// grant and its decision together.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a decision is kept after its grant is gone: as long as the record of a denied grant.
const KEPT: SignedDuration = SignedDuration::from_hours(24);

/// Interval between two deletions of old decisions.
const TIDIED_EVERY: Duration = Duration::from_mins(10);

/// Handles such decisions in each term, until the future is dropped.
pub async fn run(operator: Arc<Operator>, unknown: mpsc::UnboundedReceiver<DecisionKey>) {
    let task = Decisions {
        operator: Arc::clone(&operator),
    };
    run_in_terms(&operator, task, unknown).await;
}

struct Decisions {
    operator: Arc<Operator>,
}

impl LeaderTask for Decisions {
    type Item = DecisionKey;

    async fn lead(&mut self, unknown: &mut mpsc::UnboundedReceiver<DecisionKey>) {
        let operator = &self.operator;
        let mut tasks = JoinSet::new();
        for key in operator.cluster.index.unknown_decisions() {
            tasks.spawn(look_after(Arc::clone(operator), key));
        }
        let mut tidying = tokio::time::interval(TIDIED_EVERY);
        loop {
            tokio::select! {
                Some(key) = unknown.recv() => {
                    tasks.spawn(look_after(Arc::clone(operator), key));
                }
                Some(finished) = tasks.join_next() => {
                    if let Err(panicked) = finished {
                        tracing::error!(error = %panicked, "decision task panicked");
                    }
                }
                _ = tidying.tick() => tidy(operator, operator.cluster.clock.now()).await,
            }
        }
    }
}

/// Gives one decision its verdict, and retries until that succeeds.
async fn look_after(operator: Arc<Operator>, key: DecisionKey) {
    tokio::time::sleep(PATIENCE).await;
    let span = tracing::error_span!(
        "decision",
        namespace = key.namespace,
        decision = key.name,
        grant = field::Empty,
        uid = field::Empty
    );
    let (operator, key) = (&operator, &key);
    let attempt = move || judge(operator, key);
    retry(Lane::Controller, attempt, Error::class, |error, pause| {
        tracing::warn!(%error, reason = error.reason(), retry_in = ?pause, "no verdict on a decision yet, will retry");
    })
    .instrument(span)
    .await;
}

/// Ignores a decision about a grant that does not exist. If the grant exists, its reconcile gives the verdict.
async fn judge(operator: &Operator, key: &DecisionKey) -> Result<(), Error> {
    let cluster = &operator.cluster;
    let Some(decision) = cluster.index.open_decision(key) else {
        return Ok(());
    };
    let span = tracing::Span::current();
    span.record("grant", &decision.grant);
    span.record("uid", &decision.grant_uid);
    let grant = GrantKey {
        namespace: key.namespace.clone(),
        name: decision.grant.clone(),
    };
    let grants = Api::<AccessGrant>::namespaced(cluster.client.clone(), &grant.namespace);
    let live = call("read grant", grants.get_metadata_opt(&grant.name)).await?;
    let uid = live.and_then(|live| live.metadata.uid);
    if uid.as_ref() == Some(&decision.grant_uid) {
        operator.triggers.fire_grants([grant].into());
        return Ok(());
    }
    let message = match uid {
        None => format!("there is no grant {} in this namespace", decision.grant),
        Some(uid) => format!(
            "grant {} has the uid {uid}: another request of that name; decide about that one",
            decision.grant
        ),
    };
    let judged = DecisionVerdict {
        verdict: Verdict::ignored(reasons::GRANT_NOT_FOUND, message),
        decision,
    };
    let at = cluster.clock.now();
    let announcement = Transition::Judged(Box::new(judged.clone()));
    if let Some((decision, event)) = announcement.event_of_decision(at) {
        let regarding = decisions::reference(&key.namespace, decision);
        match publish(cluster, regarding, &event, at).await {
            Err(error) if matches!(error.class(), Class::Transient | Class::Throttled) => return Err(error),
            _ => {}
        }
    }
    decisions::record(cluster, &key.namespace, &judged).await
}

/// Deletes decisions whose grant has been gone for 24 hours.
async fn tidy(operator: &Operator, now: Timestamp) {
    let cluster = &operator.cluster;
    let before = now.saturating_sub(KEPT).unwrap_or(Timestamp::MIN);
    for (key, uid) in cluster.index.stale_decisions(before, now) {
        if let Err(error) = decisions::delete(cluster, &key, &uid).await {
            tracing::warn!(namespace = key.namespace, decision = key.name, %error, reason = error.reason(),
                "cannot delete an old decision, will retry in 10 minutes");
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use kube::runtime::watcher::Event;

    use super::*;
    use crate::api::{AccessDecision, AccessDecisionSpec, DecisionKind, GrantRef, UserInfo};
    use crate::app::operator::context::testing::{first_line_of, operator};

    #[tokio::test(start_paused = true)]
    async fn each_log_line_of_a_decision_names_the_decision_and_the_grant() {
        let (operator, triggered) = operator();
        let spec = AccessDecisionSpec {
            grant_ref: GrantRef {
                name: "pay-123".to_owned(),
                uid: "uid-1".to_owned(),
            },
            decision: DecisionKind::Approve,
            access_hash: None,
            decider: Some(UserInfo {
                username: "bob".to_owned(),
                groups: Vec::new(),
            }),
            reason: None,
        };
        let mut decision = AccessDecision::new("yes", spec);
        decision.metadata.namespace = Some("prod".to_owned());
        decision.metadata.uid = Some("uid-of-yes".to_owned());
        decision.metadata.creation_timestamp = Some(Time(operator.cluster.clock.now()));
        operator
            .triggers
            .fire(operator.cluster.index.decision(&Event::Apply(decision)));
        let line = first_line_of(Box::pin(run(operator, triggered.decisions))).await;
        assert_eq!(
            line["fields"]["message"], "no verdict on a decision yet, will retry",
            "{line}"
        );
        let span = &line["span"];
        assert_eq!([&span["name"], &span["decision"]], ["decision", "yes"]);
        assert_eq!(
            [&span["namespace"], &span["grant"], &span["uid"]],
            ["prod", "pay-123", "uid-1"]
        );
    }
}
