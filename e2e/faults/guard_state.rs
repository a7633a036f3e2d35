//! Whether an operator trusts the guards, and putting them back.

use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::scene::{Asked, Ground};
use crate::harness::{Operator, eventually, in_repository};
use crate::support::{SOON, Suite};

/// How long a breach that nothing happens to reveal may last, and what a look at it takes.
pub const NOTICED: Duration = Duration::from_secs(65);

/// Puts the guards back, whatever a test did to them.
pub async fn put_back(suite: &Suite) -> anyhow::Result<()> {
    let bindings = Api::<ValidatingAdmissionPolicyBinding>::all(suite.admin.clone());
    let whole = Patch::Merge(json!({"spec": {"matchResources": null}}));
    for binding in bindings.list(&ListParams::default()).await? {
        if binding.name_any().starts_with("curfew-") {
            bindings
                .patch(&binding.name_any(), &PatchParams::default(), &whole)
                .await?;
        }
    }
    suite.plane.apply(&in_repository("manifests")).await
}

/// Waits until the operator is not ready; answers what it says.
pub async fn is_unready(operator: &Operator, deadline: Duration) -> anyhow::Result<String> {
    eventually("the operator is not ready", deadline, async || {
        match operator.ready().await.map_err(|error| format!("{error:#}"))? {
            (503, text) => Ok(text),
            (code, text) => Err(format!("{code}: {text}")),
        }
    })
    .await
}

/// Waits until the operator is ready.
pub async fn is_ready(operator: &Operator) -> anyhow::Result<()> {
    eventually("the operator is ready", SOON, async || {
        match operator.ready().await.map_err(|error| format!("{error:#}"))? {
            (200, _) => Ok(()),
            (code, text) => Err(format!("{code}: {text}")),
        }
    })
    .await
}

/// Ends what was asked for, and the operator, and shows that nothing is left.
pub async fn end(ground: &Ground<'_>, operator: &Operator, asked: &[&Asked]) -> anyhow::Result<()> {
    for asked in asked {
        ground.delete(asked).await?;
        ground.nothing_left(asked).await?;
    }
    ground.nothing_left_anywhere().await?;
    operator.kill9().await
}
