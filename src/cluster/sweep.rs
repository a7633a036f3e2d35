//! What a sweep reads and removes. It lists and deletes, and takes finalizers off bindings; it has no other rights.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{ListParams, Preconditions};
use kube::client::Body;
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use super::clock::date;
use super::edges::call;
use super::error::Error;
use super::read::grant_uid;
use super::remove::{Remains, delete, free};
use crate::api::{AccessGrant, ArtifactKind, GRANT_UID_LABEL, NOT_AFTER_ANNOTATION};
use crate::core::sweep::{Clocks, Labelled};
use crate::core::{ArtifactKey, Target};

/// How many objects one answer may hold: of 1,000 grants there are about 3,000 artifacts, and an API server makes
/// short work of 500 at a time.
const PAGE: u32 = 500;

/// What the time is. Every answer of the API server says so, a refusal as well, so this asks for what anybody may read.
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

/// Everything of that kind, in all namespaces, that carries our label.
pub async fn find(client: &Client, kind: ArtifactKind) -> Result<Vec<Labelled>, Error> {
    match kind {
        ArtifactKind::Job => list::<Job>(client, kind, "list fuses").await,
        ArtifactKind::Role => list::<Role>(client, kind, "list Roles").await,
        ArtifactKind::RoleBinding => list::<RoleBinding>(client, kind, "list RoleBindings").await,
    }
}

async fn list<K>(client: &Client, kind: ArtifactKind, what: &'static str) -> Result<Vec<Labelled>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let mut found = Vec::new();
    let objects = Api::<K>::all(client.clone());
    let mut page = ListParams::default().labels(GRANT_UID_LABEL).limit(PAGE);
    loop {
        let answer = call(what, objects.list_metadata(&page)).await?;
        found.extend(answer.items.iter().filter_map(|object| {
            Some(Labelled {
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
        }));
        match answer.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page.continue_token = Some(token),
            None => return Ok(found),
        }
    }
}

/// The uids of all grants.
pub async fn grants(client: &Client) -> Result<BTreeSet<String>, Error> {
    let mut uids = BTreeSet::new();
    let grants = Api::<AccessGrant>::all(client.clone());
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let answer = call("list grants", grants.list_metadata(&page)).await?;
        uids.extend(answer.items.iter().filter_map(kube::ResourceExt::uid));
        match answer.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page.continue_token = Some(token),
            None => return Ok(uids),
        }
    }
}

/// How something went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It was deleted.
    Deleted,
    /// It was gone already.
    Already,
    /// It was being held back by a finalizer of somebody else, which was taken off.
    Freed,
}

/// Removes one thing as it was read, and nothing that has come in its place.
///
/// A binding that a finalizer holds back gives access although it is being deleted. Who empties it needs `bind` on its
/// role, since the API server takes that for a new binding; taking its finalizers off needs no right on the role and
/// ends the access as well.
pub async fn remove(client: &Client, what: &Labelled) -> Result<Gone, Error> {
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
        Err(error) if error.is_absent() => Ok(Gone::Already),
        Err(error) => Err(error),
    }
}
