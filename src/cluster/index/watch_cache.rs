//! Cache of the objects of one watch, reduced to what decisions need.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use kube::runtime::watcher::Event;

/// The objects of one watch. A complete relist removes the objects that it did not deliver.
#[derive(Debug)]
pub struct WatchCache<K, V> {
    objects: HashMap<K, V>,
    /// Keys delivered by the relist in progress.
    relisted: Option<HashSet<K>>,
}

impl<K, V> Default for WatchCache<K, V> {
    fn default() -> Self {
        Self {
            objects: HashMap::new(),
            relisted: None,
        }
    }
}

/// One change of a [`WatchCache`].
#[derive(Debug, PartialEq, Eq)]
pub enum Change<K, V> {
    /// The key has a new value; with its previous value, if any.
    Set(K, Option<V>),
    /// The key was removed; with its last value.
    Removed(K, V),
}

impl<K: Eq + Hash + Clone, V: PartialEq> WatchCache<K, V> {
    /// Applies one event, and returns the changes. `read` returns key and value of an object. An object that is
    /// delivered again unchanged is no change.
    pub fn take<O>(&mut self, event: &Event<O>, read: impl FnOnce(&O) -> (K, V)) -> Vec<Change<K, V>> {
        match event {
            Event::Init => {
                self.relisted = Some(HashSet::new());
                Vec::new()
            }
            Event::InitApply(object) | Event::Apply(object) => {
                let (key, value) = read(object);
                if let Some(relisted) = &mut self.relisted {
                    relisted.insert(key.clone());
                }
                let unchanged = self.objects.get(&key) == Some(&value);
                // An equal value may still carry a newer copy of the object.
                let before = self.objects.insert(key.clone(), value);
                if unchanged {
                    return Vec::new();
                }
                vec![Change::Set(key, before)]
            }
            Event::Delete(object) => {
                let (key, _) = read(object);
                self.objects
                    .remove(&key)
                    .map(|value| Change::Removed(key, value))
                    .into_iter()
                    .collect()
            }
            Event::InitDone => {
                let Some(relisted) = self.relisted.take() else {
                    return Vec::new();
                };
                let gone: Vec<K> = self
                    .objects
                    .keys()
                    .filter(|key| !relisted.contains(*key))
                    .cloned()
                    .collect();
                gone.into_iter()
                    .filter_map(|key| self.objects.remove(&key).map(|value| Change::Removed(key, value)))
                    .collect()
            }
        }
    }

    /// Sets a value that this process wrote, before the watch delivers it.
    pub fn put(&mut self, key: K, value: V) {
        self.objects.insert(key, value);
    }

    /// Removes the value of an object that this process deleted, before the watch delivers the deletion.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.objects.remove(key)
    }

    /// Value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.objects.get(key)
    }

    /// All keys and values, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.objects.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(mirror: &mut WatchCache<u8, u8>, events: &[Event<(u8, u8)>]) -> Vec<Change<u8, u8>> {
        events
            .iter()
            .flat_map(|event| mirror.take(event, |pair| *pair))
            .collect()
    }

    #[test]
    fn a_relist_removes_the_objects_it_lacks() {
        let mut mirror = WatchCache::default();
        let changes = events(
            &mut mirror,
            &[
                Event::Init,
                Event::InitApply((1, 10)),
                Event::InitApply((2, 20)),
                Event::InitDone,
                Event::Init,
                Event::InitApply((2, 20)),
                Event::InitApply((3, 30)),
                Event::InitDone,
            ],
        );
        assert_eq!(
            changes,
            [
                Change::Set(1, None),
                Change::Set(2, None),
                Change::Set(3, None),
                Change::Removed(1, 10)
            ]
        );
        assert_eq!(mirror.get(&1), None);
    }

    #[test]
    fn a_relist_in_progress_removes_nothing() {
        let mut mirror = WatchCache::default();
        events(
            &mut mirror,
            &[Event::Apply((1, 10)), Event::Init, Event::InitApply((2, 20))],
        );
        assert_eq!(mirror.get(&1), Some(&10));
    }

    #[test]
    fn an_unchanged_object_is_no_change() {
        let mut mirror = WatchCache::default();
        let changes = events(
            &mut mirror,
            &[
                Event::Apply((1, 10)),
                Event::Apply((1, 10)),
                Event::Apply((1, 11)),
            ],
        );
        assert_eq!(changes, [Change::Set(1, None), Change::Set(1, Some(10))]);
    }
}
