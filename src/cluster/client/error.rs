//! Failures of requests to the Kubernetes API.

use kube::core::Status;

use crate::api::ArtifactKind;
use crate::core::artifact::key::kind_name;
use crate::core::replica::retry::Class;

/// Failure of a request. [`Error::class`] says how to react.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server responded with an error.
    #[error("{what}: {} ({})", .status.message, .status.code)]
    Answered {
        /// The call, such as `write status`.
        what: &'static str,
        /// Its response.
        status: Box<Status>,
    },
    /// The API server sent no usable response.
    #[error("{what}: {source}")]
    Unanswered {
        /// The call, such as `write status`.
        what: &'static str,
        /// The cause.
        source: kube::Error,
    },
    /// No response came in time. Whether the call had an effect is unknown.
    #[error("{what}: no response within {seconds} s")]
    TimedOut {
        /// The call, such as `write status`.
        what: &'static str,
        /// The time limit, in seconds.
        seconds: u64,
    },
    /// The operating system returned no random bytes.
    #[error("cannot get random bytes from the operating system: {0}")]
    NoEntropy(getrandom::Error),
    /// A response of the API server has no readable `Date` header.
    #[error(
        "read the API server's clock: the response has no readable Date header; check the proxies in between"
    )]
    NoServerTime,
    /// Another object has the name of an artifact.
    #[error("{} {name} exists but was not created by Curfew", kind_name(*.kind))]
    NotOurs {
        /// Kind of the object.
        kind: ArtifactKind,
        /// Name of the object.
        name: String,
    },
    /// An artifact that was removed still exists.
    #[error("{} {name} still exists", kind_name(*.kind))]
    StillThere {
        /// Kind of the object.
        kind: ArtifactKind,
        /// Name of the object.
        name: String,
    },
    /// An artifact was not created, because its access has expired.
    #[error("{} {name} was not created: the access has expired", kind_name(*.kind))]
    Overdue {
        /// Kind of the object.
        kind: ArtifactKind,
        /// Name of the object.
        name: String,
    },
}

impl Error {
    /// The failure of one call.
    pub fn of(what: &'static str, source: kube::Error) -> Self {
        match source {
            kube::Error::Api(status) => Self::Answered { what, status },
            source => Self::Unanswered { what, source },
        }
    }

    /// The class of this failure.
    pub fn class(&self) -> Class {
        match self {
            Self::Answered { status, .. } => match status.code {
                409 => Class::Conflict,
                404 | 410 => Class::Gone,
                429 => Class::Throttled,
                403 => Class::Denied,
                400 | 405 | 413 | 415 | 422 => Class::Invalid,
                _ => Class::Transient,
            },
            Self::NotOurs { .. } => Class::Denied,
            Self::Overdue { .. } => Class::Conflict,
            Self::Unanswered { .. }
            | Self::TimedOut { .. }
            | Self::NoServerTime
            | Self::StillThere { .. }
            | Self::NoEntropy(_) => Class::Transient,
        }
    }

    /// One word for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TimedOut { .. } => "TimedOut",
            Self::NotOurs { .. } => "NotOurs",
            Self::NoEntropy(_) => "NoEntropy",
            Self::NoServerTime => "NoServerTime",
            Self::StillThere { .. } => "StillThere",
            Self::Overdue { .. } => "Overdue",
            Self::Unanswered { .. } => "Unanswered",
            Self::Answered { .. } => match self.class() {
                Class::Conflict => "Conflict",
                Class::Gone => "Gone",
                Class::Throttled => "Throttled",
                Class::Denied => "Denied",
                Class::Invalid => "Invalid",
                Class::Transient => "ServerError",
            },
        }
    }

    /// Whether a required admission webhook was unavailable, so that the API server did nothing. Only status 500 with
    /// these words says so (k8s.io/apiserver, `ErrCallingWebhook`).
    pub fn is_of_a_webhook(&self) -> bool {
        matches!(self, Self::Answered { status, .. }
            if status.code == 500 && status.message.contains("failed calling webhook"))
    }

    /// Whether the object does not exist (404).
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Answered { status, .. } if status.code == 404)
    }

    /// Replaces "the object does not exist" by `value`, and keeps every other error.
    pub fn absent_as<T>(self, value: T) -> Result<T, Self> {
        if self.is_absent() { Ok(value) } else { Err(self) }
    }

    /// Whether an object of this name exists already.
    pub fn is_already_there(&self) -> bool {
        matches!(self, Self::Answered { status, .. } if status.code == 409 && status.reason == "AlreadyExists")
    }
}
