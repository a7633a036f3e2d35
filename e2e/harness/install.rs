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

/// Installs everything and waits until the API server acts by it: a forged requester or decider is refused, and an
/// absent one is filled in where the API server can, and the last guard is loaded.
pub async fn install(plane: &Plane) -> anyhow::Result<()> {
    let crds = in_repository("crds");
    plane.apply(&crds).await?;
    let crds = crds.display().to_string();
    plane
        .run_kubectl(&[
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            "-f",
            &crds,
        ])
        .await?;
    plane.apply(&in_repository("manifests/namespace.yaml")).await?;
    let guards = in_repository("manifests/guards.yaml");
    for entry in std::fs::read_dir(in_repository("manifests"))? {
        let file = entry?.path();
        if file != guards {
            plane.apply(&file).await?;
        }
    }
    if fills_in_requesters(plane).await? {
        plane.apply(&guards).await?;
    } else {
        // Kubernetes before 1.36: what `curfew guards --without-mutation` prints.
        let whole = std::fs::read_to_string(guards)?;
        let rest = whole
            .split("---\n")
            .filter(|document| !document.contains("kind: Mutating"));
        let file = plane.folder().join("guards.yaml");
        std::fs::write(&file, rest.collect::<Vec<_>>().join("---\n"))?;
        plane.apply(&file).await?;
    }
    in_force(plane).await
}

/// Waits until the API server acts by what was installed, also after it has started again.
pub async fn in_force(plane: &Plane) -> anyhow::Result<()> {
    if !fills_in_requesters(plane).await? {
        return forgeries_are_refused(plane).await;
    }
    let probe = in_repository("e2e/harness/probe.yaml");
    let probe = probe.display().to_string();
    eventually(
        "the API server fills in who asks and who decides",
        EFFECTIVE,
        async || {
            let dry_run = ["create", "--dry-run=server", "-o", "yaml", "-f", &probe];
            let answer = plane
                .run_kubectl(&dry_run)
                .await
                .map_err(|error| format!("{error:#}"))?;
            if answer.matches("username: admin").count() == 2 {
                Ok(())
            } else {
                Err(answer)
            }
        },
    )
    .await?;
    forgeries_are_refused(plane).await
}

/// Set to anything, it leaves out what fills in who asks, as on Kubernetes before 1.36.
const WITHOUT_MUTATION: &str = "CURFEW_WITHOUT_MUTATION";

/// Whether the API server fills in who asks: it is new enough, and was not told otherwise.
pub async fn fills_in_requesters(plane: &Plane) -> anyhow::Result<bool> {
    if std::env::var_os(WITHOUT_MUTATION).is_some() {
        return Ok(false);
    }
    serves_mutation(plane).await
}

/// Whether the API server knows mutating admission policies.
pub async fn serves_mutation(plane: &Plane) -> anyhow::Result<bool> {
    let served = plane
        .run_kubectl(&["get", "--raw", "/apis/admissionregistration.k8s.io/v1"])
        .await?;
    Ok(served.contains("\"mutatingadmissionpolicies\""))
}

async fn forgeries_are_refused(plane: &Plane) -> anyhow::Result<()> {
    let forged = in_repository("e2e/harness/forged.yaml");
    let forged = forged.display().to_string();
    eventually(
        "the API server refuses a forged requester and a forged decider",
        EFFECTIVE,
        async || match plane
            .run_kubectl(&["create", "--dry-run=server", "-f", &forged])
            .await
        {
            Ok(answer) => Err(answer),
            Err(error) => {
                let error = format!("{error:#}");
                let refuses = |who: &str| error.contains(&format!("spec.{who}.username must be you"));
                if refuses("requester") && refuses("decider") {
                    Ok(())
                } else {
                    Err(error)
                }
            }
        },
    )
    .await?;
    // Guards are loaded in the order in which they were stored, not at once: this is the last one.
    let secret = [
        "create",
        "secret",
        "generic",
        "probe",
        "--namespace=curfew-identities",
        "--dry-run=server",
    ];
    eventually("the last guard is loaded", EFFECTIVE, async || {
        match plane.run_kubectl(&secret).await {
            Ok(answer) => Err(answer),
            Err(error) if format!("{error:#}").contains("is only for service accounts to act as") => Ok(()),
            Err(error) => Err(format!("{error:#}")),
        }
    })
    .await
}
