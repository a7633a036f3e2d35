//! Installs Curfew as a user does: its CRDs, its RBAC and its admission policies.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::plane::Plane;
use super::wait::eventually;

/// How long the API server may take to act by what was installed: it serves a new CRD after a second or two, and its
/// admission policies are loaded by informers.
const EFFECTIVE: Duration = Duration::from_mins(1);

/// A file of the repository.
pub fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Installs everything and waits until the API server acts by it: a forged requester is refused, and an absent one is
/// filled in.
pub async fn install(plane: &Plane) -> anyhow::Result<()> {
    plane.apply(&in_repository("crds")).await?;
    for crd in [
        "accesspolicies.access.curfew.dev",
        "accessgrants.access.curfew.dev",
    ] {
        let crd = format!("crd/{crd}");
        plane
            .run_kubectl(&["wait", "--for=condition=Established", "--timeout=60s", &crd])
            .await?;
    }
    plane.apply(&in_repository("manifests/namespace.yaml")).await?;
    plane.apply(&in_repository("manifests")).await?;
    let probe = in_repository("e2e/harness/probe.yaml");
    let probe = probe.display().to_string();
    eventually("the API server fills in who asks", EFFECTIVE, async || {
        let dry_run = ["create", "--dry-run=server", "-o", "yaml", "-f", &probe];
        let answer = plane
            .run_kubectl(&dry_run)
            .await
            .map_err(|error| format!("{error:#}"))?;
        if answer.contains("username: admin") {
            Ok(())
        } else {
            Err(answer)
        }
    })
    .await?;
    let forged = in_repository("e2e/harness/forged.yaml");
    let forged = forged.display().to_string();
    eventually(
        "the API server refuses a forged requester",
        EFFECTIVE,
        async || match plane
            .run_kubectl(&["create", "--dry-run=server", "-f", &forged])
            .await
        {
            Ok(answer) => Err(answer),
            Err(error) if format!("{error:#}").contains("spec.requester.username must be you") => Ok(()),
            Err(error) => Err(format!("{error:#}")),
        },
    )
    .await
}
