//! The words in which the tests of decisions speak: who decides what, and what came of it.

use anyhow::{Context as _, ensure};
use curfew::api::{AccessDecision, AccessDecisionSpec, AccessGrant, ApprovalRecord, conditions};
use k8s_openapi::api::rbac::v1::RoleBinding;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::harness::eventually;
use crate::support::{Place, SOON, Suite, condition, merge};

/// A group, as policies list it.
pub fn group(name: &str) -> Value {
    json!({"kind": "Group", "name": name})
}

/// A person, as policies list them.
pub fn user(name: &str) -> Value {
    json!({"kind": "User", "name": name})
}

/// A stage of approval.
pub fn stage(name: &str, required: u8, approvers: &[Value]) -> Value {
    json!({"name": name, "required": required, "approvers": approvers})
}

/// Stage `team`: one of the leads, which is bob.
pub fn team() -> Value {
    stage("team", 1, &[group("leads")])
}

/// Stage `security`: so many of dave, erin and frank.
pub fn security(required: u8) -> Value {
    stage("security", required, &[group("security")])
}

/// The edit that makes a policy ask people.
pub fn asking(stages: &[Value]) -> Value {
    json!({"path": "Manual", "approval": {"stages": stages}})
}

/// The approvals that a grant records.
pub fn approvals(grant: &AccessGrant) -> &[ApprovalRecord] {
    grant
        .status
        .as_ref()
        .map_or(&[][..], |status| status.approvals.as_slice())
}

/// A service account that asks and decides.
pub struct Robot {
    /// Its user name.
    pub username: String,
    /// As bindings and policies name it.
    pub subject: Value,
    /// Talks to the API server as it.
    pub client: Client,
}

impl Suite {
    /// A new namespace in which devs and leads may ask, and leads and security may decide.
    pub async fn namespace_with_deciders(&self) -> anyhow::Result<Place<'_>> {
        let place = self.namespace().await?;
        for name in ["leads", "security"] {
            let subject = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": name});
            place.bind("curfew-approver", &subject).await?;
        }
        Ok(place)
    }
}

