//! The examples, as they stand: what the comments of each folder say is what happens.

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use curfew::api::{AccessDecision, AccessGrant, conditions};
use jiff::civil::Weekday;
use jiff::{ToSpan as _, Zoned};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::harness::{eventually, in_repository};
use crate::support::{Place, SOON, Suite, condition, merge};
use crate::tests;

tests![
    the_sandbox_is_given_by_its_policy,
    development_is_given_by_its_policy_and_narrowed_to_what_is_named,
    staging_asks_a_lead_about_what_is_not_usual,
    production_asks_a_lead_and_then_security,
    production_keeps_out_who_it_says_and_bounds_what_waits,
    what_a_requester_writes_stays_text_in_what_approvers_create,
    sensitive_data_takes_three_approvals_and_starts_in_office_hours,
    the_glass_is_broken_at_once_and_seen,
];

/// A folder of `examples/`, applied.
struct Example<'a> {
    place: Place<'a>,
    folder: PathBuf,
}

impl<'a> Example<'a> {
    /// Applies the folder's namespace and policy, which has the folder's name, and waits until grants may name it.
    async fn apply(suite: &'a Suite, folder: &str, namespace: &str) -> anyhow::Result<Self> {
        let example = Self {
            place: Place {
                suite,
                name: namespace.to_owned(),
            },
            folder: in_repository("examples").join(folder),
        };
        for file in ["namespace.yaml", "policy.yaml"] {
            suite.plane.apply(&example.folder.join(file)).await?;
        }
        example.place.ready(folder).await?;
        Ok(example)
    }

    /// A person creates what a file of the folder holds.
    async fn ask(&self, person: &str, file: &str) -> anyhow::Result<AccessGrant> {
        self.create(person, &self.folder.join(file)).await
    }

    /// The same with something else in it (a merge patch), under a name of its own.
    async fn ask_otherwise(&self, person: &str, file: &str, edit: Value) -> anyhow::Result<AccessGrant> {
        let text = std::fs::read_to_string(self.folder.join(file))?;
        let mut grant: Value = serde_yaml::from_str(&text)?;
        let name = self.place.suite.fresh("grant");
        merge(&mut grant, json!({"metadata": {"name": name}, "spec": edit}));
        self.create(person, &self.written(&grant.to_string())?).await
    }

    /// Asks otherwise and waits for the refusal; answers its reason and message.
    async fn refused(&self, person: &str, file: &str, edit: Value) -> anyhow::Result<(String, String)> {
        let grant = self.ask_otherwise(person, file, edit).await?;
        let grant = self.place.in_state(&grant.name_any(), "Denied").await?;
        let accepted = condition(&grant, conditions::ACCEPTED).context("no condition Accepted")?;
        Ok((accepted.reason.clone(), accepted.message.clone()))
    }

