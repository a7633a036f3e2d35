//! The controller lane: a pass over each grant that something touched, and again when its plan says so, while this
//! process leads.
//!
//! kube's `Controller` is not used for it. It polls every pass under way at each wake, tracing spans included: with
//! 1,000 grants at once that was 44 % of the operator's processor time, and the time a grant doubled from 100 to 1,000.
//! What is needed of it is little: no two passes over one grant, a pass again when it was touched meanwhile, and a
//! deadline that a later one replaces.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};

use super::lease::{Leadership, Term};
use super::metrics::{Lane as LaneLabel, Metrics, PassOutcome};
use super::pass::{Failed, Passes, Urgency};
use super::work_queue::{LONGEST_PAUSE, Queue};
use crate::cluster::GrantKey;
use crate::core::{Class, Lane};

/// By how much this lane leaves a deadline to the expiry lane, whose it is.
const BEHIND_EXPIRY: Duration = Duration::from_secs(1);

type Finished = Result<Option<Timestamp>, Failed>;

/// Runs the lane in each term until `stop`, and then until the passes under way are over.
pub async fn run(
    passes: Arc<Passes>,
    metrics: Metrics,
    mut touched: mpsc::UnboundedReceiver<GrantKey>,
    stop: impl Future<Output = ()>,
) {
    passes.wait_until_synced().await;
    let mut stop = std::pin::pin!(stop);
    loop {
        let term = tokio::select! {
            term = next_term(&passes.leadership, &mut touched) => term,
            () = &mut stop => return,
        };
        let stopped = tokio::select! {
            () = lead(&passes, &metrics, &mut touched, stop.as_mut()) => true,
            // Drops what is under way.
            () = term.ends() => false,
        };
        if stopped {
            return;
        }
    }
}

/// Whoever does not lead looks at nothing: when a term begins, everything is looked at.
async fn next_term(leadership: &Leadership, touched: &mut mpsc::UnboundedReceiver<GrantKey>) -> Term {
    let mut begins = std::pin::pin!(leadership.begins());
    loop {
        tokio::select! {
            term = &mut begins => return term,
            Some(_) = touched.recv() => {}
        }
    }
}

/// Looks at every grant, and then at what is touched, until `stop` and until the passes under way are over.
async fn lead(
    passes: &Arc<Passes>,
    metrics: &Metrics,
    touched: &mut mpsc::UnboundedReceiver<GrantKey>,
    mut stop: Pin<&mut impl Future<Output = ()>>,
) {
    let mut queue = Queue::new();
    let mut tasks: JoinSet<Finished> = JoinSet::new();
    let clock = &passes.edges.clock;
    let (mut forward, mut returns) = (clock.leaps(), passes.edges.reach.returns());
    for key in passes.edges.index.grants() {
        queue.touch(key);
    }
    loop {
        let now = clock.now();
        for key in queue.later.take_due(now) {
            queue.touch(key);
        }
        while let Some(key) = queue.next() {
            let passes = Arc::clone(passes);
            let pass = key.clone();
            let task = tasks.spawn(async move { passes.run(&pass, Urgency::None).await });
            queue.under_way.insert(task.id(), key);
        }
        tokio::select! {
            Some(key) = touched.recv() => {
                queue.touch(key);
                while let Ok(key) = touched.try_recv() {
                    queue.touch(key);
                }
            }
            Some(finished) = tasks.join_next_with_id() => settle(&mut queue, metrics, finished, clock.now()),
            () = tokio::time::sleep(queue.sleep(now)) => {}
            Ok(()) = forward.changed() => {}
            Ok(()) = returns.changed() => queue.recall(clock.now()),
            () = &mut stop => break,
        }
    }
    while let Some(finished) = tasks.join_next_with_id().await {
        settle(&mut queue, metrics, finished, clock.now());
    }
}

fn settle(queue: &mut Queue, metrics: &Metrics, finished: Result<(Id, Finished), JoinError>, now: Timestamp) {
    let (id, outcome) = match finished {
        Ok((id, outcome)) => (id, Ok(outcome)),
        Err(error) => (error.id(), Err(error)),
    };
    let Some(key) = queue.under_way.remove(&id) else {
        return;
    };
    let (class, lane, error) = match outcome {
        Ok(Ok(wake)) => {
            metrics.passed(LaneLabel::Controller, PassOutcome::Done);
            queue.failures.remove(&key);
            queue.done(key, wake.map(|wake| pause_until(wake, now)), now);
            return;
        }
        Ok(Err(failed)) => {
            let lane = if failed.ending {
                Lane::Expiry
            } else {
                Lane::Controller
            };
            (failed.class(), lane, failed.error.to_string())
        }
        Err(broke) => (Class::Invalid, Lane::Controller, broke.to_string()),
    };
    metrics.passed(LaneLabel::Controller, PassOutcome::Failed);
    let (attempt, pause) = queue.failed(key.clone(), class, lane, now);
    tracing::warn!(namespace = key.namespace, grant = key.name, error, attempt, retry_in = ?pause,
        "a pass did not finish");
}

fn pause_until(wake: Timestamp, now: Timestamp) -> Duration {
    let remaining = Duration::try_from(wake.duration_since(now)).unwrap_or(Duration::ZERO);
    remaining.saturating_add(BEHIND_EXPIRY).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_left_to_the_expiry_lane_and_looked_after_a_second_later() {
        let now = Timestamp::UNIX_EPOCH;
        let wake = now.saturating_add(Duration::from_secs(7)).unwrap();
        assert_eq!(pause_until(wake, now), Duration::from_secs(8));
        assert_eq!(pause_until(now, wake), BEHIND_EXPIRY);
        assert_eq!(pause_until(Timestamp::MAX, now), LONGEST_PAUSE);
    }
}
