//! What the API server itself refuses: each guard once, tried by somebody whom RBAC lets through.

use anyhow::{Context as _, ensure};
use curfew::api::{AccessGrant, AccessPolicy};
use curfew::core::{CANARY, Guard, GuardKind, GuardSettings, Span, guards};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, PropagationPolicy,
};
use kube::core::GroupVersionKind;
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::harness::{eventually, fills_in_requesters};
use crate::suite::{Place, SOON, Suite};
use crate::tests;

tests![
    what_the_api_server_keeps_is_what_was_generated,
    every_expression_type_checks,
    a_grant_carries_nothing_that_speaks_for_curfew_or_ends_it_unseen,
    nobody_asks_for_a_policy_they_may_not_request,
    only_the_operator_writes_status,
    nobody_changes_a_fuse_or_frees_what_it_holds,
    nobody_widens_a_binding_or_a_role,
    nobody_makes_what_looks_like_ours,
    the_operators_token_is_worth_little_elsewhere,
    whoever_is_elevated_makes_no_souvenir,
    whoever_acts_as_an_identity_makes_no_souvenir_anywhere,
    authors_hold_what_they_hand_out,
    nothing_lives_beside_the_identities,
    ordinary_life_goes_on,
];

/// What the manifests were made for: the default flags.
pub fn installed() -> anyhow::Result<Vec<Guard>> {
    let settings = GuardSettings {
        namespace: "curfew-system".to_owned(),
        operator: "curfew".to_owned(),
        sweeper: "curfew-sweep".to_owned(),
        identities: "curfew-identities".to_owned(),
        cap: Span::parse("12h")?,
        creators: Vec::new(),
    };
    Ok(guards(&settings))
}

/// The API of a guard's kind.
pub fn api_of(guard: GuardKind, client: Client) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", guard.name());
    Api::all_with(client, &ApiResource::from_gvk(&kind))
}

/// Whether one of the guards on grants and on what we make refuses a forgery.
pub async fn holds(client: &Client, guard: &str) -> Result<(), String> {
    let mut forged = match guard {
        "curfew-grant" => json!({"apiVersion": "access.curfew.dev/v1alpha1", "kind": "AccessGrant",
            "metadata": {"name": "forged"}, "spec": {"policyRef": {"name": "none"}, "reason": "a forgery"}}),
        "curfew-fuse" => ordinary_job("forged"),
        "curfew-role" => role("forged"),
        _ => binding("forged", "view", "mallory"),
    };
    crate::suite::merge(
        &mut forged,
        json!({"metadata": {"labels": {"access.curfew.dev/grant-uid": "none"}}}),
    );
    match make(client, Some("default"), forged).await {
        Ok(_) => Err("a forgery was accepted".to_owned()),
        Err(error) if error.to_string().contains(guard) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

async fn what_the_api_server_keeps_is_what_was_generated(suite: &Suite) -> anyhow::Result<()> {
    let _whole = suite.guards.read().await;
    let fills_in = fills_in_requesters(&suite.plane).await?;
    for guard in installed()? {
        if guard.kind.mutates() && !fills_in {
            continue;
        }
        let kept = api_of(guard.kind, suite.admin.clone())
            .get(&guard.name)
            .await
            .with_context(|| format!("{} {}", guard.kind.name(), guard.name))?;
        ensure!(
            kept.data["spec"] == guard.manifest["spec"],
            "{} {}: kept\n{:#}\ngenerated\n{:#}",
            guard.kind.name(),
            guard.name,
            kept.data["spec"],
            guard.manifest["spec"]
        );
    }
    Ok(())
}

async fn every_expression_type_checks(suite: &Suite) -> anyhow::Result<()> {
    let _whole = suite.guards.read().await;
    let policies = api_of(GuardKind::ValidatingPolicy, suite.admin.clone());
    for guard in installed()? {
        if guard.kind != GuardKind::ValidatingPolicy {
            continue;
        }
        let checked = eventually("the policy is type-checked", SOON, async || {
            let policy = policies
                .get(&guard.name)
                .await
                .map_err(|error| error.to_string())?;
            let seen = policy.data["status"]["observedGeneration"].as_i64();
            if seen.is_some() && seen == policy.metadata.generation {
                Ok(policy)
            } else {
                Err(format!("observed {seen:?}"))
            }
        })
        .await?;
        let warnings = &checked.data["status"]["typeChecking"]["expressionWarnings"];
        ensure!(warnings.is_null(), "{}: {warnings:#}", guard.name);
    }
    Ok(())
}

/// That this was refused, and with which words.
fn refused<T>(what: &str, answer: kube::Result<T>, words: &str) -> anyhow::Result<()> {
    match answer {
        Ok(_) => anyhow::bail!("{what}: accepted"),
        Err(error) => {
            let text = error.to_string();
            ensure!(text.contains(words), "{what}: no {words:?} in {text}");
            Ok(())
        }
    }
}

fn dry() -> PostParams {
    PostParams {
        dry_run: true,
        ..PostParams::default()
    }
}

fn dry_patch() -> PatchParams {
    PatchParams {
        dry_run: true,
        ..PatchParams::default()
    }
}

/// Tries to create an object.
async fn make(client: &Client, namespace: Option<&str>, object: Value) -> kube::Result<DynamicObject> {
    let object: DynamicObject = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
    let types = object.types.clone().unwrap_or_default();
    let kind = GroupVersionKind::try_from(&types).map_err(|error| kube::Error::Service(error.into()))?;
    let resource = ApiResource::from_gvk(&kind);
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    api.create(&dry(), &object).await
}

/// Asks for a token, without getting one.
async fn token(client: &Client, namespace: &str, account: &str) -> kube::Result<Value> {
    token_as(client, None, namespace, account).await
}

/// Asks for a token as the administrator in the name of another, with every right there is.
async fn token_as(
    client: &Client,
    user: Option<&str>,
    namespace: &str,
    account: &str,
) -> kube::Result<Value> {
    let uri = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token?dryRun=All");
    let body =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": []}});
    let mut request = http::Request::post(uri).header("Content-Type", "application/json");
    if let Some(user) = user {
        request = request
            .header("Impersonate-User", user)
            .header("Impersonate-Group", "system:masters");
    }
    let request = request
        .body(body.to_string().into_bytes())
        .map_err(kube::Error::HttpError)?;
    client.request(request).await
}

fn binding(name: &str, role: &str, user: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    })
}

