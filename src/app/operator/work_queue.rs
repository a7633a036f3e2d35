//! Queue of the grants to reconcile, with the operations of client-go's work queue.
//!
//! # Guarantees
//! - A grant is never given to two reconciles at once.
//! - A grant that changes during its reconcile is reconciled once more.
//! - Each grant has at most one delay; an `add` replaces it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use crate::cluster::objects::keys::GrantKey;
use crate::core::replica::retry::{Class, Lane, delay};
use crate::core::time::deadline_queue::DeadlineQueue;

/// Reconciles that run at once. The cluster layer runs 16 effects of each kind at once. With more reconciles than
/// that, the access of a burst is created before its bookkeeping. A running reconcile takes about 10 KiB.
const CONCURRENCY: usize = 512;

/// Longest time between two reconciles of a live grant. It bounds how long a stepped clock goes unnoticed.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_mins(10);

/// Shortest time between two immediate retries of everything after the API server came back. A thousand waiting
/// requests are a thousand reconciles, and the API server may come and go.
const RECALL_EVERY: Duration = Duration::from_secs(10);

/// Failed reconciles of a grant, without a success between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Failures {
    /// Number of retries that failed.
    attempt: u32,
    /// Time of the next retry.
    until: Timestamp,
}

/// Queue of the grants to reconcile.
pub(crate) struct WorkQueue {
    /// Grants with a delay.
    later: DeadlineQueue<GrantKey>,
    /// Grants to reconcile now, first come first served.
    waiting: VecDeque<GrantKey>,
    /// The same grants as in `waiting`.
    queued: HashSet<GrantKey>,
    /// Grants whose reconcile runs.
    running: HashSet<GrantKey>,
    /// Grants that were added while their reconcile runs.
    again: HashSet<GrantKey>,
    failures: HashMap<GrantKey, Failures>,
    recalled: Option<Timestamp>,
}

impl WorkQueue {
    pub(crate) fn new() -> Self {
        Self {
            later: DeadlineQueue::new(),
            waiting: VecDeque::new(),
            queued: HashSet::new(),
            running: HashSet::new(),
            again: HashSet::new(),
            failures: HashMap::new(),
            recalled: None,
        }
    }

    /// Adds a grant, and removes its delay. If its reconcile runs, the grant is added when the reconcile is done.
    pub(crate) fn add(&mut self, key: GrantKey) {
        self.later.cancel(&key);
        if self.running.contains(&key) {
            self.again.insert(key);
        } else if self.queued.insert(key.clone()) {
            self.waiting.push_back(key);
        }
    }

    /// Adds the grants whose delay is over.
    pub(crate) fn add_due(&mut self, now: Timestamp) {
        for key in self.later.take_due(now) {
            self.add(key);
        }
    }

    /// Takes the next grant; `None`: the queue is empty, or 512 reconciles run.
    pub(crate) fn get(&mut self) -> Option<GrantKey> {
        if self.running.len() >= CONCURRENCY {
            return None;
        }
        let key = self.waiting.pop_front()?;
        self.queued.remove(&key);
        self.running.insert(key.clone());
        Some(key)
    }

    /// Ends the reconcile of a grant.
    pub(crate) fn done(&mut self, key: &GrantKey) {
        self.running.remove(key);
        if let Some(key) = self.again.take(key) {
            self.add(key);
        }
    }

    /// Adds a grant after a delay, unless it is queued already.
    pub(crate) fn add_after(&mut self, key: GrantKey, pause: Duration, now: Timestamp) {
        if !self.queued.contains(&key) {
            let due = now.saturating_add(pause).unwrap_or(Timestamp::MAX);
            self.later.put(key, due);
        }
    }

    /// Forgets the failures of a grant: its reconcile succeeded.
    pub(crate) fn forget(&mut self, key: &GrantKey) {
        self.failures.remove(key);
    }

    /// Ends a reconcile that failed, and adds its grant after a backoff. Returns the number of the attempt and the
    /// backoff. An event during the backoff causes a reconcile but is no attempt: three events within a moment would
    /// make the grant wait eight times as long.
    pub(crate) fn failed(
        &mut self,
        key: GrantKey,
        class: Class,
        lane: Lane,
        now: Timestamp,
    ) -> (u32, Duration) {
        let attempt = match self.failures.get(&key) {
            None => 0,
            Some(before) if now < before.until => before.attempt,
            Some(before) => before.attempt.saturating_add(1),
        };
        let pause = delay(class, lane, attempt);
        let until = now.saturating_add(pause).unwrap_or(Timestamp::MAX);
        self.failures.insert(key.clone(), Failures { attempt, until });
        self.done(&key);
        self.add_after(key, pause, now);
        (attempt, pause)
    }

