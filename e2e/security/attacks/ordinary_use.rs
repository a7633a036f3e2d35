//! Ordinary use, which no guard disturbs: people and tools work on Jobs, RBAC, Secrets and tokens of their own.

use anyhow::{Context as _, ensure};
use curfew::core::guard::CANARY;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::attack::{Attack, Callers, Holds, Request, Who, at, every_way};
use super::scene::{Ground, mark};
use super::stolen;
use crate::harness::eventually;
use crate::support::json::{CURFEW, RBAC};
use crate::support::manifests::{binding, create, ordinary_job, pod, role};
use crate::support::{SOON, Suite};
use crate::tests;

tests![
    people_and_tools_work_on_objects_of_their_own,
    valid_requests_close_to_an_attack_are_accepted,
    kubernetes_deletes_objects_that_curfew_did_not_create,
    a_namespace_with_active_access_can_be_deleted,
];

/// Ordinary requests on objects that Curfew did not create, in this order: later ones use earlier ones.
fn ordinary_requests(ground: &Ground<'_>) -> Vec<Attack> {
    let (jobs, bindings, roles) = (
        ground.at("batch/v1", "jobs"),
        ground.at(RBAC, "rolebindings"),
        ground.at(RBAC, "roles"),
    );
    let helm = |mut object: Value| {
        object["metadata"]["labels"] = json!({"app.kubernetes.io/managed-by": "Helm"});
        object["metadata"]["annotations"] = json!({"meta.helm.sh/release-name": "app"});
        object
    };
    let argo = |mut object: Value| {
        object["metadata"]["annotations"] = json!({"argocd.argoproj.io/tracking-id": "app:batch/Job:a"});
        object
    };
    let token =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": []}});
    let secret = |name: &str, kind: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": {"name": name,
            "annotations": {"kubernetes.io/service-account.name": "default"}}})
    };
    let cron = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly"}, "spec": {
        "schedule": "0 3 * * *", "jobTemplate": {"spec": ordinary_job("a")["spec"]}}});
    let mut all = vec![
        (
            "bob",
            "creates a Job",
            Request::create(jobs.clone(), ordinary_job("work")),
        ),
        (
            "bob",
            "installs a Job with Helm",
            Request::create(jobs.clone(), helm(ordinary_job("helm"))),
        ),
        (
            "bob",
            "syncs a Job with Argo CD",
            Request::apply(
                format!("{jobs}/argo"),
                "argocd-controller",
                argo(ordinary_job("argo")),
            ),
        ),
        (
            "bob",
            "syncs a binding with Argo CD",
            Request::apply(
                format!("{bindings}/argo"),
                "argocd-controller",
                argo(binding("argo", "view", "carol")),
            ),
        ),
        (
            "bob",
            "creates a Role",
            Request::create(roles.clone(), role("theirs")),
        ),
        (
            "bob",
            "installs a binding with Helm",
            Request::create(bindings.clone(), helm(binding("theirs", "view", "carol"))),
        ),
        (
            "bob",
            "creates a pod",
            Request::create(ground.at("v1", "pods"), pod("theirs")),
        ),
        (
            "bob",
            "creates a CronJob",
            Request::create(ground.at("batch/v1", "cronjobs"), cron),
        ),
        (
            "bob",
            "creates a Secret",
            Request::create(ground.at("v1", "secrets"), secret("plain", "Opaque")),
        ),
        (
            "bob",
            "creates a token Secret",
            Request::create(
                ground.at("v1", "secrets"),
                secret("token", "kubernetes.io/service-account-token"),
            ),
        ),
        (
            "bob",
            "requests a token",
            Request::create(ground.at("v1", "serviceaccounts/default/token"), token.clone()),
        ),
        // Eve has no elevation marker: the guards against persistence do not limit her.
        (
            "eve",
            "requests a token",
            Request::create(ground.at("v1", "serviceaccounts/default/token"), token),
        ),
        (
            "eve",
            "edits a Job",
            Request::merge(
                format!("{jobs}/work"),
                json!({"spec": {"suspend": true}, "metadata": {"finalizers": ["example.com/mine"]}}),
            ),
        ),
        (
            "eve",
            "writes the status of a Job",
            Request::merge(format!("{jobs}/work/status"), json!({"status": {"ready": 0}})),
        ),
        (
            "eve",
            "removes the finalizer of a Job",
            Request::merge(format!("{jobs}/work"), json!({"metadata": {"finalizers": null}})),
        ),
        (
            "eve",
            "deletes a Job and orphans its dependents",
            Request::delete(format!("{jobs}/work"), json!({"propagationPolicy": "Orphan"})),
        ),
        (
            "eve",
            "deletes a Job without options",
            Request::delete(format!("{jobs}/helm"), json!({})),
        ),
    ];
    let more =
        json!({"subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "devs"}]});
    for (_, request) in every_way(
        &format!("{bindings}/theirs"),
        &binding("theirs", "view", "carol"),
        &more,
    ) {
        all.push((
            "bob",
            "changes the subject of his own binding to a group",
            request,
        ));
    }
    all.push((
        "bob",
        "deletes a binding",
        Request::delete(format!("{bindings}/theirs"), json!({})),
    ));
    all.push((
        "admin",
        "deletes all Jobs without the label of Curfew",
        Request::delete(jobs, json!({"propagationPolicy": "Background"}))
            .selecting("!access.curfew.dev/grant-uid"),
    ));
    all.into_iter()
        .map(|(who, what, request)| Attack {
            what: what.to_owned(),
            who: Who::Person(who),
            request,
            holds: Holds::Harmless,
        })
        .collect()
}

async fn people_and_tools_work_on_objects_of_their_own(suite: &Suite) -> anyhow::Result<()> {
    let ground = Ground::prepare(suite).await?;
    let callers = Callers::new(suite);
    let requests = ordinary_requests(&ground);
    for request in &requests {
        callers
            .try_out(request)
            .await
            .map_err(|error| anyhow::anyhow!("{:?} {}: {error}", request.who, request.what))?;
    }
    println!("ordinary use: {} requests, none refused", requests.len());
    ground.done().await
}

/// Valid requests that resemble an attack.
fn valid_requests(ground: &Ground<'_>) -> Vec<Attack> {
    let grants = ground.at(CURFEW, "accessgrants");
    let request_access = |edit: Value| Request::create(grants.clone(), ground.asking("alice", edit));
    let operator = || Who::AlmightyAs("system:serviceaccount:curfew-system:curfew".to_owned());
    let token =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": []}});
    let canary = at("v1", "curfew-system", &format!("serviceaccounts/{CANARY}/token"));
    let identity =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "ordinary-reader"}});
    [
        ("requests access", Who::Person("alice"), request_access(json!({}))),
        (
            "requests access as a hook of Argo CD",
            Who::Person("alice"),
            request_access(json!({"metadata": {"finalizers": ["argocd.argoproj.io/hook-finalizer"]}})),
        ),
        (
            "requests access with labels of her own",
            Who::Person("alice"),
            request_access(
                json!({"metadata": {"labels": {"team": "a"}, "annotations": {"example.com/a": "b"}}}),
            ),
        ),
        (
            "requests access with notAfter in the future",
            Who::Person("alice"),
            request_access(json!({"spec": {"notAfter": "2036-01-31T00:00:00Z"}})),
        ),
        (
            "creates a fuse",
            Who::Stolen("curfew"),
            Request::create(ground.at("batch/v1", "jobs"), stolen::fuse(ground, json!({}))),
        ),
        (
            "creates an elevation marker",
            operator(),
            Request::create(ground.at(RBAC, "rolebindings"), mark(ground)),
        ),
        (
            "requests a token of the canary",
            operator(),
            Request::create(canary, token),
        ),
        (
            "deletes a fuse, then what it owns",
            Who::Person("eve"),
            Request::delete(ground.fuse_at(""), json!({"propagationPolicy": "Background"})),
        ),
        (
            "deletes what a fuse owns, then the fuse",
            Who::Person("eve"),
            Request::delete(ground.fuse_at(""), json!({"propagationPolicy": "Foreground"})),
        ),
        (
            "removes the subject of a binding",
            Who::Person("bob"),
            Request::merge(ground.binding_at(), json!({"subjects": []})),
        ),
        (
            "deletes a binding",
            Who::Person("bob"),
            Request::delete(ground.binding_at(), json!({})),
        ),
        (
            "installs Curfew",
            Who::Person("admin"),
            Request::create(at(RBAC, "curfew-system", "roles"), role("curfew-a")),
        ),
        (
            "creates an act-as account",
            Who::Person("admin"),
            Request::create(at("v1", "curfew-identities", "serviceaccounts"), identity),
        ),
    ]
    .into_iter()
    .map(|(what, who, request)| Attack {
        what: what.to_owned(),
        who,
        request,
        holds: Holds::Harmless,
    })
    .collect()
}

