//! Curfew: just-in-time access for Kubernetes that ends on time even if its operator is dead.
//!
//! The layers, each of which imports only from those before it (the test `layers` holds them to it):
//!
//! ```text
//! api       the objects as people write them: AccessPolicy, AccessGrant
//!  ▲
//! core      every decision, pure and total: no clock, no client, no runtime
//!  ▲
//! cluster   the edges: observe what is there, apply what was decided
//!  ▲
//! app       the process: streams, lanes, locks, metrics, command line
//! ```
//!
//! One pass is the same everywhere: lock the grant, observe, plan, apply.

pub mod api;
pub mod app;
pub mod cluster;
pub mod core;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod layers;
#[cfg(test)]
mod timing;