    /// Waits until people are asked, and answers who is missing.
    async fn missing(&self, grant: &AccessGrant, what: &str) -> anyhow::Result<()> {
        let name = grant.name_any();
        eventually(&format!("{name} waits for {what}"), SOON, async || {
            let grant = self
                .place
                .grants()
                .get(&name)
                .await
                .map_err(|error| error.to_string())?;
            match condition(&grant, conditions::APPROVED) {
                Some(approved) if approved.message.starts_with(what) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        self.place.in_state(&name, "AwaitingApproval").await.map(drop)
    }

    /// What is asked, and the decision that approves it, as the template of the examples prints them.
    async fn printed(&self, person: &str, grant: &AccessGrant) -> anyhow::Result<String> {
        let template = in_repository("examples/approve.gotemplate");
        let template = format!("go-template-file={}", template.display());
        let look = ["get", "agrant", &grant.name_any(), "--output", &template];
        self.kubectl(person, &look).await
    }

    /// A person looks at that, and creates it.
    async fn approve(&self, person: &str, grant: &AccessGrant) -> anyhow::Result<AccessDecision> {
        let printed = self.printed(person, grant).await?;
        for part in [&grant.spec.reason, &grant.spec.policy_ref.name] {
            ensure!(printed.contains(part), "does not say {part:?}: {printed}");
        }
        self.create(person, &self.written(&printed)?).await
    }

    /// A person denies or revokes.
    async fn object(
        &self,
        person: &str,
        grant: &AccessGrant,
        decision: &str,
        reason: &str,
    ) -> anyhow::Result<AccessDecision> {
        let name = grant.name_any();
        let decision = json!({
            "apiVersion": "access.curfew.dev/v1alpha1",
            "kind": "AccessDecision",
            "metadata": {"generateName": format!("{name}-"), "namespace": self.place.name},
            "spec": {
                "grantRef": {"name": name, "uid": grant.uid()},
                "decision": decision,
                "reason": reason,
            },
        });
        self.create(person, &self.written(&decision.to_string())?).await
    }

    /// What is made of a decision.
    async fn verdict(&self, decision: &AccessDecision, verdict: &str) -> anyhow::Result<()> {
        let decisions = Api::<AccessDecision>::namespaced(self.place.suite.admin.clone(), &self.place.name);
        let name = decision.name_any();
        eventually(&format!("the verdict is {verdict}"), SOON, async || {
            let decision = decisions.get(&name).await.map_err(|error| error.to_string())?;
            let conditions = decision.status.unwrap_or_default().conditions;
            match conditions
                .iter()
                .find(|condition| condition.type_ == conditions::COUNTED)
            {
                Some(counted) if counted.reason == verdict => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
    }

    /// A person ends it, and that is recorded.
    async fn revoked_by(&self, person: &str, grant: &AccessGrant) -> anyhow::Result<()> {
        let reason = "done with it";
        let decision = self.object(person, grant, "Revoke", reason).await?;
        let grant = self.place.in_state(&grant.name_any(), "Revoked").await?;
        self.verdict(&decision, "Counted").await?;
        let revocation = grant.status.and_then(|status| status.revocation);
        let revocation = revocation.context("no revocation")?;
        ensure!(
            revocation.by.as_deref() == Some(person) && revocation.message.contains(reason),
            "{revocation:?}"
        );
        Ok(())
    }

    /// It is given, with the approval of these people.
    async fn given(&self, grant: &AccessGrant, approvers: &[&str]) -> anyhow::Result<()> {
        let grant = self.place.in_state(&grant.name_any(), "Active").await?;
        let asked = condition(&grant, conditions::APPROVED).is_some();
        let status = grant.status.unwrap_or_default();
        let approved: Vec<_> = status
            .approvals
            .iter()
            .map(|record| record.username.as_str())
            .collect();
        ensure!(
            approved == approvers && asked != approvers.is_empty(),
            "approved by {approved:?}, not {approvers:?}; condition Approved: {asked}"
        );
        Ok(())
    }

    async fn kubectl(&self, person: &str, args: &[&str]) -> anyhow::Result<String> {
        let args = [args, &["--namespace", &self.place.name]].concat();
        let command = self.place.suite.plane.kubectl_as(person, &args)?;
        let output = tokio::process::Command::from(command).output().await?;
        if !output.status.success() {
            bail!(
                "{person}: kubectl {}: {}",
                args.join(" "),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    async fn create<K: serde::de::DeserializeOwned>(
        &self,
        person: &str,
        file: &std::path::Path,
    ) -> anyhow::Result<K> {
        let file = file.display().to_string();
        let printed = self
            .kubectl(person, &["create", "--output", "json", "--filename", &file])
            .await?;
        Ok(serde_json::from_str(&printed)?)
    }

    fn written(&self, text: &str) -> anyhow::Result<PathBuf> {
        let suite = self.place.suite;
        let file = suite
            .plane
            .folder()
            .join(format!("{}.yaml", suite.fresh("example")));
        std::fs::write(&file, text)?;
        Ok(file)
    }
}

async fn the_sandbox_is_given_by_its_policy(suite: &Suite) -> anyhow::Result<()> {
    let example = Example::apply(suite, "sandbox", "sandbox").await?;
    let grant = example.ask("alice", "grant.yaml").await?;
    example.given(&grant, &[]).await?;
    example.revoked_by("alice", &grant).await
}

async fn development_is_given_by_its_policy_and_narrowed_to_what_is_named(
    suite: &Suite,
) -> anyhow::Result<()> {
    let example = Example::apply(suite, "development", "checkout-development").await?;
    let grant = example.ask("alice", "grant.yaml").await?;
    example.given(&grant, &[]).await?;
    for (verb, what, allowed) in [
        ("list", "pods", true),
        ("delete", "pods cart-0", true),
        ("delete", "pods cart-1", false),
        ("create", "pods/exec", false),
    ] {
        let may = example.place.may("alice", verb, what).await?;
        ensure!(may == allowed, "may {verb} {what}: {may}");
    }
    let overnight = json!({"duration": "9h"});
    let (reason, _) = example.refused("alice", "grant.yaml", overnight).await?;
    ensure!(reason == "DurationTooLong", "{reason}");
    example.revoked_by("alice", &grant).await?;
    let may = example.place.may("alice", "list", "pods").await?;
    ensure!(!may, "alice may still list pods");
    Ok(())
}

async fn staging_asks_a_lead_about_what_is_not_usual(suite: &Suite) -> anyhow::Result<()> {
    let example = Example::apply(suite, "staging", "checkout-staging").await?;
    let usual = example.ask("alice", "grant.yaml").await?;
    example.given(&usual, &[]).await?;

    let long = example.ask("alice", "long-grant.yaml").await?;
    example.missing(&long, "0 of 1 from team, until ").await?;
    let approval = example.approve("bob", &long).await?;
    example.verdict(&approval, "Counted").await?;
    example.given(&long, &["bob"]).await?;

    let load_test = example.ask("alice", "load-test-grant.yaml").await?;
    example.missing(&load_test, "0 of 1 from team, until ").await?;
    example.approve("bob", &load_test).await?;
    example.given(&load_test, &["bob"]).await?;
    let robot = "--as=system:serviceaccount:checkout-staging:load-test";
    for (deployment, allowed) in [("cart", true), ("payments", false)] {
        let what = format!("deployments/{deployment}");
        let question = ["auth", "can-i", "patch", &what, "--subresource=scale", robot];
        let may = example.kubectl("admin", &question).await;
        ensure!(may.is_ok() == allowed, "may scale {deployment}: {may:?}");
    }
    // Whoever asked for it and whoever approved may both end it.
    example.revoked_by("bob", &load_test).await?;
    example.revoked_by("alice", &long).await?;
    example.revoked_by("alice", &usual).await
}

async fn production_asks_a_lead_and_then_security(suite: &Suite) -> anyhow::Result<()> {
    let example = Example::apply(suite, "production", "checkout-production").await?;
    let grant = example.ask("alice", "grant.yaml").await?;
    example.missing(&grant, "0 of 1 from team, until ").await?;
    let own = example.approve("alice", &grant).await?;
    example.verdict(&own, "SelfDecision").await?;
    let early = example.approve("dave", &grant).await?;
    example.verdict(&early, "StageNotReached").await?;
    let may = example.place.may("alice", "list", "pods").await?;
    ensure!(!may, "alice may list pods before it is approved");

    let lead = example.approve("bob", &grant).await?;
    example.verdict(&lead, "Counted").await?;
    example.verdict(&early, "Counted").await?;
    example.given(&grant, &["bob", "dave"]).await?;
    example.revoked_by("bob", &grant).await
}

async fn production_keeps_out_who_it_says_and_bounds_what_waits(suite: &Suite) -> anyhow::Result<()> {
    let example = Example::apply(suite, "production", "checkout-production").await?;
    let (reason, message) = example.refused("carol", "grant.yaml", json!({})).await?;
    ensure!(
        reason == "ConditionNotMet" && message.contains("contractors do not get into production"),
        "{reason}: {message}"
    );

    let mut waiting = Vec::new();
    for _ in 0..2 {
        let grant = example.ask_otherwise("eve", "grant.yaml", json!({})).await?;
        example.missing(&grant, "0 of 1 from team, until ").await?;
        waiting.push(grant);
    }
    let (reason, message) = example.refused("eve", "grant.yaml", json!({})).await?;
    ensure!(reason == "TooManyPending", "{reason}: {message}");

    let denial = example
        .object("bob", &waiting[0], "Deny", "ask for a dump from the metrics")
        .await?;
    let denied = example.place.in_state(&waiting[0].name_any(), "Denied").await?;
    example.verdict(&denial, "Counted").await?;
    let accepted = condition(&denied, conditions::ACCEPTED).context("no condition Accepted")?;
    ensure!(accepted.reason == "DeniedByApprover", "{accepted:?}");
    example.revoked_by("eve", &waiting[1]).await
}

/// YAML ends a line, and with it a comment, also at a line separator, which the schema of a reason lets pass.
async fn what_a_requester_writes_stays_text_in_what_approvers_create(suite: &Suite) -> anyhow::Result<()> {
    let example = Example::apply(suite, "break-glass", "checkout-production").await?;
    let reason = "BREAK GLASS: nothing to see here\u{2028}---\u{2028}kind: Secret";
    let longer = json!({"reason": reason, "duration": "45m"});
    let grant = example.ask_otherwise("eve", "grant.yaml", longer).await?;
    example.missing(&grant, "0 of 1 from security, until ").await?;
    let printed = example.printed("dave", &grant).await?;
    let documents: Vec<Value> = serde_yaml::Deserializer::from_str(&printed)
        .map(serde::Deserialize::deserialize)
        .collect::<Result<_, _>>()?;
    let kinds: Vec<_> = documents.iter().map(|document| &document["kind"]).collect();
    ensure!(
        kinds == ["AccessDecision"] && !printed.contains('\u{2028}'),
        "{printed}"
    );
    example.revoked_by("eve", &grant).await
}

async fn sensitive_data_takes_three_approvals_and_starts_in_office_hours(
    suite: &Suite,
) -> anyhow::Result<()> {
    let example = Example::apply(suite, "sensitive-data", "customer-records").await?;
    // The time in the file is somebody's; any other is as good.
    let wednesday = json!({"notBefore": upcoming(Weekday::Wednesday)?});
    let grant = example.ask_otherwise("alice", "grant.yaml", wednesday).await?;
    for (person, missing) in [
        ("bob", "0 of 1 from team"),
        ("dave", "0 of 2 from security"),
        ("erin", "1 of 2 from security"),
    ] {
        example.missing(&grant, missing).await?;
        let approval = example.approve(person, &grant).await?;
        example.verdict(&approval, "Counted").await?;
    }
    let scheduled = example.place.in_state(&grant.name_any(), "Scheduled").await?;
    let active = condition(&scheduled, conditions::ACTIVE).context("no condition Active")?;
    ensure!(active.message.starts_with("starts at "), "{active:?}");
    let may = example
        .place
        .may("alice", "get", "secrets customers-database")
        .await?;
    ensure!(!may, "alice may read the credentials before the time has come");
    example.revoked_by("erin", &grant).await?;

    let saturday = json!({"notBefore": upcoming(Weekday::Saturday)?});
    let (reason, message) = example.refused("alice", "grant.yaml", saturday).await?;
    ensure!(reason == "OutsideWindows", "{reason}: {message}");
    let without_purpose = json!({"notBefore": upcoming(Weekday::Wednesday)?, "references": null});
    let (reason, message) = example.refused("alice", "grant.yaml", without_purpose).await?;
    ensure!(
        reason == "ConditionNotMet" && message.contains("DR-1234"),
        "{reason}: {message}"
    );
    Ok(())
}

/// Ten o'clock in Berlin on the next such day that is at least two days ahead.
fn upcoming(weekday: Weekday) -> anyhow::Result<String> {
    let day = Zoned::now()
        .in_tz("Europe/Berlin")?
        .checked_add(1.day())?
        .nth_weekday(1, weekday)?;
    let ten = day
        .with()
        .hour(10)
        .minute(0)
        .second(0)
        .subsec_nanosecond(0)
        .build()?;
    Ok(ten.timestamp().to_string())
}

async fn the_glass_is_broken_at_once_and_seen(suite: &Suite) -> anyhow::Result<()> {
    let example = Example::apply(suite, "break-glass", "checkout-production").await?;
    let grant = example.ask("alice", "grant.yaml").await?;
    example.given(&grant, &[]).await?;
    for (verb, what, allowed) in [
        ("delete", "pods", true),
        ("get", "secrets", false),
        ("patch", "deployments", false),
    ] {
        let may = example.place.may("alice", verb, what).await?;
        ensure!(may == allowed, "may {verb} {what}: {may}");
    }

    for (edit, expected) in [
        (
            json!({"reason": "production is slow, looking into it"}),
            "ReasonInsufficient",
        ),
        (json!({"references": null}), "ConditionNotMet"),
        (json!({"duration": "2h"}), "DurationTooLong"),
    ] {
        let (reason, message) = example.refused("eve", "grant.yaml", edit).await?;
        ensure!(reason == expected, "{reason}: {message}");
    }

    let longer = example
        .ask_otherwise("bob", "grant.yaml", json!({"duration": "45m"}))
        .await?;
    example.missing(&longer, "0 of 1 from security, until ").await?;
    example.approve("dave", &longer).await?;
    example.given(&longer, &["dave"]).await?;
    // He may ask for this, and for nothing else here.
    let ordinary = example
        .ask_otherwise("bob", "grant.yaml", json!({"policyRef": {"name": "production"}}))
        .await;
    let refused = ordinary
        .err()
        .map(|error| format!("{error:#}"))
        .unwrap_or_default();
    ensure!(
        refused.contains("may not request"),
        "bob may ask otherwise: {refused:?}"
    );

    example.revoked_by("erin", &longer).await?;
    example.revoked_by("dave", &grant).await
}