/// Valid decisions by people and automation.
fn valid_decisions(ground: &Ground<'_>) -> Vec<Attack> {
    let decisions = ground.at(CURFEW, "accessdecisions");
    let revoke = json!({"decision": "Revoke", "accessHash": null, "reason": "an alert"});
    let as_account = |username: &str, groups: Value| {
        let mut decision = ground.approving("bob", json!({"spec": revoke}));
        decision["spec"]["decider"] = json!({"username": username, "groups": groups});
        Request::create(decisions.clone(), decision)
    };
    let (local_account, other_account) = (
        ground.account(),
        "system:serviceaccount:monitoring:alerts".to_owned(),
    );
    let local_groups = json!([
        "system:serviceaccounts",
        format!("system:serviceaccounts:{}", ground.place.name),
        "system:authenticated",
    ]);
    let by = |person: &'static str, change: Value| {
        (
            Who::Person(person),
            Request::create(decisions.clone(), ground.approving(person, change)),
        )
    };
    let labelled = json!({"metadata": {
        "labels": {"app.kubernetes.io/managed-by": "Helm", "team": "payments"},
        "annotations": {"argocd.argoproj.io/tracking-id": "app:access.curfew.dev/AccessDecision:a/tried"},
    }});
    let deny = json!({"spec": {"decision": "Deny", "accessHash": null, "reason": "not now"}});
    [
        ("approves", by("bob", json!({}))),
        (
            "approves without a reason",
            by("bob", json!({"spec": {"reason": null}})),
        ),
        ("approves with labels of Helm and Argo CD", by("bob", labelled)),
        ("denies", by("bob", deny)),
        ("revokes her own grant", by("alice", json!({"spec": revoke}))),
        (
            "revokes as an account of the namespace",
            (
                Who::As("eve", local_account.clone()),
                as_account(&local_account, local_groups),
            ),
        ),
        (
            "revokes as automation",
            (
                Who::AlmightyAs(other_account.clone()),
                as_account(&other_account, json!(["system:masters", "system:authenticated"])),
            ),
        ),
    ]
    .into_iter()
    .map(|(what, (who, request))| Attack {
        what: what.to_owned(),
        who,
        request,
        holds: Holds::Harmless,
    })
    .collect()
}

