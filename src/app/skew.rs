//! Watches how far this machine's clock is from the API server's: tells, and keeps access from being given by clocks
//! that nobody can believe. Access is ended all the same.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::metrics::Metrics;
use super::server::Readiness;
use super::triggers::Triggers;
use crate::cluster::Edges;
use crate::core::clock::Verdict;

/// What `/readyz` calls it.
pub const CLOCK: &str = "clock";

/// How often this machine's clocks are read, and compared with what is known: what a machine that was suspended owes
/// is ended 2 s after it wakes up. It costs no request, unless a clock has leapt.
const EVERY: Duration = Duration::from_secs(1);

/// How long the clocks differ too much before another replica had better lead: no answer of a moment is worth a
/// hand-over.
const PATIENCE: Duration = Duration::from_secs(10);

/// Keeps an eye on the clocks.
pub struct SkewWatch {
    edges: Edges,
    triggers: Triggers,
    readiness: Readiness,
    metrics: Metrics,
    /// Whether grants wait for the clocks.
    held: AtomicBool,
    /// What was last told.
    told: Mutex<Option<Verdict>>,
    unfit: watch::Sender<bool>,
}

impl SkewWatch {
    /// Not ready until the API server has said what time it is.
    pub fn new(edges: Edges, triggers: Triggers, readiness: Readiness, metrics: Metrics) -> Self {
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

    /// Whether another replica had better lead, since this one can give nothing.
    pub fn unfit(&self) -> watch::Receiver<bool> {
        self.unfit.subscribe()
    }

    /// Why nothing may be given now; `None`: it may. Whoever is told no is triggered when that changes.
    pub fn objection(&self) -> Option<String> {
        let objection = self.edges.clock.objection();
        if objection.is_some() {
            self.held.store(true, Ordering::Relaxed);
        }
        objection
    }

    /// Watches until it is dropped.
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
                tracing::debug!(%error, reason = error.reason(), "what time it is there is not known");
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
        skew.is_some_and(|skew| skew.verdict() == Verdict::Refuse)
    }

    /// Says what the clocks are like, if that has changed.
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
        // A doubt is cleared by the next answer; while there is none, that is what is told.
        let Some(skew) = skew else { return };
        let verdict = skew.verdict();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let before = told.replace(verdict);
        drop(told);
        if before == Some(verdict) {
            return;
        }
        let ahead_seconds = skew.ahead().as_secs_f64();
        match verdict {
            Verdict::Fine if before.is_none() => {}
            Verdict::Fine => tracing::info!(ahead_seconds, "the clocks agree again"),
            Verdict::Warn => tracing::warn!(
                ahead_seconds,
                "this machine's clock is {skew} the API server's, which is the one that counts; set the one that is wrong"
            ),
            Verdict::Refuse => tracing::error!(
                ahead_seconds,
                "this machine's clock is {skew} the API server's: no access is given until the one that is wrong is set; \
                 access ends by the API server's"
            ),
        }
    }

    /// Has looked at what waits for the clocks, once they agree.
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
