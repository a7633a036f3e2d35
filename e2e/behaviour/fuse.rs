//! Fuses: demanded, refused, not lit, and not wanted.

use anyhow::{Context as _, ensure};
use curfew::api::{AccessGrant, AccessPolicy, Enforcer};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::harness::eventually;
use crate::support::fuses::{Suspender, TRIED_AGAIN, fuse, fused, no_jobs, owner, says, told};
use crate::support::manifests::ordinary_job;
use crate::support::{Place, SOON, Suite, condition};
use crate::tests;

tests![
    the_record_of_access_says_that_its_fuse_is_lit_and_what_ends_it,
    a_required_fuse_is_lit_before_there_is_access,
    where_a_quota_refuses_jobs_a_required_fuse_is_waited_for_and_access_comes_when_it_is_lifted,
    where_a_quota_refuses_jobs_access_with_a_preferred_fuse_says_so_and_is_fused_when_it_is_lifted,
    where_a_webhook_for_jobs_is_down_a_required_fuse_is_waited_for_and_a_preferred_one_is_not,
    where_a_tool_suspends_jobs_a_required_fuse_never_gives_access_and_a_preferred_one_says_so,
    without_fuses_access_is_held_by_its_grant_and_ends_on_time,
    without_fuses_nobody_acts_as_somebody_else,
    the_pod_that_a_fuse_never_runs_keeps_to_the_restricted_standard,
];

async fn the_record_of_access_says_that_its_fuse_is_lit_and_what_ends_it(
    suite: &Suite,
) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?.name_any();
    let grant = place.active("alice", &policy, json!({})).await?;
    // Where the machine is busy, the fuse is lit after the record, and that is written then.
    let grant = says(&place, &grant.name_any(), ("True", "FuseLit"), SOON).await?;
    let status = grant.status.clone().context("no status")?;
    ensure!(
        status.enforced_by.starts_with("Controller, Fuse"),
        "{:?}",
        status.enforced_by
    );
    for record in &status.artifacts {
        ensure!(
            record
                .enforced_by
                .starts_with(&[Enforcer::Controller, Enforcer::Fuse]),
            "{record:?}"
        );
    }
    let name = grant.name_any();
    let wide = ["get", "agrant", &name, "-n", &place.name, "-o", "wide"];
    let printed = suite.plane.run_kubectl(&wide).await?;
    ensure!(
        printed.contains("ENFORCED") && printed.contains("Controller, Fuse"),
        "{printed}"
    );
    Ok(())
}

async fn a_required_fuse_is_lit_before_there_is_access(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({"fuse": "Required"})).await?.name_any();
    let grant = place.active("alice", &policy, json!({"duration": "4s"})).await?;
    let said = fused(&grant).context("nothing is said of its fuse")?;
    ensure!(said.status == "True", "{said:?}");
    ensure!(place.may("alice", "list", "pods").await?, "alice may not");
    place.in_state(&grant.name_any(), "Expired").await?;
    place.nothing_left().await
}

async fn where_a_quota_refuses_jobs_a_required_fuse_is_waited_for_and_access_comes_when_it_is_lifted(
    suite: &Suite,
) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let quotas = no_jobs(&place).await?;
    let policy = place.policy(json!({"fuse": "Required"})).await?.name_any();
    let grant = place.ask("alice", &policy, json!({"duration": "5m"})).await?;
    let name = grant.name_any();
    let waiting = says(&place, &name, ("False", "FuseRefused"), SOON).await?;
    let active = condition(&waiting, "Active").context("no state")?;
    ensure!(
        active.reason == "Activating" && active.message.contains("exceeded quota"),
        "{active:?}"
    );
    ensure!(!place.may("alice", "list", "pods").await?, "alice may");
    ensure!(
        place.artifacts().await?.is_empty(),
        "{:?}",
        place.artifacts().await?
    );
    ensure!(told(&place, &grant, "FuseRefused").await? == 1, "not told once");
    quotas.delete("none", &DeleteParams::default()).await?;
    let grant = place.in_state_within(&name, "Active", TRIED_AGAIN).await?;
    ensure!(
        fused(&grant).is_some_and(|said| said.status == "True"),
        "{:?}",
        fused(&grant)
    );
    ensure!(told(&place, &grant, "FuseRefused").await? == 1, "told twice");
    ensure!(place.may("alice", "list", "pods").await?, "alice may not");
    Ok(())
}

