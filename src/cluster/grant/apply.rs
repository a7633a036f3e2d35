//! Applies a plan stage by stage. Decides nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use kube::{Resource as _, ResourceExt as _};

use crate::api::{AccessGrant, ArtifactKind};
use crate::cluster::client::error::Error;
use crate::cluster::client::observer::Outcome;
use crate::cluster::context::Cluster;
use crate::cluster::grant::applied::{Applied, Interrupted};
use crate::cluster::grant::create;
use crate::cluster::grant::create::is_refusal;
use crate::cluster::grant::live_read::read_live;
use crate::cluster::grant::{decisions, publish, record, remove};
use crate::core::artifact::found::Found;
use crate::core::artifact::fuse::FuseState;
use crate::core::artifact::key::ArtifactKey;
use crate::core::artifact::target::Target;
use crate::core::decision::verdict::DecisionVerdict;
use crate::core::grant::enforcement::{Backstops, fuse_states};
use crate::core::grant::live::Live;
use crate::core::grant::status;
use crate::core::grant::transition::Transition;
use crate::core::plan::effect::{Effect, Precedence};

/// How long the record of active access waits until its fuses are lit. Half of the fuses created one at a time were lit
/// after 24 ms. A fuse that is lit later costs a second write.
const FUSES_TAKE: Duration = Duration::from_millis(500);

/// The application of one plan, and what its effects returned so far.
pub struct Application<'a> {
    edges: &'a Cluster,
    grant: Arc<AccessGrant>,
    uids: status::Uids,
    /// The fuses as found or created; the index may know newer states.
    fuse_states: BTreeMap<ArtifactKey, FuseState>,
    refused: BTreeMap<ArtifactKey, String>,
    in_force_since: Option<Timestamp>,
    proven_at: Option<Timestamp>,
    seen_at: Option<Timestamp>,
}

impl<'a> Application<'a> {
    /// Starts with the observed grant and its artifacts. `seen_at` is the time at which this process first saw the
    /// request.
    pub fn new(
        edges: &'a Cluster,
        grant: Arc<AccessGrant>,
        found: &[Found],
        seen_at: Option<Timestamp>,
    ) -> Self {
        let mut application = Self {
            edges,
            grant,
            uids: BTreeMap::new(),
            fuse_states: BTreeMap::new(),
            refused: BTreeMap::new(),
            in_force_since: None,
            proven_at: None,
            seen_at,
        };
        application.find(found);
        application
    }

    /// Adds artifacts that were found since the start.
    pub fn find(&mut self, found: &[Found]) {
        let uids = found.iter().map(|found| (found.key(), found.uid.clone()));
        self.uids.extend(uids);
        self.fuse_states.extend(fuse_states(found));
    }

    /// The grant as last written.
    pub fn grant(&self) -> Arc<AccessGrant> {
        Arc::clone(&self.grant)
    }

    /// Applies the effects of one stage concurrently.
    ///
    /// # Guarantees
    /// Each effect has its own permit and its own time limit. All effects are tried, even if one fails.
    ///
    /// # Errors
    /// [`Interrupted`] if an effect failed. Later stages must not be applied then.
    pub async fn stage(&mut self, effects: &[Effect]) -> Result<(), Interrupted> {
        let results = join_all(effects.iter().map(|effect| self.effect(effect))).await;
        let mut first = None;
        let (mut refused, mut other_failure) = (BTreeMap::new(), false);
        for (effect, result) in effects.iter().zip(results) {
            match result {
                Ok(done) => self.learn(done),
                Err(error) => {
                    match effect {
                        Effect::Create(artifact) if is_refusal(artifact.kind(), &error) => {
                            refused.insert(artifact.key(), error.to_string());
                        }
                        _ => other_failure = true,
                    }
                    first.get_or_insert(error);
                }
            }
        }
        let Some(error) = first else { return Ok(()) };
        if other_failure {
            refused.clear();
        }
        self.refused.extend(refused.clone());
        Err(Interrupted { error, refused })
    }

    fn learn(&mut self, done: Applied) {
        match done {
            Applied::Nothing => {}
            Applied::Made(key, uid, fuse_state) => {
                if let Some(fuse_state) = fuse_state {
                    self.fuse_states.insert(key.clone(), fuse_state);
                }
                if key.kind == ArtifactKind::RoleBinding {
                    self.in_force_since = Some(self.edges.clock.now());
                }
                self.uids.insert(key, uid);
            }
            Applied::Written(grant) => {
                self.grant = Arc::from(grant);
                self.edges.index.wrote(Arc::clone(&self.grant));
            }
            Applied::Proven(at) => self.proven_at = Some(at),
        }
    }

    async fn effect(&self, effect: &Effect) -> Result<Applied, Error> {
        let queue = &self.edges.slots;
        let permit = match (effect, effect.precedence()) {
            // Sends no request, so it needs no permit.
            (Effect::AwaitFuses(_), _) => None,
            (_, Precedence::End) if self.edges.reach.is_unsettled() => {
                Some(queue.enter_overdue(self.due()).await)
            }
            (_, precedence) => Some(queue.enter(precedence).await),
        };
        let result = self.attempt(effect).await;
        drop(permit);
        let outcome = match &result {
            Ok((_, outcome)) => *outcome,
            Err(error) => Outcome::of(error),
        };
        self.edges.observer.effect(effect.kind(), outcome);
        result.map(|(done, _)| done)
    }

