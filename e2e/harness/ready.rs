//! When a plane's processes are ready for tests.

use std::time::Duration;

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::wait::eventually;

/// How long a process may take to be ready.
pub(super) const READY: Duration = Duration::from_mins(1);

/// Waits for the API server to say that it is ready. A client can be made
/// once the certificates are there, which the first start makes.
pub(super) async fn server_is_ready<F>(client: impl Fn() -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<Client>>,
{
    eventually("the API server is ready", READY, async || {
        let client = client().await.map_err(|error| format!("{error:#}"))?;
        let request = hyper::http::Request::get("/readyz").body(Vec::new());
        let request = request.map_err(|error| error.to_string())?;
        let answer = client.request_text(request).await;
        answer.map(drop).map_err(|error| error.to_string())
    })
    .await
}

/// Waits for what a controller-manager makes.
pub(super) async fn controllers_work(admin: Client) -> anyhow::Result<()> {
    default_account_is_there(admin.clone()).await?;
    roles_are_aggregated(admin).await
}

async fn default_account_is_there(admin: Client) -> anyhow::Result<()> {
    let accounts = Api::<ServiceAccount>::namespaced(admin.clone(), "default");
    let roles = Api::<ClusterRole>::all(admin);
    eventually("default ServiceAccount and role", READY, async || {
        let account = accounts.get("default").await;
        account.map_err(|error| error.to_string())?;
        has_rules(&roles, "view").await
    })
    .await
}

/// Waits for a new role to be aggregated: at a later start of the
/// controller-manager the first things are there already.
async fn roles_are_aggregated(admin: Client) -> anyhow::Result<()> {
    const NAME: &str = "curfew-harness-probe";
    let roles = Api::<ClusterRole>::all(admin);
    let probe = serde_json::from_value(json!({
        "metadata": { "name": NAME },
        "aggregationRule": { "clusterRoleSelectors": [{
            "matchLabels": { "rbac.authorization.k8s.io/aggregate-to-view": "true" },
        }]},
    }))?;
    roles.create(&PostParams::default(), &probe).await?;
    let aggregated = eventually("a ClusterRole is aggregated", READY, async || {
        has_rules(&roles, NAME).await
    });
    let aggregated = aggregated.await;
    roles.delete(NAME, &DeleteParams::default()).await?;
    aggregated
}

async fn has_rules(roles: &Api<ClusterRole>, name: &str) -> Result<(), String> {
    let role = roles.get(name).await.map_err(|error| error.to_string())?;
    match role.rules {
        Some(found) if !found.is_empty() => Ok(()),
        _ => Err(format!("ClusterRole {name} has no rules")),
    }
}
