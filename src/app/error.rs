//! Errors that keep the programs from running.

use std::net::SocketAddr;

/// Why the operator could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No configuration of the API server.
    #[error("no way to the API server: {0}")]
    Configuration(#[from] kube::config::InferConfigError),
    /// The configuration cannot be used.
    #[error("the configuration of the API server cannot be used: {0}")]
    Client(#[from] kube::Error),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The system gave no random bits to tell this process from others.
    #[error("no randomness to be had: {0}")]
    NoEntropy(#[from] getrandom::Error),
    /// The cluster goes on from a backup: everything this process knows is of a time that has never been.
    #[error(
        "the cluster was put back to an earlier state: its Lease is older than it was; start this process anew, so that \
         it reads what is there now"
    )]
    PutBack,
    /// The process cannot be told to stop.
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
}
