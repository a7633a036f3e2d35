//! What comes of requests says more than what was asked: what time it is at the API server, and whether it serves.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower::{Layer, Service};

use super::clock::Clock;
use super::reach::Reach;

/// The layer of a client by which a clock, and whoever waits for the API server, hear what comes of every request.
pub(super) struct Hearing {
    pub(super) clock: Clock,
    pub(super) reach: Reach,
}

impl<S> Layer<S> for Hearing {
    type Service = Heard<S>;

    fn layer(&self, inner: S) -> Heard<S> {
        Heard {
            inner,
            clock: self.clock.clone(),
            reach: self.reach.clone(),
        }
    }
}

/// A service whose answers are heard.
pub(super) struct Heard<S> {
    inner: S,
    clock: Clock,
    reach: Reach,
}

impl<S, A, B> Service<Request<A>> for Heard<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let (clock, reach, sent) = (self.clock.clone(), self.reach.clone(), self.clock.read());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            match &answer {
                Ok(answer) => {
                    clock.heard(sent, answer.headers());
                    reach.answered(answer.status());
                }
                Err(_) => reach.unanswered(),
            }
            answer
        })
    }
}
