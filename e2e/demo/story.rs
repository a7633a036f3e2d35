//! The steps of the demo in order, and the part about the sandbox.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use serde_json::Value;

use crate::claims::{Claim, Claims};
use crate::clock::Clock;
use crate::harness::eventually;
use crate::people::Who;
use crate::screen::Screen;
use crate::sightings::{Bystander, Happening};
use crate::stage::{Answer, Installed, Stage, without_comments};

/// Namespace of most steps.
pub const NAMESPACE: &str = "sandbox";
/// Name of the grant in [`GRANT_FILE`].
const GRANT: &str = "checkout-returns-500";
/// File of the grant.
const GRANT_FILE: &str = "examples/sandbox/grant.yaml";
/// A request for a longer duration than the policy allows.
const TOO_LONG: &str = "e2e/demo/too-long.yaml";
/// A request with a forged requester.
const FORGED: &str = "e2e/demo/forged.yaml";
/// A request for a role that could be used for persistence.
const ADMINISTRATOR: &str = "e2e/demo/persistence.yaml";
/// Longest delay of a start or an end while an operator runs, in milliseconds.
const MAX_DELAY: i64 = 2_000;
/// Deadline for the API server to apply what was installed, and for every wait without a deadline of its own.
pub const SOON: Duration = Duration::from_mins(1);

/// Runs all steps. A claim that is not true does not stop the demo; a command that fails does.
pub async fn tell(stage: &mut Stage, screen: &mut Screen, claims: &mut Claims) -> anyhow::Result<()> {
    let mut story = Story {
        stage,
        screen,
        claims,
        clock: Clock::local(),
        operator_kubeconfig: String::new(),
    };
    story.install().await?;
    let mut bystander = story.run_the_operator().await?;
    story.apply_the_policy().await?;
    story.show_no_access().await?;
    let end = story.ask(&mut bystander).await?;
    story.show_access().await?;
    story.wait_for_the_end(&mut bystander, &end).await?;
    story.deny_too_much().await?;
    story.deny_a_forgery().await?;
    story.deny_persistence().await?;
    story.show_events().await?;
    story.check_artifacts_are_gone().await?;
    story.let_people_decide().await?;
    story.outlive_the_operator(&mut bystander).await
}

/// Access that the demo watches until its end.
pub struct Access {
    grant_uid: String,
    expires_at: Timestamp,
}

/// State of the demo while the steps run.
pub struct Story<'a> {
    /// Cluster, people and kubectl.
    pub stage: &'a mut Stage,
    /// Output.
    pub screen: &'a mut Screen,
    /// Results of the claims so far.
    pub claims: &'a mut Claims,
    /// Kubeconfig of the operator; empty before the operator is started.
    pub operator_kubeconfig: String,
    clock: Clock,
}

