//! Does what a plan says, in its order, and decides nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::json;

use super::edges::{Edges, Outcome, call};
use super::error::Error;
use super::observe::read_live;
use super::{decisions, events, objects, read, remove};
use crate::api::{AccessGrant, AccessGrantStatus, ArtifactKind, CONTROLLER, REVOKE_FINALIZER};
use crate::core::{
    Announcement, Artifact, ArtifactKey, Backstops, Body, Class, Effect, Ending, EventText, Flame, Found,
    Judged, Live, Precedence, Target, flames, slim, status,
};

/// How long the record that access is in force waits for the news that its fuses are lit. Of fuses made one at a time
/// half were lit 24 ms after their making; what is not known by then costs another write later.
const FUSES_TAKE: Duration = Duration::from_millis(500);

/// The application of one plan: what it has learnt so far.
pub struct Application<'a> {
    edges: &'a Edges,
    grant: Arc<AccessGrant>,
    uids: status::Uids,
    /// The fuses as they were found or made; the index may know more.
    flames: BTreeMap<ArtifactKey, Flame>,
    refused: BTreeMap<ArtifactKey, String>,
    in_force_since: Option<Timestamp>,
    proven_at: Option<Timestamp>,
    seen_at: Option<Timestamp>,
}

/// A stage that could not be finished.
#[derive(Debug)]
pub struct Interrupted {
    /// Why; the first failure of the stage.
    pub error: Error,
    /// What the API server refused to make, and its words: trying again would be refused again. Empty where anything
    /// failed otherwise.
    pub refused: BTreeMap<ArtifactKey, String>,
}

/// Whether the API server refuses to make something, and would do so again. A webhook of Jobs that is down can stay so
/// for hours: whether access waits for its fuse that long is for the policy to say. One of bindings or Roles keeps
/// access from being given, and ends nothing.
fn is_refusal(kind: ArtifactKind, error: &Error) -> bool {
    matches!(error.class(), Class::Denied | Class::Invalid)
        || (kind == ArtifactKind::Job && error.is_of_a_webhook())
}

/// What one effect gave.
enum Done {
    Nothing,
    Made(ArtifactKey, String, Option<Flame>),
    Written(Box<AccessGrant>),
    Proven(Timestamp),
}

impl<'a> Application<'a> {
    /// Begins with the grant as observed and the artifacts found. `seen_at` is when this process first saw the
    /// request.
    pub fn new(
        edges: &'a Edges,
        grant: Arc<AccessGrant>,
        found: &[Found],
        seen_at: Option<Timestamp>,
    ) -> Self {
        let mut application = Self {
            edges,
            grant,
            uids: BTreeMap::new(),
            flames: BTreeMap::new(),
            refused: BTreeMap::new(),
            in_force_since: None,
            proven_at: None,
            seen_at,
        };
        application.find(found);
        application
    }

    /// Takes in what has been found since.
    pub fn find(&mut self, found: &[Found]) {
        let uids = found.iter().map(|found| (found.key(), found.uid.clone()));
        self.uids.extend(uids);
        self.flames.extend(flames(found));
    }

    /// The grant as it was last written.
    pub fn grant(&self) -> Arc<AccessGrant> {
        Arc::clone(&self.grant)
    }

    /// Applies one stage: its effects side by side, each with its own slot and time limit.
    pub async fn stage(&mut self, effects: &[Effect]) -> Result<(), Interrupted> {
        let results = join_all(effects.iter().map(|effect| self.effect(effect))).await;
        let mut first = None;
        let (mut refused, mut otherwise) = (BTreeMap::new(), false);
        for (effect, result) in effects.iter().zip(results) {
            match result {
                Ok(done) => self.learn(done),
                Err(error) => {
                    match effect {
                        Effect::Create(artifact) if is_refusal(artifact.kind(), &error) => {
                            refused.insert(artifact.key(), error.to_string());
                        }
                        _ => otherwise = true,
                    }
                    first.get_or_insert(error);
                }
            }
        }
        let Some(error) = first else { return Ok(()) };
        if otherwise {
            refused.clear();
        }
        self.refused.extend(refused.clone());
        Err(Interrupted { error, refused })
    }

