//! Part of the demo about approval: two people approve a request in production, and one person revokes it.

use anyhow::{Context as _, ensure};

use crate::claims::Claim;
use crate::people::Who;
use crate::stage::{Answer, Installed};
use crate::story::Story;

/// Namespace of this part.
const PRODUCTION: &str = "checkout-production";
/// Name of the grant in [`GRANT_FILE`].
const GRANT: &str = "payments-hang";
/// File of the grant.
const GRANT_FILE: &str = "examples/production/grant.yaml";
/// Template for `kubectl get`: prints the requested access, and the decision that approves exactly that access.
const TEMPLATE: &str = "examples/approve.gotemplate";

impl Story<'_> {
    /// Runs this part: the request, an ignored approval, two approvals, and the end by a Revoke.
    pub async fn let_people_decide(&mut self) -> anyhow::Result<()> {
        self.request_production_access().await?;
        let seen = self.ignore_a_self_approval().await?;
        self.approve_with_two(&seen).await?;
        self.revoke_with_one().await
    }

    async fn request_production_access(&mut self) -> anyhow::Result<()> {
        self.screen.step("In production, people decide");
        self.screen.say(
            "This policy has two stages: first a lead of the team approves, then someone of the group security.\n\
             Bob is a lead. Dave is in the group security.",
        );
        self.stage.installed.push(Installed::Production);
        let apply = [&["apply", "--server-side"], Installed::Production.files()].concat();
        self.must(Who::Admin, &apply).await?;
        let ready = [
            "wait",
            "--for=condition=Ready",
            "apol/production",
            "--timeout=60s",
        ];
        self.must(Who::Admin, &ready).await?;
        self.must(Who::Alice, &["create", "-f", GRANT_FILE]).await?;
        self.on_grant(
            Who::Alice,
            &["wait", "--for=condition=Approved=Unknown", "--timeout=30s"],
        )
        .await?;
        let listed = self.list_grants(Who::Alice).await?;
        let waiting = listed.text.contains("AwaitingApproval") && listed.text.contains("0 of 1 from team");
        let may = self.may_exec().await?;
        self.claims.judge(
            self.screen,
            Claim::PeopleAreAwaited,
            waiting && may == "no",
            &format!("the approvers are shown, and the API server says {may}"),
        );
        Ok(())
    }

    async fn ignore_a_self_approval(&mut self) -> anyhow::Result<String> {
        self.screen.step("Alice approves her own request");
        self.screen.say(&format!(
            "{TEMPLATE} prints the requested access, and a decision that approves exactly this access:"
        ));
        let (decision, printed) = self.approve(Who::Alice, None).await?;
        let has_verdict = ["wait", "--for=condition=Counted=False", "--timeout=30s"];
        self.on_decision(Who::Alice, &decision, &has_verdict).await?;
        let verdict = self.on_decision(Who::Alice, &decision, &["get"]).await?.text;
        let why = ["get", "--output", "jsonpath={.status.conditions[].message}"];
        let why = self.on_decision(Who::Alice, &decision, &why).await?.text;
        let listed = self.list_grants(Who::Alice).await?;
        let ignored = verdict.contains("SelfDecision")
            && why.contains("cannot decide on this request")
            && listed.text.contains("0 of 1 from team");
        self.claims.judge(
            self.screen,
            Claim::SelfApprovalIsIgnored,
            ignored,
            if ignored {
                "SelfDecision, and still 0 of 1"
            } else {
                "her approval was not ignored"
            },
        );
        Ok(printed)
    }

    async fn approve_with_two(&mut self, seen: &str) -> anyhow::Result<()> {
        self.screen.step("Bob approves, then Dave");
        let (decision, _) = self.approve(Who::Bob, Some(seen)).await?;
        let counted = ["wait", "--for=condition=Counted", "--timeout=30s"];
        self.on_decision(Who::Bob, &decision, &counted).await?;
        let listed = self.list_grants(Who::Bob).await?;
        let one_counted = listed.text.contains("0 of 1 from security");
        let before = self.may_exec().await?;
        self.approve(Who::Dave, Some(seen)).await?;
        self.on_grant(Who::Dave, &["wait", "--for=condition=Active", "--timeout=30s"])
            .await?;
        let listed = self.list_grants(Who::Dave).await?;
        let both_counted = listed.text.contains("approved by bob (team), dave (security)");
        let after = self.may_exec().await?;
        self.claims.judge(
            self.screen,
            Claim::TwoApprove,
            one_counted && both_counted && before == "no" && after == "yes",
            &format!("after bob the API server says {before}, after dave it says {after}"),
        );
        Ok(())
    }

    async fn revoke_with_one(&mut self) -> anyhow::Result<()> {
        self.screen.step("Bob revokes the access");
        self.screen
            .say("The requester, the subject and each approver can revoke alone. The decision says why:");
        let uid = ["get", "--output", "jsonpath={.metadata.uid}"];
        let uid = self.on_grant(Who::Bob, &uid).await?.text;
        let reason = "the dump is taken";
        let decision = format!(
            "apiVersion: access.curfew.dev/v1alpha1\n\
             kind: AccessDecision\n\
             metadata: {{generateName: {GRANT}-, namespace: {PRODUCTION}}}\n\
             spec:\n  \
               grantRef: {{name: {GRANT}, uid: {uid}}}\n  \
               decision: Revoke\n  \
               reason: {reason}\n"
        );
        self.screen.answer(&decision);
        self.decide(Who::Bob, "revoke.yaml", &decision).await?;
        self.on_grant(Who::Bob, &["wait", "--for=condition=Ended", "--timeout=30s"])
            .await?;
        self.list_grants(Who::Alice).await?;
        self.must(Who::Alice, &["get", "adec", "--namespace", PRODUCTION])
            .await?;
        let revocation = ["get", "--output", "jsonpath={.status.revocation}"];
        let revocation = self.on_grant(Who::Alice, &revocation).await?.text;
        let may = self.may_exec().await?;
        let recorded = revocation.contains(r#""by":"bob""#) && revocation.contains(reason);
        self.claims.judge(
            self.screen,
            Claim::OneRevokes,
            recorded && may == "no",
            &format!("bob, because {reason}; the API server says {may}"),
        );
        Ok(())
    }

    /// Reads the requested access as `who` and approves it. Returns the name of the decision, and the text that
    /// [`TEMPLATE`] printed. A text equal to `seen` is not shown again.
    async fn approve(&mut self, who: Who, seen: Option<&str>) -> anyhow::Result<(String, String)> {
        let template = format!("go-template-file={TEMPLATE}");
        let object = format!("agrant/{GRANT}");
        let read = ["get", &object, "--namespace", PRODUCTION, "--output", &template];
        self.screen.command(who.name(), &self.stage.shown(who, &read)?);
        let printed = self.stage.ask(who, &read).await?;
        ensure!(printed.ok, "cannot read {object}: {}", printed.text);
        let same = seen == Some(printed.text.as_str());
        self.screen
            .answer(if same { "(the same)" } else { &printed.text });
        let file = format!("approve-by-{}.yaml", who.name());
        let decision = self.decide(who, &file, &printed.text).await?;
        Ok((decision, printed.text))
    }

    /// Writes a decision to a file in the demo's folder and creates it. Returns the name of the decision.
    async fn decide(&mut self, who: Who, file: &str, decision: &str) -> anyhow::Result<String> {
        let file = self.stage.folder.path().join(file);
        std::fs::write(&file, decision)?;
        let file = file.display().to_string();
        let created = self.must(who, &["create", "-f", &file]).await?.text;
        let name = created
            .strip_prefix("accessdecision.access.curfew.dev/")
            .and_then(|rest| rest.strip_suffix(" created"));
        Ok(name
            .with_context(|| format!("kubectl did not name the created decision: {created}"))?
            .to_owned())
    }

    async fn list_grants(&mut self, who: Who) -> anyhow::Result<Answer> {
        self.must(who, &["get", "agrant", "--namespace", PRODUCTION])
            .await
    }

    async fn on_grant(&mut self, who: Who, command: &[&str]) -> anyhow::Result<Answer> {
        self.on(who, &format!("agrant/{GRANT}"), command).await
    }

    async fn on_decision(&mut self, who: Who, name: &str, command: &[&str]) -> anyhow::Result<Answer> {
        self.on(who, &format!("adec/{name}"), command).await
    }

    async fn on(&mut self, who: Who, object: &str, command: &[&str]) -> anyhow::Result<Answer> {
        let (verb, rest) = command.split_first().context("the command is empty")?;
        let object = [*verb, object, "--namespace", PRODUCTION];
        self.must(who, &[&object[..], rest].concat()).await
    }

    /// The answer of `kubectl auth can-i`, `yes` or `no`: may Alice exec into the pod of the request?
    async fn may_exec(&mut self) -> anyhow::Result<String> {
        let question = ["auth", "can-i", "create", "pods/cart-0", "--subresource=exec"];
        let question = [&question[..], &["--namespace", PRODUCTION]].concat();
        self.show(Who::Alice, &question).await.map(|answer| answer.text)
    }
}
