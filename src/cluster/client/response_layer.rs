//! A tower layer that reads the `Date` header (time) and the status (health) of every response.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower::{Layer, Service};

use crate::cluster::client::clock::Clock;
use crate::cluster::client::health::ApiHealth;

/// Layer of a client that passes every response to a clock and to the health of the API server.
pub(crate) struct ResponseLayer {
    pub(crate) clock: Clock,
    pub(crate) reach: ApiHealth,
}

impl<S> Layer<S> for ResponseLayer {
    type Service = ObservedService<S>;

    fn layer(&self, inner: S) -> ObservedService<S> {
        ObservedService {
            inner,
            clock: self.clock.clone(),
            reach: self.reach.clone(),
        }
    }
}

/// Service of that layer.
pub(crate) struct ObservedService<S> {
    inner: S,
    clock: Clock,
    reach: ApiHealth,
}

impl<S, A, B> Service<Request<A>> for ObservedService<S>
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
