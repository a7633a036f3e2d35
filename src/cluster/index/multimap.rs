//! Map from a key to a set of values.

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

/// A map from a key to a set of values. It has no key with an empty set.
#[derive(Debug)]
pub(crate) struct MultiMap<K, V>(HashMap<K, BTreeSet<V>>);

impl<K, V> Default for MultiMap<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash, V: Ord> MultiMap<K, V> {
    /// Adds a value. Returns whether the value is new under this key.
    pub(crate) fn insert(&mut self, key: K, value: V) -> bool {
        self.0.entry(key).or_default().insert(value)
    }

    /// Removes a value, and its key with the last value.
    pub(crate) fn remove<Q>(&mut self, key: &Q, value: &V)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        if let Some(values) = self.0.get_mut(key) {
            values.remove(value);
            if values.is_empty() {
                self.0.remove(key);
            }
        }
    }

    /// Removes all values of a key.
    pub(crate) fn remove_all<Q>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.0.remove(key);
    }

    /// The values of a key, in order.
    pub(crate) fn get<Q>(&self, key: &Q) -> impl Iterator<Item = &V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.0.get(key).into_iter().flatten()
    }

    /// Whether the key has a value.
    pub(crate) fn contains_key<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.0.contains_key(key)
    }

    /// All keys, each with its values, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &BTreeSet<V>)> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_disappears_with_its_last_value() {
        let mut map = MultiMap::default();
        assert!(map.insert("a", 1) && map.insert("a", 2) && !map.insert("a", 1));
        map.remove("a", &1);
        assert_eq!(map.get("a").collect::<Vec<_>>(), [&2]);
        map.remove("a", &2);
        assert!(!map.contains_key("a") && map.iter().next().is_none());
    }
}
