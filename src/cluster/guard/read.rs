//! The admission guards, read from the API server.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, ResourceExt as _};
use serde_json::Value;

use crate::cluster::client::call;
use crate::cluster::client::error::Error;
use crate::cluster::context::Cluster;
use crate::core::guard::{Guard, GuardKind};

/// The `spec` of each guard, in the order of `guards`; `None` if the guard does not exist. Sends one list request for
/// each kind, answered from etcd, not from the API server's cache.
pub async fn read_guards(edges: &Cluster, guards: &[Guard]) -> Result<Vec<Option<Value>>, Error> {
    let mut kinds = HashMap::new();
    for guard in guards {
        if let Entry::Vacant(unread) = kinds.entry(guard.kind) {
            unread.insert(specs(edges, guard.kind).await?);
        }
    }
    let spec = |guard: &Guard| kinds.get(&guard.kind)?.get(&guard.name).cloned();
    Ok(guards.iter().map(spec).collect())
}

/// The `spec` of all objects of one kind, by name.
async fn specs(edges: &Cluster, kind: GuardKind) -> Result<HashMap<String, Value>, Error> {
    let kind = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind.name());
    let resource = ApiResource::from_gvk(&kind);
    let guards = Api::<DynamicObject>::all_with(edges.client.clone(), &resource);
    // Found by name, not by label: a guard that lost its label is still a guard.
    let there = call("list guards", guards.list(&ListParams::default())).await?;
    let named = there.items.into_iter().map(|mut guard| {
        let spec = guard.data.get_mut("spec").map(Value::take).unwrap_or_default();
        (guard.name_any(), spec)
    });
    Ok(named.collect())
}