    fn learn(&mut self, done: Done) {
        match done {
            Done::Nothing => {}
            Done::Made(key, uid, flame) => {
                if let Some(flame) = flame {
                    self.flames.insert(key.clone(), flame);
                }
                if key.kind == ArtifactKind::RoleBinding {
                    self.in_force_since = Some(self.edges.clock.now());
                }
                self.uids.insert(key, uid);
            }
            Done::Written(grant) => {
                self.grant = Arc::from(grant);
                self.edges.index.wrote(Arc::clone(&self.grant));
            }
            Done::Proven(at) => self.proven_at = Some(at),
        }
    }

    async fn effect(&self, effect: &Effect) -> Result<Done, Error> {
        let slots = &self.edges.slots;
        let slot = match (effect, effect.precedence()) {
            // Asks nothing of the API server, so it takes nobody's turn.
            (Effect::AwaitFuses(_), _) => None,
            (_, Precedence::End) if self.edges.reach.is_unsettled() => {
                Some(slots.enter_overdue(self.due()).await)
            }
            (_, precedence) => Some(slots.enter(precedence).await),
        };
        let result = self.attempt(effect).await;
        drop(slot);
        let outcome = match &result {
            Ok((_, outcome)) => *outcome,
            Err(Error::TimedOut { .. }) => Outcome::TimedOut,
            Err(error) => match error.class() {
                Class::Conflict => Outcome::Conflict,
                Class::Denied | Class::Invalid => Outcome::Refused,
                Class::Gone | Class::Throttled | Class::Transient => Outcome::Failed,
            },
        };
        self.edges.witness.effect(effect.kind(), outcome);
        result.map(|(done, _)| done)
    }

    /// When the access was to end; now, if that is yet to come: somebody wants it gone sooner.
    fn due(&self) -> Timestamp {
        let live = self.grant.status.as_ref().and_then(Live::of);
        let now = self.edges.clock.now();
        live.map_or(now, |live| live.expires_at.min(now))
    }

    async fn attempt(&self, effect: &Effect) -> Result<(Done, Outcome), Error> {
        let applied = |done| (done, Outcome::Applied);
        match effect {
            Effect::Intend(status) | Effect::Record(status) => self.write(status).await.map(applied),
            Effect::AddFinalizer => self.add_finalizer().await.map(applied),
            Effect::RemoveFinalizer => self.remove_finalizer().await.map(applied),
            Effect::Create(artifact) => self.create(artifact).await,
            Effect::HandOver(target) => self.hand_over(target).await.map(applied),
            Effect::AwaitFuses(keys) => Ok((Done::Nothing, self.await_fuses(keys).await)),
            Effect::RecordActive => self.record_active().await.map(applied),
            Effect::RecordFuses => self.record_fuses().await.map(applied),
            Effect::Delete(target) => {
                let grant_uid = self.grant.uid().unwrap_or_default();
                remove::remove(self.edges, target, &grant_uid)
                    .await
                    .map(|outcome| (Done::Nothing, outcome))
            }
            Effect::ProveAbsent(targets) => self.prove_absent(targets).await.map(applied),
            Effect::RecordEnded(ending) => self.record_ended(ending).await.map(applied),
            Effect::RecordVerdict(judged) => self.record_verdict(judged).await.map(applied),
            Effect::Announce(announcement) => Ok((Done::Nothing, self.announce(announcement).await)),
            Effect::DeleteGrant => self.delete_grant().await.map(applied),
        }
    }

    async fn write(&self, status: &AccessGrantStatus) -> Result<Done, Error> {
        let (grants, name) = (self.grants(), self.grant.name_any());
        let params = PostParams {
            field_manager: Some(CONTROLLER.to_owned()),
            ..PostParams::default()
        };
        let replacement = status::replacement(&self.grant, status);
        let mut written = call(
            "write status",
            grants.replace_status(&name, &params, &replacement),
        )
        .await?;
        slim(&mut written);
        Ok(Done::Written(Box::new(written)))
    }

    async fn record_active(&self) -> Result<Done, Error> {
        let now = self.edges.clock.now();
        let since = self.in_force_since.unwrap_or(now);
        let active = status::active(&self.grant, &self.uids, &self.backstops(), since, now);
        let done = self.write(&active).await?;
        self.edges
            .witness
            .activated(self.seen_at.map(|seen| since.duration_since(seen)));
        Ok(done)
    }

    async fn record_fuses(&self) -> Result<Done, Error> {
        let now = self.edges.clock.now();
        self.write(&status::fused(&self.grant, &self.uids, &self.backstops(), now))
            .await
    }

