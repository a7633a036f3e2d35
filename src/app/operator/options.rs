//! Settings of `curfew run`.

use std::net::SocketAddr;

use crate::core::guard::GuardSettings;
use crate::core::settings::Settings;

/// Settings of the operator.
#[derive(Clone, Debug)]
pub struct OperatorOptions {
    /// Address for health and metrics.
    pub listen: SocketAddr,
    /// Settings of decisions.
    pub settings: Settings,
    /// Settings of the admission guards; the guards in the cluster are compared with them.
    pub guards: GuardSettings,
    /// Name of this replica in Events and in the leader Lease, such as the name of its pod.
    pub instance: String,
}
