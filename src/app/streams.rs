//! The watches: each delivers into the index and says what it touches.
//!
//! Each has its own backoff, and an error of one never reaches another: merged streams share one backoff, by which
//! a single broken watch delays every trigger by up to 25 s (kube#763).

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use k8s_openapi::serde::de::DeserializeOwned;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event, watcher as watch_objects};
use kube::{Api, Resource};
use tokio::sync::{mpsc, watch};

use super::orphans::Orphan;
use super::server::Readiness;
use crate::cluster::{DecisionKey, GrantKey, Touched};

/// Where watches say what they touch.
#[derive(Clone, Debug)]
pub struct Triggers {
    grants: mpsc::UnboundedSender<GrantKey>,
    policies: mpsc::UnboundedSender<String>,
    orphans: mpsc::UnboundedSender<Orphan>,
    decisions: mpsc::UnboundedSender<DecisionKey>,
}

/// What is triggered.
#[derive(Debug)]
pub struct Triggered {
    /// Grants to look at.
    pub grants: mpsc::UnboundedReceiver<GrantKey>,
    /// Policies to judge.
    pub policies: mpsc::UnboundedReceiver<String>,
    /// Grants that are gone.
    pub orphans: mpsc::UnboundedReceiver<Orphan>,
    /// Decisions about grants that nobody knows.
    pub decisions: mpsc::UnboundedReceiver<DecisionKey>,
}

/// Triggers and what they trigger.
pub fn triggers() -> (Triggers, Triggered) {
    let (grants, triggered_grants) = mpsc::unbounded_channel();
    let (policies, triggered_policies) = mpsc::unbounded_channel();
    let (orphans, triggered_orphans) = mpsc::unbounded_channel();
    let (decisions, triggered_decisions) = mpsc::unbounded_channel();
    let triggered = Triggered {
        grants: triggered_grants,
        policies: triggered_policies,
        orphans: triggered_orphans,
        decisions: triggered_decisions,
    };
    (
        Triggers {
            grants,
            policies,
            orphans,
            decisions,
        },
        triggered,
    )
}

impl Triggers {
    /// Passes on what an event touched. At shutdown nobody listens any more, and nothing is lost: what is to be
    /// done is read from the cluster at the next start.
    pub fn fire(&self, touched: Touched) {
        self.fire_grants(touched.grants);
        for policy in touched.policies {
            self.policies.send(policy).unwrap_or_default();
        }
        for decision in touched.decisions {
            self.decisions.send(decision).unwrap_or_default();
        }
        for (uid, key) in touched.orphans {
            self.orphans
                .send(Orphan { uid, key, last: None })
                .unwrap_or_default();
        }
    }

    /// Grants to look at.
    pub fn fire_grants(&self, grants: BTreeSet<GrantKey>) {
        for grant in grants {
            self.grants.send(grant).unwrap_or_default();
        }
    }

    /// A grant that was seen to go.
    pub fn fire_orphan(&self, orphan: Orphan) {
        self.orphans.send(orphan).unwrap_or_default();
    }
}

/// Keeps account of which watches have delivered their first list.
#[derive(Clone, Debug)]
pub struct Sync {
    missing: Arc<Mutex<BTreeSet<&'static str>>>,
    all: watch::Sender<bool>,
    readiness: Readiness,
}

impl Sync {
    /// Waits for these watches.
    pub fn of(names: &[&'static str], readiness: Readiness) -> Self {
        let missing = Arc::new(Mutex::new(names.iter().copied().collect()));
        Self {
            missing,
            all: watch::Sender::new(false),
            readiness,
        }
    }

    /// Turns true when all have delivered, and stays so.
    pub fn all(&self) -> watch::Receiver<bool> {
        self.all.subscribe()
    }

    /// Takes note of an event.
    pub fn note<K>(&self, name: &'static str, event: &Result<Event<K>, watcher::Error>) {
        match event {
            Ok(Event::InitDone) => {
                self.readiness.done(name);
                let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
                missing.remove(name);
                if missing.is_empty() {
                    self.all.send_replace(true);
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(watch = name, %error, "a watch broke; it is tried again");
                if self
                    .missing
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .contains(name)
                {
                    self.readiness
                        .undone(name, "cannot be listed yet; the log says why");
                }
            }
        }
    }
}

/// Longest pause of a broken watch. kube's default grows to 30 s: after an API server had restarted, requests were
/// not seen for as long. Nine watches that try every 2 s are five requests a second against a server that is away.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Pauses of a broken watch: doubling from 100 ms, from the start again after a success.
#[derive(Debug, Default)]
pub struct Patience {
    failures: u32,
}

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = Duration::from_millis(100).saturating_mul(1 << self.failures.min(8));
        self.failures = self.failures.saturating_add(1);
        Some(pause.min(LONGEST_PAUSE))
    }
}

impl Backoff for Patience {
    fn reset(&mut self) {
        self.failures = 0;
    }
}

/// The events of one kind of objects: endless, restarted with backoff, errors told and dropped.
pub fn events<K>(
    name: &'static str,
    api: Api<K>,
    config: watcher::Config,
    sync: Sync,
) -> impl Stream<Item = Event<K>> + Send
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watch_objects(api, config)
        .backoff(Patience::default())
        .inspect(move |event| sync.note(name, event))
        .filter_map(|event| std::future::ready(event.ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_watch_is_tried_again_at_once_and_then_every_two_seconds() {
        let mut patience = Patience::default();
        let pauses: Vec<_> = patience.by_ref().take(7).map(|pause| pause.as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 2000, 2000]);
        patience.reset();
        assert_eq!(patience.next(), Some(Duration::from_millis(100)));
        patience.failures = u32::MAX;
        assert_eq!(patience.next(), Some(LONGEST_PAUSE));
    }
}
