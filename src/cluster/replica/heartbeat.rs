//! Heartbeat Leases: `renewTime` is the time of the last sign of life.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, Patch, PostParams};
use kube::{Api, Client};
use serde_json::json;

use crate::cluster::client::call;
use crate::cluster::client::error::Error;
use crate::cluster::objects::params;

/// A heartbeat Lease and its holder.
#[derive(Clone, Debug)]
pub struct HeartbeatLease {
    /// Name of the Lease.
    pub lease: &'static str,
    /// The process that renews the Lease.
    pub holder: String,
    /// Longest pause between two renewals; written to the Lease as `leaseDurationSeconds`.
    pub silence: SignedDuration,
}

/// Renews the Lease with the time `at`. Creates the Lease if it does not exist.
pub async fn beat(
    client: &Client,
    namespace: &str,
    heart: &HeartbeatLease,
    at: Timestamp,
) -> Result<(), Error> {
    let leases = Api::<Lease>::namespaced(client.clone(), namespace);
    let spec = LeaseSpec {
        holder_identity: Some(heart.holder.clone()),
        lease_duration_seconds: i32::try_from(heart.silence.as_secs()).ok(),
        renew_time: Some(MicroTime(at)),
        ..LeaseSpec::default()
    };
    let renewed = Patch::Merge(json!({"spec": spec}));
    match call(
        "renew heartbeat",
        leases.patch(heart.lease, &params::patch(), &renewed),
    )
    .await
    {
        Err(error) if error.is_absent() => {}
        other => return other.map(drop),
    }
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(heart.lease.to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
    };
    call("create heartbeat", leases.create(&PostParams::default(), &lease))
        .await
        .map(drop)
}

/// Time of the last renewal; `None` if there is no Lease or no renewal.
pub async fn last_beat(client: &Client, namespace: &str, lease: &str) -> Result<Option<Timestamp>, Error> {
    let leases = Api::<Lease>::namespaced(client.clone(), namespace);
    let lease = call("read heartbeat", leases.get_opt(lease)).await?;
    let renewed = lease.and_then(|lease| lease.spec?.renew_time);
    Ok(renewed.map(|renewed| renewed.0))
}
