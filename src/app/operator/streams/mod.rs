//! Watch streams, each with a backoff of its own.
//!
//! Merged streams would share one backoff: a single broken watch would delay every trigger by up to 25 s (kube#763).

pub mod sync;
pub mod unreadable;

use std::fmt::Debug;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use k8s_openapi::serde::de::DeserializeOwned;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event, watcher as watch_objects};
use kube::{Api, Resource};

pub use crate::app::operator::streams::sync::Sync;

/// Longest time of one watch request, in seconds. A dead connection may give no error; kube gives a watch up 5 s after
/// this time. kube's default is 290 s, and a new grant would not be noticed for that long. Nine new watches a minute cost
/// nothing. The API server sends a bookmark before it ends a watch, so no new list is needed.
const WATCH_SECONDS: u32 = 60;

/// Watch configuration of all kinds.
pub fn config() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS)
}

/// Longest pause between two attempts of a broken watch. kube's default grows to 30 s, and after a restart of the API
/// server new grants were not noticed for that long. Nine watches with a pause of 2 s make five requests a second.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Backoff of a broken watch: 100 ms, then twice the last pause, at most 2 s. A success resets the backoff.
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

/// Endless stream of the events of one kind. An error is logged, and the watch starts again after a backoff.
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

/// Adds backoff, log and readiness to a watch.
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

/// Delays the event `Init` until the list delivers something. Each attempt to list starts with `Init`, which would reset
/// the backoff: a denied list would be tried ten times a second.
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
    use crate::app::operator::server::Readiness;

    #[test]
    fn the_backoff_of_a_watch_grows_from_100ms_to_2s() {
        let mut patience = Patience::default();
        let pauses: Vec<_> = patience.by_ref().take(7).map(|pause| pause.as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 2000, 2000]);
        patience.reset();
        assert_eq!(patience.next(), Some(Duration::from_millis(100)));
        patience.failures = u32::MAX;
        assert_eq!(patience.next(), Some(LONGEST_PAUSE));
    }

    #[tokio::test(start_paused = true)]
    async fn failed_lists_do_not_reset_the_backoff() {
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
