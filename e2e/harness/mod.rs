//! The test bed: a real control plane, a proxy that injects faults, and the
//! operator as a process.
//!
//! Included by path from test, demo and benchmark targets, each of which uses
//! a part of it:
//!
//! ```ignore
//! #[path = "harness/mod.rs"]
//! mod harness;
//! ```
#![allow(dead_code, unused_imports, reason = "each target uses a part of the harness")]

mod binaries;
mod components;
pub mod get;
mod install;
mod kubeconfig;
mod kubectl;
mod operator;
mod people;
mod plane;
mod process;
mod proxy;
mod proxy_fault;
mod proxy_stream;
mod ready;
mod service_account;
mod usage;
mod wait;

pub use install::{fills_in_requesters, in_force, in_repository, install, serves_mutation};
pub use operator::{Operator, OperatorOptions};
pub use people::{PEOPLE, Person};
pub use plane::{AuditMark, Plane, PlaneOptions, SavedState};
pub use process::{Guard, Guarded};
pub use proxy::Proxy;
pub use proxy_fault::{Exchange, Fault};
pub use wait::eventually;