fn role(name: &str) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name}, "rules": []})
}

fn ordinary_job(name: &str) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {"template": {"spec": {"restartPolicy": "Never",
            "containers": [{"name": "work", "image": "example.com/work:1"}]}}},
    })
}

async fn a_grant_carries_nothing_that_speaks_for_curfew_or_ends_it_unseen(
    suite: &Suite,
) -> anyhow::Result<()> {
    let _whole = suite.guards.read().await;
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?.name_any();
    let metadata = [
        (
            json!({"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "b"}]}),
            "a grant has no owner",
        ),
        (
            json!({"labels": {"access.curfew.dev/state": "active"}}),
            "are Curfew's",
        ),
        (
            json!({"annotations": {"access.curfew.dev/not-after": "2036"}}),
            "are Curfew's",
        ),
        (
            json!({"finalizers": ["example.com/mine"]}),
            "a finalizer would hold the grant back",
        ),
        (
            json!({"finalizers": ["access.curfew.dev/revoke"]}),
            "a finalizer would hold the grant back",
        ),
    ];
    let ask = async |person: &str, metadata: Value, more: Value| {
        let mut spec = json!({"policyRef": {"name": policy}, "reason": "DEV-1 a good reason"});
        crate::suite::merge(&mut spec, more);
        let mut grant = json!({
            "apiVersion": "access.curfew.dev/v1alpha1", "kind": "AccessGrant",
            "metadata": {"name": "tried"}, "spec": spec,
        });
        crate::suite::merge(&mut grant["metadata"], metadata);
        let client = suite.plane.client_as(person).await?;
        anyhow::Ok(make(&client, Some(&place.name), grant).await)
    };
    for (metadata, words) in &metadata {
        let what = metadata.to_string();
        refused(&what, ask("alice", metadata.clone(), json!({})).await?, words)?;
    }
    let hook = json!({"finalizers": ["argocd.argoproj.io/hook-finalizer"]});
    ask("alice", hook, json!({}))
        .await?
        .context("Argo CD's hook finalizer")?;
    let mine = json!({"labels": {"team": "payments"}, "annotations": {"example.com/a": "b"}});
    ask("alice", mine, json!({}))
        .await?
        .context("labels of one's own")?;
    for past in ["2020-01-01T00:00:00Z", "2024-01-31T00:00:00.5+05:00"] {
        let answer = ask("alice", json!({}), json!({"notAfter": past})).await?;
        refused(past, answer, "spec.notAfter has passed")?;
    }
    ask("alice", json!({}), json!({"notAfter": "2036-01-31T00:00:00Z"}))
        .await?
        .context("an end that lies ahead")?;

    let grant = place
        .ask("alice", &policy, json!({"duration": "1h"}))
        .await?
        .name_any();
    let grants = place.grants();
    for (metadata, words) in &metadata {
        let patch = Patch::Merge(json!({"metadata": metadata}));
        refused(
            &format!("edit {metadata}"),
            grants.patch(&grant, &dry_patch(), &patch).await,
            words,
        )?;
    }
    grants.delete(&grant, &DeleteParams::foreground()).await?;
    place.nothing_left().await
}

async fn nobody_asks_for_a_policy_they_may_not_request(suite: &Suite) -> anyhow::Result<()> {
    let _whole = suite.guards.read().await;
    let place = suite.namespace().await?;
    let allowed = place.policy(json!({})).await?.name_any();
    let other = place.policy(json!({})).await?.name_any();
    let may = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "may-ask"},
        "rules": [
            {"apiGroups": ["access.curfew.dev"], "resources": ["accessgrants"], "verbs": ["create"]},
            {"apiGroups": ["access.curfew.dev"], "resources": ["accesspolicies"], "resourceNames": [allowed],
             "verbs": ["request"]},
        ],
    });
    let bound = json!({
        "metadata": {"name": "may-ask"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "may-ask"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "dave"}],
    });
    Api::<Role>::namespaced(suite.admin.clone(), &place.name)
        .create(&PostParams::default(), &serde_json::from_value(may)?)
        .await?;
    Api::<RoleBinding>::namespaced(suite.admin.clone(), &place.name)
        .create(&PostParams::default(), &serde_json::from_value(bound)?)
        .await?;
    eventually("dave may ask", SOON, async || {
        place
            .ask("dave", &allowed, json!({}))
            .await
            .map_err(|error| format!("{error:#}"))
    })
    .await?;
    let error = place
        .ask("dave", &other, json!({}))
        .await
        .err()
        .context("accepted")?;
    let (error, words) = (
        format!("{error:#}"),
        format!("you may not request accesspolicies/{other}"),
    );
    ensure!(error.contains(&words), "{error}");
    for (policy, answer) in [(&allowed, "yes"), (&other, "no")] {
        let named = format!("accesspolicies/{policy}");
        let question = ["auth", "can-i", "request", &named, "--namespace", &place.name];
        let output = suite.plane.kubectl_as("dave", &question)?.output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(said.trim() == answer, "{named}: {said}");
    }
    Ok(())
}

