//! Last part of the demo: the operator is killed with access in force, and the fuse ends the access.

use anyhow::Context as _;

use crate::claims::Claim;
use crate::people::Who;
use crate::sightings::{Bystander, Happening};
use crate::stage::without_comments;
use crate::story::{NAMESPACE, SOON, Story};

/// Name of the grant whose access the fuse ends.
const GRANT: &str = "ends-anyway";
/// File of that grant.
const GRANT_FILE: &str = "e2e/demo/ends-anyway.yaml";
/// Longest lag of an end by the fuse, in milliseconds. The fuse expires in the second after the end of the access; one
/// controller then deletes the Job, and another controller deletes what the Job owns.
const MAX_FUSE_LAG: i64 = 5_000;
/// Time in which the next operator must record the end, as an argument of `kubectl wait`.
const RECORDED: &str = "--timeout=60s";

impl Story<'_> {
    /// Runs this part: the request, the kill, the end, and the record of the end by a new operator.
    pub async fn outlive_the_operator(&mut self, bystander: &mut Bystander) -> anyhow::Result<()> {
        self.screen.step("Curfew is killed with access in force");
        self.screen.say("Alice creates another grant:");
        self.screen.answer(&without_comments(GRANT_FILE)?);
        self.must(Who::Alice, &["create", "-f", GRANT_FILE]).await?;
        let asked = bystander.sees("the new grant", SOON, |seen| {
            seen.what == Happening::Asked && seen.name == GRANT
        });
        let grant_uid = asked.await?.uid;
        let active = ["wait", "agrant", GRANT, "--for=condition=Active", "--timeout=30s"];
        let in_namespace = ["--namespace", NAMESPACE];
        self.must(Who::Alice, &[&active[..], &in_namespace].concat())
            .await?;
        let access = self.access(GRANT, grant_uid).await?;
        let before = self.may("list").await?;
        let operator = self
            .stage
            .operator
            .take()
            .context("the demo's operator does not run, so it cannot be killed")?;
        self.screen
            .command("root", &format!("kill -9 {}     # curfew run", operator.pid()));
        operator.kill9().await?;
        self.screen.say(
            "No process of Curfew runs now. A Job without pods, the fuse, owns the access and has a deadline.\n\
             At the deadline Kubernetes itself fails the Job, deletes it, and then deletes what the Job owns:",
        );
        let fuse = ["get", "jobs", "--selector", curfew::api::GRANT_UID_LABEL];
        let seconds = [
            "--output",
            "custom-columns=JOB:.metadata.name,DEADLINE_SECONDS:.spec.activeDeadlineSeconds",
        ];
        self.must(Who::Admin, &[&fuse[..], &in_namespace, &seconds].concat())
            .await?;
        let lag = self.watch_it_end(bystander, &access).await?;
        let after = self.may("list").await?;
        self.claims.judge(
            self.screen,
            Claim::EndsWithCurfewDead,
            before == "yes" && after == "no" && (0..=MAX_FUSE_LAG).contains(&lag),
            &format!("{lag} ms late; the API server says {after}"),
        );
        self.screen.step("Curfew is back");
        let kubeconfig = self.operator_kubeconfig.clone();
        self.start_operator(&kubeconfig).await?;
        let recorded = ["wait", "agrant", GRANT, "--for=condition=Ended", RECORDED];
        self.must(Who::Admin, &[&recorded[..], &in_namespace].concat())
            .await?;
        let listed = self
            .must(
                Who::Admin,
                &[&["get", "agrant", GRANT], &in_namespace[..]].concat(),
            )
            .await?;
        self.claims.judge(
            self.screen,
            Claim::RecordedAfterwards,
            listed.text.contains("Expired"),
            "the grant has the state Expired",
        );
        Ok(())
    }
}
