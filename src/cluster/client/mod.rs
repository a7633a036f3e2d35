//! Client of the API server, and the time limit of each call.

pub mod clock;
pub mod error;
pub mod health;
pub mod observer;
pub mod priority;
pub mod response_layer;

use std::time::Duration;

use kube::client::ClientBuilder;
use kube::{Client, Config};

use crate::cluster::client::clock::Clock;
use crate::cluster::client::error::Error;
use crate::cluster::client::health::ApiHealth;
use crate::cluster::client::response_layer::ResponseLayer;

/// Time limit of one call to the API server. The API server's own default limit for an admission webhook is 10 s. After
/// a longer call, the result is unknown and must be read.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A client that returns every failure at once.
///
/// By default, kube retries 429 and 5xx inside one call, even writes, for up to 461 s (kube#2082). That is too long to
/// meet a deadline, and Curfew reads before it retries a write.
pub fn client(config: Config) -> Result<Client, kube::Error> {
    Client::try_from(prepared(config))
}

/// Such a client, whose responses also update `clock` and `reach`: the time of the API server, and its health.
pub fn client_heard_by(clock: &Clock, reach: &ApiHealth, config: Config) -> Result<Client, kube::Error> {
    let builder = ClientBuilder::try_from(prepared(config))?;
    let hearing = ResponseLayer {
        clock: clock.clone(),
        reach: reach.clone(),
    };
    Ok(builder.with_layer(&hearing).build())
}

fn prepared(mut config: Config) -> Config {
    config.default_retry = false;
    // So the API server's audit log distinguishes this program from others with a token of its account.
    let agent = http::HeaderValue::from_static(concat!("curfew/", env!("CARGO_PKG_VERSION")));
    config.headers.push((http::header::USER_AGENT, agent));
    config.connect_timeout = Some(CALL_TIMEOUT);
    config
}

/// Makes one call, with [`CALL_TIMEOUT`]. `what` names the call in errors.
pub async fn call<T>(
    what: &'static str,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => answer.map_err(|source| Error::of(what, source)),
        Err(_) => Err(Error::TimedOut {
            what,
            seconds: CALL_TIMEOUT.as_secs(),
        }),
    }
}