async fn only_the_operator_writes_status(suite: &Suite) -> anyhow::Result<()> {
    let _whole = suite.guards.read().await;
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?.name_any();
    let grant = place.active("alice", &policy, json!({"duration": "1h"})).await?;
    let forged = Patch::Merge(json!({"status": {"observedGeneration": 7}}));
    refused(
        "status of a grant",
        place
            .grants()
            .patch_status(&grant.name_any(), &dry_patch(), &forged)
            .await,
        "only Curfew writes it",
    )?;
    let policies = Api::<AccessPolicy>::all(suite.admin.clone());
    refused(
        "status of a policy",
        policies.patch_status(&policy, &dry_patch(), &forged).await,
        "only Curfew writes it",
    )?;
    place
        .grants()
        .delete(&grant.name_any(), &DeleteParams::default())
        .await?;
    Ok(())
}

/// Access by rules: a fuse, a Role and a binding of one name.
async fn access(place: &Place<'_>) -> anyhow::Result<(AccessGrant, String)> {
    let policy = place.policy(json!({})).await?.name_any();
    let asked = json!({"duration": "1h", "entitlements": [{"name": "read"}]});
    let grant = place.active("alice", &policy, asked).await?;
    let name = place.bindings().await?.pop().context("no binding")?.name_any();
    Ok((grant, name))
}

