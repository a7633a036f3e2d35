//! The controller lane: a pass over each grant that something touched, and again when its plan says so, while this
//! process leads.
//!
//! kube's `Controller` is not used for it. It polls every pass under way at each wake, tracing spans included: with
//! 1,000 grants at once that was 44 % of the operator's processor time, and the time a grant doubled from 100 to 1,000.
//! What is needed of it is little: no two passes over one grant, a pass again when it was touched meanwhile, and a
//! deadline that a later one replaces.

use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};

use super::lease::{Leadership, Term};
use super::metrics::{Lane as LaneLabel, Metrics, PassOutcome};
use super::pass::{Failed, Passes, Urgency};
use crate::cluster::GrantKey;
use crate::core::{Agenda, Class, Lane, delay};

/// Passes under way at once. More than the 16 effects that may go on at once of each kind, so that the access of a
/// burst is made before its bookkeeping; a pass under way holds about 10 KiB.
const CONCURRENCY: usize = 512;

/// Longest time without a look at a live grant, so that a clock that was stepped is noticed.
const LONGEST_PAUSE: Duration = Duration::from_mins(10);

/// By how much this lane leaves a deadline to the expiry lane, whose it is.
const BEHIND_EXPIRY: Duration = Duration::from_secs(1);

/// How often whatever failed is tried at once because the API server is back. One that comes and goes is spared: a
/// thousand requests that wait for it are a thousand passes.
const RECALL_EVERY: Duration = Duration::from_secs(10);

type Finished = Result<Option<Timestamp>, Failed>;

/// How often the passes over a grant have failed one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Failures {
    /// How many times it was tried again in vain.
    attempt: u32,
    /// When it is tried again.
    until: Timestamp,
}

/// Which grants are due for a pass, waiting for one, and under way.
struct Queue {
    later: Agenda<GrantKey>,
    waiting: VecDeque<GrantKey>,
    queued: HashSet<GrantKey>,
    under_way: HashMap<Id, GrantKey>,
    busy: HashSet<GrantKey>,
    again: HashSet<GrantKey>,
    failures: HashMap<GrantKey, Failures>,
    recalled: Option<Timestamp>,
}

impl Queue {
    fn new() -> Self {
        Self {
            later: Agenda::new(),
            waiting: VecDeque::new(),
            queued: HashSet::new(),
            under_way: HashMap::new(),
            busy: HashSet::new(),
            again: HashSet::new(),
            failures: HashMap::new(),
            recalled: None,
        }
    }

    /// A grant was touched: whatever was planned for later is planned anew by the pass.
    fn touch(&mut self, key: GrantKey) {
        self.later.cancel(&key);
        if self.busy.contains(&key) {
            self.again.insert(key);
        } else if self.queued.insert(key.clone()) {
            self.waiting.push_back(key);
        }
    }

    /// The next grant to look at, if there is room.
    fn next(&mut self) -> Option<GrantKey> {
        if self.busy.len() >= CONCURRENCY {
            return None;
        }
        let key = self.waiting.pop_front()?;
        self.queued.remove(&key);
        self.busy.insert(key.clone());
        Some(key)
    }

    /// A pass is over; `pause` says how soon to look again.
    fn done(&mut self, key: GrantKey, pause: Option<Duration>, now: Timestamp) {
        self.busy.remove(&key);
        if self.again.remove(&key) {
            self.touch(key);
        } else if let Some(pause) = pause {
            self.later
                .put(key, now.saturating_add(pause).unwrap_or(Timestamp::MAX));
        }
    }

    /// A pass has failed. Answers which attempt that was, and how soon to try again. Passes that were made because
    /// something touched the grant while it waited for that are no attempts: three touches within a moment would make it
    /// wait eight times as long.
    fn failed(&mut self, key: GrantKey, class: Class, lane: Lane, now: Timestamp) -> (u32, Duration) {
        let attempt = match self.failures.get(&key) {
            None => 0,
            Some(before) if now < before.until => before.attempt,
            Some(before) => before.attempt.saturating_add(1),
        };
        let pause = delay(class, lane, attempt);
        let until = now.saturating_add(pause).unwrap_or(Timestamp::MAX);
        self.failures.insert(key.clone(), Failures { attempt, until });
        self.done(key, Some(pause), now);
        (attempt, pause)
    }

    /// What failed is tried again at once, as the API server is back: at most once in [`RECALL_EVERY`].
    fn recall(&mut self, now: Timestamp) {
        let lately = |last: Timestamp| now < last.saturating_add(RECALL_EVERY).unwrap_or(Timestamp::MAX);
        if self.recalled.is_some_and(lately) {
            return;
        }
        self.recalled = Some(now);
        let failed: Vec<_> = self.failures.keys().cloned().collect();
        for key in failed {
            if !self.busy.contains(&key) {
                self.touch(key);
            }
        }
    }

