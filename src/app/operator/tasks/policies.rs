//! Readiness of policies: whether a policy can be parsed, and whether the operator may grant what the policy offers.
//!
//! Only a leader writes the result into the status of the policy. A follower checks for itself, so that it can grant as
//! soon as it leads.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use kube::api::{Patch, PatchParams};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::Instrument as _;

use crate::api::{AccessPolicy, AccessPolicyStatus, CONTROLLER};
use crate::app::operator::context::Operator;
use crate::app::operator::replica::leader::Term;
use crate::cluster::authorizer::rights;
use crate::cluster::client::call;
use crate::cluster::client::error::Error;
use crate::core::policy::Policy;
use crate::core::policy::preflight::{PolicyReadiness, cluster_roles, invalid, preflight};
use crate::core::policy::problem::Problem;
use crate::core::policy::status::policy_status;
use crate::core::replica::retry::{Lane, delay};

/// Interval between two updates of the number of live grants in the status of a policy. The number is for people, and
/// each update costs a write; a burst of grants must not cost one write each.
const COUNT_EVERY: Duration = Duration::from_secs(10);

/// Interval between two checks of a policy that is not ready. The operator may get the missing rights from a binding,
/// which nothing watches.
const UNREADY_EVERY: Duration = Duration::from_secs(30);

/// Number of policies that are checked at once. A check asks the API server about rights, and a change of the operator's
/// rights causes a check of all policies. With 200 policies a new one waited 1.7 s for checks one after the other, and
/// 0.7 s for eight at once (without optimization). A changed policy waits as long.
const AT_ONCE: usize = 8;

/// Name of the condition in `/readyz`. Before the first checks are done, each request would be held for a moment.
pub const JUDGED: &str = "policies judged";

