//! Effects and plans: what to change in the cluster, as plain data.

use jiff::Timestamp;

use crate::api::{AccessGrantStatus, ArtifactKind};
use crate::core::artifact::Artifact;
use crate::core::artifact::key::ArtifactKey;
use crate::core::artifact::target::Target;
use crate::core::decision::verdict::DecisionVerdict;
use crate::core::grant::revocation::DueRevocation;
use crate::core::grant::transition::Transition;

/// One change in the cluster, or one read as proof. The layer `cluster` applies effects and decides nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Record the write-ahead: what will be made, and when it expires. Comes before anything that gives access. Carries
    /// the resourceVersion of the grant, so of two operators only one succeeds.
    Intend(Box<AccessGrantStatus>),
    /// Add our finalizer to the grant, until what the grant does not own is proven absent. Carries the resourceVersion
    /// of the grant, so that finalizers of others stay.
    AddFinalizer,
    /// Create one artifact.
    Create(Artifact),
    /// Hand over an artifact that the grant owns to the fuse of the same name, which was made later.
    HandOver(Target),
    /// Wait a moment until these fuses are lit; most are, 24 ms after they were made. If nothing is recorded after the
    /// wait, the grant is planned again.
    AwaitFuses(Vec<ArtifactKey>),
    /// Record that the access is in force since its bindings exist, with the uids of the artifacts and the state of the
    /// fuses.
    RecordActive,
    /// Record the present state of the fuses, with the uids of the artifacts.
    RecordFuses,
    /// Delete one artifact. It may be absent already.
    Delete(Target),
    /// Prove by a read from the API server, not from a watch, that these are absent.
    ProveAbsent(Vec<Target>),
    /// Record that the grant is over since the proof of absence.
    RecordEnded(DueRevocation),
    /// Take our finalizer off the grant. Carries the resourceVersion of the grant.
    RemoveFinalizer,
    /// Record a state without artifacts, such as held, waiting or denied.
    Record(Box<AccessGrantStatus>),
    /// Record the verdict on a decision. If the decision was deleted, nothing is recorded.
    RecordVerdict(Box<DecisionVerdict>),
    /// Announce a transition by a Kubernetes Event and an audit record. Comes before the status that says the same: a
    /// crash between them repeats the announcement, under the same Event name, and never loses it.
    Announce(Transition),
    /// Delete the grant after its retention.
    DeleteGrant,
}

/// Deletes these in two stages: what gives access, then the rest. So an elevation marker lasts as long as the access
/// that it marks.
pub fn removal(targets: impl IntoIterator<Item = Target>) -> [Vec<Effect>; 2] {
    let (first, rest): (Vec<_>, Vec<_>) = targets.into_iter().partition(Target::gives_access);
    [first, rest].map(|targets| targets.into_iter().map(Effect::Delete).collect())
}

/// Priority of an effect when many grants need the API server at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precedence {
    /// Ends access.
    End,
    /// Grants access.
    Begin,
    /// Bookkeeping: waits while an effect of another priority waits.
    Record,
}

impl Effect {
    /// Priority among the effects of all grants.
    pub fn precedence(&self) -> Precedence {
        match self {
            Self::Delete(target) if target.gives_access() => Precedence::End,
            Self::Intend(_) | Self::AddFinalizer | Self::Create(_) => Precedence::Begin,
            Self::HandOver(_)
            | Self::AwaitFuses(_)
            | Self::RecordActive
            | Self::RecordFuses
            | Self::Delete(_)
            | Self::ProveAbsent(_)
            | Self::RecordEnded(_)
            | Self::RemoveFinalizer
            | Self::Record(_)
            | Self::RecordVerdict(_)
            | Self::Announce(_)
            | Self::DeleteGrant => Precedence::Record,
        }
    }
}

/// Kind of an effect, for metrics and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each names its effect")]
pub enum EffectKind {
    RecordStatus,
    RecordVerdict,
    AddFinalizer,
    RemoveFinalizer,
    CreateFuse,
    CreateRole,
    CreateBinding,
    HandOver,
    AwaitFuses,
    DeleteFuse,
    DeleteRole,
    DeleteBinding,
    ProveAbsent,
    Announce,
    DeleteGrant,
}

impl EffectKind {
    /// All kinds, so that each has a time series from the start.
    pub const ALL: [Self; 15] = [
        Self::RecordStatus,
        Self::RecordVerdict,
        Self::AddFinalizer,
        Self::RemoveFinalizer,
        Self::CreateFuse,
        Self::CreateRole,
        Self::CreateBinding,
        Self::HandOver,
        Self::AwaitFuses,
        Self::DeleteFuse,
        Self::DeleteRole,
        Self::DeleteBinding,
        Self::ProveAbsent,
        Self::Announce,
        Self::DeleteGrant,
    ];
}

impl Effect {
    /// Kind of the effect. `Create` and `Delete` are told apart by the kind of artifact.
    pub fn kind(&self) -> EffectKind {
        match self {
            Self::Intend(_)
            | Self::RecordActive
            | Self::RecordFuses
            | Self::RecordEnded(_)
            | Self::Record(_) => EffectKind::RecordStatus,
            Self::HandOver(_) => EffectKind::HandOver,
            Self::AwaitFuses(_) => EffectKind::AwaitFuses,
            Self::RecordVerdict(_) => EffectKind::RecordVerdict,
            Self::AddFinalizer => EffectKind::AddFinalizer,
            Self::RemoveFinalizer => EffectKind::RemoveFinalizer,
            Self::Create(artifact) => match artifact.kind() {
                ArtifactKind::Job => EffectKind::CreateFuse,
                ArtifactKind::Role => EffectKind::CreateRole,
                ArtifactKind::RoleBinding => EffectKind::CreateBinding,
            },
            Self::Delete(target) => match target.kind {
                ArtifactKind::Job => EffectKind::DeleteFuse,
                ArtifactKind::Role => EffectKind::DeleteRole,
                ArtifactKind::RoleBinding => EffectKind::DeleteBinding,
            },
            Self::ProveAbsent(_) => EffectKind::ProveAbsent,
            Self::Announce(_) => EffectKind::Announce,
            Self::DeleteGrant => EffectKind::DeleteGrant,
        }
    }
}

/// What to do about one grant now: stages in their order, the effects of a stage at the same time.
///
/// # Errors
/// An effect that fails does not stop the others of its stage. The next stage does not begin.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The stages; none is empty.
    pub stages: Vec<Vec<Effect>>,
    /// When to plan again although nothing has changed. `None`: not before a change.
    pub wake: Option<Timestamp>,
}

impl Plan {
    /// The plan of these stages, without the empty ones.
    pub fn new(stages: impl IntoIterator<Item = Vec<Effect>>, wake: Option<Timestamp>) -> Self {
        Self {
            stages: stages.into_iter().filter(|stage| !stage.is_empty()).collect(),
            wake,
        }
    }

    /// Nothing to do before `wake`.
    pub fn wait_until(wake: Timestamp) -> Self {
        Self::new([], Some(wake))
    }

    /// Whether the grant is planned again after this plan: it waits for fuses, and does not record their state.
    pub fn is_to_be_continued(&self) -> bool {
        let any = |wanted: fn(&Effect) -> bool| self.stages.iter().flatten().any(wanted);
        any(|effect| matches!(effect, Effect::AwaitFuses(_)))
            && !any(|effect| matches!(effect, Effect::RecordActive | Effect::RecordFuses))
    }
}
