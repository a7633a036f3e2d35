//! The Lease that elects the leader: read, write, watch.

use std::time::Duration;

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::Patch;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, watch_object};
use kube::{Api, Client};
use serde_json::json;

use crate::cluster::client::call;
use crate::cluster::client::error::Error;
use crate::cluster::objects::params;
use crate::core::replica::leader::{LeaseFacts, LeaseTerms, LeaseWrite};

/// Name of the Lease.
pub const LEASE: &str = "curfew";

/// The Lease in the operator's namespace.
#[derive(Clone, Debug)]
pub struct Leases {
    api: Api<Lease>,
}

impl Leases {
    /// The Lease in this namespace.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
        }
    }

    /// Reads the Lease from the API server itself; `None` if it does not exist.
    pub async fn read(&self) -> Result<Option<LeaseFacts>, Error> {
        let lease = call("read Lease", self.api.get_opt(LEASE)).await?;
        Ok(lease.map(|lease| facts(&lease)))
    }

    /// Writes the Lease. Patches it, so that labels of others stay.
    ///
    /// # Errors
    /// A conflict if the Lease is not the version that the write expects.
    pub async fn write(&self, write: &LeaseWrite) -> Result<LeaseFacts, Error> {
        let terms = spec(&write.terms);
        let written = match &write.expected {
            None => {
                let mut lease = Lease::default();
                lease.metadata.name = Some(LEASE.to_owned());
                lease.spec = Some(terms);
                call("create Lease", self.api.create(&params::post(), &lease)).await?
            }
            Some(version) => {
                let patch = Patch::Merge(json!({"metadata": {"resourceVersion": version}, "spec": terms}));
                call("write Lease", self.api.patch(LEASE, &params::patch(), &patch)).await?
            }
        };
        Ok(facts(&written))
    }

    /// A stream of the Lease, with an item for each change; `None` if it does not exist. Never ends; after an error it
    /// waits for the next of `pauses`.
    pub fn watch(
        &self,
        pauses: impl Backoff + 'static,
    ) -> impl Stream<Item = Result<Option<LeaseFacts>, watcher::Error>> + Send + 'static {
        watch_object(self.api.clone(), LEASE)
            .backoff(pauses)
            .map(|lease| lease.map(|lease| lease.map(|lease| facts(&lease))))
    }
}

fn facts(lease: &Lease) -> LeaseFacts {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.unwrap_or_default();
    LeaseFacts {
        terms: LeaseTerms {
            // A released Lease has an empty holder.
            holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
            duration: Duration::from_secs(u64::try_from(seconds).unwrap_or_default()),
            acquired_at: spec.acquire_time.map(|time| time.0),
            renewed_at: spec.renew_time.map(|time| time.0),
            transitions: spec.lease_transitions.unwrap_or_default(),
        },
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
    }
}

fn spec(terms: &LeaseTerms) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(terms.holder.clone().unwrap_or_default()),
        lease_duration_seconds: Some(i32::try_from(terms.duration.as_secs()).unwrap_or(i32::MAX)),
        acquire_time: terms.acquired_at.map(MicroTime),
        renew_time: terms.renewed_at.map(MicroTime),
        lease_transitions: Some(terms.transitions),
        ..LeaseSpec::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_lease_terms_are_read_back() {
        for holder in [None, Some("curfew-a_1".to_owned())] {
            let terms = LeaseTerms {
                holder,
                duration: Duration::from_secs(10),
                acquired_at: Some(jiff::Timestamp::UNIX_EPOCH),
                renewed_at: Some(jiff::Timestamp::UNIX_EPOCH),
                transitions: 3,
            };
            let lease = Lease {
                spec: Some(spec(&terms)),
                ..Lease::default()
            };
            assert_eq!(facts(&lease).terms, terms);
        }
    }

    #[test]
    fn an_empty_lease_has_no_holder() {
        assert_eq!(facts(&Lease::default()).terms, LeaseTerms::default());
    }
}
