//! Reads from the API server itself, not from a watch.

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, Role};
use kube::Api;

use crate::api::RoleKind;
use crate::cluster::client::call;
use crate::cluster::client::error::Error;
use crate::cluster::context::Cluster;
use crate::cluster::objects::keys::OwnedArtifact;
use crate::cluster::objects::kinds::{ArtifactApi, for_kind};
use crate::cluster::objects::read;
use crate::core::artifact::key::ArtifactKey;
use crate::core::facts::NamespaceFacts;
use crate::core::rbac::roles::RoleFacts;

pub(crate) async fn namespace_live(edges: &Cluster, name: &str) -> Result<Option<NamespaceFacts>, Error> {
    let namespaces = Api::<Namespace>::all(edges.client.clone());
    let live = call("read namespace", namespaces.get_metadata_opt(name)).await?;
    Ok(live.map(|namespace| read::namespace(&namespace.metadata)))
}

pub(crate) async fn role_live(
    edges: &Cluster,
    namespace: &str,
    kind: RoleKind,
    name: &str,
) -> Result<Option<RoleFacts>, Error> {
    let client = edges.client.clone();
    Ok(match kind {
        RoleKind::ClusterRole => {
            let roles = Api::<ClusterRole>::all(client);
            call("read ClusterRole", roles.get_opt(name))
                .await?
                .map(|role| read::cluster_role(&role))
        }
        RoleKind::Role => {
            let roles = Api::<Role>::namespaced(client, namespace);
            call("read Role", roles.get_opt(name))
                .await?
                .map(|role| read::role(&role))
        }
    })
}

/// One artifact, read from the API server itself; `None` if it does not exist or lacks Curfew's label.
pub async fn read_live(edges: &Cluster, key: &ArtifactKey) -> Result<Option<OwnedArtifact>, Error> {
    let held = for_kind!(key.kind, K => read_object::<K>(edges, key).await)?;
    Ok(held.filter(|held| !held.grant_uid.is_empty()))
}

async fn read_object<K: ArtifactApi>(
    edges: &Cluster,
    key: &ArtifactKey,
) -> Result<Option<OwnedArtifact>, Error> {
    let api = K::reader(edges.client.clone(), &key.namespace);
    let object = call(K::REQUESTS.read, api.get_opt(&key.name)).await?;
    Ok(object.map(|object| K::facts(&object).1))
}