async fn valid_requests_close_to_an_attack_are_accepted(suite: &Suite) -> anyhow::Result<()> {
    let ground = Ground::prepare(suite).await?;
    let callers = Callers::new(suite);
    for request in [valid_requests(&ground), valid_decisions(&ground)].concat() {
        callers
            .lets_through(&request)
            .await
            .map_err(|error| anyhow::anyhow!("{:?} {}: {error}", request.who, request.what))?;
    }
    ground.done().await
}

async fn kubernetes_deletes_objects_that_curfew_did_not_create(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let client = || suite.admin.clone();
    let jobs = Api::<Job>::namespaced(client(), &place.name);
    let mut brief = ordinary_job("brief");
    crate::support::merge(
        &mut brief,
        json!({"spec": {"parallelism": 0, "activeDeadlineSeconds": 1, "ttlSecondsAfterFinished": 0}}),
    );
    create(&jobs, brief).await?;
    let maps = Api::<ConfigMap>::namespaced(client(), &place.name);
    create(&maps, json!({"metadata": {"name": "owner"}})).await?;
    let owner = maps.get("owner").await?;
    let owned_by_map =
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.uid()}]);
    let with_owner = |mut object: Value| {
        object["metadata"]["ownerReferences"] = owned_by_map.clone();
        object
    };
    let (roles, bindings) = (
        Api::<Role>::namespaced(client(), &place.name),
        Api::<RoleBinding>::namespaced(client(), &place.name),
    );
    create(&jobs, with_owner(ordinary_job("owned"))).await?;
    create(&roles, with_owner(role("owned"))).await?;
    create(&bindings, with_owner(binding("owned", "view", "carol"))).await?;
    maps.delete("owner", &DeleteParams::background()).await?;
    eventually(
        "a finished Job and the objects of a deleted owner are gone",
        SOON,
        async || {
            let left = async {
                let mut left = Vec::new();
                for name in ["brief", "owned"] {
                    left.extend(jobs.get_opt(name).await?.map(|job| job.name_any()));
                }
                left.extend(roles.get_opt("owned").await?.map(|_| "role".to_owned()));
                left.extend(bindings.get_opt("owned").await?.map(|_| "binding".to_owned()));
                Ok::<_, kube::Error>(left)
            };
            match left.await {
                Ok(left) if left.is_empty() => Ok(()),
                other => Err(format!("{other:?}")),
            }
        },
    )
    .await
}

async fn a_namespace_with_active_access_can_be_deleted(suite: &Suite) -> anyhow::Result<()> {
    let ground = Ground::prepare(suite).await?;
    let namespaces = Api::<k8s_openapi::api::core::v1::Namespace>::all(suite.admin.clone());
    let label = Patch::Merge(json!({"metadata": {"labels": {"team": "a"}}}));
    namespaces
        .patch(&ground.place.name, &PatchParams::default(), &label)
        .await
        .context("the namespace cannot be labelled")?;
    namespaces
        .delete(&ground.place.name, &DeleteParams::default())
        .await?;
    eventually("the namespace is gone", 2 * SOON, async || {
        match namespaces.get_opt(&ground.place.name).await {
            Ok(None) => Ok(()),
            other => Err(format!(
                "{:?}",
                other.map(|namespace| namespace.map(|namespace| namespace.status))
            )),
        }
    })
    .await?;
    ensure!(
        ground.place.grants().get_opt(&ground.name).await?.is_none(),
        "the grant still exists after its namespace is gone"
    );
    Ok(())
}
