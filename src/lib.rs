//! Curfew: just-in-time access for Kubernetes that ends on time even if its operator is dead.
//!
//! Layers. Each layer imports only the layers above it in this list; `src/checks/layers.rs` checks that.
//!
//! ```text
//! api       the API objects: AccessPolicy, AccessGrant, AccessDecision
//!  ▲
//! core      all decisions, pure and total: no clock, no client, no runtime
//!  ▲
//! cluster   access to the API server: observe objects, apply plans
//!  ▲
//! app       the programs: operator, sweep, drain, command line
//! ```
//!
//! A reconcile of a grant has six steps: lock, check preconditions, observe, decide, refresh, apply.

pub mod api;
pub mod app;
#[cfg(test)]
mod checks;
pub mod cluster;
pub mod core;