async fn nobody_changes_a_fuse_or_frees_what_it_holds(suite: &Suite) -> anyhow::Result<()> {
    let _whole = suite.guards.read().await;
    let place = suite.namespace().await?;
    let (grant, name) = access(&place).await?;
    let fuses = Api::<Job>::namespaced(suite.admin.clone(), &place.name);
    for edit in [
        json!({"spec": {"suspend": true}}),
        json!({"spec": {"activeDeadlineSeconds": 99_999_999}}),
        json!({"spec": {"ttlSecondsAfterFinished": 99_999_999}}),
        json!({"spec": {"parallelism": 1}}),
        json!({"metadata": {"finalizers": ["orphan"]}}),
        json!({"metadata": {"ownerReferences": null}}),
        json!({"metadata": {"labels": {"access.curfew.dev/grant-uid": null}}}),
        json!({"metadata": {"labels": {"access.curfew.dev/grant-uid": "another"}}}),
        json!({"metadata": {"annotations": {"access.curfew.dev/not-after": "2036-01-01T00:00:00.000000Z"}}}),
    ] {
        let answer = fuses.patch(&name, &dry_patch(), &Patch::Merge(&edit)).await;
        refused(&edit.to_string(), answer, "a fuse is never changed")?;
    }
    let status = Patch::Merge(json!({"status": {"active": 1}}));
    refused(
        "its status",
        fuses.patch_status(&name, &dry_patch(), &status).await,
        "only the Job controller reports on a fuse",
    )?;
    let deletion = |policy: Option<PropagationPolicy>| DeleteParams {
        dry_run: true,
        propagation_policy: policy,
        ..DeleteParams::default()
    };
    // Of a Job, a deletion that says nothing orphans what it holds.
    for policy in [Some(PropagationPolicy::Orphan), None] {
        let what = format!("deletion, {policy:?}");
        refused(
            &what,
            fuses.delete(&name, &deletion(policy.clone())).await,
            "a fuse never goes without what it holds",
        )?;
    }
    let ours = kube::api::ListParams::default().labels(curfew::api::GRANT_UID_LABEL);
    refused(
        "deletion of all",
        fuses
            .delete_collection(&deletion(Some(PropagationPolicy::Orphan)), &ours)
            .await,
        "a fuse never goes without what it holds",
    )?;
    for policy in [PropagationPolicy::Background, PropagationPolicy::Foreground] {
        fuses
            .delete(&name, &deletion(Some(policy)))
            .await
            .context("whoever may delete Jobs may end access")?;
    }
    place
        .grants()
        .delete(&grant.name_any(), &DeleteParams::default())
        .await?;
    place.nothing_left().await
}

