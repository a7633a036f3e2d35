//! `bench bare`: the bare client, the simplest possible operator.
//!
//! It watches grants, creates one RoleBinding for each grant, and deletes the RoleBinding at the end. It makes no
//! decision, writes no record and never checks again. Any operator on this machine needs at least what it needs.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use curfew::api::AccessGrant;
use curfew::cluster::client::client;
use curfew::core::time::duration::AccessDuration;
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use tokio::sync::Semaphore;

/// Limit of simultaneous requests to the API server.
const WORKERS: usize = 16;
/// Prefix of the names of the bare client's `RoleBindings`; the uid of the grant follows. The guards reserve the prefix
/// `curfew-` for Curfew.
pub const PREFIX: &str = "bare-";
/// Line that the bare client prints when it has listed the existing grants.
pub const READY: &str = "ready";

/// Serves grants until the process is killed. The cluster and the account come from `KUBECONFIG`.
pub async fn run() -> anyhow::Result<()> {
    let client = client(kube::Config::infer().await?)?;
    let workers = Arc::new(Semaphore::new(WORKERS));
    let mut seen = HashSet::new();
    let mut events = std::pin::pin!(watcher(
        Api::<AccessGrant>::all(client.clone()),
        Config::default()
    ));
    while let Some(event) = events.next().await {
        match event? {
            Event::Apply(grant) | Event::InitApply(grant) => {
                if seen.insert(grant.uid().unwrap_or_default()) {
                    let service = serve(client.clone(), Arc::clone(&workers), grant);
                    tokio::spawn(async move {
                        if let Err(error) = service.await {
                            log(&format!("{error:#}"));
                        }
                    });
                }
            }
            Event::InitDone => log(READY),
            Event::Delete(_) | Event::Init => {}
        }
    }
    Ok(())
}

/// Serves one grant: creates the RoleBinding, waits until the end, deletes the RoleBinding.
async fn serve(client: Client, workers: Arc<Semaphore>, grant: AccessGrant) -> anyhow::Result<()> {
    let namespace = grant.namespace().context("the grant has no namespace")?;
    let uid = grant.uid().context("the grant has no uid")?;
    let requester = grant
        .spec
        .requester
        .as_ref()
        .context("the grant has no spec.requester")?;
    let name = format!("{PREFIX}{uid}");
    let end = end(&grant)?;
    let binding = serde_json::from_value(json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "User",
            "name": requester.username,
        }],
    }))?;
    drop(grant);
    let bindings = Api::<RoleBinding>::namespaced(client, &namespace);
    let worker = workers.acquire().await?;
    bindings.create(&PostParams::default(), &binding).await?;
    drop((worker, binding));
    let remaining = Duration::try_from(end.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO);
    tokio::time::sleep(remaining).await;
    let _worker = workers.acquire().await?;
    bindings.delete(&name, &DeleteParams::default()).await?;
    Ok(())
}

/// End of the access: `notAfter`; else creation plus `duration`, which defaults to 1 h.
fn end(grant: &AccessGrant) -> anyhow::Result<Timestamp> {
    if let Some(end) = &grant.spec.not_after {
        return Ok(end.parse()?);
    }
    let duration = grant
        .spec
        .duration
        .as_ref()
        .map_or_else(|| "1h".to_owned(), ToString::to_string);
    let created = grant
        .creation_timestamp()
        .context("the grant has no creationTimestamp")?;
    Ok(AccessDuration::parse(&duration)?.after(created.0))
}

#[expect(clippy::print_stderr, reason = "stderr is the log of this process")]
fn log(line: &str) {
    eprintln!("{line}");
}
