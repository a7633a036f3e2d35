//! The cluster goes on from a backup: what has ended since was never ended, and what was asked since was never asked.
//!
//! Whoever restores a cluster starts its control plane again, and may forget an operator. The control plane is one of
//! its own: everything else in it goes back as well.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use curfew::api::ArtifactKind;
use futures::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Api;
use serde_json::json;

use super::journal::Journal;
use super::lags::Lags;
use super::scene::{Asked, Ground};
use crate::support::Suite;
use crate::tests;

tests![; fresh: what_has_ended_since_the_backup_ends_again_and_nothing_stands_that_nobody_recorded];

/// How soon an operator that lived on has to notice it: a leader renews its lease every 2 s.
const NOTICED: Duration = Duration::from_secs(10);

/// How soon after an operator was started everything must be gone that came back to life.
const BACK: SignedDuration = SignedDuration::from_secs(5);

/// What stands in the backup.
struct Scene {
    /// Ends after the backup, by its deadline.
    ends: Vec<Asked>,
    /// Is deleted after the backup.
    deleted: Asked,
    /// Outlasts everything.
    stays: Asked,
    /// Has lost its grant before the backup, and has its binding still.
    lost: Asked,
}

impl Scene {
    /// Gives access, and leaves it without an operator and without a controller-manager.
    async fn prepare(ground: &Ground<'_>) -> anyhow::Result<Self> {
        const ENDS: usize = 5;
        let namespace = ground.namespace(0)?;
        let operator = ground.operator(None).await?;
        let long = || ground.ask(namespace, json!({"duration": "30m"}));
        let (deleted, stays, lost) = (long().await?, long().await?, long().await?);
        let short = (0..ENDS).map(|_| ground.ask(namespace, json!({"duration": "20s"})));
        let ends = try_join_all(short).await?;
        for asked in ends.iter().chain([&deleted, &stays, &lost]) {
            ground.is_active(asked).await?;
        }
        operator.kill9().await?;
        // Or what the grant held would be collected.
        ground.suite.plane.stop_controller_manager().await?;
        ground.delete(&lost).await?;
        ground.told(&lost, "its grant is gone", |tale| tale.gone).await?;
        Ok(Self {
            ends,
            deleted,
            stays,
            lost,
        })
    }

    /// What happens after the backup, and is undone by it: the end of most, and a request.
    async fn go_on(&self, ground: &Ground<'_>) -> anyhow::Result<Asked> {
        for asked in &self.ends {
            ground
                .told(asked, "it expires", |tale| tale.state() == "Expired")
                .await?;
            ground.nothing_left(asked).await?;
        }
        ground.delete(&self.deleted).await?;
        ground.nothing_left(&self.deleted).await?;
        ground.nothing_left(&self.lost).await?;
        let later = ground
            .ask(ground.namespace(0)?, json!({"duration": "30m"}))
            .await?;
        ground.is_active(&later).await?;
        Ok(later)
    }

    /// What has to be so after the backup was restored, with an operator alive.
    async fn is_put_right(
        &self,
        ground: &Ground<'_>,
        later: &Asked,
        by: Timestamp,
    ) -> anyhow::Result<SignedDuration> {
        for asked in self.ends.iter().chain([&self.lost]) {
            ground.nothing_left(asked).await.context("it came back to life")?;
        }
        let late = Lags::last_gone(ground, &self.ends)?
            .max(Lags::last_gone(ground, std::slice::from_ref(&self.lost))?);
        ensure!(
            late <= by,
            "what came back to life was gone {} too late",
            late - by
        );
        for asked in &self.ends {
            ground
                .told(asked, "it expires again", |tale| tale.state() == "Expired")
                .await?;
        }
        let made = ground.journal.pieces(&later.uid);
        ensure!(made.is_empty(), "of a request that was never made: {made:?}");
        // Nobody knows any more that it was ended before its time.
        let bindings = Api::<RoleBinding>::namespaced(ground.suite.admin.clone(), ground.namespace(0)?);
        for asked in [&self.deleted, &self.stays] {
            let binding = ground.piece(asked, ArtifactKind::RoleBinding)?;
            ensure!(
                binding.gone_at.is_none() && bindings.get_opt(&binding.name).await?.is_some(),
                "access whose time is not over has ended: {asked:?}"
            );
        }
        // Whoever is asked now lives in the present.
        let now = ground
            .ask(ground.namespace(0)?, json!({"duration": "1s"}))
            .await?;
        ground
            .told(&now, "it is granted and expires", |tale| {
                tale.was_active() && tale.state() == "Expired"
            })
            .await?;
        ground.delete(&self.deleted).await?;
        ground.nothing_left(&self.deleted).await?;
        Ok(late.duration_since(by - BACK))
    }
}

/// Puts the cluster back, without a controller-manager, and looks at it with new eyes: a watch that was open before knows
/// versions that are yet to come.
async fn restore(ground: &mut Ground<'_>) -> anyhow::Result<()> {
    let plane = &ground.suite.plane;
    plane.stop_controller_manager().await?;
    plane.restore().await?;
    ground.journal = Journal::begin(plane.admin().await?).await?;
    ground.grants_are_served().await
}

async fn what_has_ended_since_the_backup_ends_again_and_nothing_stands_that_nobody_recorded(
    suite: &Suite,
) -> anyhow::Result<()> {
    suite.operator()?.kill9().await?;
    let mut ground = Ground::prepare(suite, 1, json!({})).await?;
    let scene = Scene::prepare(&ground).await?;
    suite.plane.back_up().await?;
    ground.grants_are_served().await?;
    suite.plane.start_controller_manager().await?;

    let operator = ground.operator(None).await?;
    let later = scene.go_on(&ground).await?;
    operator.kill9().await?;
    restore(&mut ground).await?;
    let operator = ground.operator(None).await?;
    let ready = Timestamp::now();
    let anew = scene.is_put_right(&ground, &later, ready + BACK).await?;
    suite.plane.start_controller_manager().await?;

    // The ends are over again; only a request is new.
    let later = ground
        .ask(ground.namespace(0)?, json!({"duration": "30m"}))
        .await?;
    ground.is_active(&later).await?;
    restore(&mut ground).await?;
    let back = Timestamp::now();
    let code = operator.gone_within(NOTICED).await;
    let code =
        code.with_context(|| format!("it lives on in another time; it logged:\n{}", operator.log()))?;
    let noticed = Timestamp::now().duration_since(back);
    ensure!(
        code != 0 && operator.log().contains("restored to an earlier state"),
        "it ended with {code}:\n{}",
        operator.log()
    );
    let operator = ground.operator(None).await?;
    let ready = Timestamp::now();
    let again = scene.is_put_right(&ground, &later, ready + BACK).await?;
    suite.plane.start_controller_manager().await?;
    println!(
        "restored from a backup: {} ends and a binding without a grant came back to life; gone {anew:#} after an operator \
         was started; one that lived on noticed after {noticed:#}, and all was gone {again:#} after it was started anew",
        scene.ends.len()
    );
    ground.delete(&scene.stays).await?;
    ground.nothing_left_anywhere().await?;
    operator.kill9().await
}
