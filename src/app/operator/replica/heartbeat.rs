//! Heartbeats: the operator renews its own Lease, and monitors the Lease of the sweep.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval};

use crate::app::operator::context::Operator;
use crate::cluster::replica::heartbeat::{HeartbeatLease, beat, last_beat};
use crate::core::replica::heartbeat::{OPERATOR, OPERATOR_SILENCE, SWEEP, SWEEP_SILENCE, silence};

/// Interval between two renewals: four within the 2 minutes after which the operator counts as silent.
const RENEW_EVERY: Duration = Duration::from_secs(30);

/// Interval between two reads of the sweep's Lease. The sweep runs once a minute.
const READ_EVERY: Duration = Duration::from_mins(1);

/// Renews and reads until the future is dropped. It starts when each watch has delivered its first list; before that the
/// operator ends no access.
pub async fn run(operator: Arc<Operator>) {
    operator.wait_until_synced().await;
    let (cluster, namespace) = (&operator.cluster, operator.settings.namespace.as_str());
    let own_lease = HeartbeatLease {
        lease: OPERATOR,
        holder: cluster.instance.to_string(),
        silence: OPERATOR_SILENCE,
    };
    let mut sweep = Monitor {
        namespace,
        since: cluster.clock.now(),
        silent: false,
    };
    let (mut renewals, mut reads) = (interval(RENEW_EVERY), interval(READ_EVERY));
    for ticks in [&mut renewals, &mut reads] {
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    loop {
        tokio::select! {
            _ = renewals.tick() => {
                let now = cluster.clock.now();
                if let Err(error) = beat(&cluster.client, namespace, &own_lease, now).await {
                    tracing::warn!(%error, reason = error.reason(),
                        "heartbeat Lease not renewed, will retry in 30 s");
                }
            }
            _ = reads.tick() => match last_beat(&cluster.client, namespace, SWEEP).await {
                Ok(last) => {
                    if let Some(last) = last {
                        operator.metrics.set_sweep_last_success(last);
                    }
                    cluster.index.note_sweep(sweep.note(last, cluster.clock.now()));
                }
                Err(error) => {
                    tracing::warn!(%error, reason = error.reason(),
                        "sweep's heartbeat Lease cannot be read, will retry in 1 minute");
                }
            }
        }
    }
}

/// Watches the heartbeat of the sweep. It logs once that the sweep is silent, and once that the sweep is back.
struct Monitor<'a> {
    namespace: &'a str,
    since: Timestamp,
    silent: bool,
}

impl Monitor<'_> {
    /// Notes the last heartbeat. Returns whether the sweep is alive; a sweep without any heartbeat is not.
    fn note(&mut self, last: Option<Timestamp>, now: Timestamp) -> bool {
        let silence = silence(last, self.since, now);
        let silent = silence > SWEEP_SILENCE;
        if silent && !self.silent {
            let minutes = silence.as_mins();
            tracing::warn!(
                last = last.map(tracing::field::display),
                minutes,
                "curfew-sweep has not succeeded for {minutes} minutes; only operator and fuses end access. Check: \
                 kubectl get jobs -n {}",
                self.namespace
            );
        } else if self.silent && !silent {
            tracing::info!("curfew-sweep succeeds again");
        }
        self.silent = silent;
        last.is_some() && !silent
    }
}
