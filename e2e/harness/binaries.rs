//! Where the control plane's binaries are.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, ensure};

/// The script that finds or builds them.
const BUILD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/plane/build.sh");

/// The folder with etcd, kube-apiserver, kube-controller-manager and kubectl.
///
/// The script's progress goes to our stderr: the first time takes minutes.
pub async fn binaries() -> anyhow::Result<PathBuf> {
    let output = tokio::process::Command::new(BUILD)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("cannot run {BUILD}"))?;
    ensure!(output.status.success(), "{BUILD}: {}", output.status);
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim_end()))
}
