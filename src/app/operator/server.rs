//! HTTP server for kubelet and Prometheus.
//!
//! ```text
//! /livez     200 while the process runs
//! /readyz    200, or 503 with one line for each missing condition
//! /metrics   OpenMetrics text
//! ```
//!
//! No answer names a grant, a person or a policy, so the port needs no authentication.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use parking_lot::{Mutex, MutexGuard};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::app::operator::metrics::{Metrics, OPEN_METRICS};

/// How long open requests may take after the request to stop. An answer takes milliseconds, so after this time only a
/// peer that does not read is left. Kubernetes kills the process 30 s after SIGTERM.
const LINGER: Duration = Duration::from_secs(5);

/// Conditions of readiness. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    /// Reason by name; a condition that is met has no reason.
    conditions: Arc<Mutex<BTreeMap<&'static str, Option<String>>>>,
}

impl Readiness {
    /// Conditions of these names, none of them met.
    pub fn waiting_for(names: &[&'static str]) -> Self {
        let readiness = Self::default();
        for name in names {
            readiness.undone(name, "not yet");
        }
        readiness
    }

    /// Marks a condition as met.
    pub fn done(&self, name: &'static str) {
        self.conditions().insert(name, None);
    }

    /// Marks a condition as not met. Everyone who can reach the port can read `why`.
    pub fn undone(&self, name: &'static str, why: &str) {
        // An error message may have line breaks; each condition has one line.
        let why = why.replace(char::is_control, " ");
        self.conditions().insert(name, Some(why));
    }

    /// The conditions that are not met, sorted by name, each as `name: why`. Empty: ready.
    pub fn missing(&self) -> Vec<String> {
        self.conditions()
            .iter()
            .filter_map(|(name, why)| why.as_ref().map(|why| format!("{name}: {why}")))
            .collect()
    }

    fn conditions(&self) -> MutexGuard<'_, BTreeMap<&'static str, Option<String>>> {
        self.conditions.lock()
    }
}

/// Answers requests until `shutdown` and the end of open requests, at most 5 s later. From `shutdown` on, the operator is
/// not ready and accepts no connection.
pub async fn serve(
    listener: TcpListener,
    readiness: Readiness,
    metrics: Metrics,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (ending, ended) = oneshot::channel();
    let on_shutdown = {
        let readiness = readiness.clone();
        async move {
            shutdown.await;
            readiness.undone("process", "shutting down");
            // The receiver is gone only if this future is dropped too.
            ending.send(()).ok();
        }
    };
    let answering = axum::serve(listener, router(readiness, metrics)).with_graceful_shutdown(on_shutdown);
    let lingering = async {
        drop(ended.await);
        sleep(LINGER).await;
    };
    tokio::select! {
        answered = answering.into_future() => answered,
        () = lingering => Ok(()),
    }
}

fn router(readiness: Readiness, metrics: Metrics) -> Router {
    Router::new()
        .route("/livez", get(async || "ok"))
        .route("/readyz", get(ready).with_state(readiness))
        .route("/metrics", get(measured).with_state(metrics))
}

async fn ready(State(readiness): State<Readiness>) -> Response {
    let missing = readiness.missing();
    if missing.is_empty() {
        return "ok".into_response();
    }
    let mut lines = missing.join("\n");
    lines.push('\n');
    (StatusCode::SERVICE_UNAVAILABLE, lines).into_response()
}

async fn measured(State(metrics): State<Metrics>) -> Response {
    match metrics.encode() {
        Ok(text) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::task::JoinHandle;
    use tokio::time::{Instant, timeout};

    use super::*;

    struct Server {
        address: SocketAddr,
        readiness: Readiness,
        metrics: Metrics,
        stop: oneshot::Sender<()>,
        serving: JoinHandle<io::Result<()>>,
    }

    async fn start(readiness: Readiness) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Metrics::new();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(serve(listener, readiness.clone(), metrics.clone(), async {
            drop(stopped.await);
        }));
        Server {
            address,
            readiness,
            metrics,
            stop,
            serving,
        }
    }

    /// The head of the answer, and its body.
    async fn ask(address: SocketAddr, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: curfew\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    #[tokio::test]
    async fn livez_answers_before_the_operator_is_ready() {
        let server = start(Readiness::waiting_for(&["grants"])).await;
        let (head, body) = ask(server.address, "/livez").await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!(body, "ok");
    }

    #[tokio::test]
    async fn readyz_lists_the_missing_conditions() {
        let server = start(Readiness::waiting_for(&["policies", "grants"])).await;
        let (head, body) = ask(server.address, "/readyz").await;
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        assert_eq!(body, "grants: not yet\npolicies: not yet\n");

        server.readiness.done("grants");
        server.readiness.done("policies");
        let (head, body) = ask(server.address, "/readyz").await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!(body, "ok");

        server.readiness.undone("clock", "9 s behind\r\nthe API server");
        let (head, body) = ask(server.address, "/readyz").await;
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        assert_eq!(body, "clock: 9 s behind  the API server\n");
    }

    #[tokio::test]
    async fn metrics_are_served_as_open_metrics() {
        let server = start(Readiness::default()).await;
        server.metrics.set_overdue_grants(4);
        let (head, body) = ask(server.address, "/metrics").await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(
            head.to_lowercase()
                .contains(&format!("content-type: {OPEN_METRICS}")),
            "{head}"
        );
        assert!(body.contains("curfew_overdue_grants 4\n"), "{body}");
        assert!(body.ends_with("# EOF\n"), "{body}");
    }

    #[tokio::test]
    async fn other_paths_are_not_found() {
        let server = start(Readiness::default()).await;
        let (head, _) = ask(server.address, "/debug/pprof").await;
        assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    }

    #[tokio::test]
    async fn at_shutdown_readyz_fails_and_new_connections_are_refused() {
        let server = start(Readiness::waiting_for(&[])).await;
        // Open and idle, as a scraper keeps it: the server does not wait for it.
        let _idle = TcpStream::connect(server.address).await.unwrap();
        assert_eq!(ask(server.address, "/readyz").await.1, "ok");
        server.stop.send(()).unwrap();
        timeout(LINGER, server.serving).await.unwrap().unwrap().unwrap();
        assert_eq!(server.readiness.missing(), ["process: shutting down"]);
        assert!(TcpStream::connect(server.address).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_never_ends_delays_the_stop_by_5s_at_most() {
        let server = start(Readiness::default()).await;
        let mut stuck = TcpStream::connect(server.address).await.unwrap();
        stuck
            .write_all(b"GET /livez HTTP/1.1\r\nHost: cur")
            .await
            .unwrap();
        assert_eq!(ask(server.address, "/livez").await.1, "ok");
        let told = Instant::now();
        server.stop.send(()).unwrap();
        server.serving.await.unwrap().unwrap();
        assert!(
            told.elapsed() <= LINGER + Duration::from_millis(2),
            "{:?}",
            told.elapsed()
        );
    }
}
