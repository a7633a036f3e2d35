//! Deadline queue: one deadline per key, earliest first.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use jiff::Timestamp;

/// Deadlines in UTC, at most one per key.
///
/// The queue never sleeps and reads no clock. The caller asks for the [`next`](Self::next) deadline, waits, and takes
/// the due keys. If the clock is set forward, keys are due sooner; if the clock is set back, keys are due later. A wait
/// fixed at `put` would miss both changes.
///
/// `put` and `cancel` cost O(log n); so does each key taken.
#[derive(Clone, Debug)]
pub struct DeadlineQueue<K> {
    /// The entries of `deadlines`, earliest first.
    order: BTreeSet<(Timestamp, K)>,
    deadlines: HashMap<K, Timestamp>,
}

impl<K> Default for DeadlineQueue<K> {
    fn default() -> Self {
        Self {
            order: BTreeSet::new(),
            deadlines: HashMap::new(),
        }
    }
}

impl<K: Clone + Eq + Hash + Ord> DeadlineQueue<K> {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the deadline of `key` to `at`. Replaces an earlier or later deadline: an expiry time may move earlier, a
    /// retry may move later.
    pub fn put(&mut self, key: K, at: Timestamp) {
        self.cancel(&key);
        self.order.insert((at, key.clone()));
        self.deadlines.insert(key, at);
    }

    /// Removes `key`. Does nothing if `key` has no deadline.
    pub fn cancel(&mut self, key: &K) {
        if let Some((key, at)) = self.deadlines.remove_entry(key) {
            self.order.remove(&(at, key));
        }
    }

    /// The earliest deadline, which may be in the past; `None` if the queue is empty.
    pub fn next(&self) -> Option<Timestamp> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Removes and returns every key whose deadline is `now` or earlier. The earliest deadline comes first; equal
    /// deadlines are in the order of the keys.
    pub fn take_due(&mut self, now: Timestamp) -> Vec<K> {
        self.take_due_with_deadlines(now)
            .into_iter()
            .map(|(_, key)| key)
            .collect()
    }

    /// Like [`take_due`](Self::take_due), with the deadline of each key.
    pub fn take_due_with_deadlines(&mut self, now: Timestamp) -> Vec<(Timestamp, K)> {
        let mut due = Vec::new();
        while self.next().is_some_and(|at| at <= now) {
            if let Some((at, key)) = self.order.pop_first() {
                self.deadlines.remove(&key);
                due.push((at, key));
            }
        }
        due
    }

    /// The deadline of `key`, if `key` has one.
    pub fn deadline(&self, key: &K) -> Option<Timestamp> {
        self.deadlines.get(key).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(milliseconds).unwrap()
    }

    #[test]
    fn due_keys_are_returned_once_earliest_deadline_first() {
        let mut queue = DeadlineQueue::new();
        queue.put("c", at(30));
        queue.put("a", at(10));
        queue.put("b", at(20));
        assert_eq!(queue.next(), Some(at(10)));
        assert_eq!(queue.take_due(at(20)), ["a", "b"]);
        assert_eq!(queue.take_due(at(20)), [""; 0]);
        assert_eq!(queue.next(), Some(at(30)));
        assert_eq!(queue.order.len(), 1);
    }

    #[test]
    fn a_key_is_due_at_its_deadline_and_not_1ns_earlier() {
        let deadline = Timestamp::from_nanosecond(1_000).unwrap();
        let just_before = Timestamp::from_nanosecond(999).unwrap();
        let mut queue = DeadlineQueue::new();
        queue.put("a", deadline);
        assert_eq!(queue.take_due(just_before), [""; 0]);
        assert_eq!(queue.take_due(deadline), ["a"]);
    }

    #[test]
    fn put_moves_a_deadline_earlier_or_later() {
        let mut queue = DeadlineQueue::new();
        queue.put("a", at(30));
        queue.put("a", at(10));
        assert_eq!((queue.next(), queue.order.len()), (Some(at(10)), 1));
        queue.put("a", at(50));
        assert_eq!((queue.next(), queue.order.len()), (Some(at(50)), 1));
        assert_eq!(queue.take_due(at(40)), [""; 0]);
        assert_eq!(queue.take_due(at(50)), ["a"]);
    }

    #[test]
    fn a_cancelled_key_is_never_due() {
        let mut queue = DeadlineQueue::new();
        queue.put("a", at(10));
        queue.put("b", at(10));
        queue.cancel(&"a");
        queue.cancel(&"unknown");
        assert_eq!(queue.take_due(at(99)), ["b"]);
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn keys_with_equal_deadlines_are_sorted_by_key() {
        let mut queue = DeadlineQueue::new();
        for key in ["b", "c", "a"] {
            queue.put(key, at(10));
        }
        assert_eq!(queue.take_due(at(10)), ["a", "b", "c"]);
    }

    /// 20,000 random steps, compared with a list that is sorted at each query.
    #[test]
    fn the_queue_behaves_like_a_sorted_list() {
        let mut state = 1_u64;
        let mut random = |below: u64| {
            // Knuth's MMIX generator: the same steps in every run.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut queue = DeadlineQueue::new();
        let mut model = BTreeMap::<u64, Timestamp>::new();
        for _ in 0..20_000 {
            let key = random(64);
            let time = at(i64::try_from(random(1_000)).unwrap());
            match random(8) {
                0..=4 => {
                    queue.put(key, time);
                    model.insert(key, time);
                }
                5 | 6 => {
                    queue.cancel(&key);
                    model.remove(&key);
                }
                _ => {
                    let mut due: Vec<_> = model.iter().filter(|(_, at)| **at <= time).collect();
                    due.sort_by_key(|(key, at)| (**at, **key));
                    let due: Vec<u64> = due.into_iter().map(|(key, _)| *key).collect();
                    assert_eq!(queue.take_due(time), due);
                    model.retain(|_, at| *at > time);
                }
            }
            assert_eq!(queue.next(), model.values().min().copied());
            assert_eq!(queue.order.len(), model.len());
            assert_eq!(queue.order.len(), queue.deadlines.len());
        }
    }
}