    fn sleep(&self, now: Timestamp) -> Duration {
        self.later.next().map_or(LONGEST_PAUSE, |next| {
            Duration::try_from(next.duration_since(now))
                .unwrap_or(Duration::ZERO)
                .min(LONGEST_PAUSE)
        })
    }
}

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

    fn key(name: &str) -> GrantKey {
        GrantKey {
            namespace: "prod".to_owned(),
            name: name.to_owned(),
        }
    }

    #[test]
    fn a_grant_touched_while_it_is_looked_at_is_looked_at_once_more_and_never_twice_at_once() {
        let mut queue = Queue::new();
        for _ in 0..3 {
            queue.touch(key("a"));
        }
        assert_eq!(queue.next(), Some(key("a")));
        assert_eq!(queue.next(), None);
        for _ in 0..3 {
            queue.touch(key("a"));
        }
        assert_eq!(queue.next(), None, "two passes over one grant");
        queue.done(key("a"), None, Timestamp::UNIX_EPOCH);
        assert_eq!(queue.next(), Some(key("a")));
        queue.done(key("a"), None, Timestamp::UNIX_EPOCH);
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn what_is_planned_for_later_is_replaced_by_what_happens_sooner() {
        let mut queue = Queue::new();
        let now = Timestamp::UNIX_EPOCH;
        queue.touch(key("a"));
        assert_eq!(queue.next(), Some(key("a")));
        queue.done(key("a"), Some(Duration::from_secs(5)), now);
        assert_eq!(queue.sleep(now), Duration::from_secs(5));
        queue.touch(key("a"));
        assert_eq!(queue.sleep(now), LONGEST_PAUSE);
        assert_eq!(queue.next(), Some(key("a")));
    }

    #[test]
    fn attempts_are_counted_by_what_was_waited_and_not_by_what_touched_the_grant_meanwhile() {
        let mut queue = Queue::new();
        let second = |second: i64| Timestamp::from_second(second).unwrap();
        let mut fails = |now| {
            queue.touch(key("a"));
            assert_eq!(queue.next(), Some(key("a")));
            let (attempt, pause) = queue.failed(key("a"), Class::Denied, Lane::Controller, now);
            (attempt, pause.as_secs())
        };
        assert_eq!(fails(second(0)), (0, 2));
        assert_eq!(
            [fails(second(1)), fails(second(1)), fails(second(2))],
            [(0, 2); 3]
        );
        assert_eq!(fails(second(4)), (1, 4));
        assert_eq!(fails(second(7)), (1, 4));
        assert_eq!(fails(second(11)), (2, 8));
        queue.failures.remove(&key("a"));
        queue.touch(key("a"));
        assert_eq!(queue.next(), Some(key("a")));
        let again = queue.failed(key("a"), Class::Denied, Lane::Controller, second(12));
        assert_eq!(again.0, 0, "it had succeeded");
    }

    #[test]
    fn what_failed_is_tried_at_once_when_the_api_server_is_back_but_not_each_time_it_comes_and_goes() {
        let mut queue = Queue::new();
        let mut now = Timestamp::UNIX_EPOCH;
        let fails = |queue: &mut Queue, now| {
            assert_eq!(queue.next(), Some(key("a")));
            queue.failed(key("a"), Class::Denied, Lane::Controller, now);
        };
        queue.touch(key("a"));
        fails(&mut queue, now);
        queue.recall(now);
        fails(&mut queue, now);
        queue.recall(now);
        assert_eq!(queue.next(), None);
        now = now.saturating_add(RECALL_EVERY).unwrap();
        queue.recall(now);
        assert_eq!(queue.next(), Some(key("a")));
        queue.recall(now.saturating_add(RECALL_EVERY).unwrap());
        queue.done(key("a"), None, now);
        assert_eq!(queue.next(), None, "it was under way");
    }

    #[test]
    fn no_more_passes_go_on_at_once_than_there_is_room_for_and_the_rest_keep_their_order() {
        let mut queue = Queue::new();
        for number in 0..CONCURRENCY + 2 {
            queue.touch(key(&number.to_string()));
        }
        let first: Vec<_> = std::iter::from_fn(|| queue.next()).collect();
        assert_eq!(first.len(), CONCURRENCY);
        queue.done(key("7"), None, Timestamp::UNIX_EPOCH);
        assert_eq!(queue.next(), Some(key(&CONCURRENCY.to_string())));
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn a_deadline_is_left_to_the_expiry_lane_and_looked_after_a_second_later() {
        let now = Timestamp::UNIX_EPOCH;
        let wake = now.saturating_add(Duration::from_secs(7)).unwrap();
        assert_eq!(pause_until(wake, now), Duration::from_secs(8));
        assert_eq!(pause_until(now, wake), BEHIND_EXPIRY);
        assert_eq!(pause_until(Timestamp::MAX, now), LONGEST_PAUSE);
    }
}
