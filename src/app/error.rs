//! Errors that keep the programs from running.

use std::net::SocketAddr;

/// Error that keeps a program from running.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No kubeconfig and no service account was found.
    #[error("no configuration of the API server: {0}")]
    Configuration(#[from] kube::config::InferConfigError),
    /// The configuration is invalid.
    #[error("the configuration of the API server is invalid: {0}")]
    Client(#[from] kube::Error),
    /// The address is in use or not allowed.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Address of the HTTP server.
        address: SocketAddr,
        /// Error of the system.
        source: std::io::Error,
    },
    /// The system gives no random bits for the id of this replica.
    #[error("no random bits: {0}")]
    NoEntropy(#[from] getrandom::Error),
    /// The cluster was restored from a backup, so the cache of this process is wrong.
    #[error(
        "the cluster was restored to an earlier state: the leader Lease is older than before; restart this process, so \
         that it reads the present state"
    )]
    PutBack,
    /// No signal can be received, so the process could not be stopped.
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
}