async fn nobody_widens_a_binding_or_a_role(suite: &Suite) -> anyhow::Result<()> {
    let _whole = suite.guards.read().await;
    let place = suite.namespace().await?;
    let (grant, name) = access(&place).await?;
    let bindings = Api::<RoleBinding>::namespaced(suite.admin.clone(), &place.name);
    let roles = Api::<Role>::namespaced(suite.admin.clone(), &place.name);
    let mallory = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "mallory"});
    let kept = "do not change";
    for (edit, words) in [
        (json!({"subjects": [mallory]}), "can only be emptied"),
        (json!({"metadata": {"finalizers": ["example.com/mine"]}}), kept),
        (json!({"metadata": {"ownerReferences": null}}), kept),
        (
            json!({"metadata": {"labels": {"access.curfew.dev/grant-uid": null}}}),
            kept,
        ),
        (
            json!({"metadata": {"annotations": {"access.curfew.dev/not-after": "2036-01-01T00:00:00.000000Z"}}}),
            kept,
        ),
    ] {
        let answer = bindings.patch(&name, &dry_patch(), &Patch::Merge(&edit)).await;
        refused(&edit.to_string(), answer, words)?;
    }
    let empty = Patch::Merge(json!({"subjects": []}));
    bindings
        .patch(&name, &dry_patch(), &empty)
        .await
        .context("emptied")?;
    for edit in [
        json!({"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}),
        json!({"metadata": {"finalizers": ["example.com/mine"]}}),
        json!({"metadata": {"ownerReferences": null}}),
        json!({"metadata": {"labels": {"access.curfew.dev/grant-uid": null}}}),
    ] {
        let answer = roles.patch(&name, &dry_patch(), &Patch::Merge(&edit)).await;
        refused(&edit.to_string(), answer, "do not change")?;
    }
    place
        .grants()
        .delete(&grant.name_any(), &DeleteParams::default())
        .await?;
    place.nothing_left().await
}

async fn nobody_makes_what_looks_like_ours(suite: &Suite) -> anyhow::Result<()> {
    let _whole = suite.guards.read().await;
    let place = suite.namespace().await?;
    let label = json!({"metadata": {"labels": {"access.curfew.dev/grant-uid": "8d7f9f4e-0000-4000-8000-000000000000"}}});
    for (mut object, words) in [
        (ordinary_job("twin"), "only Curfew makes fuses"),
        (role("twin"), "only Curfew makes these"),
        (binding("twin", "view", "mallory"), "only Curfew makes these"),
    ] {
        let what = format!("labelled {}", object["kind"]);
        crate::suite::merge(&mut object, label.clone());
        refused(&what, make(&suite.admin, Some(&place.name), object).await, words)?;
    }
    for object in [
        ordinary_job("curfew-a"),
        role("curfew-a"),
        binding("curfew-a", "view", "mallory"),
    ] {
        let what = format!("named {}", object["kind"]);
        let answer = make(&suite.admin, Some(&place.name), object).await;
        refused(&what, answer, "are for what Curfew makes")?;
    }
    let mut generated = ordinary_job("a");
    crate::suite::merge(
        &mut generated,
        json!({"metadata": {"name": null, "generateName": "curfew-"}}),
    );
    let answer = make(&suite.admin, Some(&place.name), generated).await;
    refused("a generated name", answer, "are for what Curfew makes")?;
    make(&suite.admin, Some("curfew-system"), role("curfew-a"))
        .await
        .context("our own manifests")?;
    Ok(())
}

async fn the_operators_token_is_worth_little_elsewhere(suite: &Suite) -> anyhow::Result<()> {
    let _whole = suite.guards.read().await;
    let place = suite.namespace().await?;
    let (grant, name) = access(&place).await?;
    let stolen = suite
        .plane
        .service_account_token("curfew-system", "curfew")
        .await?;
    let client = suite.plane.client_for_token(&stolen, &suite.plane.url()).await?;
    let here = Some(place.name.as_str());
    let unlabelled = "touches only what carries its label";
    refused("a Job", make(&client, here, ordinary_job("a")).await, unlabelled)?;
    refused(
        "a binding",
        make(&client, here, binding("a", "view", "mallory")).await,
        unlabelled,
    )?;
    let bindings = Api::<RoleBinding>::namespaced(client.clone(), &place.name);
    let removal = DeleteParams {
        dry_run: true,
        ..DeleteParams::default()
    };
    refused(
        "a deletion",
        bindings.delete("requesters", &removal).await,
        unlabelled,
    )?;

    let fuses = Api::<Job>::namespaced(client.clone(), &place.name);
    let fuse = serde_json::to_value(fuses.get(&name).await?)?;
    let random = |last: char| format!("curfew-{}{last}", "0".repeat(31));
    let again = |object: &Value, edit: Value| {
        let mut copy = json!({
            "apiVersion": object["apiVersion"], "kind": object["kind"],
            "metadata": {
                "name": random('1'),
                "labels": {"access.curfew.dev/grant-uid": object["metadata"]["labels"]["access.curfew.dev/grant-uid"]},
                "annotations": object["metadata"]["annotations"],
                "ownerReferences": object["metadata"]["ownerReferences"],
            },
        });
        for part in ["roleRef", "subjects", "rules"] {
            if !object[part].is_null() {
                copy[part] = object[part].clone();
            }
        }
        if object["kind"] == "Job" {
            copy["spec"] = json!({"parallelism": 0, "completions": 1, "backoffLimit": 0,
                "activeDeadlineSeconds": 60, "ttlSecondsAfterFinished": 0,
                "template": {"spec": {"restartPolicy": "Never",
                    "containers": [{"name": "never-run", "image": "curfew.invalid/never-run:none"}]}}});
        }
        crate::suite::merge(&mut copy, edit);
        copy
    };
    make(&client, here, again(&fuse, json!({})))
        .await
        .context("a fuse")?;
    let far =
        json!({"metadata": {"annotations": {"access.curfew.dev/not-after": "2036-01-01T00:00:00.000000Z"}}});
    for (edit, words) in [
        (json!({"spec": {"parallelism": 1}}), "not a fuse"),
        (json!({"spec": {"suspend": true}}), "not a fuse"),
        (
            json!({"spec": {"activeDeadlineSeconds": 99_999_999}}),
            "not a fuse",
        ),
        (json!({"spec": {"activeDeadlineSeconds": null}}), "not a fuse"),
        (json!({"spec": {"ttlSecondsAfterFinished": 60}}), "not a fuse"),
        (json!({"spec": {"managedBy": "example.com/nobody"}}), "not a fuse"),
        (
            json!({"metadata": {"name": "curfew-short"}}),
            "32 hexadecimal digits",
        ),
        (
            json!({"metadata": {"ownerReferences": null}}),
            "owned by the grant it is labelled with",
        ),
        (
            json!({"metadata": {"finalizers": ["example.com/mine"]}}),
            "has no finalizer",
        ),
        (far.clone(), "at most 12h ahead"),
    ] {
        refused(
            &edit.to_string(),
            make(&client, here, again(&fuse, edit.clone())).await,
            words,
        )?;
    }
    let real = serde_json::to_value(bindings.get(&name).await?)?;
    let own = |edit: Value| {
        let mut copy = again(&real, json!({"metadata": {"name": name}}));
        crate::suite::merge(&mut copy, edit);
        copy
    };
    let subject = |kind: &str, name: &str| json!({"subjects": [{"kind": kind, "name": name}]});
    let held = "held by exactly one fuse";
    for (edit, words) in [
        (json!({"metadata": {"ownerReferences": null}}), held),
        (json!({"metadata": {"name": random('2')}}), held),
        (json!({"metadata": {"name": format!("{name}-elevated")}}), held),
        (far, "at most 12h ahead"),
        (subject("Group", "devs"), "never to a group"),
        (subject("User", "system:kube-scheduler"), "never to a group"),
        (json!({"subjects": []}), "never to a group"),
    ] {
        refused(
            &edit.to_string(),
            make(&client, here, own(edit.clone())).await,
            words,
        )?;
    }
    // Beside it, and held by the same fuse, only the mark of the elevated. With every right there is, because the
    // operator of these tests may not bind it.
    let file = tempfile::Builder::new().suffix(".json").tempfile()?;
    let path = file.path().display().to_string();
    let mark = |role: &str| {
        own(json!({
            "metadata": {"name": format!("{name}-elevated"), "namespace": place.name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        }))
    };
    let marking = [
        "--as=system:serviceaccount:curfew-system:curfew",
        "--as-group=system:masters",
        "create",
        "--dry-run=server",
        "-f",
        &path,
    ];
    std::fs::write(file.path(), mark("curfew-elevated").to_string())?;
    suite
        .plane
        .run_kubectl(&marking)
        .await
        .context("the mark of the elevated")?;
    std::fs::write(file.path(), mark("cluster-admin").to_string())?;
    let error = suite
        .plane
        .run_kubectl(&marking)
        .await
        .err()
        .context("accepted")?;
    ensure!(format!("{error:#}").contains(held), "{error:#}");
    tokens_only_for_the_canary(suite).await?;
    for (what, object) in [
        (
            "a grant",
            json!({
                "apiVersion": "access.curfew.dev/v1alpha1", "kind": "AccessGrant",
                "metadata": {"name": "mine", "namespace": place.name},
                "spec": {"policyRef": {"name": "any"}, "reason": "DEV-1 a good reason"},
            }),
        ),
        (
            "a Secret",
            json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "mine", "namespace": place.name}}),
        ),
        (
            "a pod",
            json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "mine", "namespace": place.name},
            "spec": {"containers": [{"name": "a", "image": "example.com/a:1"}]}}),
        ),
    ] {
        std::fs::write(file.path(), object.to_string())?;
        let error = suite.plane.run_kubectl(&marking).await.err().context(what)?;
        ensure!(
            format!("{error:#}").contains("Curfew's own accounts"),
            "{what}: {error:#}"
        );
    }
    place
        .grants()
        .delete(&grant.name_any(), &DeleteParams::default())
        .await?;
    place.nothing_left().await
}