impl Story<'_> {
    async fn show_no_access(&mut self) -> anyhow::Result<()> {
        self.screen.step("Alice may not list pods in the sandbox");
        let answer = self.may("list").await?;
        self.claims.judge(
            self.screen,
            Claim::NoAccessBefore,
            answer == "no",
            &format!("the API server says {answer}"),
        );
        Ok(())
    }

    async fn ask(&mut self, bystander: &mut Bystander) -> anyhow::Result<Access> {
        self.screen.step("Alice asks for access");
        self.screen.say(&format!(
            "She names the policy, the reason and the duration. This is the whole of {GRANT_FILE}:"
        ));
        self.screen.answer(&without_comments(GRANT_FILE)?);
        self.must(Who::Alice, &["create", "-f", GRANT_FILE]).await?;
        let asked = bystander.sees("the new grant", SOON, |seen| {
            seen.what == Happening::Asked && seen.name == GRANT
        });
        let asked = asked.await?;
        let bound = bystander.sees("the new RoleBinding", SOON, |seen| {
            seen.what == Happening::Bound && seen.grant_uid == asked.uid
        });
        let bound = bound.await?;
        let took = bound.at.duration_since(asked.at);
        let in_time = took.as_millis() <= i128::from(MAX_DELAY);
        self.claims.judge(
            self.screen,
            Claim::AccessComesAtOnce,
            in_time,
            &format!(
                "{} ms from the grant to its RoleBinding, seen by a watch",
                took.as_millis()
            ),
        );
        self.grant(&["wait", "--for=condition=Active", "--timeout=30s"])
            .await?;
        self.screen
            .say("She did not say who she is. The API server filled in the requester:");
        let requester = self
            .grant(&["get", "--output", "jsonpath={.spec.requester}"])
            .await?;
        let requester: Value = serde_json::from_str(&requester.text).unwrap_or_default();
        let name = requester
            .get("username")
            .and_then(Value::as_str)
            .unwrap_or("nobody");
        self.claims.judge(
            self.screen,
            Claim::RequesterIsFilledIn,
            name == Who::Alice.name(),
            &format!("the API server recorded {name}"),
        );
        self.access(GRANT, asked.uid).await
    }

    async fn show_access(&mut self) -> anyhow::Result<()> {
        self.screen.step("Alice may list pods in the sandbox");
        self.must(Who::Alice, &["get", "agrant", "--namespace", NAMESPACE])
            .await?;
        let list = self.may("list").await?;
        self.claims.judge(
            self.screen,
            Claim::AccessDuring,
            list == "yes",
            &format!("the API server says {list}"),
        );
        let delete = self.may("delete").await?;
        self.claims.judge(
            self.screen,
            Claim::NothingBeyond,
            delete == "no",
            &format!("the API server says {delete}"),
        );
        Ok(())
    }

    async fn wait_for_the_end(&mut self, bystander: &mut Bystander, access: &Access) -> anyhow::Result<()> {
        self.screen.step("The access expires");
        self.screen.say(&format!(
            "The access expires at {} ({}). Nobody has to do anything.",
            self.clock.time(access.expires_at),
            self.clock.zone()
        ));
        let lag = self.watch_it_end(bystander, access).await?;
        self.claims.judge(
            self.screen,
            Claim::EndsOnTime,
            (0..=MAX_DELAY).contains(&lag),
            &format!("{lag} ms late"),
        );
        let list = self.may("list").await?;
        self.claims.judge(
            self.screen,
            Claim::NoAccessAfter,
            list == "no",
            &format!("the API server says {list}"),
        );
        Ok(())
    }

    /// Counts down to the end of Alice's access. Returns the lag: how many milliseconds later the RoleBinding was gone.
    pub async fn watch_it_end(&mut self, bystander: &mut Bystander, access: &Access) -> anyhow::Result<i64> {
        let end = access.expires_at;
        let deadline = Duration::try_from(end.duration_since(Timestamp::now())).unwrap_or_default();
        let gone = bystander.sees(
            "the removal of the RoleBinding",
            deadline.saturating_add(SOON),
            |seen| seen.what == Happening::Unbound && seen.grant_uid == access.grant_uid,
        );
        let gone = self.screen.counting_down(end, gone).await?.at;
        let lag = gone.as_millisecond() - end.as_millisecond();
        self.screen.step("Alice may not list pods any more");
        self.screen.say(&format!(
            "promised end         {}\nRoleBinding deleted  {}   {lag} ms later, seen by a watch",
            self.clock.time(end),
            self.clock.time(gone)
        ));
        Ok(lag)
    }

    async fn deny_too_much(&mut self) -> anyhow::Result<()> {
        self.screen.step("Alice asks for too much");
        self.screen
            .say("She asks for eight hours; the policy allows four:");
        self.screen.answer(&without_comments(TOO_LONG)?);
        self.must(Who::Alice, &["create", "-f", TOO_LONG]).await?;
        let wait = [
            "wait",
            "--for=condition=Accepted=False",
            "agrant/whole-day",
            "--namespace",
            NAMESPACE,
        ];
        self.must(Who::Alice, &[&wait[..], &["--timeout=30s"]].concat())
            .await?;
        let message = "jsonpath={.status.conditions[?(@.type==\"Accepted\")].message}";
        let get = [
            "get",
            "agrant/whole-day",
            "--namespace",
            NAMESPACE,
            "--output",
            message,
        ];
        let message = self.must(Who::Alice, &get).await?.text;
        let says_what_is_allowed = message.contains("spec.duration") && message.contains("4h");
        self.screen
            .say("No access was created. The request stays as a record with the state Denied.");
        self.claims.judge(
            self.screen,
            Claim::TooMuchIsRefused,
            says_what_is_allowed,
            "the denial names the field, the request and the limit",
        );
        Ok(())
    }

    async fn deny_a_forgery(&mut self) -> anyhow::Result<()> {
        self.screen.step("Eve asks in Alice's name");
        self.screen
            .say("Everyone in the group devs may ask, so Eve may too. But she writes that Alice asks:");
        self.screen.answer(&without_comments(FORGED)?);
        let answer = self.show(Who::Eve, &["create", "-f", FORGED]).await?;
        let denied = !answer.ok && answer.text.contains("spec.requester.username must be you");
        self.screen.say(
            "The API server denied the request, and no object was created. This works also while no operator runs.",
        );
        self.claims.judge(
            self.screen,
            Claim::ForgeryIsRefused,
            denied,
            if denied {
                "denied by the API server"
            } else {
                "not denied"
            },
        );
        Ok(())
    }

    async fn deny_persistence(&mut self) -> anyhow::Result<()> {
        self.screen
            .step("Alice has the role admin for a moment, and cannot keep access");
        self.screen.say(
            "With the role admin of a namespace Alice could bind a role to herself for ever. Another policy hands\n\
             out this role for at most one minute, and allows it explicitly (escalation: Allow):",
        );
        self.stage.installed.push(Installed::Administrator);
        let apply = [&["apply", "--server-side"], Installed::Administrator.files()].concat();
        self.must(Who::Admin, &apply).await?;
        let policy = "apol/sandbox-administrator";
        let ready = ["wait", "--for=condition=Ready", policy, "--timeout=60s"];
        self.must(Who::Admin, &ready).await?;
        self.must(Who::Alice, &["create", "-f", ADMINISTRATOR]).await?;
        let grant = ["agrant/administrator", "--namespace", NAMESPACE];
        let active = ["wait", "--for=condition=Active", "--timeout=30s"];
        self.must(Who::Alice, &[&active[..], &grant].concat()).await?;
        let bind = [
            "create",
            "rolebinding",
            "mine-for-ever",
            "--clusterrole=admin",
            "--user=alice",
        ];
        let bind = [&bind[..], &["--namespace", NAMESPACE]].concat();
        let answer = self.show(Who::Alice, &bind).await?;
        let denied = !answer.ok
            && answer
                .text
                .contains("You have temporary access and cannot create or change this, because it would outlast the access");
        self.must(Who::Admin, &[&["delete"], &grant[..]].concat()).await?;
        self.claims.judge(
            self.screen,
            Claim::PersistenceIsRefused,
            denied,
            if denied {
                "denied by the API server"
            } else {
                "not denied"
            },
        );
        Ok(())
    }

    async fn show_events(&mut self) -> anyhow::Result<()> {
        self.screen.step("The Events tell what happened");
        let describe = ["describe", "agrant", GRANT, "--namespace", NAMESPACE];
        let line = format!(
            "{} | sed -n '/^Events/,$p'",
            self.stage.shown(Who::Admin, &describe)?
        );
        self.screen.command(Who::Admin.name(), &line);
        let answer = self.stage.ask(Who::Admin, &describe).await?;
        let (_, events) = answer.text.rsplit_once("\nEvents:").unwrap_or(("", " none"));
        self.screen.answer(&format!("Events:{events}"));
        self.screen.say(
            "Curfew counts the lag until it has read back that nothing is left: a few ms more than the watch.",
        );
        let complete = events.contains("Active") && events.contains("Expired");
        self.claims.judge(
            self.screen,
            Claim::EventsTellIt,
            complete,
            if complete {
                "Active, Expired"
            } else {
                "Active or Expired is missing"
            },
        );
        Ok(())
    }

    async fn check_artifacts_are_gone(&mut self) -> anyhow::Result<()> {
        self.screen.step("Only the record is left");
        let artifacts = ["get", "jobs,roles,rolebindings", "--namespace", NAMESPACE];
        let artifacts = [&artifacts[..], &["--selector", curfew::api::GRANT_UID_LABEL]].concat();
        let gone = eventually("all artifacts are gone", SOON, async || {
            match self.stage.ask(Who::Admin, &artifacts).await {
                Ok(answer) if answer.text.starts_with("No resources found") => Ok(()),
                Ok(answer) => Err(answer.text),
                Err(error) => Err(format!("{error:#}")),
            }
        });
        let gone = gone.await;
        let listed = self.show(Who::Admin, &artifacts).await?;
        self.must(Who::Admin, &["get", "agrant", "--namespace", NAMESPACE])
            .await?;
        self.claims.judge(
            self.screen,
            Claim::NothingIsLeft,
            gone.is_ok(),
            listed.text.lines().next().unwrap_or_default(),
        );
        Ok(())
    }

    /// The answer of `kubectl auth can-i`, `yes` or `no`: has Alice this verb on pods?
    pub async fn may(&mut self, verb: &str) -> anyhow::Result<String> {
        let question = ["auth", "can-i", verb, "pods", "--namespace", NAMESPACE];
        self.show(Who::Alice, &question).await.map(|answer| answer.text)
    }

    /// Runs a command of kubectl on the grant as Alice. The command must succeed.
    async fn grant(&mut self, command: &[&str]) -> anyhow::Result<Answer> {
        let (verb, rest) = command.split_first().context("the command is empty")?;
        let object = [*verb, "agrant", GRANT, "--namespace", NAMESPACE];
        self.must(Who::Alice, &[&object[..], rest].concat()).await
    }

    /// Reads from the grant when its access expires.
    pub async fn access(&self, grant: &str, grant_uid: String) -> anyhow::Result<Access> {
        let end = ["get", "agrant", grant, "--namespace", NAMESPACE, "--output"];
        let end = [&end[..], &["jsonpath={.status.expiresAt}"]].concat();
        let end = self.stage.ask(Who::Admin, &end).await?;
        let expires_at = end
            .text
            .parse()
            .with_context(|| format!("grant {grant} has no valid status.expiresAt: {}", end.text))?;
        Ok(Access {
            grant_uid,
            expires_at,
        })
    }

    /// Shows a kubectl command, runs it, and shows its output.
    pub async fn show(&mut self, who: Who, args: &[&str]) -> anyhow::Result<Answer> {
        self.screen.command(who.name(), &self.stage.shown(who, args)?);
        let answer = self.stage.ask(who, args).await?;
        self.screen.answer(&answer.text);
        Ok(answer)
    }

    /// Like [`show`](Self::show), but fails if the command fails.
    pub async fn must(&mut self, who: Who, args: &[&str]) -> anyhow::Result<Answer> {
        let answer = self.show(who, args).await?;
        ensure!(
            answer.ok,
            "kubectl {} failed; its output is above",
            args.join(" ")
        );
        Ok(answer)
    }
}
