//! The watches: each delivers into the index and says what it touches.
//!
//! Each has its own backoff, and an error of one never reaches another: merged streams share one backoff, by which
//! a single broken watch delays every trigger by up to 25 s (kube#763).

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::{Stream, StreamExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::core::{PartialObjectMeta, PartialObjectMetaExt as _};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};
use kube_runtime::WatchStreamExt as _;
use kube_runtime::watcher::watcher as watch_objects;
use tokio::sync::{mpsc, watch};

use super::orphans::Orphan;
use super::server::Readiness;
use crate::api::AccessGrant;
use crate::cluster::{GrantKey, Touched};

/// Where watches say what they touch.
#[derive(Clone, Debug)]
pub struct Triggers {
    grants: UnboundedSender<GrantKey>,
    policies: mpsc::UnboundedSender<String>,
    orphans: mpsc::UnboundedSender<Orphan>,
}

/// What is triggered.
#[derive(Debug)]
pub struct Triggered {
    /// Grants to look at.
    pub grants: UnboundedReceiver<GrantKey>,
    /// Policies to judge.
    pub policies: mpsc::UnboundedReceiver<String>,
    /// Grants that are gone.
    pub orphans: mpsc::UnboundedReceiver<Orphan>,
}

/// Triggers and what they trigger.
pub fn triggers() -> (Triggers, Triggered) {
    let (grants, triggered_grants) = unbounded();
    let (policies, triggered_policies) = mpsc::unbounded_channel();
    let (orphans, triggered_orphans) = mpsc::unbounded_channel();
    let triggered = Triggered {
        grants: triggered_grants,
        policies: triggered_policies,
        orphans: triggered_orphans,
    };
    (
        Triggers {
            grants,
            policies,
            orphans,
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
        for (uid, key) in touched.orphans {
            self.orphans
                .send(Orphan { uid, key, last: None })
                .unwrap_or_default();
        }
    }

    /// Grants to look at.
    pub fn fire_grants(&self, grants: BTreeSet<GrantKey>) {
        for grant in grants {
            self.grants.unbounded_send(grant).unwrap_or_default();
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
        .default_backoff()
        .inspect(move |event| sync.note(name, event))
        .filter_map(|event| std::future::ready(event.ok()))
}

/// The controller's trigger stream: names of grants to look at, as the objects it expects.
pub fn as_objects(
    grants: UnboundedReceiver<GrantKey>,
) -> impl Stream<Item = Result<PartialObjectMeta<AccessGrant>, watcher::Error>> + Send {
    grants.map(|key| {
        let meta = ObjectMeta {
            name: Some(key.name),
            namespace: Some(key.namespace),
            ..ObjectMeta::default()
        };
        Ok(meta.into_response_partial())
    })
}

/// The grant an object of [`as_objects`] stands for.
pub fn reference(object: PartialObjectMeta<AccessGrant>) -> Option<ObjectRef<AccessGrant>> {
    let (name, namespace) = (object.metadata.name?, object.metadata.namespace?);
    Some(ObjectRef::new(&name).within(&namespace))
}