async fn tokens_only_for_the_canary(suite: &Suite) -> anyhow::Result<()> {
    let create = ["create", "serviceaccount", CANARY, "--namespace", "curfew-system"];
    if let Err(error) = suite.plane.run_kubectl(&create).await {
        ensure!(format!("{error:#}").contains("already exists"), "{error:#}");
    }
    let (operator, sweeper) = (
        Some("system:serviceaccount:curfew-system:curfew"),
        Some("system:serviceaccount:curfew-system:curfew-sweep"),
    );
    token_as(&suite.admin, operator, "curfew-system", CANARY)
        .await
        .context("for the canary")?;
    for (user, namespace, account) in [
        (operator, "curfew-system", "curfew"),
        (operator, "default", "default"),
        (sweeper, "curfew-system", CANARY),
    ] {
        let answer = token_as(&suite.admin, user, namespace, account).await;
        refused(
            &format!("a token of {namespace}/{account}"),
            answer,
            "Curfew's own accounts",
        )?;
    }
    Ok(())
}

async fn whoever_is_elevated_makes_no_souvenir(suite: &Suite) -> anyhow::Result<()> {
    let _whole = suite.guards.read().await;
    let place = suite.namespace().await?;
    let bindings = Api::<RoleBinding>::namespaced(suite.admin.clone(), &place.name);
    for (name, role, user) in [
        ("alice-admin", "admin", "alice"),
        ("alice-elevated", "curfew-elevated", "alice"),
        ("bob-admin", "admin", "bob"),
    ] {
        let binding = serde_json::from_value(binding(name, role, user))?;
        bindings.create(&PostParams::default(), &binding).await?;
    }
    let (alice, bob) = (
        suite.plane.client_as("alice").await?,
        suite.plane.client_as("bob").await?,
    );
    let secret = |kind: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": {"name": "kept",
            "annotations": {"kubernetes.io/service-account.name": "default"}}})
    };
    let here = Some(place.name.as_str());
    let token_secret = "kubernetes.io/service-account-token";
    let lasting = [binding("mine", "view", "alice"), secret(token_secret)];
    eventually("bob may bind, being an admin", SOON, async || {
        make(&bob, here, binding("mine", "view", "bob"))
            .await
            .map_err(|error| error.to_string())
    })
    .await?;
    for object in &lasting {
        refused(
            &object["kind"].to_string(),
            make(&alice, here, object.clone()).await,
            "this would outlast it",
        )?;
        make(&bob, here, object.clone())
            .await
            .context("bob is no elevated person")?;
        make(&suite.admin, here, object.clone())
            .await
            .context("a holder of everything")?;
    }
    refused(
        "a token",
        token(&alice, &place.name, "default").await,
        "this would outlast it",
    )?;
    token(&bob, &place.name, "default").await.context("bob may")?;
    make(&alice, here, secret("Opaque"))
        .await
        .context("an ordinary Secret")?;
    bindings
        .delete("alice-elevated", &DeleteParams::default())
        .await?;
    eventually("alice may again", SOON, async || {
        make(&alice, here, binding("mine", "view", "alice"))
            .await
            .map_err(|error| error.to_string())
    })
    .await?;
    token(&alice, &place.name, "default")
        .await
        .context("a token, afterwards")?;
    Ok(())
}

