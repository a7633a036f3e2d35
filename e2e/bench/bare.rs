//! `bench bare`: the least an operator could do. It watches grants, creates one RoleBinding for each and deletes it
//! at the end; no decision, no record, no second look. What it takes is what any operator takes on this machine.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use curfew::api::AccessGrant;
use curfew::cluster::client;
use curfew::core::Span;
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use tokio::sync::Semaphore;

/// How many requests are under way at once.
const WORKERS: usize = 16;
/// What the name of its bindings begins with; the uid of the grant follows. Names that begin with `curfew-` are
/// reserved.
pub const PREFIX: &str = "bare-";
/// The line it prints when it has seen the grants that are there.
pub const READY: &str = "ready";

/// Serves until it is killed.
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
                    let life = life(client.clone(), Arc::clone(&workers), grant);
                    tokio::spawn(async move {
                        if let Err(error) = life.await {
                            say(&format!("{error:#}"));
                        }
                    });
                }
            }
            Event::InitDone => say(READY),
            Event::Delete(_) | Event::Init => {}
        }
    }
    Ok(())
}

/// One grant: create, wait, delete.
async fn life(client: Client, workers: Arc<Semaphore>, grant: AccessGrant) -> anyhow::Result<()> {
    let namespace = grant.namespace().context("a grant without a namespace")?;
    let uid = grant.uid().context("a grant without a uid")?;
    let requester = grant
        .spec
        .requester
        .as_ref()
        .context("a grant without a requester")?;
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

/// When the access ends: at `notAfter`, else its duration after the request.
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
        .context("a grant that was never created")?;
    Ok(Span::parse(&duration)?.after(created.0))
}

#[expect(clippy::print_stderr, reason = "the log of a process of the benchmark")]
fn say(what: &str) {
    eprintln!("{what}");
}
