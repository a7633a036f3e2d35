//! What the operator was configured with.

use crate::core::time::duration::AccessDuration;

/// Settings of the operator, fixed at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Longest access duration in this cluster. A policy cannot exceed it.
    pub cap: AccessDuration,
    /// The operator's own namespace. Service accounts of this namespace never receive access.
    pub namespace: String,
    /// The namespace of the act-as accounts. Its service accounts never receive access themselves.
    pub identities: String,
}
