//! The watches: each delivers into the index and says what it touches.
//!
//! Each has its own backoff, and an error of one never reaches another: merged streams share one backoff, by which
//! a single broken watch delays every trigger by up to 25 s (kube#763).

use std::fmt::Debug;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use k8s_openapi::serde::de::DeserializeOwned;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event, watcher as watch_objects};
use kube::{Api, Resource};

mod sync;
mod unreadable;

pub use sync::Sync;
pub use unreadable::events_of_ours;

/// How long a watch goes on before it is asked for anew, in seconds. A connection that is dead without an error says
/// nothing: after this time and 5 s without a word (kube) it is given up. Left out, it is 290 s, for which a request
/// would not be seen. Nine watches asked for once a minute cost nothing, and the API server sends where each has got to
/// before it ends it, so none has to list anew.
const WATCH_SECONDS: u32 = 60;

/// How everything is watched.
pub fn config() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS)
}

/// Longest pause of a broken watch. kube's default grows to 30 s: after an API server had restarted, requests were
/// not seen for as long. Nine watches that try every 2 s are five requests a second against a server that is away.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Pauses of a broken watch: doubling from 100 ms, from the start again after a success.
#[derive(Debug, Default)]
pub struct Patience {
    failures: u32,
}

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = Duration::from_millis(100).saturating_mul(1 << self.failures.min(8));
        self.failures = self.failures.saturating_add(1);
        Some(pause.min(LONGEST_PAUSE))
    }
}

impl Backoff for Patience {
    fn reset(&mut self) {
        self.failures = 0;
    }
}

/// The events of one kind of objects: endless, restarted with backoff, errors told and dropped.
pub fn events<K>(
    name: &'static str,
    api: Api<K>,
    config: watcher::Config,
    sync: Sync,
) -> impl Stream<Item = Event<K>> + Send
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    told(name, watch_objects(api, config), sync)
}

/// With backoff, errors told and dropped.
fn told<K: Send>(
    name: &'static str,
    events: impl Stream<Item = Result<Event<K>, watcher::Error>> + Send,
    sync: Sync,
) -> impl Stream<Item = Event<K>> + Send {
    listed(events)
        .backoff(Patience::default())
        .inspect(move |event| sync.note(name, event))
        .filter_map(|event| std::future::ready(event.ok()))
}

/// Holds back that a list begins until there is something of it. Each attempt at a list begins so, and would count as a
/// success: one that is refused was tried ten times a second.
fn listed<K: Send>(
    events: impl Stream<Item = Result<Event<K>, watcher::Error>> + Send,
) -> impl Stream<Item = Result<Event<K>, watcher::Error>> + Send {
    let mut begins = false;
    events.flat_map(move |event| {
        let began = std::mem::replace(&mut begins, matches!(event, Ok(Event::Init)));
        let init = (began && event.is_ok()).then_some(Ok(Event::Init));
        let event = (!begins).then_some(event);
        futures::stream::iter(init.into_iter().chain(event))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::AccessGrant;
    use crate::app::server::Readiness;

    #[test]
    fn a_broken_watch_is_tried_again_at_once_and_then_every_two_seconds() {
        let mut patience = Patience::default();
        let pauses: Vec<_> = patience.by_ref().take(7).map(|pause| pause.as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 2000, 2000]);
        patience.reset();
        assert_eq!(patience.next(), Some(Duration::from_millis(100)));
        patience.failures = u32::MAX;
        assert_eq!(patience.next(), Some(LONGEST_PAUSE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_fails_again_and_again_is_tried_less_and_less_often() {
        let refused = || Err(watcher::Error::NoResourceVersion);
        let attempts = (0..6).flat_map(move |_| [Ok(Event::Init), refused()]);
        let events: Vec<Result<Event<AccessGrant>, _>> =
            attempts.chain([Ok(Event::Init), Ok(Event::InitDone)]).collect();
        let sync = Sync::of(&["grants"], Readiness::default());
        let began = tokio::time::Instant::now();
        let told: Vec<_> = told("grants", futures::stream::iter(events), sync)
            .collect()
            .await;
        assert!(
            matches!(told.as_slice(), [Event::Init, Event::InitDone]),
            "{told:?}"
        );
        let pauses = 100 + 200 + 400 + 800 + 1600 + 2000;
        let took = began.elapsed().as_millis();
        assert!((pauses..pauses + 10).contains(&took), "{took} ms");
    }
}