async fn where_a_quota_refuses_jobs_access_with_a_preferred_fuse_says_so_and_is_fused_when_it_is_lifted(
    suite: &Suite,
) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let quotas = no_jobs(&place).await?;
    let policy = place.policy(json!({})).await?.name_any();
    let asked = json!({"duration": "5m", "entitlements": [{"name": "read"}]});
    let grant = place.active("alice", &policy, asked).await?;
    let name = grant.name_any();
    let said = fused(&grant).context("nothing is said of its fuse")?;
    ensure!(
        said.status == "False" && said.reason == "FuseRefused" && said.message.contains("exceeded quota"),
        "{said:?}"
    );
    ensure!(place.may("alice", "list", "configmaps").await?, "alice may not");
    ensure!(told(&place, &grant, "FuseRefused").await? == 1, "not told once");
    let operator = suite.operator()?;
    eventually("a metric alarms", SOON, async || {
        let metrics = operator.metrics().await.map_err(|error| format!("{error:#}"))?;
        let mut lines = metrics.lines();
        match lines.find_map(|line| line.strip_prefix("curfew_unfused_grants ")) {
            Some(number) if number != "0" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let held = owner(&place).await?;
    ensure!(
        held.kind == "AccessGrant" && Some(&held.uid) == grant.metadata.uid.as_ref(),
        "{held:?}"
    );
    nobody_else_hands_it_over(&place, &grant).await?;
    quotas.delete("none", &DeleteParams::default()).await?;
    let grant = says(&place, &name, ("True", "FuseLit"), TRIED_AGAIN).await?;
    let fuse = fuse(&place).await?;
    let held = owner(&place).await?;
    ensure!(
        held.kind == "Job" && Some(&held.uid) == fuse.metadata.uid.as_ref(),
        "{held:?}"
    );
    let roles = Api::<Role>::namespaced(suite.admin.clone(), &place.name);
    let role = roles.get(&fuse.name_any()).await?;
    ensure!(
        role.owner_references()
            .iter()
            .map(|owner| &owner.uid)
            .eq(fuse.metadata.uid.iter()),
        "{:?}",
        role.owner_references()
    );
    let status = grant.status.clone().unwrap_or_default();
    ensure!(
        status.activated_at.is_some() && status.enforced_by.starts_with("Controller, Fuse"),
        "{status:?}"
    );
    ensure!(
        place.may("alice", "list", "configmaps").await?,
        "alice may not any more"
    );
    Ok(())
}

/// What only the operator may do, and only this: give the binding to a fuse of its name.
async fn nobody_else_hands_it_over(place: &Place<'_>, grant: &AccessGrant) -> anyhow::Result<()> {
    let binding = place.bindings().await?.pop().context("no binding")?;
    let name = binding.name_any();
    let uid = "8d7f9f4e-0000-4000-8000-000000000000";
    let owners = |owners: Value| Patch::Merge(json!({"metadata": {"ownerReferences": owners}}));
    let job = |name: &str| json!([{"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid}]);
    let mut both = job(&name);
    if let (Some(both), Some(own)) = (both.as_array_mut(), binding.metadata.owner_references.as_ref()) {
        both.extend(own.iter().map(|owner| json!(owner)));
    }
    let operator = place
        .suite
        .plane
        .service_account_token("curfew-system", "curfew")
        .await?;
    let operator = place
        .suite
        .plane
        .client_for_token(&operator, &place.suite.plane.url())
        .await?;
    let admin = &place.suite.admin;
    let map = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid}]);
    for (what, client, patch) in [
        ("an administrator gives it to a fuse", admin, owners(job(&name))),
        ("an administrator takes its owner", admin, owners(json!(null))),
        (
            "the operator gives it to another's fuse",
            &operator,
            owners(job("curfew-0")),
        ),
        ("the operator gives it a second owner", &operator, owners(both)),
        ("the operator gives it to something else", &operator, owners(map)),
        ("the operator takes its owner", &operator, owners(json!(null))),
    ] {
        let bindings = Api::<RoleBinding>::namespaced(client.clone(), &place.name);
        let dry_run = PatchParams {
            dry_run: true,
            ..PatchParams::default()
        };
        match bindings.patch(&name, &dry_run, &patch).await {
            Err(kube::Error::Api(status)) if status.message.contains("curfew-binding") => {}
            other => anyhow::bail!("{what} of {}: {other:?}", grant.name_any()),
        }
    }
    Ok(())
}

/// The API server answers 500 then, and does nothing.
async fn where_a_webhook_for_jobs_is_down_a_required_fuse_is_waited_for_and_a_preferred_one_is_not(
    suite: &Suite,
) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let webhooks = Api::<ValidatingWebhookConfiguration>::all(suite.admin.clone());
    let name = suite.fresh("down");
    install_a_webhook_that_is_down(&place, &webhooks, &name).await?;
    let seen = where_nobody_is_asked_about_jobs(&place).await;
    webhooks.delete(&name, &DeleteParams::default()).await?;
    for grant in seen? {
        let grant = says(&place, &grant, ("True", "FuseLit"), TRIED_AGAIN).await?;
        place.in_state(&grant.name_any(), "Active").await?;
    }
    Ok(())
}

async fn where_nobody_is_asked_about_jobs(place: &Place<'_>) -> anyhow::Result<[String; 2]> {
    let required = place.policy(json!({"fuse": "Required"})).await?.name_any();
    let preferred = place.policy(json!({})).await?.name_any();
    let waits = place.ask("eve", &required, json!({"duration": "10m"})).await?;
    let given = place
        .active("alice", &preferred, json!({"duration": "10m"}))
        .await?;
    ensure!(place.may("alice", "list", "pods").await?, "alice may not");
    for grant in [&waits, &given] {
        let grant = says(place, &grant.name_any(), ("False", "FuseRefused"), SOON).await?;
        let said = fused(&grant).context("nothing is said of its fuse")?;
        ensure!(said.message.contains("failed calling webhook"), "{said:?}");
    }
    ensure!(!place.may("eve", "list", "pods").await?, "eve may");
    Ok([waits.name_any(), given.name_any()])
}

/// It has to be asked about every Job here, and nobody answers.
async fn install_a_webhook_that_is_down(
    place: &Place<'_>,
    webhooks: &Api<ValidatingWebhookConfiguration>,
    name: &str,
) -> anyhow::Result<()> {
    let webhook = json!({"metadata": {"name": name}, "webhooks": [{
        "name": "jobs.down.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "failurePolicy": "Fail", "timeoutSeconds": 1,
        // Discard protocol: nobody answers.
        "clientConfig": {"url": "https://127.0.0.1:9/"},
        "namespaceSelector": {"matchLabels": {"place": place.name}},
        "rules": [{"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"],
            "resources": ["jobs"]}]}]});
    webhooks
        .create(&PostParams::default(), &serde_json::from_value(webhook)?)
        .await?;
    let jobs = Api::<Job>::namespaced(place.suite.admin.clone(), &place.name);
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let job: Job = serde_json::from_value(ordinary_job("work"))?;
    eventually("the webhook is asked", SOON, async || {
        match jobs.create(&dry_run, &job).await {
            Err(kube::Error::Api(status)) if status.message.contains("failed calling webhook") => Ok(()),
            other => Err(format!("{:?}", other.map(|made| made.name_any()))),
        }
    })
    .await
}

