//! The life of a grant.

pub mod decisions;
pub mod drift;
pub mod enforcement;
pub mod event;
pub mod live;
pub mod policy_change;
pub mod retention;
pub mod revocation;
pub mod revocation_cause;
pub mod role_change;
pub mod status;
pub mod transition;
