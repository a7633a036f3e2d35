//! Making what is recorded: fuses, then what has to be there before there is access, then what gives it.

use jiff::{SignedDuration, Timestamp};

use super::is_held;
use crate::api::{ArtifactKind, FuseDemand};
use crate::core::announce::{Announcement, GivenAccess};
use crate::core::artifact::{GrantIdentity, artifacts, reaches_beyond};
use crate::core::effect::{Effect, Plan, Target};
use crate::core::facts::{Found, Input};
use crate::core::flame::{Flame, LATE};
use crate::core::fuse::{Backstops, Fused, said};
use crate::core::live::Live;
use crate::core::naming::{ArtifactKey, is_marker};
use crate::core::status;
use crate::core::{Artifact, Holder};

/// Makes what is recorded and not there yet: fuses, then Roles and elevation markers, then bindings; then the telling
/// and the record. Before the bindings the grant gets a finalizer, if it will not own all of them. Where fuses have to be
/// lit first, no more is made until they are.
pub(super) fn make(input: &Input<'_>, live: &Live<'_>, found: &[Found], now: Timestamp) -> Plan {
    let making = Making::of(input, live, found, now);
    if making.waits_for_fuses() {
        return making.wait_for_fuses();
    }
    making.give()
}

/// Looks after the fuses of access that is in force: makes those that were refused, gives them what the grant holds for
/// want of them, and says how it stands.
pub(super) fn keep_fused(input: &Input<'_>, live: &Live<'_>, now: Timestamp) -> Plan {
    let making = Making::of(input, live, input.found, now);
    let fuses = making.fuses();
    let handed_over = making.handed_over(&fuses);
    if !fuses.is_empty() || !handed_over.is_empty() {
        return Plan::default()
            .then(fuses)
            .then(handed_over)
            .then(making.awaited())
            .then([Effect::RecordFuses])
            .waking_if(making.look_again());
    }
    let news = making.fused.as_ref().filter(|fused| !fused.is_said(live.status));
    Plan::default()
        .then(making.alarm(true))
        .then(news.map(|_| Effect::RecordFuses))
        .waking_if(making.look_again())
}

