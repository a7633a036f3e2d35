//! One lock for each key.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// Locks by key: whoever holds a key's lock is alone with it. First come, first served. A key costs memory only
/// while somebody holds or awaits its lock.
#[derive(Debug)]
pub struct KeyLocks<K> {
    locks: Mutex<HashMap<K, Arc<AsyncMutex<()>>>>,
}

impl<K> Default for KeyLocks<K> {
    fn default() -> Self {
        Self {
            locks: Mutex::new(HashMap::new()),
        }
    }
}

/// Holds the lock of one key until it is dropped.
#[must_use = "the lock is released as soon as the guard is dropped"]
#[derive(Debug)]
pub struct KeyGuard<'a, K: Eq + Hash> {
    locks: &'a KeyLocks<K>,
    key: K,
    guard: Option<OwnedMutexGuard<()>>,
}

impl<K: Eq + Hash + Clone> KeyLocks<K> {
    /// Waits for the lock of a key.
    pub async fn lock(&self, key: K) -> KeyGuard<'_, K> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locks.entry(key.clone()).or_default())
        };
        let mut guard = KeyGuard {
            locks: self,
            key,
            guard: None,
        };
        guard.guard = Some(lock.lock_owned().await);
        guard
    }
}

impl<K: Eq + Hash> Drop for KeyGuard<'_, K> {
    fn drop(&mut self) {
        drop(self.guard.take());
        let mut locks = self.locks.locks.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody can get at the lock without the map, so one owner means: the map alone.
        if locks
            .get(&self.key)
            .is_some_and(|lock| Arc::strong_count(lock) == 1)
        {
            locks.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn one_key_has_one_holder_and_other_keys_do_not_wait() {
        let locks = Arc::new(KeyLocks::default());
        let inside = Arc::new(AtomicUsize::new(0));
        let other = locks.lock(99).await;
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let (locks, inside) = (Arc::clone(&locks), Arc::clone(&inside));
                tokio::spawn(async move {
                    let guard = locks.lock(1).await;
                    let before = inside.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(guard);
                    before
                })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), 0, "two holders at once");
        }
        drop(other);
        assert!(
            locks.locks.lock().unwrap().is_empty(),
            "a lock nobody holds is kept"
        );
    }

    #[tokio::test]
    async fn giving_up_waiting_leaves_nothing_behind() {
        let locks = KeyLocks::default();
        let held = locks.lock(1).await;
        assert!(
            tokio::time::timeout(std::time::Duration::from_millis(1), locks.lock(1))
                .await
                .is_err()
        );
        drop(held);
        assert!(locks.locks.lock().unwrap().is_empty());
        drop(locks.lock(1).await);
    }
}