    /// What is known of whatever ends the access besides this process, at this moment.
    fn backstops(&self) -> Backstops {
        let mut flames = self.flames.clone();
        flames.extend(self.edges.index.flames(self.flames.keys()));
        Backstops {
            flames,
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

    /// Bound to the object that was found: whatever has its name since is another's to hold.
    async fn hand_over(&self, target: &Target) -> Result<Done, Error> {
        let key = target.key();
        let fuse_uid = self.uids.get(&key.of_fuse()).cloned().unwrap_or_default();
        let patch = Patch::Merge(json!({"metadata": {
            "uid": target.uid,
            "ownerReferences": [objects::held_by_fuse(&key, &fuse_uid)],
        }}));
        let params = PatchParams {
            field_manager: Some(CONTROLLER.to_owned()),
            ..PatchParams::default()
        };
        let (client, namespace, name) = (self.edges.client.clone(), &target.namespace, &target.name);
        match target.kind {
            ArtifactKind::Job => {}
            ArtifactKind::Role => {
                let roles = Api::<Role>::namespaced(client, namespace);
                call("hand over Role", roles.patch_metadata(name, &params, &patch)).await?;
            }
            ArtifactKind::RoleBinding => {
                let bindings = Api::<RoleBinding>::namespaced(client, namespace);
                call(
                    "hand over RoleBinding",
                    bindings.patch_metadata(name, &params, &patch),
                )
                .await?;
            }
        }
        Ok(Done::Nothing)
    }

    async fn record_ended(&self, ending: &Ending) -> Result<Done, Error> {
        let at = self.proven_at.unwrap_or_else(|| self.edges.clock.now());
        let done = self.write(&status::ended(&self.grant, ending, at)).await?;
        self.edges.witness.ended(ending, at);
        Ok(done)
    }

    async fn record_verdict(&self, judged: &Judged) -> Result<Done, Error> {
        let namespace = self.grant.namespace().unwrap_or_default();
        decisions::record(self.edges, &namespace, judged).await?;
        Ok(Done::Nothing)
    }

    async fn create(&self, artifact: &Artifact) -> Result<(Done, Outcome), Error> {
        if artifact.is_overdue(self.edges.clock.now()) {
            return Err(Error::Overdue {
                kind: artifact.kind(),
                name: artifact.name.clone(),
            });
        }
        let (client, namespace) = (self.edges.client.clone(), artifact.namespace.as_str());
        let fuse_uid = self
            .uids
            .get(&artifact.key().of_fuse())
            .cloned()
            .unwrap_or_default();
        let params = PostParams {
            field_manager: Some(CONTROLLER.to_owned()),
            ..PostParams::default()
        };
        let created = match &artifact.body {
            Body::Fuse { seconds } => {
                let fuse = objects::fuse(artifact, *seconds);
                let fuses = Api::<Job>::namespaced(client, namespace);
                call("create fuse", fuses.create(&params, &fuse))
                    .await
                    .map(|made| read::made_fuse(&made))
            }
            Body::Role(rules) => {
                let role = objects::role(artifact, rules, &fuse_uid);
                let api = Api::<Role>::namespaced(client, namespace);
                call("create Role", api.create(&params, &role))
                    .await
                    .map(|made| read::own_role(&made))
            }
            Body::Binding { role, subject } => {
                let binding = objects::binding(artifact, role, subject, &fuse_uid);
                let bindings = Api::<RoleBinding>::namespaced(client, namespace);
                call("create RoleBinding", bindings.create(&params, &binding))
                    .await
                    .map(|made| read::binding(&made))
            }
        };
        let made = |found: &Found| {
            let flame = flames(std::slice::from_ref(found)).remove(&artifact.key());
            Done::Made(artifact.key(), found.uid.clone(), flame)
        };
        match created {
            Ok((key, held)) => {
                let done = made(&held.found);
                self.edges.index.made(key, held);
                Ok((done, Outcome::Applied))
            }
            // An answer that was lost, or somebody who was faster: it is ours only if it says exactly what we say.
            Err(error) if error.is_already_there() => {
                let there = read_live(self.edges, &artifact.key()).await?;
                match there.filter(|held| {
                    held.grant_uid == artifact.grant.uid && artifact.compare(&held.found).is_ok()
                }) {
                    Some(held) => Ok((made(&held.found), Outcome::AlreadySo)),
                    None => Err(Error::NotOurs {
                        kind: artifact.kind(),
                        name: artifact.name.clone(),
                    }),
                }
            }
            Err(error) => Err(error),
        }
    }

    async fn prove_absent(&self, targets: &[Target]) -> Result<Done, Error> {
        let grant_uid = self.grant.uid().unwrap_or_default();
        for target in targets {
            let there = read_live(self.edges, &target.key()).await?;
            if there.is_some_and(|held| held.grant_uid == grant_uid) {
                return Err(Error::StillThere {
                    kind: target.kind,
                    name: target.name.clone(),
                });
            }
        }
        Ok(Done::Proven(self.edges.clock.now()))
    }

    /// Tells: the audit log once, however often that is tried; the Event is the same each time. A failure is told to the
    /// log and stops nothing: none can be written in a namespace that is being deleted.
    async fn announce(&self, announcement: &Announcement) -> Outcome {
        let at = self.proven_at.unwrap_or_else(|| self.edges.clock.now());
        let event = announcement.event(&self.grant, at);
        let uid = self.grant.uid().unwrap_or_default();
        if self.edges.index.is_news(&uid, &event.name) {
            events::audit(&announcement.audit(&self.grant, at));
        }
        let outcome = self.tell(self.grant.object_ref(&()), &event, at).await;
        let Some((decision, event)) = announcement.event_of_decision(at) else {
            return outcome;
        };
        let regarding = decisions::reference(&self.grant.namespace().unwrap_or_default(), decision);
        self.tell(regarding, &event, at).await
    }

    async fn tell(&self, regarding: ObjectReference, event: &EventText, at: Timestamp) -> Outcome {
        let mut told = events::publish(self.edges, regarding.clone(), event, at).await;
        // Once more, since the next pass has no reason to; its name makes that safe.
        if let Err(error) = &told
            && matches!(error.class(), Class::Transient | Class::Throttled)
        {
            told = events::publish(self.edges, regarding, event, at).await;
        }
        match told {
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::warn!(%error, reason = error.reason(), "an Event could not be written");
                Outcome::Failed
            }
        }
    }

    async fn add_finalizer(&self) -> Result<Done, Error> {
        let mut finalizers = self.grant.metadata.finalizers.clone().unwrap_or_default();
        finalizers.push(REVOKE_FINALIZER.to_owned());
        self.set_finalizers("add finalizer", &finalizers).await
    }

    /// Takes our finalizer off. Of a grant that is being deleted nothing may be left then.
    async fn remove_finalizer(&self) -> Result<Done, Error> {
        let mut finalizers = self.grant.metadata.finalizers.clone().unwrap_or_default();
        finalizers.retain(|finalizer| finalizer != REVOKE_FINALIZER);
        match self.set_finalizers("remove finalizer", &finalizers).await {
            Err(error) if error.is_absent() => Ok(Done::Nothing),
            other => other,
        }
    }

    /// Bound to the version of the grant that is known: finalizers that others have set since are not lost, but this
    /// fails.
    async fn set_finalizers(&self, what: &'static str, finalizers: &[String]) -> Result<Done, Error> {
        let meta = &self.grant.metadata;
        let patch = Patch::Merge(json!({"metadata": {
            "uid": meta.uid,
            "resourceVersion": meta.resource_version,
            "finalizers": finalizers,
        }}));
        let params = PatchParams {
            field_manager: Some(CONTROLLER.to_owned()),
            ..PatchParams::default()
        };
        let (grants, name) = (self.grants(), self.grant.name_any());
        let mut written = call(what, grants.patch(&name, &params, &patch)).await?;
        slim(&mut written);
        Ok(Done::Written(Box::new(written)))
    }

    async fn delete_grant(&self) -> Result<Done, Error> {
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: self.grant.uid(),
                resource_version: self.grant.resource_version(),
            }),
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        match call(
            "delete grant",
            self.grants().delete(&self.grant.name_any(), &params),
        )
        .await
        {
            Ok(_) => Ok(Done::Nothing),
            Err(error) if error.is_absent() => Ok(Done::Nothing),
            Err(error) => Err(error),
        }
    }

    fn grants(&self) -> Api<AccessGrant> {
        Api::namespaced(
            self.edges.client.clone(),
            &self.grant.namespace().unwrap_or_default(),
        )
    }
}
