//! Settings of `curfew run`.

use std::net::SocketAddr;

use crate::core::{GuardSettings, Settings};

/// What the operator is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to serve health and metrics.
    pub listen: SocketAddr,
    /// What decisions rest on.
    pub settings: Settings,
    /// What the admission guards have to say.
    pub guards: GuardSettings,
    /// The place this process runs in, such as its pod, as Events and the Lease name it.
    pub instance: String,
}
