//! Reads, writes and watches the Lease that replicas lead by.

use std::time::Duration;

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, watch_object};
use kube::{Api, Client};
use serde_json::json;

use super::edges::call;
use super::error::Error;
use crate::api::CONTROLLER;
use crate::core::lease::{LeaseFacts, LeaseTerms, LeaseWrite};

/// The name of the Lease.
pub const LEASE: &str = "curfew";

/// The Lease in the operator's namespace.
#[derive(Clone, Debug)]
pub struct Leases {
    api: Api<Lease>,
}

impl Leases {
    /// The Lease in that namespace.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
        }
    }

    /// Reads it from the API server itself; `None`: there is none.
    pub async fn read(&self) -> Result<Option<LeaseFacts>, Error> {
        let lease = call("read Lease", self.api.get_opt(LEASE)).await?;
        Ok(lease.map(|lease| facts(&lease)))
    }

    /// Writes it, if it is still as the write expects. A patch, so that labels of others stay.
    pub async fn write(&self, write: &LeaseWrite) -> Result<LeaseFacts, Error> {
        let field_manager = Some(CONTROLLER.to_owned());
        let terms = spec(&write.terms);
        let written = match &write.expected {
            None => {
                let mut lease = Lease::default();
                lease.metadata.name = Some(LEASE.to_owned());
                lease.spec = Some(terms);
                let params = PostParams {
                    field_manager,
                    ..PostParams::default()
                };
                call("create Lease", self.api.create(&params, &lease)).await?
            }
            Some(version) => {
                let patch = Patch::Merge(json!({"metadata": {"resourceVersion": version}, "spec": terms}));
                let params = PatchParams {
                    field_manager,
                    ..PatchParams::default()
                };
                call("write Lease", self.api.patch(LEASE, &params, &patch)).await?
            }
        };
        Ok(facts(&written))
    }

    /// The Lease whenever it changes; `None`: there is none. Endless, with these pauses while it is broken.
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
            // Given back, it names nobody.
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
    fn what_is_written_is_read_back() {
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
    fn a_lease_that_says_nothing_is_nobodys() {
        assert_eq!(facts(&Lease::default()).terms, LeaseTerms::default());
    }
}