/// What a pass makes, and what it goes by.
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

    /// Makes the fuses that are missing, but for those that this pass was refused.
    fn fuses(&self) -> Vec<Effect> {
        self.in_stage(0)
            .filter(|wanted| !self.is_refused(&wanted.key()))
            .cloned()
            .map(Effect::Create)
            .collect()
    }

    fn in_stage(&self, stage: usize) -> impl Iterator<Item = &Artifact> {
        self.missing
            .iter()
            .filter(move |wanted| making_stage(wanted) == stage)
    }

    /// What gives access, or comes before it: held by the grant for want of a fuse.
    fn pieces(&self, stage: usize) -> impl Iterator<Item = Effect> {
        self.in_stage(stage).map(|wanted| {
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

    /// Whether fuses keep access from being given: any that is not lit where the policy demands that, and any that was
    /// refused where the grant cannot hold the access instead.
    fn waits_for_fuses(&self) -> bool {
        if self.in_stage(2).next().is_none() {
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

    /// Makes the fuses, and no more: waits for a moment, and then says what is missing. One that was lit late while
    /// nobody had access yet is made anew, with the time that is left.
    fn wait_for_fuses(&self) -> Plan {
        let (late, missing) = (self.lit_late(), self.fuses());
        let making = !late.is_empty() || !missing.is_empty();
        let unheard = said(self.live.status).is_none();
        let patient = !self.input.tried.awaited_fuses && self.backstops.refused.is_empty();
        let plan = Plan::default()
            .then(missing)
            .then(late)
            .waking_if(self.look_again());
        if making || (unheard && patient) {
            return plan.then(self.awaited());
        }
        let news = self
            .fused
            .as_ref()
            .filter(|fused| !fused.is_said(self.live.status));
        let record = news.map(|fused| {
            let waits = status::awaiting_fuses(self.input.grant, self.live.status, fused, self.now);
            Effect::Record(Box::new(waits))
        });
        plan.then(self.alarm(false)).then(record)
    }

    /// Removes fuses that burn late.
    fn lit_late(&self) -> Vec<Effect> {
        let late = |found: &&Found| match self.backstops.flames.get(&found.key()) {
            Some(Flame::Late { made }) => self.now.duration_since(*made) > LATE,
            _ => false,
        };
        let late = self.found.iter().filter(late);
        late.map(|found| Effect::Delete(Target::from(found))).collect()
    }

    fn give(&self) -> Plan {
        let (input, live) = (self.input, self.live);
        let entitlements = live.status.resolved.clone().unwrap_or_default().entitlements;
        let announcement = Announcement::Activated {
            subject: live.status.subject.clone(),
            access: entitlements
                .into_iter()
                .map(|entitlement| GivenAccess::of(entitlement, input.roles))
                .collect(),
            expires_at: live.expires_at,
        };
        let beyond = reaches_beyond(&GrantIdentity::from(input.grant), &live.status.artifacts);
        let hold = (beyond && !is_held(input.grant)).then_some(Effect::AddFinalizer);
        let fuses = self.fuses();
        let handed_over = self.handed_over(&fuses);
        Plan::default()
            .then(fuses)
            .then(hold.into_iter().chain(self.pieces(1)))
            .then(self.pieces(2))
            .then(handed_over)
            .then(std::iter::once(Effect::Announce(announcement)).chain(self.alarm(true)))
            .then(self.awaited())
            .then([Effect::RecordActive])
            .waking_if(self.look_again())
    }

    /// Gives to fuses that are there, or are being made, what the grant holds for want of them.
    fn handed_over(&self, making: &[Effect]) -> Vec<Effect> {
        let stands = |fuse: &ArtifactKey| {
            let made = |effect: &Effect| matches!(effect, Effect::Create(made) if made.key() == *fuse);
            self.backstops.flames.contains_key(fuse) || making.iter().any(made)
        };
        let by_the_grant = |found: &&Found| {
            found.owner.is_some()
                && found.owner == self.input.grant.metadata.uid
                && found.kind() != ArtifactKind::Job
        };
        self.found
            .iter()
            .filter(by_the_grant)
            .filter(|found| self.live.records(found) && stands(&found.key().of_fuse()))
            .map(|found| Effect::HandOver(Target::from(found)))
            .collect()
    }

    /// Waits for the fuses that are not known to be lit, once.
    fn awaited(&self) -> Option<Effect> {
        let keys = self.live.status.artifacts.iter().map(ArtifactKey::from);
        let unlit: Vec<_> = keys
            .filter(|key| key.kind == ArtifactKind::Job && !self.is_refused(key))
            .filter(|key| self.backstops.flames.get(key) != Some(&Flame::Lit))
            .collect();
        let waits = !self.input.tried.awaited_fuses && !unlit.is_empty();
        waits.then_some(Effect::AwaitFuses(unlit))
    }

    /// Tells, once, that fuses are not lit. Of those that this pass has only begun to make there is nothing to tell.
    fn alarm(&self, given: bool) -> Option<Effect> {
        let fused = self.fused.as_ref()?;
        let tried = self.fuses().is_empty();
        (tried && fused.is_alarming(self.live.status)).then(|| {
            Effect::Announce(Announcement::Unfused {
                reason: fused.reason,
                message: fused.message.clone(),
                given,
            })
        })
    }

    /// When to look again for the sake of fuses.
    fn look_again(&self) -> Option<Timestamp> {
        self.fused
            .as_ref()?
            .look_again(self.live.status, &self.backstops, self.now)
            .map(|at| at.max(self.now.saturating_add(SOONEST).unwrap_or(Timestamp::MAX)))
    }
}

/// No two looks for the sake of fuses come sooner after one another.
const SOONEST: SignedDuration = SignedDuration::from_secs(1);

/// When an artifact is made: what holds, what must be there before there is access, what gives it.
fn making_stage(artifact: &Artifact) -> usize {
    match artifact.kind() {
        ArtifactKind::Job => 0,
        ArtifactKind::RoleBinding if !is_marker(artifact.kind(), &artifact.name) => 2,
        ArtifactKind::Role | ArtifactKind::RoleBinding => 1,
    }
}