impl Place<'_> {
    /// Binds a ClusterRole here to somebody.
    pub async fn bind(&self, role: &str, subject: &Value) -> anyhow::Result<()> {
        let binding: RoleBinding = serde_json::from_value(json!({
            "metadata": {"name": self.suite.fresh("people")},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [subject],
        }))?;
        let bindings = Api::<RoleBinding>::namespaced(self.suite.admin.clone(), &self.name);
        bindings.create(&PostParams::default(), &binding).await?;
        Ok(())
    }

    /// A policy that asks these stages about every request, changed by `more`.
    pub async fn asking_policy(&self, stages: &[Value], more: Value) -> anyhow::Result<String> {
        let mut edit = asking(stages);
        merge(&mut edit, more);
        let name = self.policy(edit).await?.name_any();
        self.ready(&name).await?;
        Ok(name)
    }

    /// A person asks, and people are asked about it.
    pub async fn asked(&self, person: &str, policy: &str, more: Value) -> anyhow::Result<AccessGrant> {
        let grant = self.ask(person, policy, more).await?;
        self.in_state(&grant.name_any(), "AwaitingApproval").await
    }

    /// A decision by whoever this client is.
    pub async fn decide_with(
        &self,
        client: &Client,
        grant: &AccessGrant,
        word: Value,
    ) -> anyhow::Result<AccessDecision> {
        let mut spec = json!({"grantRef": {"name": grant.name_any(), "uid": grant.uid()}});
        merge(&mut spec, word);
        self.suite.state_who(client, &mut spec, "decider").await?;
        let spec: AccessDecisionSpec = serde_json::from_value(spec)?;
        let decision = AccessDecision::new(&self.suite.fresh("decision"), spec);
        let decisions = Api::<AccessDecision>::namespaced(client.clone(), &self.name);
        Ok(decisions.create(&PostParams::default(), &decision).await?)
    }

    /// A decision by a person.
    pub async fn decide(
        &self,
        person: &str,
        grant: &AccessGrant,
        word: Value,
    ) -> anyhow::Result<AccessDecision> {
        let client = self.suite.plane.client_as(person).await?;
        let said = word.to_string();
        let decided = self.decide_with(&client, grant, word).await;
        decided.with_context(|| format!("{person} decides {said}"))
    }

    /// A person looks at a grant, and approves what they see.
    pub async fn approve(&self, person: &str, grant: &AccessGrant) -> anyhow::Result<AccessDecision> {
        let hash = self.hash_as(person, grant).await?;
        self.decide(person, grant, json!({"decision": "Approve", "accessHash": hash}))
            .await
    }

    /// The access that a person sees a grant would give, once it is resolved.
    pub async fn hash_as(&self, person: &str, grant: &AccessGrant) -> anyhow::Result<String> {
        let grants = self.grants_as(person).await?;
        eventually("the access is resolved", SOON, async || {
            let grant = grants
                .get(&grant.name_any())
                .await
                .map_err(|error| error.to_string())?;
            let status = grant.status.unwrap_or_default();
            match status.resolved {
                Some(resolved) => Ok(resolved.hash),
                None => Err(format!("{:?}", status.conditions)),
            }
        })
        .await
    }

    /// A person denies.
    pub async fn deny(&self, person: &str, grant: &AccessGrant) -> anyhow::Result<AccessDecision> {
        let word = json!({"decision": "Deny", "reason": "not during the sale"});
        self.decide(person, grant, word).await
    }

    /// A person revokes.
    pub async fn revoke(&self, person: &str, grant: &AccessGrant) -> anyhow::Result<AccessDecision> {
        let word = json!({"decision": "Revoke", "reason": "no longer needed"});
        self.decide(person, grant, word).await
    }

    /// A service account of this namespace that may ask for anything, and a client for it.
    pub async fn robot(&self, name: &str) -> anyhow::Result<Robot> {
        let plane = &self.suite.plane;
        plane
            .run_kubectl(&["create", "serviceaccount", name, "-n", &self.name])
            .await?;
        let token = plane.service_account_token(&self.name, name).await?;
        let robot = Robot {
            username: format!("system:serviceaccount:{}:{name}", self.name),
            subject: json!({"kind": "ServiceAccount", "namespace": self.name, "name": name}),
            client: plane.client_for_token(&token, &plane.url()).await?,
        };
        self.bind("curfew-requester", &robot.subject).await?;
        Ok(robot)
    }

    /// Whoever this client is makes a grant of this name and spec.
    pub async fn make_with(&self, client: &Client, name: &str, spec: Value) -> anyhow::Result<AccessGrant> {
        let mut grant = self.suite.grant_by(client, spec).await?;
        grant.metadata.name = Some(name.to_owned());
        let grants = Api::<AccessGrant>::namespaced(client.clone(), &self.name);
        Ok(grants.create(&PostParams::default(), &grant).await?)
    }

    /// Deletes a grant as administrator, and waits until it is gone.
    pub async fn remove(&self, grant: &AccessGrant) -> anyhow::Result<()> {
        let name = grant.name_any();
        self.grants().delete(&name, &DeleteParams::default()).await?;
        eventually("the grant is gone", SOON, async || {
            let there = self
                .grants()
                .get_opt(&name)
                .await
                .map_err(|error| error.to_string())?;
            there.map_or(Ok(()), |there| Err(format!("{:?}", there.metadata)))
        })
        .await
    }

    /// The decisions of this namespace, as administrator.
    pub fn decisions(&self) -> Api<AccessDecision> {
        Api::namespaced(self.suite.admin.clone(), &self.name)
    }

    /// Waits until something was made of a decision.
    pub async fn verdict(&self, decision: &AccessDecision) -> anyhow::Result<Condition> {
        let decisions = self.decisions();
        eventually("the decision has a verdict", SOON, async || {
            let decision = decisions
                .get(&decision.name_any())
                .await
                .map_err(|error| error.to_string())?;
            let status = decision.status.unwrap_or_default();
            let counted = |condition: &&Condition| condition.type_ == conditions::COUNTED;
            status
                .conditions
                .iter()
                .find(counted)
                .cloned()
                .ok_or_else(|| format!("{:?}", status.conditions))
        })
        .await
    }

    /// Waits until the decision counts, told or not, and answers it as it is then.
    pub async fn counts_in_the_end(&self, decision: &AccessDecision) -> anyhow::Result<AccessDecision> {
        let verdict = self.verdict(decision).await?;
        ensure!(verdict.status == "True", "{verdict:?}");
        Ok(self.decisions().get(&decision.name_any()).await?)
    }

    /// Waits until the decision counts, and says this.
    pub async fn counts(&self, decision: &AccessDecision, part: &str) -> anyhow::Result<()> {
        self.is_judged(decision, ("True", "Counted", "counts"), part)
            .await
    }

    /// Waits until the decision is ignored for this reason, and says this.
    pub async fn is_ignored(
        &self,
        decision: &AccessDecision,
        reason: &str,
        part: &str,
    ) -> anyhow::Result<()> {
        self.is_judged(decision, ("False", reason, "is ignored"), part)
            .await
    }

    /// Waits until the decision is said to wait for its stage.
    pub async fn waits(&self, decision: &AccessDecision, part: &str) -> anyhow::Result<()> {
        self.is_judged(decision, ("Unknown", "StageNotReached", "waits"), part)
            .await
    }

    /// The verdict as the decision, its Events and its row of `kubectl get` tell it.
    async fn is_judged(
        &self,
        decision: &AccessDecision,
        (status, reason, effect): (&str, &str, &str),
        part: &str,
    ) -> anyhow::Result<()> {
        let decider = decision
            .spec
            .decider
            .as_ref()
            .map(|decider| decider.username.clone());
        let decider = decider.unwrap_or_default();
        let what = format!(
            "{:?} of {decider} is judged {reason} ({part})",
            decision.spec.decision
        );
        let verdict = eventually(&what, SOON, async || {
            let verdict = self.verdict(decision).await.map_err(|error| error.to_string())?;
            let same = verdict.status == status && verdict.reason == reason;
            if same && verdict.message.contains(part) {
                Ok(verdict)
            } else {
                Err(format!(
                    "{} {}: {}",
                    verdict.status, verdict.reason, verdict.message
                ))
            }
        })
        .await?;
        let expected = format!(
            "{reason}: {:?} by {decider} {effect}: {}",
            decision.spec.decision, verdict.message
        );
        let told = self.events(decision).await?;
        ensure!(told.contains(&expected), "no Event {expected:?} in {told:?}");
        Ok(())
    }

    /// Waits until the grant says this of its approval.
    pub async fn approval(&self, grant: &AccessGrant, part: &str) -> anyhow::Result<AccessGrant> {
        let grants = self.grants();
        eventually(
            &format!("its approval is said to be {part:?}"),
            SOON,
            async || {
                let grant = grants
                    .get(&grant.name_any())
                    .await
                    .map_err(|error| error.to_string())?;
                match condition(&grant, conditions::APPROVED) {
                    Some(approved) if approved.message.contains(part) => Ok(grant),
                    other => Err(format!("{other:?}")),
                }
            },
        )
        .await
    }

    /// The row of `kubectl get -o wide`, as a person sees it.
    pub async fn row(&self, person: &str, kind: &str, name: &str) -> anyhow::Result<String> {
        let arguments = ["get", kind, name, "-n", &self.name, "-o", "wide", "--no-headers"];
        let mut command = tokio::process::Command::from(self.suite.plane.kubectl_as(person, &arguments)?);
        let output = command.output().await?;
        ensure!(
            output.status.success(),
            "{person} cannot look: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// Fails unless the condition of that type says this.
pub fn says(
    grant: &AccessGrant,
    type_: &str,
    (status, reason): (&str, &str),
    part: &str,
) -> anyhow::Result<()> {
    let there = condition(grant, type_).with_context(|| format!("no condition {type_}"))?;
    let same = there.status == status && there.reason == reason && there.message.contains(part);
    ensure!(
        same,
        "{type_} is not {status} {reason} ({part}) but {} {}: {}",
        there.status,
        there.reason,
        there.message
    );
    Ok(())
}
