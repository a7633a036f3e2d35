//! When what comes to its end.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use jiff::Timestamp;

/// The deadlines of live grants, by wall clock.
///
/// At most one deadline stands for a key. Nothing here sleeps or reads a clock: whoever serves the agenda asks for
/// the [`next`](Self::next) deadline, waits, and takes what is due. So a clock that is set forward brings deadlines
/// forward at the next look, and one that is set back holds them; durations fixed at `put` would miss both.
///
/// `put`, `cancel` and each key taken cost O(log n).
#[derive(Clone, Debug)]
pub struct Agenda<K> {
    /// The same entries as `deadlines`, in the order in which they fall due.
    order: BTreeSet<(Timestamp, K)>,
    deadlines: HashMap<K, Timestamp>,
}

impl<K> Default for Agenda<K> {
    fn default() -> Self {
        Self {
            order: BTreeSet::new(),
            deadlines: HashMap::new(),
        }
    }
}

impl<K: Clone + Eq + Hash + Ord> Agenda<K> {
    /// Nothing to end.
    pub fn new() -> Self {
        Self::default()
    }

    /// `key` falls due at `at`, whatever stood for it before: ends that move earlier replace later ones, and a
    /// retry may move one later.
    pub fn put(&mut self, key: K, at: Timestamp) {
        self.cancel(&key);
        self.order.insert((at, key.clone()));
        self.deadlines.insert(key, at);
    }

    /// `key` no longer falls due. Does nothing if it did not.
    pub fn cancel(&mut self, key: &K) {
        if let Some((key, at)) = self.deadlines.remove_entry(key) {
            self.order.remove(&(at, key));
        }
    }

    /// The earliest deadline, which may have passed already; `None` if nothing falls due at all.
    pub fn next(&self) -> Option<Timestamp> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes every key whose deadline is `now` or earlier off the agenda; the longest overdue comes first, keys of
    /// one instant in their own order.
    pub fn take_due(&mut self, now: Timestamp) -> Vec<K> {
        self.take_due_with_deadlines(now)
            .into_iter()
            .map(|(_, key)| key)
            .collect()
    }

    /// The same, each with its deadline.
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

    /// When `key` falls due; `None` if it does not.
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
    fn what_is_due_comes_oldest_first_and_once() {
        let mut agenda = Agenda::new();
        agenda.put("c", at(30));
        agenda.put("a", at(10));
        agenda.put("b", at(20));
        assert_eq!(agenda.next(), Some(at(10)));
        assert_eq!(agenda.take_due(at(20)), ["a", "b"]);
        assert_eq!(agenda.take_due(at(20)), [""; 0]);
        assert_eq!(agenda.next(), Some(at(30)));
        assert_eq!(agenda.order.len(), 1);
    }

    #[test]
    fn a_deadline_is_due_at_its_instant_and_not_a_nanosecond_before() {
        let deadline = Timestamp::from_nanosecond(1_000).unwrap();
        let just_before = Timestamp::from_nanosecond(999).unwrap();
        let mut agenda = Agenda::new();
        agenda.put("a", deadline);
        assert_eq!(agenda.take_due(just_before), [""; 0]);
        assert_eq!(agenda.take_due(deadline), ["a"]);
    }

    #[test]
    fn putting_again_replaces_in_both_directions() {
        let mut agenda = Agenda::new();
        agenda.put("a", at(30));
        agenda.put("a", at(10));
        assert_eq!((agenda.next(), agenda.order.len()), (Some(at(10)), 1));
        agenda.put("a", at(50));
        assert_eq!((agenda.next(), agenda.order.len()), (Some(at(50)), 1));
        assert_eq!(agenda.take_due(at(40)), [""; 0]);
        assert_eq!(agenda.take_due(at(50)), ["a"]);
    }

    #[test]
    fn what_is_cancelled_is_never_due() {
        let mut agenda = Agenda::new();
        agenda.put("a", at(10));
        agenda.put("b", at(10));
        agenda.cancel(&"a");
        agenda.cancel(&"unknown");
        assert_eq!(agenda.take_due(at(99)), ["b"]);
        assert_eq!(agenda.next(), None);
    }

    #[test]
    fn keys_of_one_instant_come_in_their_own_order() {
        let mut agenda = Agenda::new();
        for key in ["b", "c", "a"] {
            agenda.put(key, at(10));
        }
        assert_eq!(agenda.take_due(at(10)), ["a", "b", "c"]);
    }

    /// 20,000 random steps against a list that is sorted whenever it is asked.
    #[test]
    fn it_does_what_a_sorted_list_would_do() {
        let mut state = 1_u64;
        let mut random = |below: u64| {
            // Knuth's MMIX generator: the same steps in every run.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut agenda = Agenda::new();
        let mut model = BTreeMap::<u64, Timestamp>::new();
        for _ in 0..20_000 {
            let key = random(64);
            let time = at(i64::try_from(random(1_000)).unwrap());
            match random(8) {
                0..=4 => {
                    agenda.put(key, time);
                    model.insert(key, time);
                }
                5 | 6 => {
                    agenda.cancel(&key);
                    model.remove(&key);
                }
                _ => {
                    let mut due: Vec<_> = model.iter().filter(|(_, at)| **at <= time).collect();
                    due.sort_by_key(|(key, at)| (**at, **key));
                    let due: Vec<u64> = due.into_iter().map(|(key, _)| *key).collect();
                    assert_eq!(agenda.take_due(time), due);
                    model.retain(|_, at| *at > time);
                }
            }
            assert_eq!(agenda.next(), model.values().min().copied());
            assert_eq!(agenda.order.len(), model.len());
            assert_eq!(agenda.order.len(), agenda.deadlines.len());
        }
    }
}
