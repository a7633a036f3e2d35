//! Observe and apply one grant.

pub mod applied;
pub mod apply;
pub mod create;
pub mod decisions;
pub mod live_read;
pub mod observe;
pub mod publish;
pub mod record;
pub mod references;
pub mod refresh;
pub mod remove;
