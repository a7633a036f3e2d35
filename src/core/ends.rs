//! The ends of live grants, and those that have come and could not be brought about yet.

use std::collections::HashMap;
use std::hash::Hash;

use jiff::Timestamp;

use super::Agenda;

/// When what ends, and what is past its end and not over.
///
/// What is past its end is kept with its end until it is said to be [`over`](Self::over): whatever postpones it, it can
/// be [recalled](Self::recall), and then comes in the order of the ends, not of the tries.
#[derive(Clone, Debug)]
pub struct Ends<K> {
    agenda: Agenda<K>,
    /// What has been taken and is not over, with its end. It is under way, or on the agenda for another try.
    overdue: HashMap<K, Timestamp>,
}

impl<K> Default for Ends<K> {
    fn default() -> Self {
        Self {
            agenda: Agenda::default(),
            overdue: HashMap::new(),
        }
    }
}

impl<K: Clone + Eq + Hash + Ord> Ends<K> {
    /// `key` ends at `end`. What is past that very end already is under way or has its time for another try, and goes on
    /// so: hearing of it once more brings nothing forward.
    pub fn follow(&mut self, key: K, end: Timestamp) {
        if self.overdue.get(&key) != Some(&end) {
            self.overdue.remove(&key);
            self.agenda.put(key, end);
        }
    }

    /// `key` does not end: it is over, or not there.
    pub fn forget(&mut self, key: &K) {
        self.over(key);
        self.agenda.cancel(key);
    }

    /// Takes what is past its end or has its time for another try, oldest end first.
    pub fn take_due(&mut self, now: Timestamp) -> Vec<K> {
        let taken = self.agenda.take_due_with_deadlines(now).into_iter();
        let mut due: Vec<(Timestamp, K)> = taken
            .map(|(at, key)| (*self.overdue.entry(key.clone()).or_insert(at), key))
            .collect();
        due.sort();
        due.into_iter().map(|(_, key)| key).collect()
    }

    /// What was taken is not over, and is tried again at `until`. Does nothing to what has another end since. What was
    /// forgotten meanwhile is tried once more: better in vain than not at all.
    pub fn postpone(&mut self, key: K, until: Timestamp) {
        let has_another_end = !self.overdue.contains_key(&key) && self.agenda.deadline(&key).is_some();
        if !has_another_end {
            self.overdue.entry(key.clone()).or_insert(until);
            self.agenda.put(key, until);
        }
    }

    /// What was taken is over.
    pub fn over(&mut self, key: &K) {
        self.overdue.remove(key);
    }

    /// Whatever was postponed is due now.
    pub fn recall(&mut self) {
        for (key, end) in &self.overdue {
            if self.agenda.deadline(key).is_some() {
                self.agenda.put(key.clone(), *end);
            }
        }
    }

    /// The next moment at which something is due, which may have passed; `None` if nothing is.
    pub fn next(&self) -> Option<Timestamp> {
        self.agenda.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Three that are past their ends, `a` first, and were postponed until 101 to 103, `a` last.
    fn postponed() -> Ends<&'static str> {
        let mut ends = Ends::default();
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
    fn what_is_postponed_comes_at_its_time_and_of_one_time_the_oldest_end_first() {
        let mut ends = postponed();
        assert_eq!((ends.take_due(at(100)), ends.next()), (vec![], Some(at(101))));
        assert_eq!(ends.take_due(at(101)), ["c"]);
        assert_eq!(ends.take_due(at(103)), ["a", "b"]);
        assert_eq!(ends.next(), None);
    }

    #[test]
    fn what_is_recalled_comes_at_once_the_oldest_end_first() {
        let mut ends = postponed();
        ends.recall();
        assert_eq!(ends.take_due(at(40)), ["a", "b", "c"]);
    }

    #[test]
    fn what_is_under_way_or_over_is_not_recalled() {
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
    fn hearing_of_an_end_again_brings_nothing_forward_and_another_end_counts_at_once() {
        let mut ends = postponed();
        ends.follow("a", at(10));
        assert_eq!(ends.take_due(at(100)), [""; 0]);
        ends.follow("a", at(9));
        assert_eq!(ends.take_due(at(100)), ["a"]);
        ends.follow("a", at(500));
        ends.postpone("a", at(120));
        assert_eq!(ends.take_due(at(499)), ["b", "c"], "its end is another since");
        assert_eq!(ends.take_due(at(500)), ["a"]);
    }

    #[test]
    fn what_is_forgotten_is_not_due_any_more_but_a_try_that_failed_later_is_made_again() {
        let mut ends = postponed();
        ends.forget(&"a");
        ends.recall();
        assert_eq!(ends.take_due(at(1_000)), ["b", "c"]);
        ends.postpone("a", at(1_001));
        assert_eq!(ends.take_due(at(1_001)), ["a"]);
    }
}
