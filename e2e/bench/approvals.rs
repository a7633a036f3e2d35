//! What it takes from somebody's yes to access, and what requests that wait for one cost.

use std::time::Duration;

use curfew::api::{conditions, reasons};
use kube::api::ListParams;
use tokio::time::{MissedTickBehavior, interval};

use crate::contender::Contender;
use crate::harness::eventually;
use crate::load::{Made, Wish};
use crate::readings::milliseconds;
use crate::stages::{Bench, PACE, Scale, in_so_long};

/// How long requests may take to wait for people.
const ASKED: Duration = Duration::from_mins(3);

impl Bench<'_> {
    /// Requests that somebody approves one at a time, and then as many as wait at once for nobody.
    pub async fn approvals(&mut self, scale: &Scale) -> anyhow::Result<()> {
        let who = Contender::Curfew;
        self.teller
            .phase(format_args!("{who}: {} approvals, one at a time", scale.single));
        let running = self.start(who).await?;
        self.warm_up(&running).await?;
        let far = in_so_long(Duration::from_hours(2))?;
        let made = self.load.burst(scale.single, Wish::Approval, far).await?;
        self.until_asked(&made).await?;
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut approved = Vec::with_capacity(made.len());
        for one in &made {
            pace.tick().await;
            approved.push(self.load.approve(one).await?);
        }
        self.until_seen("made", &running, &made, ASKED, |seen| seen.came.is_some())
            .await?;
        let seen = self.sightings.of(made.iter().map(|made| made.uid.as_str()))?;
        let times: Vec<f64> = approved
            .iter()
            .zip(&seen)
            .filter_map(|(approved, seen)| Some(milliseconds(*approved, seen.came?).max(0.0)))
            .collect();
        self.readings.put_times(who, "approval_ms.single", &times);
        self.load.clear().await?;

        let made = self.load.burst(scale.live, Wish::Approval, far).await?;
        self.until_asked(&made).await?;
        self.idle(&running, &format!("awaiting{}", scale.live), scale.idle)
            .await?;
        self.stop(running).await
    }

    /// Waits until all of them wait for people.
    async fn until_asked(&self, made: &[Made]) -> anyhow::Result<()> {
        let what = format!("{} grants await approval", made.len());
        eventually(&what, ASKED, async || {
            let grants = self.load.grants().list(&ListParams::default()).await;
            let grants = grants.map_err(|error| error.to_string())?;
            let waits = grants.iter().flat_map(|grant| &grant.status).filter(|status| {
                status.conditions.iter().any(|condition| {
                    condition.type_ == conditions::ACTIVE && condition.reason == reasons::AWAITING_APPROVAL
                })
            });
            let waiting = waits.count();
            if waiting == made.len() {
                Ok(())
            } else {
                Err(format!("{waiting} do"))
            }
        })
        .await
    }
}
