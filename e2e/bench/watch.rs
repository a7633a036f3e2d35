//! Sees bindings come and go. All times are of this machine's wall clock, on which deadlines are as well.

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

/// When the binding of one grant was seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sighting {
    /// To have come.
    pub came: Option<Timestamp>,
    /// To have gone.
    pub went: Option<Timestamp>,
}

/// What a watch of its own has seen so far, by uid of the grant.
#[derive(Debug, Default)]
pub struct Sightings {
    seen: Mutex<HashMap<String, Sighting>>,
    broken: Mutex<Option<String>>,
}

impl Sightings {
    /// Begins to watch the namespace's bindings; returns when it has seen those that are there.
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
                    // A relist sees what is there, not since when.
                    Ok(Event::Init) if *listed.borrow() => watching.broke("it had to list again"),
                    Ok(Event::InitDone) => drop(listed.send_replace(true)),
                    Ok(Event::Init | Event::InitApply(_)) => {}
                    // Nothing that is seen later counts.
                    Err(error) => return watching.broke(&error.to_string()),
                }
            }
        });
        is_listed.wait_for(|listed| *listed).await?;
        Ok(sightings)
    }

    /// What was seen of the bindings of these grants, in their order. An error if a time may be missing.
    pub fn of<'a>(&self, grants: impl IntoIterator<Item = &'a str>) -> anyhow::Result<Vec<Sighting>> {
        if let Some(why) = lock(&self.broken).as_ref() {
            bail!("the benchmark's own watch broke, so its times mean nothing: {why}");
        }
        let seen = lock(&self.seen);
        let of = |grant: &str| seen.get(grant).copied().unwrap_or_default();
        Ok(grants.into_iter().map(of).collect())
    }

    fn note(&self, binding: &RoleBinding, take: impl FnOnce(&mut Sighting)) {
        let label = binding.labels().get(GRANT_UID_LABEL).map(String::as_str);
        let name = binding.metadata.name.as_deref();
        let bare = name.and_then(|name| name.strip_prefix(bare::PREFIX));
        if let Some(grant) = label.or(bare) {
            take(lock(&self.seen).entry(grant.to_owned()).or_default());
        }
    }

    fn broke(&self, why: &str) {
        lock(&self.broken).get_or_insert_with(|| why.to_owned());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
