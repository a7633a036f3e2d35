//! Ordinary life, which no guard disturbs: what others do with Jobs, RBAC, Secrets and tokens of their own.

use anyhow::{Context as _, ensure};
use curfew::core::CANARY;
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
    people_and_tools_work_on_what_is_theirs,
    what_is_meant_to_pass_passes,
    kubernetes_cleans_up_what_is_not_ours,
    a_namespace_goes_although_there_is_access_in_it,
];

fn deeds(ground: &Ground<'_>) -> Vec<Attack> {
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
            "makes a Job",
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
            "makes a Role",
            Request::create(roles.clone(), role("theirs")),
        ),
        (
            "bob",
            "installs a binding with Helm",
            Request::create(bindings.clone(), helm(binding("theirs", "view", "carol"))),
        ),
        (
            "bob",
            "makes a pod",
            Request::create(ground.at("v1", "pods"), pod("theirs")),
        ),
        (
            "bob",
            "makes a CronJob",
            Request::create(ground.at("batch/v1", "cronjobs"), cron),
        ),
        (
            "bob",
            "makes a Secret",
            Request::create(ground.at("v1", "secrets"), secret("plain", "Opaque")),
        ),
        (
            "bob",
            "makes a token Secret",
            Request::create(
                ground.at("v1", "secrets"),
                secret("token", "kubernetes.io/service-account-token"),
            ),
        ),
        (
            "bob",
            "makes a token",
            Request::create(ground.at("v1", "serviceaccounts/default/token"), token.clone()),
        ),
        // Whose access is for a time, but cannot make more of itself.
        (
            "eve",
            "makes a token",
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
            "reports on a Job",
            Request::merge(format!("{jobs}/work/status"), json!({"status": {"ready": 0}})),
        ),
        (
            "eve",
            "frees a Job",
            Request::merge(format!("{jobs}/work"), json!({"metadata": {"finalizers": null}})),
        ),
        (
            "eve",
            "deletes a Job without what it holds",
            Request::delete(format!("{jobs}/work"), json!({"propagationPolicy": "Orphan"})),
        ),
        (
            "eve",
            "deletes a Job, saying nothing",
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
        all.push(("bob", "gives a binding of his to a group", request));
    }
    all.push((
        "bob",
        "deletes a binding",
        Request::delete(format!("{bindings}/theirs"), json!({})),
    ));
    all.push((
        "admin",
        "deletes all Jobs that are nobody's",
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

async fn people_and_tools_work_on_what_is_theirs(suite: &Suite) -> anyhow::Result<()> {
    let ground = Ground::prepare(suite).await?;
    let callers = Callers::new(suite);
    let deeds = deeds(&ground);
    for deed in &deeds {
        callers
            .try_out(deed)
            .await
            .map_err(|error| anyhow::anyhow!("{:?} {}: {error}", deed.who, deed.what))?;
    }
    println!("ordinary life: {} deeds, none disturbed", deeds.len());
    ground.done().await
}

/// What lies next to an attack and is none.
fn meant(ground: &Ground<'_>) -> Vec<Attack> {
    let grants = ground.at(CURFEW, "accessgrants");
    let asks = |edit: Value| Request::create(grants.clone(), ground.asking("alice", edit));
    let operator = || Who::AlmightyAs("system:serviceaccount:curfew-system:curfew".to_owned());
    let token =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": []}});
    let canary = at("v1", "curfew-system", &format!("serviceaccounts/{CANARY}/token"));
    let identity =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "ordinary-reader"}});
    [
        ("asks", Who::Person("alice"), asks(json!({}))),
        (
            "asks as a hook of Argo CD",
            Who::Person("alice"),
            asks(json!({"metadata": {"finalizers": ["argocd.argoproj.io/hook-finalizer"]}})),
        ),
        (
            "asks with labels of her own",
            Who::Person("alice"),
            asks(json!({"metadata": {"labels": {"team": "a"}, "annotations": {"example.com/a": "b"}}})),
        ),
        (
            "asks with an end that lies ahead",
            Who::Person("alice"),
            asks(json!({"spec": {"notAfter": "2036-01-31T00:00:00Z"}})),
        ),
        (
            "makes a fuse",
            Who::Stolen("curfew"),
            Request::create(ground.at("batch/v1", "jobs"), stolen::fuse(ground, json!({}))),
        ),
        (
            "marks whoever is elevated",
            operator(),
            Request::create(ground.at(RBAC, "rolebindings"), mark(ground)),
        ),
        (
            "makes a token of the canary",
            operator(),
            Request::create(canary, token),
        ),
        (
            "ends access with its fuse",
            Who::Person("eve"),
            Request::delete(ground.fuse_at(""), json!({"propagationPolicy": "Background"})),
        ),
        (
            "ends access before its fuse",
            Who::Person("eve"),
            Request::delete(ground.fuse_at(""), json!({"propagationPolicy": "Foreground"})),
        ),
        (
            "empties a binding",
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
            "makes an identity",
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

/// What people and automation are meant to decide.
fn decided(ground: &Ground<'_>) -> Vec<Attack> {
    let all = ground.at(CURFEW, "accessdecisions");
    let revoking = json!({"decision": "Revoke", "accessHash": null, "reason": "an alert"});
    let as_account = |username: &str, groups: Value| {
        let mut decision = ground.approving("bob", json!({"spec": revoking}));
        decision["spec"]["decider"] = json!({"username": username, "groups": groups});
        Request::create(all.clone(), decision)
    };
    let (here, there) = (
        ground.account(),
        "system:serviceaccount:monitoring:alerts".to_owned(),
    );
    let its_groups = json!([
        "system:serviceaccounts",
        format!("system:serviceaccounts:{}", ground.place.name),
        "system:authenticated",
    ]);
    let by = |person: &'static str, change: Value| {
        (
            Who::Person(person),
            Request::create(all.clone(), ground.approving(person, change)),
        )
    };
    let tracked = json!({"metadata": {
        "labels": {"app.kubernetes.io/managed-by": "Helm", "team": "payments"},
        "annotations": {"argocd.argoproj.io/tracking-id": "app:access.curfew.dev/AccessDecision:a/tried"},
    }});
    let denying = json!({"spec": {"decision": "Deny", "accessHash": null, "reason": "not now"}});
    [
        ("approves", by("bob", json!({}))),
        (
            "approves without a reason",
            by("bob", json!({"spec": {"reason": null}})),
        ),
        ("approves, and a tool tracks it", by("bob", tracked)),
        ("denies", by("bob", denying)),
        ("revokes their own", by("alice", json!({"spec": revoking}))),
        (
            "revokes as an account of the namespace",
            (Who::As("eve", here.clone()), as_account(&here, its_groups)),
        ),
        (
            "revokes as automation",
            (
                Who::AlmightyAs(there.clone()),
                as_account(&there, json!(["system:masters", "system:authenticated"])),
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

async fn what_is_meant_to_pass_passes(suite: &Suite) -> anyhow::Result<()> {
    let ground = Ground::prepare(suite).await?;
    let callers = Callers::new(suite);
    for deed in [meant(&ground), decided(&ground)].concat() {
        callers
            .lets_through(&deed)
            .await
            .map_err(|error| anyhow::anyhow!("{:?} {}: {error}", deed.who, deed.what))?;
    }
    ground.done().await
}

async fn kubernetes_cleans_up_what_is_not_ours(suite: &Suite) -> anyhow::Result<()> {
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
    let held_by_it = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.uid()}]);
    let with = |mut object: Value| {
        object["metadata"]["ownerReferences"] = held_by_it.clone();
        object
    };
    let (roles, bindings) = (
        Api::<Role>::namespaced(client(), &place.name),
        Api::<RoleBinding>::namespaced(client(), &place.name),
    );
    create(&jobs, with(ordinary_job("owned"))).await?;
    create(&roles, with(role("owned"))).await?;
    create(&bindings, with(binding("owned", "view", "carol"))).await?;
    maps.delete("owner", &DeleteParams::background()).await?;
    eventually(
        "what finished and what lost its owner is gone",
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

async fn a_namespace_goes_although_there_is_access_in_it(suite: &Suite) -> anyhow::Result<()> {
    let ground = Ground::prepare(suite).await?;
    let namespaces = Api::<k8s_openapi::api::core::v1::Namespace>::all(suite.admin.clone());
    let label = Patch::Merge(json!({"metadata": {"labels": {"team": "a"}}}));
    namespaces
        .patch(&ground.place.name, &PatchParams::default(), &label)
        .await
        .context("a label of the namespace")?;
    namespaces
        .delete(&ground.place.name, &DeleteParams::default())
        .await?;
    eventually("the namespace is gone", 2 * SOON, async || {
        match namespaces.get_opt(&ground.place.name).await {
            Ok(None) => Ok(()),
            other => Err(format!(
                "{:?}",
                other.map(|namespace| namespace.map(|it| it.status))
            )),
        }
    })
    .await?;
    ensure!(
        ground.place.grants().get_opt(&ground.name).await?.is_none(),
        "a grant stays"
    );
    Ok(())
}
