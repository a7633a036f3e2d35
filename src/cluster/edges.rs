//! What the edges need: a client, slots, the index, and somebody who counts.

use std::sync::Arc;
use std::time::Duration;

use kube::client::ClientBuilder;
use kube::{Client, Config};

use super::clock::Clock;
use super::error::Error;
use super::hearing::Hearing;
use super::index::Index;
use super::reach::Reach;
use super::slots::Slots;
use crate::core::self_test::{Forgery, TrialOutcome};
use crate::core::{EffectKind, Ending, Judged};

/// How long one call to the API server may take. Its own limit for admission webhooks is 10 s each by default; a
/// call that takes longer is as good as lost, and is looked after by reading.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// How one effect came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each says itself")]
pub enum Outcome {
    Applied,
    AlreadySo,
    Refused,
    Conflict,
    Failed,
    TimedOut,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Applied,
        Self::AlreadySo,
        Self::Refused,
        Self::Conflict,
        Self::Failed,
        Self::TimedOut,
    ];
}

/// Somebody who counts what happens at the edges.
pub trait Witness: Send + Sync {
    /// One effect was tried.
    fn effect(&self, kind: EffectKind, outcome: Outcome);

    /// One forgery of the self-test was tried.
    fn forgery(&self, forgery: Forgery, outcome: TrialOutcome);

    /// Access came into force, so many seconds after the operator saw the request; `None` when it was seen by an
    /// earlier process.
    fn activated(&self, after: Option<jiff::SignedDuration>);

    /// Something was made of a decision.
    fn judged(&self, judged: &Judged);

    /// Access ended.
    fn ended(&self, ending: &Ending, at: jiff::Timestamp);
}

/// Everything a pass needs of the outside. Cheap to clone.
#[derive(Clone)]
pub struct Edges {
    /// Talks to the API server.
    pub client: Client,
    /// What time it is.
    pub clock: Clock,
    /// Whether the API server serves.
    pub reach: Reach,
    /// Who talks to it next.
    pub slots: Slots,
    /// What is known.
    pub index: Arc<Index>,
    /// Who counts.
    pub witness: Arc<dyn Witness>,
    /// This process, as Events name it.
    pub instance: Arc<str>,
}

/// A client for that configuration that gives every failure back at once. kube's default retries 429 and 5xx inside
/// one call, writes included, for up to 461 s (kube#2082): too long to hold a deadline, and what to retry is decided
/// by reading first.
pub fn client(config: Config) -> Result<Client, kube::Error> {
    Client::try_from(prepared(config))
}

/// Such a client, whose answers tell `clock` what time it is at the API server, and `reach` whether it serves.
pub fn client_heard_by(clock: &Clock, reach: &Reach, config: Config) -> Result<Client, kube::Error> {
    let builder = ClientBuilder::try_from(prepared(config))?;
    let hearing = Hearing {
        clock: clock.clone(),
        reach: reach.clone(),
    };
    Ok(builder.with_layer(&hearing).build())
}

fn prepared(mut config: Config) -> Config {
    config.default_retry = false;
    // The API server's audit log then tells this program from whoever else holds a token of its account.
    let agent = http::HeaderValue::from_static(concat!("curfew/", env!("CARGO_PKG_VERSION")));
    config.headers.push((http::header::USER_AGENT, agent));
    config.connect_timeout = Some(CALL_TIMEOUT);
    config
}

/// One call with its time limit.
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
