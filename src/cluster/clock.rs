//! The operator's clock: reads this machine's, and hears the API server's in every answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::header::{DATE, HeaderMap};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use kube::Client;
use kube::client::Body;
use tokio::sync::watch;

use super::error::Error;
use crate::core::clock::{Answer, Reading, Skew, Timekeeping};

/// How long the API server may take to say what time it is: what comes later bounds its clock too loosely to be of
/// use, and it is asked again.
const PATIENCE: Duration = Duration::from_secs(2);

/// What time it is. Cheap to clone; clones share what they hear.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    began: Instant,
    known: Mutex<Timekeeping>,
    leaps: watch::Sender<()>,
}

impl Clock {
    /// One that has not heard the API server.
    pub fn start() -> Self {
        Self(Arc::new(Shared {
            began: Instant::now(),
            known: Mutex::new(Timekeeping::since(Timestamp::now())),
            leaps: watch::Sender::new(()),
        }))
    }

    /// The instant to decide by. It may be earlier than one that was answered before: clocks are set, and each API
    /// server has its own.
    pub fn now(&self) -> Timestamp {
        self.known().now(self.read())
    }

    /// How far this machine's clock is from the API server's; `None` while that is doubtful.
    pub fn skew(&self) -> Option<Skew> {
        self.known().skew(self.read())
    }

    /// Why nothing may be given by these clocks, for people; `None`: it may.
    pub fn objection(&self) -> Option<String> {
        self.known().objection(self.read())
    }

    /// Whether the API server has to be asked what time it is.
    pub fn is_doubtful(&self) -> bool {
        self.known().is_doubtful(self.read())
    }

    /// Told whenever an answer brings the time forward: whoever sleeps until an instant has to look again.
    pub fn leaps(&self) -> watch::Receiver<()> {
        self.0.leaps.subscribe()
    }

    /// Asks the API server what time it is, for 2 s at most. Any answer says so, a refusal as well; the client has to
    /// be one that [hears](super::client_heard_by) for this clock.
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

    pub(super) fn read(&self) -> Reading {
        Reading {
            wall: Timestamp::now(),
            up: self.0.began.elapsed(),
        }
    }

    /// Nothing here panics half way, so a poisoned lock is as good as any.
    fn known(&self) -> MutexGuard<'_, Timekeeping> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn heard(&self, sent: Reading, headers: &HeaderMap) {
        let Some(date) = date(headers) else { return };
        let received = self.read();
        let mut known = self.known();
        let before = known.now(received);
        known.heard(&Answer { date, sent, received });
        let leapt = known.now(received) > before;
        drop(known);
        if leapt {
            self.0.leaps.send_replace(());
        }
    }
}

/// What time an answer says it was made at.
pub(super) fn date(headers: &HeaderMap) -> Option<Timestamp> {
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

    use super::super::hearing::Hearing;
    use super::super::reach::Reach;
    use super::*;

    /// An API server whose clock is so far ahead of this machine's; `None`: it does not say what time it is.
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
        let hearing = Hearing {
            clock: clock.clone(),
            reach: Reach::default(),
        };
        let mut service = hearing.layer(Server(ahead.map(SignedDuration::from_secs)));
        service.call(Request::new(())).await.unwrap();
    }

    #[tokio::test]
    async fn any_answer_with_a_date_says_what_time_it_is_and_a_refusal_too() {
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
    async fn whoever_sleeps_is_told_when_an_answer_brings_the_time_forward_and_not_otherwise() {
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
