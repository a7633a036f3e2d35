//! Health of the API server, as seen by requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::StatusCode;
use tokio::sync::watch;
use tokio::time::Instant;

/// Time to process overdue work after an outage. 1,000 simultaneous revocations take 4 s.
const CATCHING_UP: Duration = Duration::from_secs(10);

/// Health of the API server, derived from the results of requests. Cheap to clone; clones share their state.
///
/// The API server is unavailable after a request without a response, or with the status 502, 503 or 504 from the server
/// or a proxy. It is available again after the first successful request.
///
/// Other responses do not make it available: a starting API server denies everything for some seconds, until it knows
/// the permissions. The errors 500 and 429 do not make it unavailable: they often concern one object (a webhook) or one
/// priority level.
#[derive(Clone, Debug)]
pub struct ApiHealth(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    is_away: AtomicBool,
    back: watch::Sender<Instant>,
}

impl Default for ApiHealth {
    fn default() -> Self {
        Self(Arc::new(Shared {
            is_away: AtomicBool::new(false),
            back: watch::Sender::new(Instant::now()),
        }))
    }
}

impl ApiHealth {
    /// Changes whenever the API server becomes available again. Failed work can be retried then.
    pub fn returns(&self) -> watch::Receiver<Instant> {
        self.0.back.subscribe()
    }

    /// Whether the API server is unavailable, or was in the last 10 s, so that overdue work may still be waiting. True
    /// for the first 10 s of this process.
    pub fn is_unsettled(&self) -> bool {
        self.0.is_away.load(Ordering::Relaxed) || self.0.back.borrow().elapsed() < CATCHING_UP
    }

    pub(crate) fn answered(&self, status: StatusCode) {
        let cannot_serve = matches!(
            status,
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
        );
        if cannot_serve {
            self.unanswered();
        } else if status.is_success() && self.0.is_away.swap(false, Ordering::Relaxed) {
            self.0.back.send_replace(Instant::now());
        }
    }

    pub(crate) fn unanswered(&self) {
        self.0.is_away.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(reach: &ApiHealth, codes: &[u16]) {
        for code in codes {
            reach.answered(StatusCode::from_u16(*code).unwrap());
        }
    }

    #[test]
    fn recovery_is_reported_once_at_the_first_success_after_a_failure() {
        let reach = ApiHealth::default();
        let mut returns = reach.returns();
        answers(&reach, &[200, 403, 500, 201]);
        assert!(!returns.has_changed().unwrap(), "it was always available");
        reach.unanswered();
        answers(&reach, &[403, 500, 429, 404]);
        assert!(!returns.has_changed().unwrap(), "it is starting");
        answers(&reach, &[200]);
        assert!(returns.has_changed().unwrap());
        returns.mark_unchanged();
        answers(&reach, &[200, 201]);
        assert!(!returns.has_changed().unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn health_is_unsettled_for_ten_seconds_after_an_outage() {
        let reach = ApiHealth::default();
        assert!(
            reach.is_unsettled(),
            "there may be overdue work from before the start"
        );
        tokio::time::advance(CATCHING_UP).await;
        assert!(!reach.is_unsettled());
        reach.unanswered();
        tokio::time::advance(CATCHING_UP).await;
        assert!(reach.is_unsettled());
        answers(&reach, &[200]);
        assert!(reach.is_unsettled());
        tokio::time::advance(CATCHING_UP).await;
        assert!(!reach.is_unsettled());
    }

    #[test]
    fn a_502_503_or_504_counts_as_an_outage() {
        for code in [502, 503, 504] {
            let reach = ApiHealth::default();
            let returns = reach.returns();
            answers(&reach, &[code, 200]);
            assert!(returns.has_changed().unwrap(), "{code}");
        }
    }
}
