//! Heartbeats: a Lease whose `renewTime` says when somebody last lived.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::edges::call;
use super::error::Error;
use crate::api::CONTROLLER;

/// Whose heart beats where.
#[derive(Clone, Debug)]
pub struct Heart {
    /// The Lease's name.
    pub lease: &'static str,
    /// The process.
    pub holder: String,
    /// How long it may be silent; stands in the Lease as its duration.
    pub silence: SignedDuration,
}

/// One beat at `at`: renews the Lease, and makes it where there is none.
pub async fn beat(client: &Client, namespace: &str, heart: &Heart, at: Timestamp) -> Result<(), Error> {
    let leases = Api::<Lease>::namespaced(client.clone(), namespace);
    let spec = LeaseSpec {
        holder_identity: Some(heart.holder.clone()),
        lease_duration_seconds: i32::try_from(heart.silence.as_secs()).ok(),
        renew_time: Some(MicroTime(at)),
        ..LeaseSpec::default()
    };
    let params = PatchParams {
        field_manager: Some(CONTROLLER.to_owned()),
        ..PatchParams::default()
    };
    let renewed = Patch::Merge(json!({"spec": spec}));
    match call("renew heartbeat", leases.patch(heart.lease, &params, &renewed)).await {
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
    call("begin heartbeat", leases.create(&PostParams::default(), &lease))
        .await
        .map(drop)
}

/// When somebody last lived; `None`: no Lease says so.
pub async fn last_beat(client: &Client, namespace: &str, lease: &str) -> Result<Option<Timestamp>, Error> {
    let leases = Api::<Lease>::namespaced(client.clone(), namespace);
    let lease = call("read heartbeat", leases.get_opt(lease)).await?;
    let renewed = lease.and_then(|lease| lease.spec?.renew_time);
    Ok(renewed.map(|renewed| renewed.0))
}
