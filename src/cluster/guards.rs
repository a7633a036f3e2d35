//! Reads the admission guards as they are.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, ResourceExt as _};
use serde_json::Value;

use super::edges::{Edges, call};
use super::error::Error;
use crate::core::{Guard, GuardKind};

/// The `spec` of each of these guards, in their order; `None`: there is none of that kind and name. One request for each
/// kind, as fresh as the store.
pub async fn read_guards(edges: &Edges, guards: &[Guard]) -> Result<Vec<Option<Value>>, Error> {
    let mut kinds = HashMap::new();
    for guard in guards {
        if let Entry::Vacant(unread) = kinds.entry(guard.kind) {
            unread.insert(specs(edges, guard.kind).await?);
        }
    }
    let spec = |guard: &Guard| kinds.get(&guard.kind)?.get(&guard.name).cloned();
    Ok(guards.iter().map(spec).collect())
}

/// By name.
async fn specs(edges: &Edges, kind: GuardKind) -> Result<HashMap<String, Value>, Error> {
    let kind = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind.name());
    let resource = ApiResource::from_gvk(&kind);
    let guards = Api::<DynamicObject>::all_with(edges.client.clone(), &resource);
    // By name, not by label: a guard without its label is one all the same.
    let there = call("list guards", guards.list(&ListParams::default())).await?;
    let named = there.items.into_iter().map(|mut guard| {
        let spec = guard.data.get_mut("spec").map(Value::take).unwrap_or_default();
        (guard.name_any(), spec)
    });
    Ok(named.collect())
}
