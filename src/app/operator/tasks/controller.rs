//! The controller: reconciles each grant that something affected, and again when its plan says so. Only a leader runs
//! it.
//!
//! kube's `Controller` is not used. It polls every running reconcile at each wake, tracing spans included. With 1,000
//! grants at once that was 44 % of the operator's processor time, and the time a grant doubled from 100 to 1,000.
//! Curfew needs less: one reconcile of a grant at a time, one more if the grant changed meanwhile, and a delay that a
//! later one replaces.

use crate::app::operator::metrics::TaskLabel;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};

use crate::app::operator::context::Operator;
use crate::app::operator::leader_task::{LeaderTask, run_in_terms};
use crate::app::operator::metrics::PassOutcome;
use crate::app::operator::reconcile::{Failed, Urgency, reconcile};
use crate::app::operator::work_queue::{LONGEST_PAUSE, WorkQueue};
use crate::app::stop::Stop;
use crate::cluster::objects::keys::GrantKey;
use crate::core::replica::retry::{Class, Lane};

/// How long after a deadline the controller reconciles. Until then the expiry task handles the grant.
const BEHIND_EXPIRY: Duration = Duration::from_secs(1);

type Finished = Result<Option<Timestamp>, Failed>;

/// Runs the controller in each term until `stop`, and then until the running reconciles are done.
pub async fn run(operator: Arc<Operator>, affected: mpsc::UnboundedReceiver<GrantKey>, stop: Stop) {
    let controller = Controller {
        operator: Arc::clone(&operator),
        stop,
    };
    run_in_terms(&operator, controller, affected).await;
}

struct Controller {
    operator: Arc<Operator>,
    stop: Stop,
}

impl LeaderTask for Controller {
    type Item = GrantKey;

    async fn stopped(&mut self) {
        self.stop.clone().wait().await;
    }

    /// Reconciles every grant, and then the affected ones.
    async fn lead(&mut self, affected: &mut mpsc::UnboundedReceiver<GrantKey>) {
        let mut work = Work::new(Arc::clone(&self.operator));
        let cluster = &self.operator.cluster;
        let (mut forward, mut returns) = (cluster.clock.leaps(), cluster.reach.returns());
        let mut stop = std::pin::pin!(self.stop.clone().wait());
        for key in cluster.index.grants() {
            work.queue.add(key);
        }
        loop {
            let now = cluster.clock.now();
            work.queue.add_due(now);
            work.start();
            tokio::select! {
                Some(key) = affected.recv() => {
                    work.queue.add(key);
                    while let Ok(key) = affected.try_recv() {
                        work.queue.add(key);
                    }
                }
                Some(finished) = work.tasks.join_next_with_id() => work.settle(finished),
                () = tokio::time::sleep(work.queue.sleep(now)) => {}
                Ok(()) = forward.changed() => {}
                Ok(()) = returns.changed() => work.queue.recall(cluster.clock.now()),
                () = &mut stop => break,
            }
        }
        while let Some(finished) = work.tasks.join_next_with_id().await {
            work.settle(finished);
        }
    }
}

/// The queue and the running reconciles of one term.
struct Work {
    operator: Arc<Operator>,
    queue: WorkQueue,
    tasks: JoinSet<Finished>,
    keys: HashMap<Id, GrantKey>,
}

impl Work {
    fn new(operator: Arc<Operator>) -> Self {
        Self {
            operator,
            queue: WorkQueue::new(),
            tasks: JoinSet::new(),
            keys: HashMap::new(),
        }
    }

    /// Starts reconciles while there is room.
    fn start(&mut self) {
        while let Some(key) = self.queue.get() {
            let (operator, grant) = (Arc::clone(&self.operator), key.clone());
            let task = self
                .tasks
                .spawn(async move { reconcile(&operator, &grant, Urgency::None).await });
            self.keys.insert(task.id(), key);
        }
    }

    /// Takes the result of a reconcile into the queue, the metrics and the log.
    fn settle(&mut self, finished: Result<(Id, Finished), JoinError>) {
        let (id, result) = match finished {
            Ok((id, result)) => (id, Ok(result)),
            Err(panicked) => (panicked.id(), Err(panicked)),
        };
        let Some(key) = self.keys.remove(&id) else { return };
        let now = self.operator.cluster.clock.now();
        let count = |outcome| self.operator.metrics.passed(TaskLabel::Controller, outcome);
        match result {
            Ok(Ok(wake)) => {
                count(PassOutcome::Done);
                self.queue.forget(&key);
                self.queue.done(&key);
                if let Some(wake) = wake {
                    self.queue.add_after(key, pause_until(wake, now), now);
                }
            }
            Ok(Err(Failed { error, ending, span })) => {
                count(PassOutcome::Failed);
                let lane = if ending { Lane::Expiry } else { Lane::Controller };
                let (attempt, pause) = self.queue.failed(key, error.class(), lane, now);
                span.in_scope(|| {
                    tracing::warn!(%error, reason = error.reason(), attempt, retry_in = ?pause,
                        "reconcile failed, will retry");
                });
            }
            Err(panicked) => {
                count(PassOutcome::Failed);
                let (attempt, pause) = self
                    .queue
                    .failed(key.clone(), Class::Invalid, Lane::Controller, now);
                tracing::error!(namespace = key.namespace, grant = key.name, error = %panicked, attempt,
                    retry_in = ?pause, "reconcile panicked, will retry");
            }
        }
    }
}

fn pause_until(wake: Timestamp, now: Timestamp) -> Duration {
    let remaining = Duration::try_from(wake.duration_since(now)).unwrap_or(Duration::ZERO);
    remaining.saturating_add(BEHIND_EXPIRY).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;

    use super::*;
    use crate::app::operator::context::testing::{first_line_of, grant, operator};

    #[test]
    fn the_controller_reconciles_1s_after_a_deadline() {
        let now = Timestamp::UNIX_EPOCH;
        let wake = now.saturating_add(Duration::from_secs(7)).unwrap();
        assert_eq!(pause_until(wake, now), Duration::from_secs(8));
        assert_eq!(pause_until(now, wake), BEHIND_EXPIRY);
        assert_eq!(pause_until(Timestamp::MAX, now), LONGEST_PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn each_log_line_of_a_reconcile_names_the_grant() {
        let (operator, triggered) = operator();
        let now = operator.cluster.clock.now();
        operator.cluster.index.grant(&Event::Apply(grant()), now);
        let controller = run(Arc::clone(&operator), triggered.grants, Stop::never());
        let line = first_line_of(Box::pin(controller)).await;
        assert_eq!(
            line["fields"]["message"], "reconcile failed, will retry",
            "{line}"
        );
        let span = &line["span"];
        assert_eq!(span["name"], "reconcile");
        assert_eq!(
            [&span["namespace"], &span["grant"], &span["uid"]],
            ["prod", "pay-123", "uid-1"]
        );
        let text = operator.metrics.encode().unwrap();
        // The read from the API server fails, so the reconcile gets no further.
        for step in ["Lock", "Preconditions", "Observe"] {
            let none = format!("curfew_reconcile_step_duration_seconds_count{{step=\"{step}\"}} 0");
            assert!(
                !text.contains(&none) && text.contains(step),
                "{step} was not measured:\n{text}"
            );
        }
    }
}
