//! The operator's clock: this machine's clock, corrected by the `Date` header of every response of the API server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{DATE, HeaderMap};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use kube::Client;
use kube::client::Body;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use crate::cluster::client::error::Error;
use crate::core::replica::clock::{ClockReading, LocalTime, Skew, Timekeeping};

/// Longest useful response time when the API server is asked for the time. A later response bounds its clock too
/// loosely, so it is asked again.
const PATIENCE: Duration = Duration::from_secs(2);

/// The current time. Cheap to clone; clones share their readings.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    began: Instant,
    known: Mutex<Timekeeping>,
    leaps: watch::Sender<()>,
}

impl Clock {
    /// A clock without a reading of the API server's clock.
    pub fn start() -> Self {
        Self(Arc::new(Shared {
            began: Instant::now(),
            known: Mutex::new(Timekeeping::since(Timestamp::now())),
            leaps: watch::Sender::new(()),
        }))
    }

    /// The time to decide by.
    ///
    /// # Caveats
    /// It can be earlier than a previous result: administrators set clocks, and each API server has its own clock.
    pub fn now(&self) -> Timestamp {
        self.known().now(self.read())
    }

    /// The difference between this machine's clock and the API server's; `None` while it is uncertain.
    pub fn skew(&self) -> Option<Skew> {
        self.known().skew(self.read())
    }

    /// Why the clocks forbid new access, as a sentence for people; `None` if they allow it.
    pub fn objection(&self) -> Option<String> {
        self.known().objection(self.read())
    }

    /// Whether the API server has to be asked for the time.
    pub fn is_doubtful(&self) -> bool {
        self.known().is_doubtful(self.read())
    }

    /// Changes whenever a response moves the time forward. A task that sleeps until a time must then check again.
    pub fn leaps(&self) -> watch::Receiver<()> {
        self.0.leaps.subscribe()
    }

    /// Asks the API server for the time and waits 2 s at most. Every response carries it, a refusal too.
    ///
    /// # Caveats
    /// Has an effect only with a client [made for this clock](super::client_heard_by).
    pub async fn ask(&self, client: &Client) -> Result<(), Error> {
        let what = "read the API server's clock";
        let request = http::Request::get("/version")
            .body(Body::empty())
            .map_err(|source| Error::of(what, kube::Error::HttpError(source)))?;
        match tokio::time::timeout(PATIENCE, client.send(request)).await {
            Ok(answer) => answer.map(drop).map_err(|source| Error::of(what, source)),
            Err(_) => Err(Error::TimedOut {
                what,
                seconds: PATIENCE.as_secs(),
            }),
        }
    }

    pub(crate) fn read(&self) -> LocalTime {
        LocalTime {
            wall: Timestamp::now(),
            up: self.0.began.elapsed(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Timekeeping> {
        self.0.known.lock()
    }

    pub(crate) fn heard(&self, sent: LocalTime, headers: &HeaderMap) {
        let Some(date) = date(headers) else { return };
        let received = self.read();
        let mut known = self.known();
        let before = known.now(received);
        known.heard(&ClockReading { date, sent, received });
        let leapt = known.now(received) > before;
        drop(known);
        if leapt {
            self.0.leaps.send_replace(());
        }
    }
}

/// The time in the `Date` header of a response.
pub(crate) fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let date = headers.get(DATE)?;
    DateTimeParser::new().parse_timestamp(date.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::task::{Context, Poll};

    use http::{Request, Response};
    use jiff::SignedDuration;
    use jiff::fmt::rfc2822::DateTimePrinter;
    use tower::{Layer as _, Service};

    use super::*;
    use crate::cluster::client::health::ApiHealth;
    use crate::cluster::client::response_layer::ResponseLayer;

    /// An API server whose clock is ahead of this machine's by this much; `None`: its responses have no `Date`.
    struct Server(Option<SignedDuration>);

    impl Service<Request<()>> for Server {
        type Response = Response<()>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Response<()>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<()>) -> Self::Future {
            let mut answer = Response::builder().status(403);
            if let Some(ahead) = self.0 {
                let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&(Timestamp::now() + ahead));
                answer = answer.header(DATE, date.unwrap());
            }
            std::future::ready(Ok(answer.body(()).unwrap()))
        }
    }

    async fn ask(clock: &Clock, ahead: Option<i64>) {
        let hearing = ResponseLayer {
            clock: clock.clone(),
            reach: ApiHealth::default(),
        };
        let mut service = hearing.layer(Server(ahead.map(SignedDuration::from_secs)));
        service.call(Request::new(())).await.unwrap();
    }

    #[tokio::test]
    async fn every_response_with_a_date_sets_the_clock_even_a_refusal() {
        let clock = Clock::start();
        ask(&clock, None).await;
        assert!(clock.is_doubtful() && clock.skew().is_none());
        ask(&clock, Some(-40)).await;
        assert!(!clock.is_doubtful());
        let skew = clock.skew().unwrap();
        assert!(
            (39..=41).contains(&skew.ahead().as_secs()),
            "{skew:?}: 40 s, but for the whole second"
        );
        let behind = Timestamp::now().duration_since(clock.now());
        assert!((38..=41).contains(&behind.as_secs()), "{behind:?}");
        assert!(clock.objection().is_some());
    }

    #[tokio::test]
    async fn sleepers_are_notified_only_if_a_response_moves_time_forward() {
        let clock = Clock::start();
        let mut leaps = clock.leaps();
        ask(&clock, Some(-40)).await;
        assert!(!leaps.has_changed().unwrap());
        ask(&clock, Some(40)).await;
        assert!(leaps.has_changed().unwrap());
        leaps.mark_unchanged();
        ask(&clock, Some(-40)).await;
        assert!(!leaps.has_changed().unwrap());
    }
}
