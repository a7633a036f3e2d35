//! A proxy before the API server: plain HTTP/1.1 on loopback to HTTPS, which
//! counts requests and injects faults.
//!
//! It runs on a thread of its own, so that a test may block.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, anyhow};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{CONTENT_TYPE, DATE, HOST, HeaderValue, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::proxy_fault::{Exchange, Fault};
use super::proxy_stream::{Interruption, Passing};

type Hook = Arc<dyn Fn(&Exchange) -> Fault + Send + Sync>;
type Upstream = SendRequest<Incoming>;
type Answer = Response<Either<Passing, Full<Bytes>>>;

/// A running proxy; it ends when dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the proxy's connections have in common.
struct Shared {
    server: SocketAddr,
    tls: TlsConnector,
    log: Mutex<Vec<Exchange>>,
    hook: Mutex<Option<Hook>>,
    interruptions: watch::Sender<Interruption>,
}

impl Proxy {
    /// Starts a proxy before `upstream_url` (`https://address:port`), whose
    /// certificate is judged by `ca_pem`.
    pub fn start(upstream_url: &str, ca_pem: &str) -> anyhow::Result<Self> {
        let server = upstream_url
            .strip_prefix("https://")
            .and_then(|server| server.trim_end_matches('/').parse().ok())
            .with_context(|| format!("{upstream_url} is not https://address:port"))?;
        let shared = Arc::new(Shared {
            server,
            tls: connector(ca_pem)?,
            log: Mutex::default(),
            hook: Mutex::default(),
            interruptions: watch::Sender::new(Interruption::None),
        });
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let serving = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, serving) => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        });
        Ok(Self {
            address,
            shared,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// The proxy's address, for a kubeconfig.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on asks `hook` what to do with each request. It is called
    /// once a request, in the order of the indexes; it must not call the
    /// proxy, which waits for it.
    pub fn set_hook(&self, hook: impl Fn(&Exchange) -> Fault + Send + Sync + 'static) {
        *lock(&self.shared.hook) = Some(Arc::new(hook));
    }

    /// From now on passes each request.
    pub fn clear_hook(&self) {
        *lock(&self.shared.hook) = None;
    }

    /// Every request since the start or the last [`reset`](Self::reset).
    #[must_use]
    pub fn requests(&self) -> Vec<Exchange> {
        lock(&self.shared.log).clone()
    }

    /// How many of them were writes.
    #[must_use]
    pub fn writes(&self) -> usize {
        count_writes(&lock(&self.shared.log))
    }

    /// Forgets the requests: the indexes start at 0 again.
    pub fn reset(&self) {
        lock(&self.shared.log).clear();
    }

    /// Closes every connection that a watch streams on.
    pub fn cut_watches(&self) {
        self.shared.interruptions.send_replace(Interruption::Cut);
    }

    /// Has every watch that streams now fall silent: no event, no error, no end. Watches that are opened later stream.
    pub fn mute_watches(&self) {
        self.shared.interruptions.send_replace(Interruption::Mute);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread is a hook's, and was printed.
            thread.join().ok();
        }
    }
}

async fn serve(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // One connection to the server for each of the client's.
            let upstream = Arc::new(tokio::sync::Mutex::new(None));
            let service = service_fn(|request| {
                let (shared, upstream) = (Arc::clone(&shared), Arc::clone(&upstream));
                async move { shared.answer(request, &mut *upstream.lock().await).await }
            });
            // An error is what a fault asked for, or a client that left.
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await
                .ok();
        });
    }
}

