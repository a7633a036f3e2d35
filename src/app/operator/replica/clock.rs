//! Monitor of clock skew. It logs a difference between this machine's clock and the API server's, and stops new access
//! while the difference is too large. Access still ends, by the clock of the API server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::app::operator::metrics::Metrics;
use crate::app::operator::server::Readiness;
use crate::app::operator::triggers::Triggers;
use crate::cluster::context::Cluster;
use crate::core::replica::clock::ClockAgreement;

/// Name of the condition in `/readyz`.
pub const CLOCK: &str = "clock";

/// Interval between two comparisons of the clocks. Overdue access ends within 2 s after a suspended machine wakes up. A
/// comparison costs no request, unless a clock has leapt.
const EVERY: Duration = Duration::from_secs(1);

/// How long the clocks differ too much before another replica should lead. A single wrong answer is no reason to hand
/// over.
const PATIENCE: Duration = Duration::from_secs(10);

/// Monitor of clock skew.
pub struct SkewWatch {
    edges: Cluster,
    triggers: Triggers,
    readiness: Readiness,
    metrics: Metrics,
    /// Whether grants are held until the clocks agree.
    held: AtomicBool,
    /// The verdict that was logged last.
    told: Mutex<Option<ClockAgreement>>,
    unfit: watch::Sender<bool>,
}

impl SkewWatch {
    /// Not ready until the first answer of the API server.
    pub fn new(edges: Cluster, triggers: Triggers, readiness: Readiness, metrics: Metrics) -> Self {
        readiness.undone(CLOCK, "not yet");
        Self {
            edges,
            triggers,
            readiness,
            metrics,
            held: AtomicBool::new(false),
            told: Mutex::new(None),
            unfit: watch::Sender::new(false),
        }
    }

    /// Whether another replica should lead, because this one cannot grant.
    pub fn unfit(&self) -> watch::Receiver<bool> {
        self.unfit.subscribe()
    }

    /// Why no access may be granted now; `None`: it may. Held grants are reconciled when that changes.
    pub fn objection(&self) -> Option<String> {
        let objection = self.edges.clock.objection();
        if objection.is_some() {
            self.held.store(true, Ordering::Relaxed);
        }
        objection
    }

    /// Compares the clocks until the future is dropped.
    pub async fn run(self: Arc<Self>) {
        let clock = &self.edges.clock;
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut refused = None;
        loop {
            ticks.tick().await;
            if clock.is_doubtful()
                && let Err(error) = clock.ask(&self.edges.client).await
            {
                tracing::debug!(%error, reason = error.reason(), "API server time unknown, will retry in 1 s");
            }
            self.tell();
            self.release();
            refused = self.is_refused().then(|| refused.unwrap_or_else(Instant::now));
            let unfit = refused.is_some_and(|since| since.elapsed() >= PATIENCE);
            self.unfit
                .send_if_modified(|before| std::mem::replace(before, unfit) != unfit);
        }
    }

    fn is_refused(&self) -> bool {
        let skew = self.edges.clock.skew();
        skew.is_some_and(|skew| skew.verdict() == ClockAgreement::Refuse)
    }

    /// Updates metric and readiness, and logs a new verdict.
    fn tell(&self) {
        let clock = &self.edges.clock;
        let skew = clock.skew();
        if let Some(skew) = skew {
            self.metrics.set_clock_skew(skew.ahead());
        }
        match clock.objection() {
            None => self.readiness.done(CLOCK),
            Some(objection) => self.readiness.undone(CLOCK, &objection),
        }
        // Without a known skew there is no verdict; the next answer brings one.
        let Some(skew) = skew else { return };
        let verdict = skew.verdict();
        let mut told = self.told.lock();
        let before = told.replace(verdict);
        drop(told);
        if before == Some(verdict) {
            return;
        }
        let ahead_seconds = skew.ahead().as_secs_f64();
        match verdict {
            ClockAgreement::Fine if before.is_none() => {}
            ClockAgreement::Fine => tracing::info!(ahead_seconds, "the clocks agree again"),
            ClockAgreement::Warn => tracing::warn!(
                ahead_seconds,
                "this machine's clock is {skew} the API server's, which counts; correct the wrong clock"
            ),
            ClockAgreement::Refuse => tracing::error!(
                ahead_seconds,
                "this machine's clock is {skew} the API server's: no access is granted; access still ends, by the clock of \
                 the API server. Correct the wrong clock"
            ),
        }
    }

    /// Triggers the held grants once the clocks agree.
    fn release(&self) {
        if self.edges.clock.objection().is_some() || !self.held.swap(false, Ordering::Relaxed) {
            return;
        }
        let index = &self.edges.index;
        for namespace in index.open_namespaces().into_keys() {
            self.triggers.fire_grants(index.to_be_given(&namespace));
        }
    }
}
