//! Queue of the grants to reconcile.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::Id;

use crate::cluster::GrantKey;
use crate::core::{Agenda, Class, Lane, delay};

/// Passes under way at once. More than the 16 effects that may go on at once of each kind, so that the access of a
/// burst is made before its bookkeeping; a pass under way holds about 10 KiB.
const CONCURRENCY: usize = 512;

/// Longest time without a look at a live grant, so that a clock that was stepped is noticed.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_mins(10);

/// How often whatever failed is tried at once because the API server is back. One that comes and goes is spared: a
/// thousand requests that wait for it are a thousand passes.
const RECALL_EVERY: Duration = Duration::from_secs(10);

/// How often the passes over a grant have failed one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failures {
    /// How many times it was tried again in vain.
    attempt: u32,
    /// When it is tried again.
    until: Timestamp,
}

/// Which grants are due for a pass, waiting for one, and under way.
pub(super) struct Queue {
    pub(super) later: Agenda<GrantKey>,
    waiting: VecDeque<GrantKey>,
    queued: HashSet<GrantKey>,
    pub(super) under_way: HashMap<Id, GrantKey>,
    busy: HashSet<GrantKey>,
    again: HashSet<GrantKey>,
    pub(super) failures: HashMap<GrantKey, Failures>,
    recalled: Option<Timestamp>,
}

impl Queue {
    pub(super) fn new() -> Self {
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
    pub(super) fn touch(&mut self, key: GrantKey) {
        self.later.cancel(&key);
        if self.busy.contains(&key) {
            self.again.insert(key);
        } else if self.queued.insert(key.clone()) {
            self.waiting.push_back(key);
        }
    }

    /// The next grant to look at, if there is room.
    pub(super) fn next(&mut self) -> Option<GrantKey> {
        if self.busy.len() >= CONCURRENCY {
            return None;
        }
        let key = self.waiting.pop_front()?;
        self.queued.remove(&key);
        self.busy.insert(key.clone());
        Some(key)
    }

    /// A pass is over; `pause` says how soon to look again.
    pub(super) fn done(&mut self, key: GrantKey, pause: Option<Duration>, now: Timestamp) {
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
    pub(super) fn failed(
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
        self.done(key, Some(pause), now);
        (attempt, pause)
    }

    /// What failed is tried again at once, as the API server is back: at most once in [`RECALL_EVERY`].
    pub(super) fn recall(&mut self, now: Timestamp) {
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

    pub(super) fn sleep(&self, now: Timestamp) -> Duration {
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
}
