//! Proof that a fuse alone ends access on time, without an operator and in spite of every attack.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::attack::{Attack, Callers, Holds, Request, Who, at, count};
use super::scene::{Access, Ground};
use super::{binding as bindings, fuse};
use crate::harness::{Operator, OperatorOptions, eventually};
use crate::support::json::{CURFEW, RBAC};
use crate::support::manifests::{binding, create, pod};
use crate::support::{Place, Suite};
use crate::tests;

// 240 attacks must finish before the access expires.
tests![; busy: a_fuse_ends_access_on_time_in_spite_of_all_attacks];

/// Access duration of the attacked grants.
const LASTS: &str = "30s";
/// Greatest allowed delay of a fuse: its grace, rounding to whole seconds, and the work of the controllers between Job
/// and binding.
const LATE: Duration = Duration::from_secs(6);
/// Time for the garbage collector to delete a Role. It retries with growing pauses.
///
/// This may be late without harm: a Role grants nothing without its binding.
const COLLECTED: Duration = Duration::from_mins(1);

async fn a_fuse_ends_access_on_time_in_spite_of_all_attacks(suite: &Suite) -> anyhow::Result<()> {
    let operator = Operator::start(&suite.plane, &suite.binary, OperatorOptions::default()).await?;
    let ground = Ground::prepare(suite).await?;
    let node = json!({"metadata": {"name": "make-believe"}});
    create(&Api::<Node>::all(suite.admin.clone()), node).await?;
    let mut harmless = Vec::new();
    for attacks in harmless_attacks() {
        harmless.push((ground.more(LASTS).await?, attacks));
    }
    let short = ground.more(LASTS).await?;
    operator.kill9().await?;

    let callers = Callers::new(suite);
    let mut tried = 0;
    for (access, attacks) in &harmless {
        for attack in attacks(&ground, access) {
            callers
                .try_out(&attack)
                .await
                .map_err(|error| anyhow::anyhow!("{}: {error}", attack.what))?;
            tried += 1;
        }
    }
    // All refused attacks again, on access that is about to end.
    let place = Place {
        suite,
        name: ground.place.name.clone(),
    };
    let short_lived = short.clone().on(place, ground.policy.clone()).await?;
    short_lived.mark_carol(&callers).await?;
    let refused = [
        fuse::attacks(&short_lived),
        bindings::attacks(&short_lived),
        bindings::on_the_mark(&short_lived),
    ]
    .concat();
    super::try_all(&callers, "outlasting", &refused).await?;
    let all: Vec<&Access> = harmless
        .iter()
        .map(|(access, _)| access)
        .chain([&short])
        .collect();
    for access in all {
        ends_on_time(&ground, access).await?;
    }
    eventually(
        "a second binding grants nothing after its Role is deleted",
        COLLECTED,
        async || match ground.place.may("dave", "get", "configmaps").await {
            Ok(false) => Ok(()),
            other => Err(format!("{other:?}; {}", existing(&ground).await)),
        },
    )
    .await?;
    count("outlasting", tried, tried);
    clean_up(suite, &ground).await?;
    let fuses = Api::<Job>::namespaced(suite.admin.clone(), &ground.place.name);
    fuses.delete(&ground.name, &DeleteParams::background()).await?;
    Ok(())
}

/// All Roles and bindings of the namespace, for the message of a failure.
async fn existing(ground: &Ground<'_>) -> String {
    let client = &ground.place.suite.admin;
    let all = ListParams::default();
    let roles = Api::<Role>::namespaced(client.clone(), &ground.place.name);
    let bindings = Api::<RoleBinding>::namespaced(client.clone(), &ground.place.name);
    format!(
        "{:#?} {:#?}",
        roles.list(&all).await.map(|list| list.items),
        bindings.list(&all).await.map(|list| list.items)
    )
}

/// Waits until the binding is gone; at most [`LATE`] after its end.
async fn ends_on_time(ground: &Ground<'_>, access: &Access) -> anyhow::Result<()> {
    let status = access.grant.status.clone().unwrap_or_default();
    let end = status.expires_at.map(|end| end.0).unwrap_or_default();
    let remaining = end
        .duration_since(jiff::Timestamp::now())
        .max(jiff::SignedDuration::ZERO);
    let deadline = remaining.unsigned_abs() + LATE;
    let bindings = Api::<RoleBinding>::namespaced(ground.place.suite.admin.clone(), &ground.place.name);
    eventually(
        &format!("the binding {} is deleted on time", access.name),
        deadline,
        async || match bindings.get_opt(&access.name).await {
            Ok(None) => Ok(()),
            Ok(Some(binding)) => Err(format!("{:?}", binding.metadata)),
            Err(error) => Err(error.to_string()),
        },
    )
    .await
}

