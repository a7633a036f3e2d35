//! What a bystander sees: watches that note when each object comes and goes.

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{WatchEvent, WatchParams};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use curfew::api::{AccessGrant, GRANT_UID_LABEL};

/// Something that was seen to happen.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// When it was seen.
    pub at: Timestamp,
    /// What happened.
    pub what: Happening,
    /// Uid of the object.
    pub uid: String,
    /// Name of the object.
    pub name: String,
    /// Uid of the grant for which the object was made; empty for others.
    pub grant_uid: String,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A grant came.
    Asked,
    /// A binding came.
    Bound,
    /// A binding went.
    Unbound,
}

/// The watches of one namespace, from when they were made.
pub struct Bystander {
    sightings: mpsc::UnboundedReceiver<anyhow::Result<Sighting>>,
    watches: Vec<JoinHandle<()>>,
}

impl Bystander {
    /// Begins to watch the grants of a namespace, and what Curfew binds there.
    pub async fn watch(client: Client, namespace: &str) -> anyhow::Result<Self> {
        let (tell, sightings) = mpsc::unbounded_channel();
        let grants = Api::<AccessGrant>::namespaced(client.clone(), namespace);
        let bindings = Api::<RoleBinding>::namespaced(client, namespace);
        let ours = WatchParams::default().labels(GRANT_UID_LABEL);
        let watches = vec![
            follow(
                grants,
                &WatchParams::default(),
                [Some(Happening::Asked), None],
                tell.clone(),
            )
            .await?,
            follow(
                bindings,
                &ours,
                [Some(Happening::Bound), Some(Happening::Unbound)],
                tell,
            )
            .await?,
        ];
        Ok(Self { sightings, watches })
    }

    /// The next sighting that is wanted; fails at the deadline, and when a watch breaks.
    pub async fn sees(
        &mut self,
        what: &str,
        deadline: Duration,
        wanted: impl Fn(&Sighting) -> bool,
    ) -> anyhow::Result<Sighting> {
        let seen = async {
            loop {
                let sighting = self.sightings.recv().await.context("the watches ended")??;
                if wanted(&sighting) {
                    return anyhow::Ok(sighting);
                }
            }
        };
        tokio::time::timeout(deadline, seen)
            .await
            .map_err(|_| anyhow!("{what}: not seen within {:.0} s", deadline.as_secs_f64()))?
            .with_context(|| what.to_owned())
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        for watch in &self.watches {
            watch.abort();
        }
    }
}

/// Tells what comes and what goes, from when this returns on.
async fn follow<K>(
    api: Api<K>,
    params: &WatchParams,
    [came, went]: [Option<Happening>; 2],
    tell: mpsc::UnboundedSender<anyhow::Result<Sighting>>,
) -> anyhow::Result<JoinHandle<()>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let events = api.watch(params, "0").await?;
    Ok(tokio::spawn(async move {
        let mut events = pin!(events);
        while let Some(event) = events.next().await {
            let at = Timestamp::now();
            let (happening, object) = match event {
                Ok(WatchEvent::Added(object)) => (came, object),
                Ok(WatchEvent::Deleted(object)) => (went, object),
                Ok(WatchEvent::Modified(_) | WatchEvent::Bookmark(_)) => continue,
                Ok(WatchEvent::Error(status)) => {
                    return tell
                        .send(Err(anyhow!("a watch broke: {status:?}")))
                        .unwrap_or_default();
                }
                Err(error) => return tell.send(Err(error.into())).unwrap_or_default(),
            };
            let Some(what) = happening else { continue };
            let sighting = Sighting {
                at,
                what,
                uid: object.uid().unwrap_or_default(),
                name: object.name_any(),
                grant_uid: object.labels().get(GRANT_UID_LABEL).cloned().unwrap_or_default(),
            };
            // Nobody listens any more when the story is over.
            tell.send(Ok(sighting)).unwrap_or_default();
        }
    }))
}
