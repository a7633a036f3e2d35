//! Locks by key.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// One lock for each key, first come, first served. A key takes memory only while its lock is held or awaited.
///
/// An urgent waiter has no priority. The holder is notified ([`KeyGuard::urged`]) and can stop early.
#[derive(Debug)]
pub struct KeyLocks<K> {
    locks: Mutex<HashMap<K, Arc<Lock>>>,
}

#[derive(Debug)]
struct Lock {
    /// One permit; its owner holds the lock.
    permit: Arc<Semaphore>,
    urgent: Notify,
}

impl Default for Lock {
    fn default() -> Self {
        Self {
            permit: Arc::new(Semaphore::new(1)),
            urgent: Notify::new(),
        }
    }
}

impl<K> Default for KeyLocks<K> {
    fn default() -> Self {
        Self {
            locks: Mutex::new(HashMap::new()),
        }
    }
}

/// The lock of one key, held until this guard is dropped.
#[must_use = "the lock is released as soon as the guard is dropped"]
#[derive(Debug)]
pub struct KeyGuard<'a, K: Eq + Hash> {
    locks: &'a KeyLocks<K>,
    key: K,
    lock: Option<Arc<Lock>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl<K: Eq + Hash + Clone> KeyLocks<K> {
    /// Waits for the lock of a key.
    pub async fn lock(&self, key: K) -> KeyGuard<'_, K> {
        self.queue(key, false).await
    }

    /// Waits for the lock of a key, and notifies its holder.
    pub async fn lock_urgently(&self, key: K) -> KeyGuard<'_, K> {
        self.queue(key, true).await
    }

    async fn queue(&self, key: K, urgent: bool) -> KeyGuard<'_, K> {
        let lock = {
            let mut locks = self.locks.lock();
            Arc::clone(locks.entry(key.clone()).or_default())
        };
        if urgent {
            lock.urgent.notify_one();
        }
        let permit = Arc::clone(&lock.permit);
        let mut guard = KeyGuard {
            locks: self,
            key,
            lock: Some(lock),
            permit: None,
        };
        // The semaphore is never closed.
        guard.permit = permit.acquire_owned().await.ok();
        guard
    }
}

impl<K: Eq + Hash> KeyGuard<'_, K> {
    /// Waits until an urgent waiter wants this lock.
    pub async fn urged(&self) {
        match &self.lock {
            Some(lock) => lock.urgent.notified().await,
            None => std::future::pending().await,
        }
    }
}

impl<K: Eq + Hash> Drop for KeyGuard<'_, K> {
    fn drop(&mut self) {
        drop(self.permit.take());
        drop(self.lock.take());
        let mut locks = self.locks.locks.lock();
        // A lock is reached through the map only, so one owner means that only the map has the lock.
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
    async fn a_lock_has_one_holder_and_other_keys_do_not_wait() {
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
        assert!(locks.locks.lock().is_empty(), "a free lock takes memory");
    }

    #[tokio::test]
    async fn a_cancelled_wait_leaves_no_memory() {
        let locks = KeyLocks::default();
        let held = locks.lock(1).await;
        assert!(
            tokio::time::timeout(std::time::Duration::from_millis(1), locks.lock(1))
                .await
                .is_err()
        );
        drop(held);
        assert!(locks.locks.lock().is_empty());
        drop(locks.lock(1).await);
    }

    #[tokio::test]
    async fn only_an_urgent_waiter_notifies_the_holder() {
        let locks = Arc::new(KeyLocks::default());
        let held = locks.lock(1).await;
        let patient = Arc::clone(&locks);
        let patient = tokio::spawn(async move { drop(patient.lock(1).await) });
        let soon = std::time::Duration::from_millis(20);
        assert!(
            tokio::time::timeout(soon, held.urged()).await.is_err(),
            "a patient waiter notified the holder"
        );
        let urgent = Arc::clone(&locks);
        let urgent = tokio::spawn(async move { drop(urgent.lock_urgently(1).await) });
        tokio::time::timeout(std::time::Duration::from_secs(5), held.urged())
            .await
            .unwrap();
        drop(held);
        patient.await.unwrap();
        urgent.await.unwrap();
        assert!(locks.locks.lock().is_empty());
    }
}
