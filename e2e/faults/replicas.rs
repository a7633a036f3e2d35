//! Two replicas, and the Lease by which one of them leads.

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use super::scene::Ground;
use crate::harness::{Operator, OperatorOptions, Proxy, eventually};
use crate::support::{SOON, Suite};

/// The Lease in the cluster.
pub struct Leadership {
    leases: Api<Lease>,
}

impl Leadership {
    /// That of nobody: operators of earlier tests were killed with it in their hands.
    pub async fn vacant(suite: &Suite) -> anyhow::Result<Self> {
        let leases = Api::<Lease>::namespaced(suite.admin.clone(), "curfew-system");
        match leases.delete("curfew", &DeleteParams::default()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Self { leases })
    }

    /// Who holds it; empty: nobody.
    pub async fn holder(&self) -> anyhow::Result<String> {
        let lease = self.leases.get("curfew").await?;
        Ok(lease.spec.unwrap_or_default().holder_identity.unwrap_or_default())
    }

    /// Waits until that instance leads.
    pub async fn is_of(&self, instance: &str) -> anyhow::Result<()> {
        eventually(&format!("{instance} leads"), SOON, async || {
            let holder = self.holder().await.map_err(|error| format!("{error:#}"))?;
            if holder.starts_with(&format!("{instance}_")) {
                Ok(())
            } else {
                Err(format!("it is held by {holder:?}"))
            }
        })
        .await
    }

    /// Gives it to somebody, whoever has it; empty: to whoever takes it.
    pub async fn give(&self, holder: &str) -> anyhow::Result<()> {
        let patch = Patch::Merge(json!({"spec": {"holderIdentity": holder}}));
        self.leases
            .patch("curfew", &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }
}

/// An operator with a name of its own; returns when it is ready.
pub async fn replica(ground: &Ground<'_>, instance: &str, via: Option<&Proxy>) -> anyhow::Result<Operator> {
    let options = OperatorOptions {
        via: via.map(Proxy::url),
        extra_args: vec!["--instance".to_owned(), instance.to_owned()],
        ..OperatorOptions::default()
    };
    Operator::start(&ground.suite.plane, &ground.suite.binary, options).await
}

/// Two replicas, of which the first leads, through a proxy or not.
pub async fn two(
    ground: &Ground<'_>,
    lead: &Leadership,
    via: Option<&Proxy>,
) -> anyhow::Result<[Operator; 2]> {
    let first = replica(ground, "first", via).await?;
    lead.is_of("first").await?;
    let second = replica(ground, "second", via).await?;
    Ok([first, second])
}
