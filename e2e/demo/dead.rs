//! The last act: Curfew is killed with access in force.

use anyhow::Context as _;

use crate::claims::Claim;
use crate::people::Who;
use crate::sightings::{Bystander, Happening};
use crate::stage::without_comments;
use crate::story::{NAMESPACE, SOON, Story};

/// The grant.
const GRANT: &str = "ends-anyway";
/// Its file.
const GRANT_FILE: &str = "e2e/demo/ends-anyway.yaml";
/// By when a fuse has ended it, in milliseconds: it burns in the second after the end, is deleted by one controller and
/// what it owns by another.
const FUSE: i64 = 5_000;
/// By when an operator that comes back has recorded it.
const RECORDED: &str = "--timeout=60s";

impl Story<'_> {
    /// From the request over the end to the record of it.
    pub async fn outlive_the_operator(&mut self, bystander: &mut Bystander) -> anyhow::Result<()> {
        self.screen.step("Curfew is killed with access in force");
        self.screen.say("Alice asks once more:");
        self.screen.answer(&without_comments(GRANT_FILE)?);
        self.must(Who::Alice, &["create", "-f", GRANT_FILE]).await?;
        let asked = bystander.sees("the grant", SOON, |seen| {
            seen.what == Happening::Asked && seen.name == GRANT
        });
        let grant_uid = asked.await?.uid;
        let active = ["wait", "agrant", GRANT, "--for=condition=Active", "--timeout=30s"];
        let there = ["--namespace", NAMESPACE];
        self.must(Who::Alice, &[&active[..], &there].concat()).await?;
        let access = self.access(GRANT, grant_uid).await?;
        let before = self.may("list").await?;
        let operator = self.stage.operator.take().context("no operator runs")?;
        self.screen
            .command("root", &format!("kill -9 {}     # curfew run", operator.pid()));
        operator.kill9().await?;
        self.screen.say(
            "Now nobody of Curfew is left. What the access hangs on is a Job that runs no pod and has a deadline;\n\
             Kubernetes itself fails it, deletes it, and with it what it owns:",
        );
        let fuse = ["get", "jobs", "--selector", curfew::api::GRANT_UID_LABEL];
        let seconds = [
            "--output",
            "custom-columns=JOB:.metadata.name,DEADLINE_SECONDS:.spec.activeDeadlineSeconds",
        ];
        self.must(Who::Admin, &[&fuse[..], &there, &seconds].concat())
            .await?;
        let lag = self.watch_it_end(bystander, &access).await?;
        let after = self.may("list").await?;
        self.claims.judge(
            self.screen,
            Claim::EndsWithCurfewDead,
            before == "yes" && after == "no" && (0..=FUSE).contains(&lag),
            &format!("{lag} ms late; the API server says {after}"),
        );
        self.screen.step("Curfew is back");
        let kubeconfig = self.operator_kubeconfig.clone();
        self.start_operator(&kubeconfig).await?;
        let recorded = ["wait", "agrant", GRANT, "--for=condition=Ended", RECORDED];
        self.must(Who::Admin, &[&recorded[..], &there].concat()).await?;
        let listed = self
            .must(Who::Admin, &[&["get", "agrant", GRANT], &there[..]].concat())
            .await?;
        self.claims.judge(
            self.screen,
            Claim::RecordedAfterwards,
            listed.text.contains("Expired"),
            "the grant says Expired",
        );
        Ok(())
    }
}
