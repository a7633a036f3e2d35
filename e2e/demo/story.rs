//! The story, step by step.

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

/// The namespace in which it happens.
pub const NAMESPACE: &str = "sandbox";
/// The grant of the example.
const GRANT: &str = "checkout-returns-500";
/// Its file.
const GRANT_FILE: &str = "examples/sandbox/grant.yaml";
/// A request for too much.
const TOO_LONG: &str = "e2e/demo/too-long.yaml";
/// A request in the name of somebody else.
const FORGED: &str = "e2e/demo/forged.yaml";
/// A request for a role with which lasting access could be made.
const ADMINISTRATOR: &str = "e2e/demo/souvenir.yaml";
/// What is promised with an operator alive, in milliseconds.
const PROMISE: i64 = 2_000;
/// How long the API server may take to act by what was installed, and anything else that has no deadline of its own.
pub const SOON: Duration = Duration::from_mins(1);

/// Tells it.
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
    story.before().await?;
    let end = story.ask(&mut bystander).await?;
    story.during().await?;
    story.wait_for_the_end(&mut bystander, &end).await?;
    story.refuse_too_much().await?;
    story.refuse_a_forgery().await?;
    story.refuse_a_souvenir().await?;
    story.show_the_events().await?;
    story.look_for_leftovers().await?;
    story.let_people_decide().await?;
    story.outlive_the_operator(&mut bystander).await
}

/// The access whose end is waited for.
pub struct Access {
    grant_uid: String,
    expires_at: Timestamp,
}

/// Everything that is needed to tell it.
pub struct Story<'a> {
    /// Where it happens.
    pub stage: &'a mut Stage,
    /// Who sees it.
    pub screen: &'a mut Screen,
    /// What was claimed so far.
    pub claims: &'a mut Claims,
    /// With what the operator speaks to the cluster, once it runs.
    pub operator_kubeconfig: String,
    clock: Clock,
}