    /// Adds all failed grants, because the API server is back: at most once in 10 s.
    pub(crate) fn recall(&mut self, now: Timestamp) {
        let lately = |last: Timestamp| now < last.saturating_add(RECALL_EVERY).unwrap_or(Timestamp::MAX);
        if self.recalled.is_some_and(lately) {
            return;
        }
        self.recalled = Some(now);
        let failed: Vec<_> = self.failures.keys().cloned().collect();
        for key in failed {
            if !self.running.contains(&key) {
                self.add(key);
            }
        }
    }

    /// Time until the next delay is over, at most 10 minutes.
    pub(crate) fn sleep(&self, now: Timestamp) -> Duration {
        self.later.next().map_or(LONGEST_PAUSE, |next| {
            Duration::try_from(next.duration_since(now))
                .unwrap_or(Duration::ZERO)
                .min(LONGEST_PAUSE)
        })
    }
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
    fn a_grant_added_during_its_reconcile_is_reconciled_once_more() {
        let mut queue = WorkQueue::new();
        for _ in 0..3 {
            queue.add(key("a"));
        }
        assert_eq!(queue.get(), Some(key("a")));
        assert_eq!(queue.get(), None);
        for _ in 0..3 {
            queue.add(key("a"));
        }
        assert_eq!(queue.get(), None, "two reconciles of one grant");
        queue.done(&key("a"));
        assert_eq!(queue.get(), Some(key("a")));
        queue.done(&key("a"));
        assert_eq!(queue.get(), None);
    }

    #[test]
    fn an_add_replaces_the_delay_of_a_grant() {
        let mut queue = WorkQueue::new();
        let now = Timestamp::UNIX_EPOCH;
        queue.add(key("a"));
        assert_eq!(queue.get(), Some(key("a")));
        queue.done(&key("a"));
        queue.add_after(key("a"), Duration::from_secs(5), now);
        assert_eq!(queue.sleep(now), Duration::from_secs(5));
        queue.add(key("a"));
        assert_eq!(queue.sleep(now), LONGEST_PAUSE);
        assert_eq!(queue.get(), Some(key("a")));
    }

    #[test]
    fn an_event_during_backoff_is_no_attempt() {
        let mut queue = WorkQueue::new();
        let second = |second: i64| Timestamp::from_second(second).unwrap();
        let mut fails = |now| {
            queue.add(key("a"));
            assert_eq!(queue.get(), Some(key("a")));
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
        queue.forget(&key("a"));
        queue.add(key("a"));
        assert_eq!(queue.get(), Some(key("a")));
        let again = queue.failed(key("a"), Class::Denied, Lane::Controller, second(12));
        assert_eq!(again.0, 0, "it had succeeded");
    }

    #[test]
    fn failed_grants_are_retried_when_the_api_server_is_back_once_in_10s() {
        let mut queue = WorkQueue::new();
        let mut now = Timestamp::UNIX_EPOCH;
        let fails = |queue: &mut WorkQueue, now| {
            assert_eq!(queue.get(), Some(key("a")));
            queue.failed(key("a"), Class::Denied, Lane::Controller, now);
        };
        queue.add(key("a"));
        fails(&mut queue, now);
        queue.recall(now);
        fails(&mut queue, now);
        queue.recall(now);
        assert_eq!(queue.get(), None);
        now = now.saturating_add(RECALL_EVERY).unwrap();
        queue.recall(now);
        assert_eq!(queue.get(), Some(key("a")));
        queue.recall(now.saturating_add(RECALL_EVERY).unwrap());
        queue.done(&key("a"));
        assert_eq!(queue.get(), None, "its reconcile was running");
    }

    #[test]
    fn at_most_512_reconciles_run_and_the_rest_keep_their_order() {
        let mut queue = WorkQueue::new();
        for number in 0..CONCURRENCY + 2 {
            queue.add(key(&number.to_string()));
        }
        let first: Vec<_> = std::iter::from_fn(|| queue.get()).collect();
        assert_eq!(first.len(), CONCURRENCY);
        queue.done(&key("7"));
        assert_eq!(queue.get(), Some(key(&CONCURRENCY.to_string())));
        assert_eq!(queue.get(), None);
    }
}
