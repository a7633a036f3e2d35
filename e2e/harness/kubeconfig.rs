//! Kubeconfigs and clients for a token and a server's address.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;

/// The text of a kubeconfig: JSON, which is YAML. `ca` is a file, and counts
/// for an `https` address only.
fn text(token: &str, server_url: &str, ca: &Path) -> String {
    let cluster = if server_url.starts_with("https:") {
        json!({ "server": server_url, "certificate-authority": ca })
    } else {
        json!({ "server": server_url })
    };
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "plane", "cluster": cluster }],
        "users": [{ "name": "user", "user": { "token": token } }],
        "contexts": [{ "name": "plane", "context": { "cluster": "plane", "user": "user" } }],
        "current-context": "plane",
    });
    format!("{config:#}\n")
}

/// Writes a kubeconfig to `file`, unless it is there already: somebody may be
/// reading it.
pub fn write(file: PathBuf, token: &str, server_url: &str, ca: &Path) -> anyhow::Result<PathBuf> {
    let text = text(token, server_url, ca);
    if fs::read(&file).is_ok_and(|found| found == text.as_bytes()) {
        return Ok(file);
    }
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

/// A client that tries each request once and waits for an answer as long as
/// it takes, so that a test sees what the server said, and watches stay open.
pub async fn client(token: &str, server_url: &str, ca: &Path) -> anyhow::Result<Client> {
    let kubeconfig = Kubeconfig::from_yaml(&text(token, server_url, ca))?;
    let options = KubeConfigOptions::default();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    config.default_retry = false;
    config.read_timeout = None;
    config.connect_timeout = Some(Duration::from_secs(5));
    Ok(Client::try_from(config)?)
}
