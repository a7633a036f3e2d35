//! Shared context of this layer.

use std::sync::Arc;

use kube::Client;

use crate::cluster::client::clock::Clock;
use crate::cluster::client::health::ApiHealth;
use crate::cluster::client::observer::Observer;
use crate::cluster::client::priority::RequestQueue;
use crate::cluster::index::Index;

/// Everything that a reconcile needs from outside. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    /// Client of the API server.
    pub client: Client,
    /// The current time.
    pub clock: Clock,
    /// Whether the API server is available.
    pub reach: ApiHealth,
    /// The order of requests.
    pub slots: RequestQueue,
    /// The objects that the watches delivered.
    pub index: Arc<Index>,
    /// The receiver of outcomes, for metrics.
    pub observer: Arc<dyn Observer>,
    /// This replica, in the field `reportingInstance` of Events.
    pub instance: Arc<str>,
}
