//! The Kubernetes API: reads what exists, applies what a plan says. Decides nothing.

pub mod authorizer;
pub mod cleanup;
pub mod client;
pub mod context;
pub mod grant;
pub mod guard;
pub mod index;
pub mod objects;
pub mod replica;
