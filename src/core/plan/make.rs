//! Making the recorded artifacts: fuses, then what has to exist before the access, then what gives the access.

use jiff::{SignedDuration, Timestamp};

use crate::api::{ArtifactKind, FuseDemand};
use crate::core::artifact::found::Found;
use crate::core::artifact::fuse::{FuseState, LATE};
use crate::core::artifact::key::{ArtifactKey, is_marker};
use crate::core::artifact::target::Target;
use crate::core::artifact::{Artifact, GrantIdentity, Holder, artifacts, reaches_beyond};
use crate::core::audit::record::GivenAccess;
use crate::core::facts::Input;
use crate::core::grant::enforcement::{Backstops, Fused, said};
use crate::core::grant::live::Live;
use crate::core::grant::status;
use crate::core::grant::transition::Transition;
use crate::core::plan::effect::{Effect, Plan};
use crate::core::plan::end::has_finalizer;
use crate::core::time::timestamp::later;

/// Makes the recorded artifacts that are missing: fuses, then Roles and elevation markers, then bindings, then the
/// Event and the record. The grant gets a finalizer before the bindings, if it will not own all of them. Where the
/// policy requires fuses that are lit, nothing else is made before they are.
pub(super) fn make(input: &Input<'_>, live: &Live<'_>, found: &[Found], now: Timestamp) -> Plan {
    let making = Making::of(input, live, found, now);
    if making.waits_for_fuses() {
        return making.wait_for_fuses();
    }
    making.make_access()
}

/// Looks after the fuses of access that is in force: makes those that were refused before, hands over to them the
/// artifacts that the grant owns instead, and records their state.
pub(super) fn keep_fused(input: &Input<'_>, live: &Live<'_>, now: Timestamp) -> Plan {
    let making = Making::of(input, live, input.found, now);
    let fuses = making.create_fuses();
    let handed_over = making.hand_over(&fuses);
    let stages = if fuses.is_empty() && handed_over.is_empty() {
        let news = making.fused.as_ref().filter(|fused| !fused.is_said(live.status));
        let record = news.map(|_| Effect::RecordFuses);
        vec![Vec::from_iter(making.alarm(true)), Vec::from_iter(record)]
    } else {
        vec![
            fuses,
            handed_over,
            Vec::from_iter(making.await_unlit_fuses()),
            vec![Effect::RecordFuses],
        ]
    };
    Plan::new(stages, making.next_check())
}

/// The artifacts that a reconcile makes, and the facts it goes by.
struct Making<'a> {
    input: &'a Input<'a>,
    live: &'a Live<'a>,
    found: &'a [Found],
    now: Timestamp,
    missing: Vec<Artifact>,
    backstops: Backstops,
    fused: Option<Fused>,
}

impl<'a> Making<'a> {
    fn of(input: &'a Input<'a>, live: &'a Live<'a>, found: &'a [Found], now: Timestamp) -> Self {
        let there = |wanted: &Artifact| found.iter().any(|found| found.key() == wanted.key());
        let backstops = input.backstops(found);
        Self {
            missing: artifacts(input.grant, live.status, now)
                .into_iter()
                .filter(|wanted| !there(wanted))
                .collect(),
            fused: Fused::of(live.status, &backstops, now),
            input,
            live,
            found,
            now,
            backstops,
        }
    }

    fn is_refused(&self, fuse: &ArtifactKey) -> bool {
        self.backstops.refused.contains_key(fuse)
    }

    /// Makes the missing fuses, except those that the API server refused in this reconcile.
    fn create_fuses(&self) -> Vec<Effect> {
        self.of_step(Step::Fuse)
            .filter(|wanted| !self.is_refused(&wanted.key()))
            .cloned()
            .map(Effect::Create)
            .collect()
    }

    fn of_step(&self, step: Step) -> impl Iterator<Item = &Artifact> {
        self.missing.iter().filter(move |wanted| Step::of(wanted) == step)
    }

    /// Makes the missing artifacts of a step. The grant owns them where their fuse was refused.
    fn creations(&self, step: Step) -> impl Iterator<Item = Effect> {
        self.of_step(step).map(|wanted| {
            let holder = if self.is_refused(&wanted.key().of_fuse()) {
                Holder::Grant
            } else {
                wanted.holder
            };
            Effect::Create(Artifact {
                holder,
                ..wanted.clone()
            })
        })
    }

    /// Whether access has to wait for fuses. Where the policy requires fuses, all of them must be lit. Otherwise access
    /// waits only for a fuse that was refused in another namespace, where the grant cannot own the access instead.
    fn waits_for_fuses(&self) -> bool {
        if self.of_step(Step::Access).next().is_none() {
            return false;
        }
        let resolved = self.live.status.resolved.as_ref();
        match resolved.map(|access| access.fuse).unwrap_or_default() {
            FuseDemand::Required => self.fused.as_ref().is_some_and(|fused| !fused.lit),
            FuseDemand::Preferred | FuseDemand::None => {
                let namespace = self.input.grant.metadata.namespace.as_ref();
                let mut refused = self.backstops.refused.keys();
                refused.any(|key| Some(&key.namespace) != namespace)
            }
        }
    }

