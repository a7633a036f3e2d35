//! Watches that record when each object is created and deleted, independent of the operator.

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use curfew::api::{AccessGrant, GRANT_UID_LABEL};
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{WatchEvent, WatchParams};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// One change that a watch has shown.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// Time at which this process received the event.
    pub at: Timestamp,
    /// Kind of change.
    pub what: Happening,
    /// Uid of the object.
    pub uid: String,
    /// Name of the object.
    pub name: String,
    /// Uid of the grant for which Curfew created the object; empty for a grant itself.
    pub grant_uid: String,
}

/// Kinds of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A grant was created.
    Asked,
    /// A RoleBinding was created.
    Bound,
    /// A RoleBinding was deleted.
    Unbound,
}

/// Watches of one namespace. Dropping it stops them.
pub struct Bystander {
    sightings: mpsc::UnboundedReceiver<anyhow::Result<Sighting>>,
    watches: Vec<JoinHandle<()>>,
}

impl Bystander {
    /// Starts to watch the grants of a namespace, and the `RoleBindings` that Curfew creates there.
    pub async fn watch(client: Client, namespace: &str) -> anyhow::Result<Self> {
        let (tell, sightings) = mpsc::unbounded_channel();
        let grants = Api::<AccessGrant>::namespaced(client.clone(), namespace);
        let bindings = Api::<RoleBinding>::namespaced(client, namespace);
        let of_curfew = WatchParams::default().labels(GRANT_UID_LABEL);
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
                &of_curfew,
                [Some(Happening::Bound), Some(Happening::Unbound)],
                tell,
            )
            .await?,
        ];
        Ok(Self { sightings, watches })
    }

    /// Waits for the next change that is `wanted`. Earlier changes are dropped.
    ///
    /// # Errors
    /// The deadline has passed, or a watch broke. `what` names the change in the error.
    pub async fn sees(
        &mut self,
        what: &str,
        deadline: Duration,
        wanted: impl Fn(&Sighting) -> bool,
    ) -> anyhow::Result<Sighting> {
        let next = async {
            loop {
                let sighting = self.sightings.recv().await.context("the watches ended")??;
                if wanted(&sighting) {
                    return anyhow::Ok(sighting);
                }
            }
        };
        tokio::time::timeout(deadline, next)
            .await
            .map_err(|_| {
                anyhow!(
                    "the watch did not show {what} within {:.0} s",
                    deadline.as_secs_f64()
                )
            })?
            .with_context(|| format!("waiting for {what}"))
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        for watch in &self.watches {
            watch.abort();
        }
    }
}

/// Starts one watch and sends each creation and deletion to `tell`. Covers all changes after this function returns.
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
            // The receiver is gone at the end of the demo.
            tell.send(Ok(sighting)).unwrap_or_default();
        }
    }))
}
