//! kubectl for a plane.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use super::people::ADMIN;
use super::plane::Plane;

impl Plane {
    /// kubectl as the admin.
    pub fn kubectl<S: AsRef<OsStr>>(&self, args: &[S]) -> anyhow::Result<Command> {
        self.kubectl_as(ADMIN, args)
    }

    /// kubectl as one of [`PEOPLE`](super::PEOPLE). Its caches are the
    /// plane's, not the user's.
    pub fn kubectl_as<S: AsRef<OsStr>>(&self, person: &str, args: &[S]) -> anyhow::Result<Command> {
        let mut command = Command::new(self.binary("kubectl"));
        command
            .env("KUBECONFIG", self.kubeconfig_for(person)?)
            .env("HOME", self.folder())
            .env("KUBECACHEDIR", self.folder().join("kubectl-cache"))
            .args(args);
        Ok(command)
    }

    /// Runs kubectl as the admin and returns what it printed.
    pub async fn run_kubectl(&self, args: &[&str]) -> anyhow::Result<String> {
        let mut command = tokio::process::Command::from(self.kubectl(args)?);
        let output = command.kill_on_drop(true).output().await?;
        ensure!(
            output.status.success(),
            "kubectl {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Applies a file or a folder, server-side.
    pub async fn apply(&self, path: &Path) -> anyhow::Result<()> {
        let path = path.to_str().context("a path that is not UTF-8")?;
        let args = ["apply", "--server-side", "--force-conflicts", "-f", path];
        self.run_kubectl(&args).await.map(drop)
    }
}