    /// The time at which access expires; now, if an earlier end was requested.
    fn due(&self) -> Timestamp {
        let live = self.grant.status.as_ref().and_then(Live::of);
        let now = self.edges.clock.now();
        live.map_or(now, |live| live.expires_at.min(now))
    }

    async fn attempt(&self, effect: &Effect) -> Result<(Applied, Outcome), Error> {
        let (edges, grant) = (self.edges, self.grant.as_ref());
        let applied = |done| (done, Outcome::Applied);
        match effect {
            Effect::Intend(status) | Effect::Record(status) => {
                record::write(edges, grant, status).await.map(applied)
            }
            Effect::AddFinalizer => record::add_finalizer(edges, grant).await.map(applied),
            Effect::RemoveFinalizer => record::remove_finalizer(edges, grant).await.map(applied),
            Effect::Create(artifact) => create::create(edges, artifact, self.fuse_uid(&artifact.key())).await,
            Effect::HandOver(target) => create::hand_over(edges, target, self.fuse_uid(&target.key()))
                .await
                .map(applied),
            Effect::AwaitFuses(keys) => Ok((Applied::Nothing, self.await_fuses(keys).await)),
            Effect::RecordActive => {
                let (backstops, since) = (self.backstops(), self.in_force_since);
                record::active(edges, grant, &self.uids, &backstops, since, self.seen_at)
                    .await
                    .map(applied)
            }
            Effect::RecordFuses => record::fuses(edges, grant, &self.uids, &self.backstops())
                .await
                .map(applied),
            Effect::Delete(target) => remove::remove(edges, target, &self.grant_uid())
                .await
                .map(|outcome| (Applied::Nothing, outcome)),
            Effect::ProveAbsent(targets) => self.prove_absent(targets).await.map(applied),
            Effect::RecordEnded(ending) => record::ended(edges, grant, ending, self.ended_at())
                .await
                .map(applied),
            Effect::RecordVerdict(judged) => self.record_verdict(judged).await.map(applied),
            Effect::Announce(announcement) => Ok((Applied::Nothing, self.announce(announcement).await)),
            Effect::DeleteGrant => record::delete(edges, grant).await.map(applied),
        }
    }

    fn grant_uid(&self) -> String {
        self.grant.uid().unwrap_or_default()
    }

    /// The uid of the fuse that owns this artifact; empty if there is no fuse.
    fn fuse_uid(&self, key: &ArtifactKey) -> &str {
        self.uids.get(&key.of_fuse()).map_or("", String::as_str)
    }

    /// The time of the proof of absence; now, if nothing had to be removed.
    fn ended_at(&self) -> Timestamp {
        self.proven_at.unwrap_or_else(|| self.edges.clock.now())
    }

    /// The present state of the layers that end this access without the operator.
    fn backstops(&self) -> Backstops {
        let mut fuse_states = self.fuse_states.clone();
        fuse_states.extend(self.edges.index.fuse_states(self.fuse_states.keys()));
        Backstops {
            fuse_states,
            refused: self.refused.clone(),
            sweep_lives: self.edges.index.sweep_lives(),
        }
    }

    async fn await_fuses(&self, keys: &[ArtifactKey]) -> Outcome {
        let started = join_all(keys.iter().map(|key| self.edges.index.until_started(key)));
        match tokio::time::timeout(FUSES_TAKE, started).await {
            Ok(_) => Outcome::Applied,
            Err(_) => Outcome::TimedOut,
        }
    }

    async fn record_verdict(&self, judged: &DecisionVerdict) -> Result<Applied, Error> {
        let namespace = self.grant.namespace().unwrap_or_default();
        decisions::record(self.edges, &namespace, judged).await?;
        Ok(Applied::Nothing)
    }

    /// Reads each target from the API server itself.
    async fn prove_absent(&self, targets: &[Target]) -> Result<Applied, Error> {
        let grant_uid = self.grant_uid();
        for target in targets {
            let found = read_live(self.edges, &target.key()).await?;
            if found.is_some_and(|held| held.grant_uid == grant_uid) {
                return Err(Error::StillThere {
                    kind: target.kind,
                    name: target.name.clone(),
                });
            }
        }
        Ok(Applied::Proven(self.edges.clock.now()))
    }

    /// Writes audit record and Events of a transition.
    ///
    /// # Guarantees
    /// The audit log has one record, even after retries. A retry writes an Event of the same name.
    ///
    /// # Caveats
    /// A failed Event is logged and stops nothing: a namespace that is being deleted accepts no Event.
    async fn announce(&self, transition: &Transition) -> Outcome {
        let at = self.ended_at();
        let event = transition.event(&self.grant, at);
        if self.edges.index.is_news(&self.grant_uid(), &event.name) {
            publish::audit(&transition.audit(&self.grant, at));
        }
        let outcome = publish::publish_or_warn(self.edges, self.grant.object_ref(&()), &event, at).await;
        let Some((decision, event)) = transition.event_of_decision(at) else {
            return outcome;
        };
        let regarding = decisions::reference(&self.grant.namespace().unwrap_or_default(), decision);
        publish::publish_or_warn(self.edges, regarding, &event, at).await
    }
}
