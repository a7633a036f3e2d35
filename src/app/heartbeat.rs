//! The operator's heartbeat, and its ear for the sweep's.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval};

use super::metrics::Metrics;
use super::pass::Passes;
use crate::cluster::heartbeat::{Heart, beat, last_beat};
use crate::core::heartbeat::{OPERATOR, OPERATOR_SILENCE, SWEEP, SWEEP_SILENCE, silence};

/// How often the operator beats: three times within what counts as silence, and then some.
const BEAT_EVERY: Duration = Duration::from_secs(30);

/// How often it listens for the sweep, which goes once a minute.
const LISTEN_EVERY: Duration = Duration::from_mins(1);

/// Beats and listens until it is dropped; from when the watches have delivered, since before that the operator ends
/// nothing.
pub async fn run(passes: Arc<Passes>, metrics: Metrics) {
    passes.wait_until_synced().await;
    let (edges, namespace) = (&passes.edges, passes.settings.namespace.as_str());
    let heart = Heart {
        lease: OPERATOR,
        holder: edges.instance.to_string(),
        silence: OPERATOR_SILENCE,
    };
    let mut sweep = Ear::new(edges.clock.now());
    let (mut beats, mut listens) = (interval(BEAT_EVERY), interval(LISTEN_EVERY));
    for ticks in [&mut beats, &mut listens] {
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    loop {
        tokio::select! {
            _ = beats.tick() => {
                let now = edges.clock.now();
                if let Err(error) = beat(&edges.client, namespace, &heart, now).await {
                    tracing::warn!(%error, reason = error.reason(), "this heartbeat is not heard");
                }
            }
            _ = listens.tick() => match last_beat(&edges.client, namespace, SWEEP).await {
                Ok(last) => {
                    if let Some(last) = last {
                        metrics.set_sweep_last_success(last);
                    }
                    edges.index.note_sweep(sweep.heard(last, edges.clock.now()));
                }
                Err(error) => {
                    tracing::warn!(%error, reason = error.reason(), "whether the sweep lives is not known");
                }
            }
        }
    }
}

/// Tells once that the sweep is silent, and once that it is back. One that has never been heard lives no more than a
/// silent one.
struct Ear {
    since: Timestamp,
    silent: bool,
}

impl Ear {
    fn new(since: Timestamp) -> Self {
        Self { since, silent: false }
    }

    /// Answers whether it lives.
    fn heard(&mut self, last: Option<Timestamp>, now: Timestamp) -> bool {
        let silence = silence(last, self.since, now);
        let silent = silence > SWEEP_SILENCE;
        if silent && !self.silent {
            let minutes = silence.as_mins();
            tracing::warn!(
                last = last.map(tracing::field::display),
                minutes,
                "the sweep is silent: nothing looks after what outlives its end but this operator and the fuses; see \
                 CronJob curfew-sweep"
            );
        } else if self.silent && !silent {
            tracing::info!("the sweep is back");
        }
        self.silent = silent;
        last.is_some() && !silent
    }
}
