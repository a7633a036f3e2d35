//! Judges policies: parses them, asks what the operator may hand out, and says so in their status, which only a leader
//! does. Whoever does not lead judges for itself, so that it can grant as soon as it leads.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use kube::api::{Patch, PatchParams};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::lease::Term;
use super::pass::Passes;
use super::server::Readiness;
use super::triggers::Triggers;
use crate::api::{AccessPolicy, AccessPolicyStatus, CONTROLLER};
use crate::cluster::{Error, call, rights};
use crate::core::preflight::{Verdict, cluster_roles, invalid, preflight};
use crate::core::{Lane, Policy, Problem, delay, policy_status};

/// How often the number of live grants in a policy's status is brought up to date. It is for people to look at: each
/// correction costs a write, and a burst of grants must not cost one each.
const COUNT_EVERY: Duration = Duration::from_secs(10);

/// How often a policy that is not ready is judged again though nothing was seen to change: rights can come by
/// bindings, which nobody watches.
const UNREADY_EVERY: Duration = Duration::from_secs(30);

/// How many policies are judged at once. Each takes questions about rights, and all are judged anew when what may be
/// handed out changes: 200 of them kept a new one waiting for 1.7 s one after the other, and 0.7 s so (without
/// optimization); an edited one has no effect for as long.
const AT_ONCE: usize = 8;

/// What `/readyz` waits for: until then every request would be held for a moment.
pub const JUDGED: &str = "policies judged";

/// Judges policies until it is dropped.
pub async fn run(judge: Judge, mut triggered: mpsc::UnboundedReceiver<String>, readiness: Readiness) {
    judge.passes.wait_until_synced().await;
    let mut pending: BTreeSet<String> = judge.passes.edges.index.policy_names().into_iter().collect();
    let mut retries: HashMap<String, (u32, Instant)> = HashMap::new();
    let mut tick = interval(COUNT_EVERY.min(UNREADY_EVERY));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut judged_unready_at = Instant::now();
    let mut term = None;
    loop {
        let judging = std::mem::take(&mut pending)
            .into_iter()
            .map(async |name: String| {
                let judged = judge.judge(&name).await;
                (name, judged)
            });
        let mut judged = std::pin::pin!(stream::iter(judging).buffer_unordered(AT_ONCE));
        while let Some((name, judged)) = judged.next().await {
            match judged {
                Ok(()) => {
                    retries.remove(&name);
                }
                Err(error) => {
                    let attempt = retries.get(&name).map_or(0, |(attempt, _)| attempt + 1);
                    let pause = delay(error.class(), Lane::Controller, attempt);
                    tracing::warn!(policy = name, %error, reason = error.reason(), retry_in = ?pause,
                        "a policy could not be judged yet");
                    retries.insert(name, (attempt, Instant::now() + pause));
                }
            }
        }
        readiness.done(JUDGED);
        let next_retry = retries.values().map(|(_, at)| *at).min();
        tokio::select! {
            Some(name) = triggered.recv() => {
                pending.insert(name);
                // One change often touches many policies, and one policy often.
                while let Ok(name) = triggered.try_recv() {
                    pending.insert(name);
                }
            }
            () = sleep_until(next_retry) => {
                let now = Instant::now();
                pending.extend(retries.iter().filter(|(_, (_, at))| *at <= now).map(|(name, _)| name.clone()));
            }
            begun = judge.passes.leadership.begins(), if term.is_none() => {
                term = Some(begun);
                pending.extend(judge.passes.edges.index.policy_names());
            }
            () = ends(term.as_ref()) => term = None,
            _ = tick.tick() => {
                if term.is_some() {
                    pending.extend(judge.miscounted());
                }
                if judged_unready_at.elapsed() >= UNREADY_EVERY {
                    judged_unready_at = Instant::now();
                    pending.extend(judge.unready());
                }
            }
            else => return,
        }
    }
}