async fn where_a_tool_suspends_jobs_a_required_fuse_never_gives_access_and_a_preferred_one_says_so(
    suite: &Suite,
) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let Some(tool) = Suspender::install(&place).await? else {
        return Ok(());
    };
    let required = place.policy(json!({"fuse": "Required"})).await?.name_any();
    let preferred = place.policy(json!({})).await?.name_any();
    let outcome = async {
        let waiting = place.ask("alice", &required, json!({"duration": "8s"})).await?;
        let said = says(&place, &waiting.name_any(), ("False", "FuseRefused"), SOON).await?;
        let message = fused(&said).map(|said| said.message).unwrap_or_default();
        // The guard of fuses sees what the tool has made of it.
        ensure!(message.contains("is not suspended"), "{message}");
        let given = place.active("eve", &preferred, json!({"duration": "1m"})).await?;
        let said = fused(&given).context("nothing is said of its fuse")?;
        ensure!(said.reason == "FuseRefused", "{said:?}");
        ensure!(place.may("eve", "list", "pods").await?, "eve may not");
        ensure!(!place.may("alice", "list", "pods").await?, "alice may");
        let over = place.in_state(&waiting.name_any(), "Expired").await?;
        let status = over.status.unwrap_or_default();
        ensure!(status.activated_at.is_none(), "alice had access: {status:?}");
        Ok(())
    }
    .await;
    tool.remove().await?;
    outcome
}

