//! The operator as a process on this machine, with the ServiceAccount and the permissions that it ships with.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::harness::get::get;
use crate::harness::{Guard, Guarded, eventually};

/// How long it may take to be ready.
const READY: Duration = Duration::from_secs(30);

/// What `cargo build` made: beside the folder in which this example lies.
pub fn binary() -> anyhow::Result<PathBuf> {
    let demo = std::env::current_exe()?;
    let profile = demo.parent().and_then(Path::parent);
    let binary = profile.context("this executable lies nowhere")?.join("curfew");
    ensure!(
        binary.is_file(),
        "there is no {}: build it with cargo build --bin curfew",
        binary.display()
    );
    Ok(binary)
}

/// A kubeconfig for the cluster of `context` with a token.
pub fn kubeconfig(of: &Kubeconfig, context: &str, token: &str) -> anyhow::Result<String> {
    let cluster = of
        .contexts
        .iter()
        .find(|named| named.name == context)
        .and_then(|named| named.context.as_ref())
        .and_then(|context| of.clusters.iter().find(|named| named.name == context.cluster))
        .and_then(|named| named.cluster.as_ref())
        .with_context(|| format!("the kubeconfig does not say which cluster context {context} means"))?;
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

/// A client with the same permissions, for the bystander's watches: it tries each request once, and a watch stays
/// open as long as nothing happens.
pub async fn client(kubeconfig: &str) -> anyhow::Result<Client> {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    config.read_timeout = None;
    Ok(Client::try_from(config)?)
}

/// Starts it.
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

/// Waits until it says that it is ready.
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
        Some(code) = process.gone_within(READY) => Err(anyhow!("the operator ended with {code}")),
    }
}

/// The address in the last line of the log that says `listening`: who starts again writes to the same log.
fn listening(log: &str) -> Option<SocketAddr> {
    log.lines().rev().find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        let fields = line.get("fields")?;
        let says = fields.get("message")?.as_str()? == "listening";
        says.then(|| fields.get("address")?.as_str()?.parse().ok())?
    })
}
