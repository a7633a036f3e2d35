//! Whether the API server serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::StatusCode;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long it takes to catch up: 1,000 ends at once take 4 s.
const CATCHING_UP: Duration = Duration::from_secs(10);

/// Whether the API server serves, as what comes of requests says. Cheap to clone; clones share what they hear.
///
/// It is away once a request was not answered, or by somebody on the way or a server that says it cannot serve (502, 503,
/// 504); it is back at the first request that succeeds. Not with any other answer: while it starts it refuses everything
/// for some seconds, since it does not know yet who may do what. Other server errors, 500 and 429, are often about one
/// object (a webhook, a priority level) and say nothing of the others.
#[derive(Clone, Debug)]
pub struct Reach(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    is_away: AtomicBool,
    back: watch::Sender<Instant>,
}

impl Default for Reach {
    fn default() -> Self {
        Self(Arc::new(Shared {
            is_away: AtomicBool::new(false),
            back: watch::Sender::new(Instant::now()),
        }))
    }
}

impl Reach {
    /// Told whenever it is back: what could not be done meanwhile can be done now.
    pub fn returns(&self) -> watch::Receiver<Instant> {
        self.0.back.subscribe()
    }

    /// Whether it is away, or so lately back that what has become overdue meanwhile is still being caught up with. So it
    /// is when this process begins.
    pub fn is_unsettled(&self) -> bool {
        self.0.is_away.load(Ordering::Relaxed) || self.0.back.borrow().elapsed() < CATCHING_UP
    }

    pub(super) fn answered(&self, status: StatusCode) {
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

    pub(super) fn unanswered(&self) {
        self.0.is_away.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(reach: &Reach, codes: &[u16]) {
        for code in codes {
            reach.answered(StatusCode::from_u16(*code).unwrap());
        }
    }

    #[test]
    fn it_is_back_at_the_first_success_after_a_request_that_was_not_answered_and_told_once() {
        let reach = Reach::default();
        let mut returns = reach.returns();
        answers(&reach, &[200, 403, 500, 201]);
        assert!(!returns.has_changed().unwrap(), "it was never away");
        reach.unanswered();
        answers(&reach, &[403, 500, 429, 404]);
        assert!(
            !returns.has_changed().unwrap(),
            "it starts, and serves nobody yet"
        );
        answers(&reach, &[200]);
        assert!(returns.has_changed().unwrap());
        returns.mark_unchanged();
        answers(&reach, &[200, 201]);
        assert!(!returns.has_changed().unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_unsettled_while_it_is_away_and_for_ten_seconds_after() {
        let reach = Reach::default();
        assert!(
            reach.is_unsettled(),
            "nobody knows what has become overdue before"
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
    fn whoever_says_that_it_cannot_serve_is_away() {
        for code in [502, 503, 504] {
            let reach = Reach::default();
            let returns = reach.returns();
            answers(&reach, &[code, 200]);
            assert!(returns.has_changed().unwrap(), "{code}");
        }
    }
}
