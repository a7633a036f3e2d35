//! Queue of grants by expiry time. Expired grants stay in the queue until their access is removed.

use std::collections::HashMap;
use std::hash::Hash;

use jiff::Timestamp;

use crate::core::time::deadline_queue::DeadlineQueue;

/// Expiry time of each grant, in UTC.
///
/// A grant is *overdue* from its expiry time until [`over`](Self::over) is called. A failed attempt
/// [postpones](Self::postpone) the grant; [`recall`](Self::recall) makes all postponed grants due at once, ordered by
/// expiry time and not by the time of the last attempt.
#[derive(Clone, Debug)]
pub struct ExpiryQueue<K> {
    deadline_queue: DeadlineQueue<K>,
    /// Expiry time of each overdue grant. An attempt is running, or `deadline_queue` has the time of the next attempt.
    overdue: HashMap<K, Timestamp>,
}

impl<K> Default for ExpiryQueue<K> {
    fn default() -> Self {
        Self {
            deadline_queue: DeadlineQueue::default(),
            overdue: HashMap::new(),
        }
    }
}

impl<K: Clone + Eq + Hash + Ord> ExpiryQueue<K> {
    /// Sets the expiry time of `key` to `end`. Changes nothing if `key` is overdue with the same expiry time: a running
    /// attempt continues, and the time of the next attempt stays.
    pub fn follow(&mut self, key: K, end: Timestamp) {
        if self.overdue.get(&key) != Some(&end) {
            self.overdue.remove(&key);
            self.deadline_queue.put(key, end);
        }
    }

    /// Removes `key`: its access has ended, or the grant does not exist.
    pub fn forget(&mut self, key: &K) {
        self.over(key);
        self.deadline_queue.cancel(key);
    }

    /// Removes and returns every key that has expired or is due for another attempt, earliest expiry time first.
    pub fn take_due(&mut self, now: Timestamp) -> Vec<K> {
        let taken = self.deadline_queue.take_due_with_deadlines(now).into_iter();
        let mut due: Vec<(Timestamp, K)> = taken
            .map(|(at, key)| (*self.overdue.entry(key.clone()).or_insert(at), key))
            .collect();
        due.sort();
        due.into_iter().map(|(_, key)| key).collect()
    }

    /// Schedules another attempt for `key` at `until`, after a failed attempt. Changes nothing if `key` got a new
    /// expiry time during the attempt. A key that was [forgotten](Self::forget) during the attempt is queued once more:
    /// a needless attempt is safer than a missed one.
    pub fn postpone(&mut self, key: K, until: Timestamp) {
        let has_new_expiry = !self.overdue.contains_key(&key) && self.deadline_queue.deadline(&key).is_some();
        if !has_new_expiry {
            self.overdue.entry(key.clone()).or_insert(until);
            self.deadline_queue.put(key, until);
        }
    }

    /// Marks `key` as no longer overdue: its access is removed.
    pub fn over(&mut self, key: &K) {
        self.overdue.remove(key);
    }

    /// Makes every postponed key due now. Running attempts are not affected.
    pub fn recall(&mut self) {
        for (key, end) in &self.overdue {
            if self.deadline_queue.deadline(key).is_some() {
                self.deadline_queue.put(key.clone(), *end);
            }
        }
    }

    /// The next time at which a key is due, which may be in the past; `None` if the queue is empty.
    pub fn next(&self) -> Option<Timestamp> {
        self.deadline_queue.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Three overdue keys. `a` expired first and has the last retry: `c` at 101, `b` at 102, `a` at 103.
    fn postponed() -> ExpiryQueue<&'static str> {
        let mut ends = ExpiryQueue::default();
        for (key, end) in [("c", 30), ("a", 10), ("b", 20)] {
            ends.follow(key, at(end));
        }
        assert_eq!(ends.take_due(at(40)), ["a", "b", "c"]);
        for (key, until) in [("a", 103), ("b", 102), ("c", 101)] {
            ends.postpone(key, at(until));
        }
        ends
    }

    #[test]
    fn postponed_keys_are_due_at_their_retry_sorted_by_expiry() {
        let mut ends = postponed();
        assert_eq!((ends.take_due(at(100)), ends.next()), (vec![], Some(at(101))));
        assert_eq!(ends.take_due(at(101)), ["c"]);
        assert_eq!(ends.take_due(at(103)), ["a", "b"]);
        assert_eq!(ends.next(), None);
    }

    #[test]
    fn recalled_keys_are_due_at_once_sorted_by_expiry() {
        let mut ends = postponed();
        ends.recall();
        assert_eq!(ends.take_due(at(40)), ["a", "b", "c"]);
    }

    #[test]
    fn running_and_finished_keys_are_not_recalled() {
        let mut ends = postponed();
        assert_eq!(ends.take_due(at(102)), ["b", "c"]);
        ends.over(&"c");
        ends.recall();
        assert_eq!(ends.take_due(at(200)), ["a"]);
        ends.postpone("b", at(300));
        ends.recall();
        assert_eq!(ends.take_due(at(200)), ["b"]);
    }

    #[test]
    fn the_same_expiry_changes_nothing_and_a_new_one_counts_at_once() {
        let mut ends = postponed();
        ends.follow("a", at(10));
        assert_eq!(ends.take_due(at(100)), [""; 0]);
        ends.follow("a", at(9));
        assert_eq!(ends.take_due(at(100)), ["a"]);
        ends.follow("a", at(500));
        ends.postpone("a", at(120));
        assert_eq!(ends.take_due(at(499)), ["b", "c"], "a has a new expiry time");
        assert_eq!(ends.take_due(at(500)), ["a"]);
    }

    #[test]
    fn a_removed_grant_is_requeued_if_a_running_attempt_fails() {
        let mut ends = postponed();
        ends.forget(&"a");
        ends.recall();
        assert_eq!(ends.take_due(at(1_000)), ["b", "c"]);
        ends.postpone("a", at(1_001));
        assert_eq!(ends.take_due(at(1_001)), ["a"]);
    }
}
