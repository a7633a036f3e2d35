//! The expiry task: ends access on time, on every replica, whatever else is going on.
//!
//! The watch of grants and the reconciles feed it. It runs the same reconcile as the controller, which here only ends
//! overdue access. Two replicas that end the same access do no harm: a missing artifact is as good as a deleted one, the
//! Event has the same name, and the API server refuses one of two records. The audit log may have the end once from each
//! replica, since they share nothing that could prevent that.
//!
//! The queue of the controller cannot hold a deadline. With all of its workers busy, 42 of 50 due items were not served
//! within 18 s, because it looks for a free worker in no order.

use crate::app::operator::metrics::TaskLabel;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

use crate::app::operator::context::Operator;
use crate::app::operator::metrics::PassOutcome;
use crate::app::operator::reconcile::{Failed, Urgency, reconcile};
use crate::cluster::objects::keys::GrantKey;
use crate::core::replica::retry::{Class, Lane, delay};

/// How far a follower is behind the leader. A leader that lives has mostly ended the access by then (12 ms), which spares
/// the control plane a second set of writes. If the leader is dead, access ends this much later.
const BEHIND_LEADER: Duration = Duration::from_millis(50);

/// How long a follower leaves the record to the leader when no binding is left. Bookkeeping yields to access for 2 s at
/// most.
const BEHIND_BOOKKEEPING: Duration = Duration::from_secs(3);

/// Shortest time until a grant that was due is handled again.
const AGAIN: Duration = Duration::from_millis(50);

/// Shortest time between two immediate retries of everything after the API server came back. A failed revocation is
/// retried within a second anyway.
const RECALL_EVERY: Duration = Duration::from_secs(1);

type Finished = Result<Option<Timestamp>, Failed>;

/// Ends overdue access until the future is dropped.
pub async fn run(operator: Arc<Operator>) {
    // The first round finds all overdue grants, so the oldest expiry comes first.
    operator.wait_until_synced().await;
    let mut revocations = Revocations::new(Arc::clone(&operator));
    let (cluster, expirations) = (&operator.cluster, &operator.expirations);
    let (mut forward, mut returns) = (cluster.clock.leaps(), cluster.reach.returns());
    let mut recalled: Option<Instant> = None;
    loop {
        let sleep = revocations.start_due();
        tokio::select! {
            () = tokio::time::sleep(sleep) => {}
            () = expirations.changed() => {}
            // The clock leapt forward, so an expiry may have come sooner. The sender lives as long as the clock.
            Ok(()) = forward.changed() => {}
            Ok(()) = returns.changed() => {
                if recalled.is_none_or(|last| last.elapsed() >= RECALL_EVERY) {
                    recalled = Some(Instant::now());
                    expirations.recall();
                }
            }
            Some(finished) = revocations.tasks.join_next_with_id() => revocations.settle(finished),
        }
    }
}

/// The running revocations, and the failed attempts of each grant.
struct Revocations {
    operator: Arc<Operator>,
    tasks: JoinSet<Finished>,
    keys: HashMap<Id, GrantKey>,
    attempts: HashMap<GrantKey, u32>,
}

impl Revocations {
    fn new(operator: Arc<Operator>) -> Self {
        Self {
            operator,
            tasks: JoinSet::new(),
            keys: HashMap::new(),
            attempts: HashMap::new(),
        }
    }

    /// Starts what is due. Returns the time until the next expiry.
    fn start_due(&mut self) -> Duration {
        let (cluster, expirations) = (&self.operator.cluster, &self.operator.expirations);
        let leads = self.operator.leadership.leads();
        let behind = if leads { Duration::ZERO } else { BEHIND_LEADER };
        let (due, sleep) = expirations.take_due(earlier(cluster.clock.now(), behind));
        let mut ready = Vec::new();
        for key in due {
            if let Some(end) = cluster.index.end_without_access(&key).filter(|_| !leads) {
                let patience = later(end, BEHIND_BOOKKEEPING);
                if cluster.clock.now() < patience {
                    expirations.postpone(key, patience);
                    continue;
                }
            }
            ready.push(key);
        }
        for key in ready {
            self.start(key);
        }
        sleep
    }

    fn start(&mut self, key: GrantKey) {
        let (operator, grant) = (Arc::clone(&self.operator), key.clone());
        let task = self
            .tasks
            .spawn(async move { reconcile(&operator, &grant, Urgency::Due).await });
        self.keys.insert(task.id(), key);
    }

    /// Takes the result of a reconcile into the expiry times, the metrics and the log.
    fn settle(&mut self, finished: Result<(Id, Finished), JoinError>) {
        let (id, result) = match finished {
            Ok((id, result)) => (id, Ok(result)),
            Err(panicked) => (panicked.id(), Err(panicked)),
        };
        let Some(key) = self.keys.remove(&id) else { return };
        let (now, expirations) = (self.operator.cluster.clock.now(), &self.operator.expirations);
        let class = match result {
            Ok(Ok(wake)) => {
                self.operator.metrics.passed(TaskLabel::Expiry, PassOutcome::Done);
                self.attempts.remove(&key);
                match wake {
                    Some(wake) => expirations.postpone(key, wake.max(later(now, AGAIN))),
                    None => expirations.over(&key),
                }
                return;
            }
            Ok(Err(Failed { error, span, .. })) => {
                span.in_scope(|| {
                    if error.class() == Class::Conflict {
                        tracing::debug!(%error, "conflict: another replica revoked it");
                    } else {
                        tracing::warn!(%error, reason = error.reason(), "revocation failed, will retry");
                    }
                });
                error.class()
            }
            Err(panicked) => {
                tracing::error!(namespace = key.namespace, grant = key.name, error = %panicked,
                    "revocation panicked, will retry");
                Class::Invalid
            }
        };
        self.operator
            .metrics
            .passed(TaskLabel::Expiry, PassOutcome::Failed);
        let attempt = self.attempts.entry(key.clone()).or_default();
        let pause = delay(class, Lane::Expiry, *attempt);
        *attempt = attempt.saturating_add(1);
        expirations.postpone(key, later(now, pause));
    }
}

fn later(now: Timestamp, pause: Duration) -> Timestamp {
    now.saturating_add(pause).unwrap_or(Timestamp::MAX)
}

fn earlier(now: Timestamp, pause: Duration) -> Timestamp {
    now.saturating_sub(pause).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;

    use super::*;
    use crate::api::{AccessGrantStatus, Subject};
    use crate::app::operator::context::testing::{first_line_of, grant, operator};
    use crate::core::time::timestamp::micro_time;

    #[tokio::test(start_paused = true)]
    async fn each_log_line_of_a_revocation_names_the_grant() {
        let (operator, _triggered) = operator();
        let now = operator.cluster.clock.now();
        let mut grant = grant();
        grant.status = Some(AccessGrantStatus {
            subject: Some(Subject::user("alice")),
            expires_at: Some(micro_time(now)),
            ..AccessGrantStatus::default()
        });
        operator.cluster.index.grant(&Event::Apply(grant.clone()), now);
        operator.expirations.follow(&grant);
        let line = first_line_of(Box::pin(run(operator))).await;
        assert_eq!(
            line["fields"]["message"], "revocation failed, will retry",
            "{line}"
        );
        let span = &line["span"];
        assert_eq!(span["name"], "reconcile");
        assert_eq!(
            [&span["namespace"], &span["grant"], &span["uid"]],
            ["prod", "pay-123", "uid-1"]
        );
    }
}
