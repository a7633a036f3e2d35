//! Shared context of this layer.

use std::sync::Arc;

use kube::Client;

use super::clock::Clock;
use super::index::Index;
use super::observer::Witness;
use super::reach::Reach;
use super::slots::Slots;

/// Everything that a reconcile needs from outside. Cheap to clone.
#[derive(Clone)]
pub struct Edges {
    /// Client of the API server.
    pub client: Client,
    /// The current time.
    pub clock: Clock,
    /// Whether the API server is available.
    pub reach: Reach,
    /// The order of requests.
    pub slots: Slots,
    /// The objects that the watches delivered.
    pub index: Arc<Index>,
    /// The receiver of outcomes, for metrics.
    pub witness: Arc<dyn Witness>,
    /// This replica, in the field `reportingInstance` of Events.
    pub instance: Arc<str>,
}
