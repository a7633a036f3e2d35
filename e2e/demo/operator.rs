//! The operator as a process on this machine, with the service account and the permissions of `manifests/`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::harness::get::get;
use crate::harness::{Guard, Guarded, eventually};

/// Time in which the operator must become ready.
const READY: Duration = Duration::from_secs(30);

/// Path of the operator's binary: `curfew` beside the folder `examples` of this program, where `cargo build` puts it.
pub fn binary() -> anyhow::Result<PathBuf> {
    let demo = std::env::current_exe()?;
    let profile = demo.parent().and_then(Path::parent);
    let binary = profile
        .context("the path of this program has no parent folder")?
        .join("curfew");
    ensure!(
        binary.is_file(),
        "{} does not exist. Run: cargo build --bin curfew",
        binary.display()
    );
    Ok(binary)
}

/// A kubeconfig for the cluster of `context` that authenticates with `token`.
pub fn kubeconfig(of: &Kubeconfig, context: &str, token: &str) -> anyhow::Result<String> {
    let cluster = of
        .contexts
        .iter()
        .find(|named| named.name == context)
        .and_then(|named| named.context.as_ref())
        .and_then(|context| of.clusters.iter().find(|named| named.name == context.cluster))
        .and_then(|named| named.cluster.as_ref())
        .with_context(|| format!("the kubeconfig has no cluster for context {context}"))?;
    // JSON is YAML.
    Ok(serde_json::to_string(&json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "cluster", "cluster": cluster}],
        "users": [{"name": "curfew", "user": {"token": token}}],
        "contexts": [{"name": "curfew", "context": {"cluster": "cluster", "user": "curfew"}}],
        "current-context": "curfew",
    }))?)
}

/// A client for the bystander's watches, with the permissions of the operator. It does not retry, and it has no read
/// timeout: a watch stays open while nothing happens.
pub async fn client(kubeconfig: &str) -> anyhow::Result<Client> {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    config.read_timeout = None;
    Ok(Client::try_from(config)?)
}

/// Starts the operator. Its kubeconfig and its log lie in `folder`.
pub fn start(kubeconfig: &str, folder: &Path) -> anyhow::Result<Guarded> {
    let file = folder.join("operator.kubeconfig");
    std::fs::write(&file, kubeconfig)?;
    let guard = Guard {
        name: "curfew",
        log: &folder.join("curfew.log"),
        sweep: None,
    };
    let args = ["run", "--listen", "127.0.0.1:0", "--log-format", "json"];
    guard.start(&binary()?, &args, &[("KUBECONFIG", file.as_os_str())])
}

/// Waits until `/readyz` of the operator answers 200. Fails if the process exits first.
pub async fn ready(process: &Guarded) -> anyhow::Result<()> {
    let ready = eventually("the operator is ready", READY, async || {
        let address = listening(&process.log()).ok_or_else(|| process.log_tail(5))?;
        match get(address, "/readyz").await {
            Ok((200, _)) => Ok(()),
            Ok((status, text)) => Err(format!("{status}: {text}")),
            Err(error) => Err(format!("{error:#}")),
        }
    });
    tokio::select! {
        ready = ready => ready,
        Some(code) = process.gone_within(READY) => Err(anyhow!("the operator exited with {code}")),
    }
}

/// Address in the *last* log line with the message `listening`: an operator that starts again appends to the same log.
fn listening(log: &str) -> Option<SocketAddr> {
    log.lines().rev().find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        let fields = line.get("fields")?;
        let says = fields.get("message")?.as_str()? == "listening";
        says.then(|| fields.get("address")?.as_str()?.parse().ok())?
    })
}
