//! RBAC rules as values.

pub mod describe;
pub mod escalation;
pub mod impersonation;
pub mod narrow;
pub mod roles;
pub mod rules;