/// Checks policies until the future is dropped.
pub async fn run(operator: Arc<Operator>, mut affected: mpsc::UnboundedReceiver<String>) {
    operator.wait_until_synced().await;
    let names = operator.cluster.index.policy_names();
    let mut checks = Checks {
        operator: Arc::clone(&operator),
        pending: names.into_iter().collect(),
        retries: HashMap::new(),
    };
    let mut tick = interval(COUNT_EVERY.min(UNREADY_EVERY));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut checked_unready_at = Instant::now();
    let mut term = None;
    loop {
        checks.run_pending().await;
        operator.readiness.done(JUDGED);
        tokio::select! {
            Some(name) = affected.recv() => {
                checks.pending.insert(name);
                // One change often affects many policies, and one policy often.
                while let Ok(name) = affected.try_recv() {
                    checks.pending.insert(name);
                }
            }
            () = sleep_until(checks.next_retry()) => checks.add_retries(),
            begun = operator.leadership.begins(), if term.is_none() => {
                term = Some(begun);
                checks.pending.extend(operator.cluster.index.policy_names());
            }
            () = ends(term.as_ref()) => term = None,
            _ = tick.tick() => {
                if term.is_some() {
                    checks.pending.extend(checks.miscounted());
                }
                if checked_unready_at.elapsed() >= UNREADY_EVERY {
                    checked_unready_at = Instant::now();
                    checks.pending.extend(checks.unready());
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

/// The policies to check now, and those to check again after an error.
struct Checks {
    operator: Arc<Operator>,
    pending: BTreeSet<String>,
    /// Number and time of the next attempt, by the name of the policy.
    retries: HashMap<String, (u32, Instant)>,
}

impl Checks {
    async fn run_pending(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        let checks = &*self;
        let checking: Vec<_> = pending
            .into_iter()
            .map(|name| {
                let span = tracing::error_span!("policy", policy = name);
                async move {
                    let checked = checks.check(&name).instrument(span.clone()).await;
                    (name, span, checked)
                }
            })
            .collect();
        let mut failed = HashMap::new();
        let mut done = Vec::new();
        let mut checked = stream::iter(checking).buffer_unordered(AT_ONCE);
        while let Some((name, span, checked)) = checked.next().await {
            let Err(error) = checked else {
                done.push(name);
                continue;
            };
            let attempt = checks.retries.get(&name).map_or(0, |(attempt, _)| attempt + 1);
            let pause = delay(error.class(), Lane::Controller, attempt);
            span.in_scope(|| {
                tracing::warn!(%error, reason = error.reason(), retry_in = ?pause, "policy not checked, will retry");
            });
            failed.insert(name, (attempt, Instant::now() + pause));
        }
        drop(checked);
        self.retries.extend(failed);
        for name in done {
            self.retries.remove(&name);
        }
    }

    fn next_retry(&self) -> Option<Instant> {
        self.retries.values().map(|(_, at)| *at).min()
    }

    fn add_retries(&mut self) {
        let now = Instant::now();
        let due = self.retries.iter().filter(|(_, (_, at))| *at <= now);
        self.pending.extend(due.map(|(name, _)| name.clone()));
    }

    /// Checks one policy, notes the result in the cache, and writes the status if this process leads.
    async fn check(&self, name: &str) -> Result<(), Error> {
        let cluster = &self.operator.cluster;
        let Some((policy, parsed)) = cluster.index.get_policy(name) else {
            return Ok(());
        };
        let verdict = self.verdict(parsed).await?;
        let uid = policy.metadata.uid.clone().unwrap_or_default();
        let generation = policy.metadata.generation.unwrap_or_default();
        let now = cluster.clock.now();
        let for_grants = verdict.clone().map_err(|verdict| verdict.message);
        let affected = cluster.index.judge(name, &uid, generation, for_grants, now);
        self.operator.triggers.fire_grants(affected);
        let status = policy_status(&policy, &verdict, cluster.index.live_grants(name), now);
        if let Some(term) = self.operator.leadership.term() {
            term.run(self.write(&policy, &status)).await.transpose()?;
        }
        Ok(())
    }

    async fn verdict(
        &self,
        parsed: Result<Arc<Policy>, Vec<Problem>>,
    ) -> Result<Result<(), PolicyReadiness>, Error> {
        let policy = match parsed {
            Ok(policy) => policy,
            Err(problems) => return Ok(Err(invalid(&problems))),
        };
        let cluster = &self.operator.cluster;
        let rights = rights(cluster, &policy, &self.operator.settings.namespace).await?;
        let names = cluster_roles(&policy).map(|name| (crate::api::RoleKind::ClusterRole, name.to_owned()));
        let roles = cluster.index.roles("", names);
        let identities = cluster.index.identities(policy.identities().map(str::to_owned));
        Ok(preflight(&policy, &roles, &identities, &rights))
    }

    async fn write(&self, policy: &AccessPolicy, status: &AccessPolicyStatus) -> Result<(), Error> {
        if policy
            .status
            .as_ref()
            .is_some_and(|present| is_same_status(present, status))
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
        let policies = Api::<AccessPolicy>::all(self.operator.cluster.client.clone());
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

    /// Policies whose status has another number of live grants than the cache.
    fn miscounted(&self) -> Vec<String> {
        let index = &self.operator.cluster.index;
        let off = |policy: &Arc<AccessPolicy>| {
            let name = policy.metadata.name.clone()?;
            let said = policy.status.as_ref()?.live_grants;
            (said != index.live_grants(&name)).then_some(name)
        };
        index.policies().iter().filter_map(off).collect()
    }

    fn unready(&self) -> Vec<String> {
        let index = &self.operator.cluster.index;
        let names = index.policy_names();
        let unready = |name: &String| {
            !matches!(
                index.policy_facts(name),
                crate::core::facts::PolicyFacts::Ready(_)
            )
        };
        names.into_iter().filter(unready).collect()
    }
}

fn is_same_status(one: &AccessPolicyStatus, other: &AccessPolicyStatus) -> bool {
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

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;

    use super::*;
    use crate::app::operator::context::testing::{first_line_of, operator};

    #[tokio::test(start_paused = true)]
    async fn each_log_line_of_a_policy_names_the_policy() {
        let (operator, triggered) = operator();
        let policy = serde_json::json!({
            "apiVersion": "access.curfew.dev/v1alpha1",
            "kind": "AccessPolicy",
            "metadata": {"name": "p", "uid": "uid-of-p", "generation": 1},
            "spec": {
                "namespaceSelector": {},
                "requesters": [{"kind": "Group", "name": "developers"}],
                "path": "Automatic",
                "duration": {"default": "1h", "max": "1h"},
                "entitlements": [{"name": "look", "role": {"kind": "ClusterRole", "name": "view"}}],
            },
        });
        let policy = serde_json::from_value(policy).unwrap();
        let now = operator.cluster.clock.now();
        operator.cluster.index.policy(&Event::Apply(policy), now);
        let line = first_line_of(Box::pin(run(operator, triggered.policies))).await;
        assert_eq!(
            line["fields"]["message"], "policy not checked, will retry",
            "{line}"
        );
        assert_eq!([&line["span"]["name"], &line["span"]["policy"]], ["policy", "p"]);
    }
}
