//! What a proxy sees of a request, and what it may do with it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, Uri};
use serde_json::{Value, json};

/// A request that went to the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Its number among all requests, from 0.
    pub index: usize,
    /// Its number among the writes, from 0, if it is one: what changes an
    /// object other than a lease. Reviews and dry runs change nothing.
    pub write_index: Option<usize>,
    /// `GET`, `PATCH`, …
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// What follows the question mark.
    pub query: String,
}

impl Exchange {
    /// Whether the request asks for a stream of changes.
    #[must_use]
    pub fn is_watch(&self) -> bool {
        self.has_parameter("watch=true") || self.has_parameter("watch=1")
    }

    /// Whether the request reads, but does not watch, a collection or object.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.method == "GET" && !self.is_watch()
    }

    /// Whether the request changes nothing by its own wish, as the forgeries
    /// of the self-test.
    #[must_use]
    pub fn is_dry_run(&self) -> bool {
        self.query.contains("dryRun=")
    }

    fn has_parameter(&self, parameter: &str) -> bool {
        self.query.split('&').any(|found| found == parameter)
    }

    pub(super) fn new(method: &Method, uri: &Uri) -> Self {
        Self {
            index: 0,
            write_index: None,
            method: method.to_string(),
            path: uri.path().to_owned(),
            query: uri.query().unwrap_or_default().to_owned(),
        }
    }

    pub(super) fn is_write(&self) -> bool {
        let changes = matches!(self.method.as_str(), "POST" | "PUT" | "PATCH" | "DELETE");
        let mut segments = self.path.split('/');
        let no_object = segments.any(|segment| segment == "leases" || segment.ends_with("reviews"));
        changes && !no_object && !self.is_dry_run()
    }
}

/// What to do with a request.
#[derive(Clone)]
pub enum Fault {
    /// Forward it.
    Pass,
    /// Answer it without the server.
    Respond {
        /// The HTTP status.
        status: u16,
        /// The header `Retry-After`, in seconds.
        retry_after: Option<u32>,
        /// The body: a `Status`, or a list from the past.
        body: Value,
    },
    /// Close the connection; the server never knows.
    DropBefore,
    /// Forward it, wait for the whole answer, and close the connection:
    /// applied, but the client does not know.
    DropAfter,
    /// Forward it after a while.
    Stall(Duration),
    /// Close the connection, and forward it after a while all the same: the client has given it up, and the server
    /// does it.
    ArriveLate(Duration),
    /// Forward it, and have the answer say that it was made at another time.
    Dated(jiff::Timestamp),
    /// Like `DropAfter`, but first call this: applied, and the client dies.
    KillAfter(Arc<dyn Fn() + Send + Sync>),
}

impl Fault {
    /// A refusal as the API server words it.
    #[must_use]
    pub fn status(status: u16) -> Self {
        let reason = match status {
            400 => "BadRequest",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "NotFound",
            409 => "Conflict",
            410 => "Expired",
            422 => "Invalid",
            429 => "TooManyRequests",
            500 => "InternalError",
            503 => "ServiceUnavailable",
            504 => "Timeout",
            _ => "",
        };
        Self::Respond {
            status,
            retry_after: None,
            body: json!({
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Failure",
                "message": format!("injected by the test: {status}"),
                "reason": reason,
                "code": status,
            }),
        }
    }

    /// 429 with `Retry-After`, as from priority and fairness.
    #[must_use]
    pub fn too_many_requests(seconds: u32) -> Self {
        match Self::status(429) {
            Self::Respond { status, body, .. } => Self::Respond {
                status,
                retry_after: Some(seconds),
                body,
            },
            other => other,
        }
    }

    /// [`Fault::KillAfter`] with a function, such as
    /// [`Operator::killer`](super::Operator::killer)'s.
    #[must_use]
    pub fn kill_after(callback: impl Fn() + Send + Sync + 'static) -> Self {
        Self::KillAfter(Arc::new(callback))
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass => out.write_str("Pass"),
            Self::Respond { status, .. } => write!(out, "Respond({status})"),
            Self::DropBefore => out.write_str("DropBefore"),
            Self::DropAfter => out.write_str("DropAfter"),
            Self::Stall(time) => write!(out, "Stall({time:?})"),
            Self::ArriveLate(time) => write!(out, "ArriveLate({time:?})"),
            Self::Dated(at) => write!(out, "Dated({at})"),
            Self::KillAfter(_) => out.write_str("KillAfter"),
        }
    }
}