impl Story<'_> {
    async fn before(&mut self) -> anyhow::Result<()> {
        self.screen.step("Alice may not look into the sandbox");
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
        self.screen.step("Alice asks");
        self.screen.say(&format!(
            "She says under which policy, why, and for how long. This is the whole of {GRANT_FILE}:"
        ));
        self.screen.answer(&without_comments(GRANT_FILE)?);
        self.must(Who::Alice, &["create", "-f", GRANT_FILE]).await?;
        let asked = bystander.sees("the grant", SOON, |seen| {
            seen.what == Happening::Asked && seen.name == GRANT
        });
        let asked = asked.await?;
        let bound = bystander.sees("the RoleBinding", SOON, |seen| {
            seen.what == Happening::Bound && seen.grant_uid == asked.uid
        });
        let bound = bound.await?;
        let took = bound.at.duration_since(asked.at);
        let held = took.as_millis() <= i128::from(PROMISE);
        self.claims.judge(
            self.screen,
            Claim::AccessComesAtOnce,
            held,
            &format!(
                "{} ms from the grant to its RoleBinding, seen by a watch",
                took.as_millis()
            ),
        );
        self.grant(&["wait", "--for=condition=Active", "--timeout=30s"])
            .await?;
        self.screen.say("She did not say who she is. The API server did:");
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
            &format!("it wrote {name}"),
        );
        self.access(GRANT, asked.uid).await
    }

    async fn during(&mut self) -> anyhow::Result<()> {
        self.screen.step("Alice may look into the sandbox");
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
        self.screen.step("Time runs");
        self.screen.say(&format!(
            "The access ends at {} ({}). Nobody has to do anything.",
            self.clock.time(access.expires_at),
            self.clock.zone()
        ));
        let lag = self.watch_it_end(bystander, access).await?;
        self.claims.judge(
            self.screen,
            Claim::EndsOnTime,
            (0..=PROMISE).contains(&lag),
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

    /// Counts down to the end of Alice's access, and answers how many milliseconds after it the binding was gone.
    pub async fn watch_it_end(&mut self, bystander: &mut Bystander, access: &Access) -> anyhow::Result<i64> {
        let end = access.expires_at;
        let deadline = Duration::try_from(end.duration_since(Timestamp::now())).unwrap_or_default();
        let gone = bystander.sees("the RoleBinding goes", deadline.saturating_add(SOON), |seen| {
            seen.what == Happening::Unbound && seen.grant_uid == access.grant_uid
        });
        let gone = self.screen.counting_down(end, gone).await?.at;
        let lag = gone.as_millisecond() - end.as_millisecond();
        self.screen.step("Alice may not look into the sandbox any more");
        self.screen.say(&format!(
            "promised end      {}\nRoleBinding gone  {}   {lag} ms later, seen by a watch",
            self.clock.time(end),
            self.clock.time(gone)
        ));
        Ok(lag)
    }

    async fn refuse_too_much(&mut self) -> anyhow::Result<()> {
        self.screen.step("Alice asks for too much");
        self.screen.say("Eight hours, where the policy allows four:");
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
            .say("Nothing was made. The attempt stays as a record with the state Denied.");
        self.claims.judge(
            self.screen,
            Claim::TooMuchIsRefused,
            says_what_is_allowed,
            "names the field, what was asked and what is allowed",
        );
        Ok(())
    }

    async fn refuse_a_forgery(&mut self) -> anyhow::Result<()> {
        self.screen.step("Eve asks in Alice's name");
        self.screen
            .say("She may ask, as everybody in the group devs. But she says that it is Alice who does:");
        self.screen.answer(&without_comments(FORGED)?);
        let answer = self.show(Who::Eve, &["create", "-f", FORGED]).await?;
        let refused = !answer.ok && answer.text.contains("spec.requester.username must be you");
        self.screen
            .say("This never became an object: the API server refused it, whether or not an operator runs.");
        self.claims.judge(
            self.screen,
            Claim::ForgeryIsRefused,
            refused,
            if refused {
                "refused by the API server"
            } else {
                "not refused"
            },
        );
        Ok(())
    }

    async fn refuse_a_souvenir(&mut self) -> anyhow::Result<()> {
        self.screen
            .step("Alice is administrator for a moment, and keeps nothing");
        self.screen.say(
            "An administrator of a namespace could bind herself for ever. Another policy hands that role out, for a\n\
             minute at most, and says that it does so knowingly:",
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
        let refused = !answer.ok
            && answer
                .text
                .contains("You have temporary access and cannot create or change this, because it would outlast the access");
        self.must(Who::Admin, &[&["delete"], &grant[..]].concat()).await?;
        self.claims.judge(
            self.screen,
            Claim::SouvenirIsRefused,
            refused,
            if refused {
                "refused by the API server"
            } else {
                "not refused"
            },
        );
        Ok(())
    }

    async fn show_the_events(&mut self) -> anyhow::Result<()> {
        self.screen.step("What happened can be read later");
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
            "Its milliseconds count until Curfew has read back that nothing is left, so they are a few more.",
        );
        let told = events.contains("Active") && events.contains("Expired");
        self.claims.judge(
            self.screen,
            Claim::EventsTellIt,
            told,
            if told {
                "Active, Expired"
            } else {
                "not both are there"
            },
        );
        Ok(())
    }

    async fn look_for_leftovers(&mut self) -> anyhow::Result<()> {
        self.screen.step("What is left of it");
        let made = ["get", "jobs,roles,rolebindings", "--namespace", NAMESPACE];
        let made = [&made[..], &["--selector", curfew::api::GRANT_UID_LABEL]].concat();
        let gone = eventually("everything made for the grant is gone", SOON, async || match self
            .stage
            .ask(Who::Admin, &made)
            .await
        {
            Ok(answer) if answer.text.starts_with("No resources found") => Ok(()),
            Ok(answer) => Err(answer.text),
            Err(error) => Err(format!("{error:#}")),
        });
        let gone = gone.await;
        let made = self.show(Who::Admin, &made).await?;
        self.must(Who::Admin, &["get", "agrant", "--namespace", NAMESPACE])
            .await?;
        self.claims.judge(
            self.screen,
            Claim::NothingIsLeft,
            gone.is_ok(),
            made.text.lines().next().unwrap_or_default(),
        );
        Ok(())
    }

    /// What kubectl says on whether Alice may do something with pods.
    pub async fn may(&mut self, verb: &str) -> anyhow::Result<String> {
        let question = ["auth", "can-i", verb, "pods", "--namespace", NAMESPACE];
        self.show(Who::Alice, &question).await.map(|answer| answer.text)
    }

    /// A command on the grant.
    async fn grant(&mut self, command: &[&str]) -> anyhow::Result<Answer> {
        let (verb, rest) = command.split_first().context("no command")?;
        let object = [*verb, "agrant", GRANT, "--namespace", NAMESPACE];
        self.must(Who::Alice, &[&object[..], rest].concat()).await
    }

    /// When the access of a grant ends.
    pub async fn access(&self, grant: &str, grant_uid: String) -> anyhow::Result<Access> {
        let end = ["get", "agrant", grant, "--namespace", NAMESPACE, "--output"];
        let end = [&end[..], &["jsonpath={.status.expiresAt}"]].concat();
        let end = self.stage.ask(Who::Admin, &end).await?;
        let expires_at = end
            .text
            .parse()
            .with_context(|| format!("no end: {}", end.text))?;
        Ok(Access {
            grant_uid,
            expires_at,
        })
    }

    /// Shows a command and what it answers.
    pub async fn show(&mut self, who: Who, args: &[&str]) -> anyhow::Result<Answer> {
        self.screen.command(who.name(), &self.stage.shown(who, args)?);
        let answer = self.stage.ask(who, args).await?;
        self.screen.answer(&answer.text);
        Ok(answer)
    }

    /// The same for a command without which the story cannot go on.
    pub async fn must(&mut self, who: Who, args: &[&str]) -> anyhow::Result<Answer> {
        let answer = self.show(who, args).await?;
        ensure!(answer.ok, "kubectl {} failed", args.join(" "));
        Ok(answer)
    }
}
