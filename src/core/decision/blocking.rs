//! A Revoke that blocks the same request.

use jiff::Timestamp;

use crate::api::{AccessGrant, Blocks};
use crate::core::request::Request;

/// SHA-256 over the spec of a grant without its requester. A block compares the requester by user name only,
/// because the API server may change the groups of a service account.
pub fn spec_hash(grant: &AccessGrant) -> String {
    let spec = crate::api::AccessGrantSpec {
        requester: None,
        ..grant.spec.clone()
    };
    crate::core::digest::sha256(&spec)
}

/// A Revoke that blocks the same request of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Name of the decision.
    pub decision: String,
    /// User name of the decider.
    pub decider: String,
    /// The blocked request.
    pub against: Blocks,
}

impl Block {
    /// Whether this request is blocked at `now`.
    pub fn concerns(&self, grant: &AccessGrant, request: &Request, now: Timestamp) -> bool {
        now < self.against.until.0
            && self.against.requester == request.requester.username
            && self.against.spec_hash == spec_hash(grant)
    }
}