    /// Makes the fuses and nothing else, waits for a moment, and then says what is missing. A fuse that was lit too
    /// late is made again with the time that is left: nobody has access yet.
    fn wait_for_fuses(&self) -> Plan {
        let (late, missing) = (self.delete_late_fuses(), self.create_fuses());
        let makes_any = !late.is_empty() || !missing.is_empty();
        let unheard = said(self.live.status).is_none();
        let patient = !self.input.tried.awaited_fuses && self.backstops.refused.is_empty();
        let mut stages = vec![missing, late];
        if makes_any || (unheard && patient) {
            stages.push(Vec::from_iter(self.await_unlit_fuses()));
        } else {
            let news = self
                .fused
                .as_ref()
                .filter(|fused| !fused.is_said(self.live.status));
            let record = news.map(|fused| {
                let waits = status::awaiting_fuses(self.input.grant, self.live.status, fused, self.now);
                Effect::Record(Box::new(waits))
            });
            stages.extend([Vec::from_iter(self.alarm(false)), Vec::from_iter(record)]);
        }
        Plan::new(stages, self.next_check())
    }

    /// Deletes the fuses that were lit so late that they would expire too late.
    fn delete_late_fuses(&self) -> Vec<Effect> {
        let late = |found: &&Found| match self.backstops.fuse_states.get(&found.key()) {
            Some(FuseState::Late { made }) => self.now.duration_since(*made) > LATE,
            _ => false,
        };
        let late = self.found.iter().filter(late);
        late.map(|found| Effect::Delete(Target::from(found))).collect()
    }

    /// Makes everything that is missing, then announces and records that the access is in force.
    fn make_access(&self) -> Plan {
        let (input, live) = (self.input, self.live);
        let entitlements = live.status.resolved.clone().unwrap_or_default().entitlements;
        let announcement = Transition::Activated {
            subject: live.status.subject.clone(),
            access: entitlements
                .into_iter()
                .map(|entitlement| GivenAccess::of(entitlement, input.roles))
                .collect(),
            expires_at: live.expires_at,
        };
        let beyond = reaches_beyond(&GrantIdentity::from(input.grant), &live.status.artifacts);
        let hold = (beyond && !has_finalizer(input.grant)).then_some(Effect::AddFinalizer);
        let fuses = self.create_fuses();
        let handed_over = self.hand_over(&fuses);
        let announcement = std::iter::once(Effect::Announce(announcement));
        let stages = [
            fuses,
            hold.into_iter()
                .chain(self.creations(Step::Preparation))
                .collect(),
            self.creations(Step::Access).collect(),
            handed_over,
            announcement.chain(self.alarm(true)).collect(),
            Vec::from_iter(self.await_unlit_fuses()),
            vec![Effect::RecordActive],
        ];
        Plan::new(stages, self.next_check())
    }

    /// Hands over to fuses the artifacts that the grant owns instead of them. The fuses exist, or are among the effects
    /// `creations`.
    fn hand_over(&self, creations: &[Effect]) -> Vec<Effect> {
        let exists = |fuse: &ArtifactKey| {
            let creates =
                |effect: &Effect| matches!(effect, Effect::Create(artifact) if artifact.key() == *fuse);
            self.backstops.fuse_states.contains_key(fuse) || creations.iter().any(creates)
        };
        let by_the_grant = |found: &&Found| {
            found.owner.is_some()
                && found.owner == self.input.grant.metadata.uid
                && found.kind() != ArtifactKind::Job
        };
        self.found
            .iter()
            .filter(by_the_grant)
            .filter(|found| self.live.records(found) && exists(&found.key().of_fuse()))
            .map(|found| Effect::HandOver(Target::from(found)))
            .collect()
    }

    /// Waits for the fuses that are not known to be lit, once in a reconcile.
    fn await_unlit_fuses(&self) -> Option<Effect> {
        let keys = self.live.status.artifacts.iter().map(ArtifactKey::from);
        let unlit: Vec<_> = keys
            .filter(|key| key.kind == ArtifactKind::Job && !self.is_refused(key))
            .filter(|key| self.backstops.fuse_states.get(key) != Some(&FuseState::Lit))
            .collect();
        let waits = !self.input.tried.awaited_fuses && !unlit.is_empty();
        waits.then_some(Effect::AwaitFuses(unlit))
    }

    /// Announces, once, that fuses are not lit. Says nothing while this reconcile still makes fuses.
    fn alarm(&self, given: bool) -> Option<Effect> {
        let fused = self.fused.as_ref()?;
        let tried = self.create_fuses().is_empty();
        (tried && fused.is_alarming(self.live.status)).then(|| {
            Effect::Announce(Transition::Unfused {
                reason: fused.reason,
                message: fused.message.clone(),
                given,
            })
        })
    }

    /// When to check the fuses again.
    fn next_check(&self) -> Option<Timestamp> {
        self.fused
            .as_ref()?
            .look_again(self.live.status, &self.backstops, self.now)
            .map(|at| at.max(later(self.now, SOONEST)))
    }
}

/// Shortest time between two checks of the fuses.
const SOONEST: SignedDuration = SignedDuration::from_secs(1);

/// Step of making access, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A fuse, which owns the other artifacts.
    Fuse,
    /// A Role or an elevation marker: it has to exist before the access.
    Preparation,
    /// A binding that gives the access.
    Access,
}

impl Step {
    fn of(artifact: &Artifact) -> Self {
        match artifact.kind() {
            ArtifactKind::Job => Self::Fuse,
            ArtifactKind::RoleBinding if !is_marker(artifact.kind(), &artifact.name) => Self::Access,
            ArtifactKind::Role | ArtifactKind::RoleBinding => Self::Preparation,
        }
    }
}
