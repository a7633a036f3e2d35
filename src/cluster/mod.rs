//! The edges: observe what is there, apply what was decided. Nothing is judged here.

mod apply;
mod canary;
mod clock;
pub mod decisions;
pub mod drain;
mod edges;
mod error;
mod events;
mod forge;
mod guards;
pub mod heartbeat;
mod index;
mod keys;
mod lease;
mod mirror;
mod objects;
mod observe;
mod read;
mod remove;
mod rights;
mod slots;
pub mod sweep;

pub use apply::{Application, Interrupted};
pub use canary::Canary;
pub use clock::Clock;
pub use edges::{CALL_TIMEOUT, Edges, Outcome, Witness, call, client, client_heard_by};
pub use error::Error;
pub use events::{AUDIT_TARGET, publish};
pub use forge::forge;
pub use guards::read_guards;
pub use index::Index;
pub use keys::{DecisionKey, GrantKey, Held, Touched};
pub use lease::{LEASE, Leases};
pub use observe::{Observation, freshen, observe, read_live};
pub use rights::rights;
pub use slots::{SlotLimits, Slots};
