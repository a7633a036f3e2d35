//! Watch that records when each RoleBinding is created and deleted.
//!
//! All times come from the wall clock of this machine. The ends of grants refer to the same clock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::bail;
use curfew::api::GRANT_UID_LABEL;
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::watch;

use crate::bare;

/// Times at which the watch showed changes of the RoleBinding of one grant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sighting {
    /// Time of the creation; `None` if not seen yet.
    pub came: Option<Timestamp>,
    /// Time of the deletion; `None` if not seen yet.
    pub went: Option<Timestamp>,
}

/// Everything that the watch has shown so far, by uid of the grant.
#[derive(Debug, Default)]
pub struct Sightings {
    seen: Mutex<HashMap<String, Sighting>>,
    broken: Mutex<Option<String>>,
}

impl Sightings {
    /// Starts to watch the `RoleBindings` of the namespace. Returns when the existing `RoleBindings` are listed.
    pub async fn begin(client: Client, namespace: &str) -> anyhow::Result<Arc<Self>> {
        let sightings = Arc::<Self>::default();
        let (listed, mut is_listed) = watch::channel(false);
        let bindings = Api::<RoleBinding>::namespaced(client, namespace);
        let watching = Arc::clone(&sightings);
        tokio::spawn(async move {
            let mut events = watcher(bindings, Config::default()).boxed();
            while let Some(event) = events.next().await {
                let now = Timestamp::now();
                match event {
                    Ok(Event::Apply(binding)) => watching.note(&binding, |seen| {
                        seen.came.get_or_insert(now);
                    }),
                    Ok(Event::Delete(binding)) => watching.note(&binding, |seen| {
                        seen.went.get_or_insert(now);
                    }),
                    // A relist shows which objects exist, but not since when.
                    Ok(Event::Init) if *listed.borrow() => watching.broke("the watch had to list again"),
                    Ok(Event::InitDone) => drop(listed.send_replace(true)),
                    Ok(Event::Init | Event::InitApply(_)) => {}
                    // All later times would be too late.
                    Err(error) => return watching.broke(&error.to_string()),
                }
            }
        });
        is_listed.wait_for(|listed| *listed).await?;
        Ok(sightings)
    }

    /// Times of the `RoleBindings` of these grants, in the order of `grants`.
    ///
    /// # Errors
    /// The watch broke, so a time can be missing or too late.
    pub fn of<'a>(&self, grants: impl IntoIterator<Item = &'a str>) -> anyhow::Result<Vec<Sighting>> {
        if let Some(why) = lock(&self.broken).as_ref() {
            bail!(
                "the watch of the benchmark broke, so its times are not usable; run the benchmark again: {why}"
            );
        }
        let seen = lock(&self.seen);
        let sighting = |grant: &str| seen.get(grant).copied().unwrap_or_default();
        Ok(grants.into_iter().map(sighting).collect())
    }

    fn note(&self, binding: &RoleBinding, record: impl FnOnce(&mut Sighting)) {
        let label = binding.labels().get(GRANT_UID_LABEL).map(String::as_str);
        let name = binding.metadata.name.as_deref();
        let bare = name.and_then(|name| name.strip_prefix(bare::PREFIX));
        if let Some(grant) = label.or(bare) {
            record(lock(&self.seen).entry(grant.to_owned()).or_default());
        }
    }

    fn broke(&self, why: &str) {
        lock(&self.broken).get_or_insert_with(|| why.to_owned());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
