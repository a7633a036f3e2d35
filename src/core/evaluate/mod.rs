//! A request against its policy.

pub mod admit;
pub mod conditions;
pub mod entitlements;
pub mod question;
pub mod resolve;