async fn ends(term: Option<&Term>) {
    match term {
        Some(term) => term.ends().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Judges policies and writes what it finds.
pub struct Judge {
    /// What it shares with the passes over grants.
    pub passes: Arc<Passes>,
    /// Where it says which grants a verdict concerns.
    pub triggers: Triggers,
}

impl Judge {
    async fn judge(&self, name: &str) -> Result<(), Error> {
        let edges = &self.passes.edges;
        let Some((policy, parsed)) = edges.index.get_policy(name) else {
            return Ok(());
        };
        let verdict = self.verdict(parsed).await?;
        let uid = policy.metadata.uid.clone().unwrap_or_default();
        let generation = policy.metadata.generation.unwrap_or_default();
        let now = edges.clock.now();
        let for_grants = verdict.clone().map_err(|verdict| verdict.message);
        let concerned = edges.index.judge(name, &uid, generation, for_grants, now);
        self.triggers.fire_grants(concerned);
        let status = policy_status(&policy, &verdict, edges.index.live_grants(name), now);
        if let Some(term) = self.passes.leadership.term() {
            term.run(self.write(&policy, &status)).await.transpose()?;
        }
        Ok(())
    }

    async fn verdict(&self, parsed: Result<Arc<Policy>, Vec<Problem>>) -> Result<Result<(), Verdict>, Error> {
        let policy = match parsed {
            Ok(policy) => policy,
            Err(problems) => return Ok(Err(invalid(&problems))),
        };
        let edges = &self.passes.edges;
        let rights = rights(edges, &policy, &self.passes.settings.namespace).await?;
        let names = cluster_roles(&policy).map(|name| (crate::api::RoleKind::ClusterRole, name.to_owned()));
        let roles = edges.index.roles("", names);
        let identities = edges.index.identities(policy.identities().map(str::to_owned));
        Ok(preflight(&policy, &roles, &identities, &rights))
    }

    async fn write(&self, policy: &AccessPolicy, status: &AccessPolicyStatus) -> Result<(), Error> {
        if policy
            .status
            .as_ref()
            .is_some_and(|present| says_the_same(present, status))
        {
            return Ok(());
        }
        let name = policy.metadata.name.as_deref().unwrap_or_default();
        let patch = Patch::Merge(serde_json::json!({
            "metadata": {"uid": policy.metadata.uid, "resourceVersion": policy.metadata.resource_version},
            "status": status,
        }));
        let params = PatchParams {
            field_manager: Some(CONTROLLER.to_owned()),
            ..PatchParams::default()
        };
        let policies = Api::<AccessPolicy>::all(self.passes.edges.client.clone());
        match call(
            "write policy status",
            policies.patch_status(name, &params, &patch),
        )
        .await
        {
            Err(error) if error.is_absent() => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Policies whose status counts other than the index.
    fn miscounted(&self) -> Vec<String> {
        let index = &self.passes.edges.index;
        let off = |policy: &Arc<AccessPolicy>| {
            let name = policy.metadata.name.clone()?;
            let said = policy.status.as_ref()?.live_grants;
            (said != index.live_grants(&name)).then_some(name)
        };
        index.policies().iter().filter_map(off).collect()
    }

    fn unready(&self) -> Vec<String> {
        let index = &self.passes.edges.index;
        let names = index.policy_names();
        let unready = |name: &String| !matches!(index.policy_facts(name), crate::core::PolicyFacts::Ready(_));
        names.into_iter().filter(unready).collect()
    }
}

fn says_the_same(one: &AccessPolicyStatus, other: &AccessPolicyStatus) -> bool {
    let condition = |condition: &Condition| {
        (
            condition.type_.clone(),
            condition.status.clone(),
            condition.reason.clone(),
            condition.message.clone(),
        )
    };
    one.observed_generation == other.observed_generation
        && one.live_grants == other.live_grants
        && one
            .conditions
            .iter()
            .map(condition)
            .eq(other.conditions.iter().map(condition))
}
