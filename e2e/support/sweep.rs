//! A sweep as a process, and access that nobody ends.

use std::process::Output;
use std::time::Duration;

use anyhow::Context as _;
use curfew::api::{AccessGrant, GRANT_UID_LABEL};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::harness::{Operator, OperatorOptions, eventually};
use crate::support::{Place, SOON, Suite};

/// How long access lasts here.
pub const LASTS: &str = "10s";
/// What the sweep leaves to operator and fuse, by default, and then some.
pub const OVERDUE: Duration = Duration::from_secs(10 + 5 + 15);

/// What a sweep has said.
pub struct Said {
    pub code: Option<i32>,
    pub report: Value,
    pub stderr: String,
}

impl Said {
    fn of(output: &Output) -> anyhow::Result<Self> {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let report = serde_json::from_slice(&output.stdout).with_context(|| stderr.clone())?;
        Ok(Self {
            code: output.status.code(),
            report,
            stderr,
        })
    }

    /// What it did with what has that kind and name, and why.
    pub fn about(&self, kind: &str, name: &str) -> Option<(String, String)> {
        let items = self.report["items"].as_array()?;
        let item = items
            .iter()
            .find(|item| item["kind"] == kind && item["name"] == name)?;
        let text = |field: &str| item[field].as_str().unwrap_or_default().to_owned();
        Some((text("action"), text("reason")))
    }

    /// Kinds and names of everything it did that with, in its order.
    pub fn did(&self, action: &str, namespace: &str) -> Vec<String> {
        let items = self.report["items"].as_array().into_iter().flatten();
        let these = items.filter(|item| item["action"] == action && item["namespace"] == namespace);
        these
            .map(|item| {
                format!(
                    "{}/{}",
                    item["kind"].as_str().unwrap_or_default(),
                    item["name"].as_str().unwrap_or_default()
                )
            })
            .collect()
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {:?}\n{:#}\n{}", self.code, self.report, self.stderr)
    }
}

/// Runs `curfew sweep` with a token of its service account, through a proxy or not.
pub async fn command(
    suite: &Suite,
    via: Option<&str>,
    args: &[&str],
) -> anyhow::Result<tokio::process::Command> {
    let token = suite
        .plane
        .service_account_token("curfew-system", "curfew-sweep")
        .await?;
    let url = suite.plane.url();
    let name = suite.fresh("sweep");
    let kubeconfig = suite
        .plane
        .kubeconfig_with_token(&token, via.unwrap_or(&url), &name)?;
    let mut command = tokio::process::Command::new(&suite.binary);
    command
        .arg("sweep")
        .args(args)
        .env("KUBECONFIG", kubeconfig)
        .kill_on_drop(true);
    Ok(command)
}

pub async fn sweep(suite: &Suite, args: &[&str]) -> anyhow::Result<Said> {
    sweep_via(suite, None, args).await
}

pub async fn sweep_via(suite: &Suite, via: Option<&str>, args: &[&str]) -> anyhow::Result<Said> {
    let args = [&["--once", "-o", "json", "--log-format", "json"], args].concat();
    Said::of(&command(suite, via, &args).await?.output().await?)
}

/// Dry runs until something of that namespace would be removed.
pub async fn would_remove(suite: &Suite, namespace: &str) -> anyhow::Result<Said> {
    eventually("something is overdue", OVERDUE, async || {
        let said = sweep(suite, &["--dry-run"])
            .await
            .map_err(|error| format!("{error:#}"))?;
        if said.did("WouldRemove", namespace).is_empty() {
            Err(said.to_string())
        } else {
            Ok(said)
        }
    })
    .await
}

/// What was made for a grant, by the name of its fuse.
pub struct Access<'a> {
    pub place: Place<'a>,
    pub name: String,
}

impl Access<'_> {
    pub fn everything(&self) -> [String; 3] {
        ["RoleBinding", "Role", "Job"].map(|kind| format!("{kind}/{}", self.name))
    }

    pub async fn binding(&self) -> anyhow::Result<Option<RoleBinding>> {
        Ok(self.bindings().get_opt(&self.name).await?)
    }

    pub fn bindings(&self) -> Api<RoleBinding> {
        Api::namespaced(self.place.suite.admin.clone(), &self.place.name)
    }
}

/// The name of what was made for a grant.
pub async fn name_of(place: &Place<'_>, grant: &AccessGrant) -> anyhow::Result<String> {
    let bindings = place.bindings().await?;
    let binding = bindings
        .iter()
        .find(|binding| binding.labels().get(GRANT_UID_LABEL) == grant.uid().as_ref());
    Ok(binding.context("no binding")?.name_any())
}

/// Access of alice to `ConfigMaps` for a short time, by a Role of its own, whose operator has died.
pub async fn abandoned(suite: &Suite) -> anyhow::Result<Access<'_>> {
    abandoned_to(suite, "read").await
}

pub async fn abandoned_to<'a>(suite: &'a Suite, entitlement: &str) -> anyhow::Result<Access<'a>> {
    let operator = Operator::start(&suite.plane, &suite.binary, OperatorOptions::default()).await?;
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?.name_any();
    let asked = json!({"duration": LASTS, "entitlements": [{"name": entitlement}]});
    let grant = place.active("alice", &policy, asked).await?;
    let name = name_of(&place, &grant).await?;
    operator.kill9().await?;
    Ok(Access { place, name })
}

/// Does something while no fuse burns and no garbage is collected.
pub async fn without_controllers(
    suite: &Suite,
    deed: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    suite.plane.stop_controller_manager().await?;
    let done = deed.await;
    suite.plane.start_controller_manager().await?;
    done
}

/// Waits until alice may, or may not, read `ConfigMaps` there.
pub async fn alice_may(place: &Place<'_>, so: bool) -> anyhow::Result<()> {
    eventually(&format!("alice may read: {so}"), SOON, async || {
        match place.may("alice", "get", "configmaps").await {
            Ok(may) if may == so => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}
