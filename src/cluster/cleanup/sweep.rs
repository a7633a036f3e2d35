//! Requests of a sweep: it lists, deletes, and removes finalizers of bindings. It has no other rights.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kube::api::{ListParams, Preconditions};
use kube::client::Body;
use kube::{Api, Client, ResourceExt as _};

use crate::api::{AccessGrant, ArtifactKind, GRANT_UID_LABEL, NOT_AFTER_ANNOTATION};
use crate::cluster::client::call;
use crate::cluster::client::clock::date;
use crate::cluster::client::error::Error;
use crate::cluster::grant::remove::{Remains, delete, free};
use crate::cluster::objects::kinds::{ArtifactApi, for_kind};
use crate::cluster::objects::pages;
use crate::cluster::objects::read::grant_uid;
use crate::core::artifact::key::ArtifactKey;
use crate::core::artifact::target::Target;
use crate::core::cleanup::sweep::{Clocks, LabelledObject};

/// The time of the API server and of this machine. Every response carries the time, a refusal too, so this reads
/// `/version`, which anyone may read.
pub async fn clocks(client: &Client) -> Result<Clocks, Error> {
    let what = "read the API server's clock";
    let request = http::Request::get("/version")
        .body(Body::empty())
        .map_err(|source| Error::of(what, kube::Error::HttpError(source)))?;
    let asked = Timestamp::now();
    let answer = call(what, client.send(request)).await?;
    let answered = Timestamp::now();
    let server = date(answer.headers()).ok_or(Error::NoServerTime)?;
    Ok(Clocks {
        server,
        asked,
        answered,
    })
}

/// All objects of a kind with Curfew's label, in all namespaces.
pub async fn find(client: &Client, kind: ArtifactKind) -> Result<Vec<LabelledObject>, Error> {
    for_kind!(kind, K => list::<K>(client, kind).await)
}

async fn list<K: ArtifactApi>(client: &Client, kind: ArtifactKind) -> Result<Vec<LabelledObject>, Error> {
    let labelled = ListParams::default().labels(GRANT_UID_LABEL);
    pages::metadata(
        K::REQUESTS.list,
        &Api::<K>::all(client.clone()),
        labelled,
        |object| {
            Some(LabelledObject {
                key: ArtifactKey {
                    kind,
                    namespace: object.namespace().unwrap_or_default(),
                    name: object.name_any(),
                },
                uid: object.uid().unwrap_or_default(),
                resource_version: object
                    .resource_version()
                    .filter(|_| object.metadata.deletion_timestamp.is_none()),
                grant_uid: grant_uid(&object.metadata)?.clone(),
                not_after: object.annotations().get(NOT_AFTER_ANNOTATION).cloned(),
                finalizers: object.finalizers().to_vec(),
            })
        },
    )
    .await
}

/// The uids of all grants.
pub async fn grants(client: &Client) -> Result<BTreeSet<String>, Error> {
    let grants = Api::<AccessGrant>::all(client.clone());
    let all = ListParams::default();
    let uids = pages::metadata("list grants", &grants, all, kube::ResourceExt::uid).await?;
    Ok(uids.into_iter().collect())
}

/// Result of a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It was deleted.
    Deleted,
    /// It did not exist any more.
    Already,
    /// A finalizer of someone else blocked the deletion, and was removed.
    Freed,
}

/// Removes one object, if it still is the object that was read.
///
/// A binding that a finalizer blocks gives access although it is being deleted. To empty it, one needs `bind` on its
/// role, since the API server takes that for a new binding. To remove its finalizers, one needs no right on the role,
/// and access ends too.
///
/// # Errors
/// [`Error::StillThere`] if a finalizer blocks the deletion of something other than a binding.
pub async fn remove(client: &Client, what: &LabelledObject) -> Result<Gone, Error> {
    let target = Target::new(what.key.clone(), Some(what.uid.clone()));
    let as_read = Preconditions {
        uid: Some(what.uid.clone()),
        resource_version: what.resource_version.clone(),
    };
    match delete(client, &target, as_read).await {
        Ok(Remains::Nothing) => Ok(Gone::Deleted),
        Ok(Remains::HeldBack) if target.kind == ArtifactKind::RoleBinding => {
            let freed = free(client, &target, Some(&what.uid)).await;
            freed.map(|()| Gone::Freed)
        }
        Ok(Remains::HeldBack) => Err(Error::StillThere {
            kind: what.key.kind,
            name: what.key.name.clone(),
        }),
        Err(error) => error.absent_as(Gone::Already),
    }
}