impl Shared {
    /// Answers one request; an error closes the client's connection.
    async fn answer(
        &self,
        request: Request<Incoming>,
        upstream: &mut Option<Upstream>,
    ) -> anyhow::Result<Answer> {
        let (exchange, fault) = self.record(Exchange::new(request.method(), request.uri()));
        match fault {
            Fault::Pass => {}
            Fault::Stall(time) => tokio::time::sleep(time).await,
            Fault::Respond {
                status,
                retry_after,
                body,
            } => {
                let mut answer = Response::builder()
                    .status(status)
                    .header(CONTENT_TYPE, "application/json");
                if let Some(seconds) = retry_after {
                    answer = answer.header(RETRY_AFTER, seconds);
                }
                return Ok(answer.body(Either::Right(Full::from(body.to_string())))?);
            }
            Fault::Dated(at) => {
                let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at)?;
                let mut answer = self.forward(request, upstream).await?.map(Passing::whole);
                answer.headers_mut().insert(DATE, HeaderValue::try_from(date)?);
                return Ok(answer.map(Either::Left));
            }
            Fault::DropBefore => return Err(anyhow!("dropped before")),
            Fault::ArriveLate(time) => {
                self.forward_later(request, time).await?;
                return Err(anyhow!("arrives later"));
            }
            Fault::DropAfter => {
                let answer = self.forward(request, upstream).await?;
                answer.into_body().collect().await?;
                return Err(anyhow!("dropped after"));
            }
            Fault::KillAfter(callback) => {
                let answer = self.forward(request, upstream).await?;
                answer.into_body().collect().await?;
                callback();
                return Err(anyhow!("killed after"));
            }
        }
        let answer = self.forward(request, upstream).await?;
        Ok(answer.map(|body| {
            Either::Left(if exchange.is_watch() {
                Passing::until(body, self.interruptions.subscribe())
            } else {
                Passing::whole(body)
            })
        }))
    }

    /// Numbers a request, and asks the hook.
    fn record(&self, mut exchange: Exchange) -> (Exchange, Fault) {
        let mut log = lock(&self.log);
        exchange.index = log.len();
        exchange.write_index = exchange.is_write().then(|| count_writes(&log));
        log.push(exchange.clone());
        let hook = lock(&self.hook).clone();
        let fault = hook.map_or(Fault::Pass, |hook| hook(&exchange));
        drop(log);
        (exchange, fault)
    }

    async fn forward(
        &self,
        mut request: Request<Incoming>,
        upstream: &mut Option<Upstream>,
    ) -> anyhow::Result<Response<Incoming>> {
        let host = HeaderValue::try_from(self.server.to_string())?;
        request.headers_mut().insert(HOST, host);
        let open = match upstream.take() {
            Some(mut open) => open.ready().await.is_ok().then_some(open),
            None => None,
        };
        let mut connection = match open {
            Some(open) => open,
            None => self.connect().await?,
        };
        let answer = connection.send_request(request).await?;
        *upstream = Some(connection);
        Ok(answer)
    }

    async fn connect(&self) -> anyhow::Result<Upstream> {
        connect(self.server, &self.tls).await
    }

    /// Forwards a request on a connection of its own after `time`, and forgets the answer.
    async fn forward_later(&self, request: Request<Incoming>, time: Duration) -> anyhow::Result<()> {
        let (mut head, body) = request.into_parts();
        let body = Full::from(body.collect().await?.to_bytes());
        head.headers
            .insert(HOST, HeaderValue::try_from(self.server.to_string())?);
        let (server, tls) = (self.server, self.tls.clone());
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            let mut connection = connect(server, &tls).await?;
            let answer = connection.send_request(Request::from_parts(head, body)).await?;
            answer.into_body().collect().await?;
            anyhow::Ok(())
        });
        Ok(())
    }
}

async fn connect<B>(server: SocketAddr, tls: &TlsConnector) -> anyhow::Result<SendRequest<B>>
where
    B: hyper::body::Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    let stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::from(server.ip());
    let stream = tls.connect(name, stream).await?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

fn connector(ca_pem: &str) -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(certificate?)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn count_writes(log: &[Exchange]) -> usize {
    log.iter()
        .filter(|exchange| exchange.write_index.is_some())
        .count()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
