//! Reads the admission guards as they are.

use futures::future::try_join_all;
use kube::Api;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::Value;

use super::edges::{Edges, call};
use super::error::Error;
use crate::core::Guard;

/// The `spec` of each of these guards, in their order; `None`: there is none of that kind and name.
pub async fn read_guards(edges: &Edges, guards: &[Guard]) -> Result<Vec<Option<Value>>, Error> {
    try_join_all(guards.iter().map(|guard| read(edges, guard))).await
}

async fn read(edges: &Edges, guard: &Guard) -> Result<Option<Value>, Error> {
    let kind = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", guard.kind.name());
    let resource = ApiResource::from_gvk(&kind);
    let guards = Api::<DynamicObject>::all_with(edges.client.clone(), &resource);
    let there = call("read guard", guards.get_opt(&guard.name)).await?;
    Ok(there.map(|there| there.data.get("spec").cloned().unwrap_or_default()))
}