type Attacks = fn(&Ground<'_>, &Access) -> Vec<Attack>;

/// Attack that is accepted, by a person.
fn harmless(who: &'static str, what: &str, request: Request) -> Attack {
    Attack {
        what: what.to_owned(),
        who: Who::Person(who),
        request,
        holds: Holds::Harmless,
    }
}

/// Attacks that are accepted. Each entry gets access of its own.
fn harmless_attacks() -> Vec<Attacks> {
    vec![
        |ground, access| {
            let path = access.at(&ground.place, "batch/v1", "jobs");
            let options = json!({"propagationPolicy": "Background"});
            vec![harmless(
                "eve",
                "deletes a fuse, then what it owns",
                Request::delete(path, options),
            )]
        },
        |ground, access| {
            let path = access.at(&ground.place, "batch/v1", "jobs");
            let options = json!({"propagationPolicy": "Foreground"});
            vec![harmless(
                "eve",
                "deletes what a fuse owns, then the fuse",
                Request::delete(path, options),
            )]
        },
        |ground, access| {
            let path = access.at(&ground.place, RBAC, "rolebindings");
            vec![harmless(
                "bob",
                "removes the subject of a binding",
                Request::merge(path, json!({"subjects": []})),
            )]
        },
        |ground, access| {
            let path = at(
                CURFEW,
                &ground.place.name,
                &format!("accessgrants/{}", access.grant.name_any()),
            );
            let options = json!({"propagationPolicy": "Orphan"});
            vec![harmless(
                "bob",
                "deletes a grant and orphans what it owns",
                Request::delete(path, options),
            )]
        },
        |ground, access| {
            let path = access.at(&ground.place, "batch/v1", "jobs");
            let labels =
                json!({"metadata": {"labels": {"team": "a"}, "annotations": {"example.com/a": "b"}}});
            vec![harmless(
                "eve",
                "adds a label of her own to a fuse",
                Request::merge(path, labels),
            )]
        },
        |ground, access| {
            let mut twin = binding(&format!("twin-{}", access.name), &access.name, "dave");
            twin["roleRef"]["kind"] = json!("Role");
            let twins = ground.at(RBAC, "rolebindings");
            vec![harmless(
                "bob",
                "binds a Role of Curfew to another user and holds its rights",
                Request::create(twins, twin),
            )]
        },
        |ground, access| {
            // Her ConfigMap keeps the fuse from being deleted. What the fuse owns is deleted on time.
            let blocking_map = blocking_map(access);
            vec![harmless(
                "eve",
                "creates a ConfigMap that a fuse owns and a finalizer keeps",
                Request::create(ground.at("v1", "configmaps"), blocking_map),
            )]
        },
        |ground, access| {
            // A fuse does not select pods by the usual labels of the pods of Jobs.
            let uid = &access.fuse_uid;
            let mut stubborn = pod("stubborn");
            crate::support::merge(
                &mut stubborn,
                json!({
                    "metadata": {
                        "finalizers": ["example.com/mine"],
                        "labels": {"batch.kubernetes.io/controller-uid": uid, "controller-uid": uid,
                            "batch.kubernetes.io/job-name": access.name, "job-name": access.name},
                    },
                    "spec": {"nodeName": "make-believe", "terminationGracePeriodSeconds": 99_999_999},
                }),
            );
            let pods = ground.at("v1", "pods");
            let mut owned = stubborn.clone();
            owned["metadata"]["name"] = json!("owned");
            owned["metadata"]["ownerReferences"] = json!([{"apiVersion": "batch/v1", "kind": "Job",
                "name": access.name, "uid": uid, "controller": true, "blockOwnerDeletion": true}]);
            vec![
                harmless(
                    "eve",
                    "creates a pod with a finalizer and the labels of a fuse's pods",
                    Request::create(pods.clone(), stubborn),
                ),
                harmless(
                    "eve",
                    "creates a pod with a finalizer that a fuse owns",
                    Request::create(pods, owned),
                ),
            ]
        },
    ]
}

/// `ConfigMap` with a finalizer, owned by the fuse: it blocks foreground deletion of the fuse.
fn blocking_map(access: &Access) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
        "name": format!("held-{}", access.name), "finalizers": ["example.com/mine"],
        "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": access.name,
            "uid": access.fuse_uid, "blockOwnerDeletion": true}]}})
}

/// Removes the finalizers of the attacks, then their pods and the node.
async fn clean_up(suite: &Suite, ground: &Ground<'_>) -> anyhow::Result<()> {
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    let maps = Api::<ConfigMap>::namespaced(suite.admin.clone(), &ground.place.name);
    for map in maps.list(&kube::api::ListParams::default()).await? {
        if !map.finalizers().is_empty() {
            maps.patch(&map.name_any(), &PatchParams::default(), &free)
                .await?;
        }
    }
    let pods = Api::<Pod>::namespaced(suite.admin.clone(), &ground.place.name);
    for pod in pods.list(&kube::api::ListParams::default()).await? {
        pods.patch(&pod.name_any(), &PatchParams::default(), &free)
            .await?;
        pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0))
            .await?;
    }
    Api::<Node>::all(suite.admin.clone())
        .delete("make-believe", &DeleteParams::default())
        .await?;
    Ok(())
}