async fn whoever_acts_as_an_identity_makes_no_souvenir_anywhere(suite: &Suite) -> anyhow::Result<()> {
    let _whole = suite.guards.read().await;
    let place = suite.namespace().await?;
    let file = tempfile::Builder::new().suffix(".json").tempfile()?;
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "souvenir"}, "rules": []});
    let mut local = binding("souvenir", "view", "alice");
    local["metadata"]["namespace"] = json!(place.name);
    for object in [role, local] {
        std::fs::write(file.path(), object.to_string())?;
        let path = file.path().display().to_string();
        // With every right there is, by impersonation.
        let identity = [
            "--as=system:serviceaccount:curfew-identities:lonely-reader",
            "--as-group=system:masters",
            "create",
            "--dry-run=server",
            "-f",
            &path,
        ];
        let error = suite
            .plane
            .run_kubectl(&identity)
            .await
            .err()
            .context("accepted")?;
        ensure!(
            format!("{error:#}").contains("this would outlast it"),
            "{error:#}"
        );
    }
    Ok(())
}

async fn authors_hold_what_they_hand_out(suite: &Suite) -> anyhow::Result<()> {
    let _whole = suite.guards.read().await;
    let author = suite.fresh("author");
    let role = json!({"metadata": {"name": author}, "rules": [
        {"apiGroups": ["access.curfew.dev"], "resources": ["accesspolicies"], "verbs": ["create", "update", "patch", "get"]},
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "resourceNames": ["view"], "verbs": ["bind"]},
    ]});
    let bound = json!({
        "metadata": {"name": author},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": author},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "erin"}],
    });
    Api::all(suite.admin.clone())
        .create(
            &PostParams::default(),
            &serde_json::from_value::<k8s_openapi::api::rbac::v1::ClusterRole>(role)?,
        )
        .await?;
    Api::all(suite.admin.clone())
        .create(
            &PostParams::default(),
            &serde_json::from_value::<k8s_openapi::api::rbac::v1::ClusterRoleBinding>(bound)?,
        )
        .await?;
    let erin = suite.plane.client_as("erin").await?;
    let policy = |entitlements: Value| {
        json!({
            "apiVersion": "access.curfew.dev/v1alpha1", "kind": "AccessPolicy", "metadata": {"name": author},
            "spec": {"namespaceSelector": {}, "requesters": [{"kind": "User", "name": "erin"}], "path": "Automatic",
                "duration": {"max": "1h"}, "entitlements": entitlements},
        })
    };
    let named =
        |name: &str, kind: &str, role: &str| json!({"name": name, "role": {"kind": kind, "name": role}});
    let rules = json!({"name": "own", "rules": {"items": [
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]}});
    let view = named("view", "ClusterRole", "view");
    eventually("erin may write policies", SOON, async || {
        make(&erin, None, policy(json!([view])))
            .await
            .map_err(|error| error.to_string())
    })
    .await?;
    let sixteen: Vec<Value> = (0..16)
        .map(|number| named(&format!("e{number}"), "ClusterRole", "view"))
        .collect();
    make(&erin, None, policy(json!(sixteen)))
        .await
        .context("sixteen that she holds")?;
    let mut last = sixteen.clone();
    last[15] = named("e15", "ClusterRole", "cluster-admin");
    for entitlements in [
        json!([named("admin", "ClusterRole", "admin")]),
        json!([named("view", "Role", "view")]),
        json!([rules]),
        json!([view, rules]),
        json!(last),
    ] {
        let what = entitlements.to_string();
        let answer = make(&erin, None, policy(entitlements)).await;
        refused(&what, answer, "you may only hand out what you hold")?;
    }
    let policies = Api::<AccessPolicy>::all(suite.admin.clone());
    let strong: AccessPolicy =
        serde_json::from_value(policy(json!([named("admin", "ClusterRole", "admin")])))?;
    policies.create(&PostParams::default(), &strong).await?;
    let hers = Api::<AccessPolicy>::all(erin);
    let edit = Patch::Merge(json!({"spec": {"description": "mine"}}));
    refused(
        "an edit",
        hers.patch(&author, &dry_patch(), &edit).await,
        "you may only hand out what you hold",
    )?;
    let label = Patch::Merge(json!({"metadata": {"labels": {"team": "a"}}}));
    hers.patch(&author, &dry_patch(), &label)
        .await
        .context("a label needs no rights")?;
    policies.delete(&author, &DeleteParams::default()).await?;
    Ok(())
}