async fn without_fuses_access_is_held_by_its_grant_and_ends_on_time(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({"fuse": "None"})).await?.name_any();
    let asked = json!({"duration": "5s", "entitlements": [{"name": "read"}, {"name": "look"}]});
    let grant = place.active("alice", &policy, asked).await?;
    ensure!(place.may("alice", "list", "configmaps").await?, "alice may not");
    let made = place.artifacts().await?;
    ensure!(
        made.len() == 3 && !made.iter().any(|name| name.starts_with("Job/")),
        "{made:?}"
    );
    ensure!(fused(&grant).is_none(), "{:?}", fused(&grant));
    let status = grant.status.clone().unwrap_or_default();
    ensure!(!status.enforced_by.contains("Fuse"), "{}", status.enforced_by);
    for binding in place.bindings().await? {
        let owners = binding.owner_references();
        ensure!(
            owners.len() == 1
                && owners[0].kind == "AccessGrant"
                && Some(&owners[0].uid) == grant.metadata.uid.as_ref(),
            "{owners:?}"
        );
    }
    let ended = place.in_state(&grant.name_any(), "Expired").await?;
    let lag = ended
        .status
        .and_then(|status| status.revocation)
        .and_then(|revocation| revocation.lag_milliseconds);
    ensure!(lag.is_some_and(|lag| (0..2000).contains(&lag)), "{lag:?} ms late");
    ensure!(
        !place.may("alice", "list", "configmaps").await?,
        "alice still may"
    );
    place.nothing_left().await
}

async fn without_fuses_nobody_acts_as_somebody_else(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let acts = json!({"fuse": "None", "entitlements": [{"name": "nodes", "actAs": {"serviceAccount": "node-reader"}}]});
    let refused = place.policy_unjudged(acts).await;
    let refused = refused.map(|policy: AccessPolicy| policy.name_any());
    let words = format!("{refused:?}");
    ensure!(
        words.contains("fuse None cannot be used with actAs"),
        "the schema lets it through: {words}"
    );
    Ok(())
}

/// It is never run, but there are tools that judge it as they judge pods.
async fn the_pod_that_a_fuse_never_runs_keeps_to_the_restricted_standard(
    suite: &Suite,
) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?.name_any();
    let grant = place.active("alice", &policy, json!({})).await?;
    let template = fuse(&place).await?.spec.context("no spec")?.template;
    place
        .grants()
        .delete(&grant.name_any(), &DeleteParams::default())
        .await?;
    place.nothing_left().await?;
    let restricted = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    Api::<Namespace>::all(suite.admin.clone())
        .patch(&place.name, &PatchParams::default(), &Patch::Merge(restricted))
        .await?;
    let pods = Api::<Pod>::namespaced(suite.admin.clone(), &place.name);
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let pod = |edit: Value| {
        let mut pod = json!({"metadata": {"name": "never-run"}, "spec": template.spec});
        crate::support::merge(&mut pod, edit);
        serde_json::from_value::<Pod>(pod)
    };
    // The label takes a moment, and so does the service account that every pod has.
    let root = pod(json!({"spec": {"securityContext": {"runAsUser": 0}}}))?;
    eventually("the standard is enforced", SOON, async || {
        match pods.create(&dry_run, &root).await {
            Err(kube::Error::Api(status)) if status.message.contains("violates PodSecurity") => Ok(()),
            other => Err(format!("{:?}", other.map(|_| "made"))),
        }
    })
    .await?;
    pods.create(&dry_run, &pod(json!({}))?)
        .await
        .context("the pod of a fuse")?;
    Ok(())
}
