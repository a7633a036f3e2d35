//! Time from an approval to access, and the cost of requests that wait for approval.

use std::time::Duration;

use curfew::api::{conditions, reasons};
use kube::api::ListParams;
use tokio::time::{MissedTickBehavior, interval};

use crate::contender::Contender;
use crate::harness::eventually;
use crate::load::{Made, Wish};
use crate::readings::milliseconds;
use crate::stages::{Bench, PACE, Scale, in_so_long};

/// Deadline for all requests to reach `AwaitingApproval`, and for all approved requests to become active.
const ASKED: Duration = Duration::from_mins(3);

impl Bench<'_> {
    /// Measures `scale.single` requests that are approved one at a time; then the idle cost of `scale.live` requests
    /// that nobody approves.
    pub async fn approvals(&mut self, scale: &Scale) -> anyhow::Result<()> {
        let who = Contender::Curfew;
        self.teller
            .phase(format_args!("{who}: {} approvals, one at a time", scale.single));
        let running = self.start(who).await?;
        self.warm_up(&running).await?;
        let far_end = in_so_long(Duration::from_hours(2))?;
        let made = self.load.burst(scale.single, Wish::Approval, far_end).await?;
        self.until_asked(&made).await?;
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut approved = Vec::with_capacity(made.len());
        for grant in &made {
            pace.tick().await;
            approved.push(self.load.approve(grant).await?);
        }
        self.until_seen("created", &running, &made, ASKED, |seen| seen.came.is_some())
            .await?;
        let seen = self.sightings.of(made.iter().map(|made| made.uid.as_str()))?;
        let times: Vec<f64> = approved
            .iter()
            .zip(&seen)
            .filter_map(|(approved, seen)| Some(milliseconds(*approved, seen.came?).max(0.0)))
            .collect();
        self.readings.put_times(who, "approval_ms.single", &times);
        self.load.clear().await?;

        let made = self.load.burst(scale.live, Wish::Approval, far_end).await?;
        self.until_asked(&made).await?;
        self.idle(&running, &format!("awaiting{}", scale.live), scale.idle)
            .await?;
        self.stop(running).await
    }

    /// Waits until all grants wait for approval.
    async fn until_asked(&self, made: &[Made]) -> anyhow::Result<()> {
        let what = format!("{} grants await approval", made.len());
        eventually(&what, ASKED, async || {
            let grants = self.load.grants().list(&ListParams::default()).await;
            let grants = grants.map_err(|error| error.to_string())?;
            let waiting = grants.iter().flat_map(|grant| &grant.status).filter(|status| {
                status.conditions.iter().any(|condition| {
                    condition.type_ == conditions::ACTIVE && condition.reason == reasons::AWAITING_APPROVAL
                })
            });
            let number = waiting.count();
            if number == made.len() {
                Ok(())
            } else {
                Err(format!("{number} of them wait"))
            }
        })
        .await
    }
}
