//! That access ends at its time whatever is tried on it, with no operator alive: by its fuse alone.

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

// 240 attacks have to be over before the access is.
tests![; busy: access_ends_by_its_fuse_whatever_is_tried];

/// How long the access lasts that is attacked here.
const LASTS: &str = "30s";
/// What a fuse may burn late by: its grace, whole seconds, and the controllers' way from the Job to the binding.
const LATE: Duration = Duration::from_secs(6);
/// When the garbage collector has removed a Role, which gives nobody anything without its binding: it tries again with
/// growing pauses what did not go at first.
const COLLECTED: Duration = Duration::from_mins(1);

async fn access_ends_by_its_fuse_whatever_is_tried(suite: &Suite) -> anyhow::Result<()> {
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
    // Everything that is refused, once more and on access that is about to end.
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
        "the twin ends with the Role it binds",
        COLLECTED,
        async || match ground.place.may("dave", "get", "configmaps").await {
            Ok(false) => Ok(()),
            other => Err(format!("{other:?}; {}", standing(&ground).await)),
        },
    )
    .await?;
    count("outlasting", tried, tried);
    clean_up(suite, &ground).await?;
    let fuses = Api::<Job>::namespaced(suite.admin.clone(), &ground.place.name);
    fuses.delete(&ground.name, &DeleteParams::background()).await?;
    Ok(())
}

/// The Roles and bindings that stand, for a failure to show.
async fn standing(ground: &Ground<'_>) -> String {
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

async fn ends_on_time(ground: &Ground<'_>, access: &Access) -> anyhow::Result<()> {
    let status = access.grant.status.clone().unwrap_or_default();
    let end = status.expires_at.map(|end| end.0).unwrap_or_default();
    let left = end
        .duration_since(jiff::Timestamp::now())
        .max(jiff::SignedDuration::ZERO);
    let deadline = left.unsigned_abs() + LATE;
    let bindings = Api::<RoleBinding>::namespaced(ground.place.suite.admin.clone(), &ground.place.name);
    eventually(
        &format!("{} is gone by its end", access.name),
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

fn harmless(who: &'static str, what: &str, request: Request) -> Attack {
    Attack {
        what: what.to_owned(),
        who: Who::Person(who),
        request,
        holds: Holds::Harmless,
    }
}

/// What nobody refuses, each on access of its own.
fn harmless_attacks() -> Vec<Attacks> {
    vec![
        |ground, access| {
            let path = access.at(&ground.place, "batch/v1", "jobs");
            let how = json!({"propagationPolicy": "Background"});
            vec![harmless(
                "eve",
                "deletes a fuse with what it holds",
                Request::delete(path, how),
            )]
        },
        |ground, access| {
            let path = access.at(&ground.place, "batch/v1", "jobs");
            let how = json!({"propagationPolicy": "Foreground"});
            vec![harmless(
                "eve",
                "deletes a fuse after what it holds",
                Request::delete(path, how),
            )]
        },
        |ground, access| {
            let path = access.at(&ground.place, RBAC, "rolebindings");
            vec![harmless(
                "bob",
                "empties a binding",
                Request::merge(path, json!({"subjects": []})),
            )]
        },
        |ground, access| {
            let path = at(
                CURFEW,
                &ground.place.name,
                &format!("accessgrants/{}", access.grant.name_any()),
            );
            let how = json!({"propagationPolicy": "Orphan"});
            vec![harmless(
                "bob",
                "deletes a grant without what it holds",
                Request::delete(path, how),
            )]
        },
        |ground, access| {
            let path = access.at(&ground.place, "batch/v1", "jobs");
            let mine = json!({"metadata": {"labels": {"team": "a"}, "annotations": {"example.com/a": "b"}}});
            vec![harmless(
                "eve",
                "labels a fuse as her team's",
                Request::merge(path, mine),
            )]
        },
        |ground, access| {
            let mut twin = binding(&format!("twin-{}", access.name), &access.name, "dave");
            twin["roleRef"]["kind"] = json!("Role");
            let twins = ground.at(RBAC, "rolebindings");
            vec![harmless(
                "bob",
                "binds our Role to somebody else, holding what it gives",
                Request::create(twins, twin),
            )]
        },
        |ground, access| {
            // Held back by her `ConfigMap`, the fuse stays; what it holds does not.
            let mine = held(access);
            vec![harmless(
                "eve",
                "hangs a ConfigMap that stays beneath a fuse",
                Request::create(ground.at("v1", "configmaps"), mine),
            )]
        },
        |ground, access| {
            // A fuse selects no pod by the labels that Jobs' pods have.
            let uid = &access.fuse_uid;
            let mut mine = pod("stubborn");
            crate::support::merge(
                &mut mine,
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
            let mut owned = mine.clone();
            owned["metadata"]["name"] = json!("owned");
            owned["metadata"]["ownerReferences"] = json!([{"apiVersion": "batch/v1", "kind": "Job",
                "name": access.name, "uid": uid, "controller": true, "blockOwnerDeletion": true}]);
            vec![
                harmless(
                    "eve",
                    "labels a pod that does not end as the fuse's",
                    Request::create(pods.clone(), mine),
                ),
                harmless(
                    "eve",
                    "has the fuse own a pod that does not end",
                    Request::create(pods, owned),
                ),
            ]
        },
    ]
}

/// A `ConfigMap` that does not go, owned by a fuse.
fn held(access: &Access) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
        "name": format!("held-{}", access.name), "finalizers": ["example.com/mine"],
        "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": access.name,
            "uid": access.fuse_uid, "blockOwnerDeletion": true}]}})
}

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
