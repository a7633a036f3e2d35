//! Who asks is checked by the API server itself.

use anyhow::ensure;
use curfew::api::AccessGrant;
use kube::ResourceExt as _;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

use crate::support::{Suite, condition};
use crate::tests;

tests![
    the_api_server_fills_in_who_asks,
    a_requester_who_states_themselves_exactly_is_accepted,
    a_service_account_must_be_listed_and_name_an_end,
    status_given_at_creation_is_dropped,
    people_may_not_edit_or_delete,
];

async fn the_api_server_fills_in_who_asks(suite: &Suite) -> anyhow::Result<()> {
    if !suite.fills_in {
        return Ok(());
    }
    let place = suite.namespace().await?;
    let grant = place.ask("carol", "any", json!({})).await?;
    let requester = grant.spec.requester.unwrap_or_default();
    ensure!(requester.username == "carol", "{requester:?}");
    ensure!(
        requester.groups == ["devs", "contractors", "system:authenticated"],
        "{requester:?}"
    );
    Ok(())
}

async fn a_requester_who_states_themselves_exactly_is_accepted(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let me = json!({"requester": {"username": "alice", "groups": ["devs", "system:authenticated"]}});
    place.ask("alice", "any", me).await?;
    Ok(())
}

async fn a_service_account_must_be_listed_and_name_an_end(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let namespace = place.name.as_str();
    suite
        .plane
        .run_kubectl(&["create", "serviceaccount", "deployer", "-n", namespace])
        .await?;
    let role = "--clusterrole=curfew-requester";
    let account = format!("--serviceaccount={namespace}:deployer");
    suite
        .plane
        .run_kubectl(&[
            "create",
            "rolebinding",
            "deployer",
            role,
            &account,
            "-n",
            namespace,
        ])
        .await?;
    let listed =
        json!({"requesters": [{"kind": "ServiceAccount", "namespace": namespace, "name": "deployer"}]});
    let policy = place.policy(listed).await?.name_any();
    let unlisting = place.policy(json!({})).await?.name_any();
    let token = suite.plane.service_account_token(namespace, "deployer").await?;
    let client = suite.plane.client_for_token(&token, &suite.plane.url()).await?;
    let grants = kube::Api::<AccessGrant>::namespaced(client.clone(), namespace);
    let ask = async |policy: &str, more: serde_json::Value| {
        let mut spec = json!({"policyRef": {"name": policy}, "reason": "a pipeline deploys"});
        crate::support::merge(&mut spec, more);
        let grant = suite.grant_by(&client, spec).await?;
        anyhow::Ok(
            grants
                .create(&kube::api::PostParams::default(), &grant)
                .await?
                .name_any(),
        )
    };
    let end = json!({"notAfter": (jiff::Timestamp::now() + std::time::Duration::from_secs(5)).to_string()});
    for (policy, more, reason) in [
        (&policy, json!({}), "NotAfterRequired"),
        (&unlisting, end.clone(), "RequesterNotListed"),
    ] {
        let name = ask(policy, more).await?;
        let denied = place.in_state(&name, "Denied").await?;
        let accepted = condition(&denied, "Accepted").map(|accepted| accepted.reason.clone());
        ensure!(
            accepted.as_deref() == Some(reason),
            "{accepted:?} instead of {reason}"
        );
    }
    let name = ask(&policy, end).await?;
    let grant = place.in_state(&name, "Active").await?;
    let subject = grant.status.and_then(|status| status.subject);
    ensure!(
        subject == Some(curfew::api::Subject::service_account(namespace, "deployer")),
        "{subject:?}"
    );
    place.in_state(&name, "Expired").await?;
    Ok(())
}

async fn status_given_at_creation_is_dropped(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    let text = format!(
        "apiVersion: access.curfew.dev/v1alpha1\nkind: AccessGrant\nmetadata: {{name: smuggled, namespace: {}}}\n\
         spec: {{policyRef: {{name: any}}, reason: DEV-1 smuggling,\n\
         \x20 requester: {{username: alice, groups: [devs, \"system:authenticated\"]}}}}\n\
         status: {{conditions: [], expiresAt: \"2036-01-01T00:00:00Z\", subject: {{kind: User, name: alice}}}}\n",
        place.name
    );
    std::fs::write(file.path(), text)?;
    let path = file.path().display().to_string();
    let output = suite
        .plane
        .kubectl_as("alice", &["create", "--validate=false", "-f", &path])?
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let grant = place.grants().get("smuggled").await?;
    let status = grant.status.unwrap_or_default();
    ensure!(
        status.expires_at.is_none() && status.subject.is_none(),
        "{status:?}"
    );
    Ok(())
}

async fn people_may_not_edit_or_delete(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let grant = place.ask("alice", "any", json!({})).await?;
    let grants = place.grants_as("alice").await?;
    ensure!(
        grants.list(&ListParams::default()).await?.items.len() == 1,
        "alice cannot read"
    );
    let label = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
    for refused in [
        grants
            .patch(&grant.name_any(), &PatchParams::default(), &label)
            .await
            .map(|_| ()),
        grants
            .delete(&grant.name_any(), &kube::api::DeleteParams::default())
            .await
            .map(|_| ()),
        grants
            .patch_status(&grant.name_any(), &PatchParams::default(), &label)
            .await
            .map(|_| ()),
    ] {
        let error = refused.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(error.contains("forbidden"), "{error}");
    }
    Ok(())
}
