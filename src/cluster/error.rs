//! What can go wrong at the edges.

use kube::core::Status;

use crate::api::ArtifactKind;
use crate::core::{Class, kind_name};

/// A failure at the edge; [`Error::class`] says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server answered with a refusal.
    #[error("{what}: {} ({})", .status.message, .status.code)]
    Answered {
        /// What was tried.
        what: &'static str,
        /// Its answer.
        status: Box<Status>,
    },
    /// No usable answer came.
    #[error("{what}: {source}")]
    Unanswered {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: kube::Error,
    },
    /// No answer came in time; whether it was done is unknown.
    #[error("{what}: no answer within {seconds} s")]
    TimedOut {
        /// What was tried.
        what: &'static str,
        /// How long was waited.
        seconds: u64,
    },
    /// The system gave no random bits.
    #[error("no randomness to be had: {0}")]
    NoEntropy(getrandom::Error),
    /// The API server's answer does not say what time it is.
    #[error(
        "read the API server's clock: its answer has no readable Date header; look at what stands between"
    )]
    NoServerTime,
    /// Something of that name is there and is not ours.
    #[error("{} {name} exists and is not Curfew's", kind_name(*.kind))]
    NotOurs {
        /// Its kind.
        kind: ArtifactKind,
        /// Its name.
        name: String,
    },
    /// It was to be gone and is not.
    #[error("{} {name} is still there", kind_name(*.kind))]
    StillThere {
        /// Its kind.
        kind: ArtifactKind,
        /// Its name.
        name: String,
    },
    /// It was to be made, and by now it has to be gone.
    #[error("{} {name} is not made any more: its end has come", kind_name(*.kind))]
    Overdue {
        /// Its kind.
        kind: ArtifactKind,
        /// Its name.
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

    /// What kind of failure it is.
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

    /// Whether the API server could not ask an admission webhook that has to be asked, and therefore did nothing. It says
    /// so with 500 and these words alone (k8s.io/apiserver, `ErrCallingWebhook`).
    pub fn is_of_a_webhook(&self) -> bool {
        matches!(self, Self::Answered { status, .. }
            if status.code == 500 && status.message.contains("failed calling webhook"))
    }

    /// Whether the API server says the object is not there.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Answered { status, .. } if status.code == 404)
    }

    /// Whether the API server says the object is there already.
    pub fn is_already_there(&self) -> bool {
        matches!(self, Self::Answered { status, .. } if status.code == 409 && status.reason == "AlreadyExists")
    }
}