async fn nothing_lives_beside_the_identities(suite: &Suite) -> anyhow::Result<()> {
    let _whole = suite.guards.read().await;
    let there = Some("curfew-identities");
    let words = "holds identities to act as, and nothing else";
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "a", "image": "example.com/a:1", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]}});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": pod["spec"]}}});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}});
    for object in [
        pod,
        deployment,
        secret,
        ordinary_job("a"),
        binding("a", "view", "alice"),
    ] {
        let what = object["kind"].to_string();
        refused(&what, make(&suite.admin, there, object).await, words)?;
    }
    refused(
        "a token",
        token(&suite.admin, "curfew-identities", "default").await,
        words,
    )?;
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "lonely-reader"}});
    make(&suite.admin, there, account).await.context("an identity")?;
    Ok(())
}

async fn ordinary_life_goes_on(suite: &Suite) -> anyhow::Result<()> {
    let _whole = suite.guards.read().await;
    let place = suite.namespace().await?;
    let jobs = Api::<Job>::namespaced(suite.admin.clone(), &place.name);
    let job: Job = serde_json::from_value(ordinary_job("work"))?;
    jobs.create(&PostParams::default(), &job).await?;
    let suspend =
        Patch::Merge(json!({"spec": {"suspend": true}, "metadata": {"finalizers": ["example.com/mine"]}}));
    jobs.patch("work", &PatchParams::default(), &suspend).await?;
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    jobs.patch("work", &PatchParams::default(), &free).await?;
    jobs.delete("work", &DeleteParams::default()).await?;
    let bindings = Api::<RoleBinding>::namespaced(suite.admin.clone(), &place.name);
    let theirs: RoleBinding = serde_json::from_value(binding("theirs", "view", "bob"))?;
    bindings.create(&PostParams::default(), &theirs).await?;
    let more = Patch::Merge(json!({"subjects": [{"kind": "Group", "name": "devs"}]}));
    bindings.patch("theirs", &PatchParams::default(), &more).await?;
    bindings.delete("theirs", &DeleteParams::default()).await?;

    // A namespace goes although there is access in it.
    access(&place).await?;
    suite
        .plane
        .run_kubectl(&["delete", "namespace", &place.name, "--timeout=30s"])
        .await?;
    Ok(())
}
