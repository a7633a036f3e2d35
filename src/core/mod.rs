//! All decisions of Curfew, as pure and total functions: no clock, no client, no runtime. The same input gives the same
//! result in the operator, in a command and in a test.
//!
//! ```text
//! Policy::parse   Request::parse      text becomes valid types
//!        └──────┬──────┘
//!             admit                   does the policy admit the request now?
//!            resolve                  which rules does the access have?
//!               │
//! facts ─────► plan ─────► Plan       what to do with the grant now
//! ```

pub mod artifact;
pub mod audit;
pub mod cleanup;
pub mod conditions;
pub mod decision;
pub mod digest;
pub mod evaluate;
pub mod expression;
pub mod facts;
pub mod grant;
pub mod guard;
pub mod plan;
pub mod policy;
pub mod rbac;
pub mod replica;
pub mod request;
pub mod settings;
#[cfg(test)]
mod testing;
pub mod time;
