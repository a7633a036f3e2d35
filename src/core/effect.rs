//! What a plan does to the world, as plain data.

use jiff::Timestamp;

use super::announce::Announcement;
use super::artifact::Artifact;
use super::decision::Judged;
use super::ending::Ending;
use super::naming::{ArtifactKey, is_marker};
use crate::api::{AccessGrantStatus, ArtifactKind};

/// One thing to do. The edges do exactly this and decide nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Record what will be made and when it ends, before anything is made (the write-ahead). Carries the grant's
    /// resourceVersion: of two operators only one gets past it.
    Intend(Box<AccessGrantStatus>),
    /// Keep the grant until what it does not own is proven absent: put our finalizer on it. Carries the grant's
    /// resourceVersion, so that finalizers of others stay.
    AddFinalizer,
    /// Make one thing.
    Create(Artifact),
    /// Give something that the grant holds to the fuse of its name, which has been made since.
    HandOver(Target),
    /// Wait until these fuses are lit, for a moment: most are within 24 ms of their making. Where nothing is
    /// recorded after it, what is to be done is decided anew then.
    AwaitFuses(Vec<ArtifactKey>),
    /// Record that the access is in force since its bindings stand, with the uids of what was made and how it stands with
    /// the fuses.
    RecordActive,
    /// Record how it stands with the fuses now, with the uids of what was made.
    RecordFuses,
    /// Remove one thing. Absent already is as good.
    Delete(Target),
    /// Read live that these are absent.
    ProveAbsent(Vec<Target>),
    /// Record that the grant is over since the proof of absence.
    RecordEnded(Ending),
    /// Let the grant go: take our finalizer off it. Carries the grant's resourceVersion, too.
    RemoveFinalizer,
    /// Record a state that involves no artifact.
    Record(Box<AccessGrantStatus>),
    /// Record what was made of a decision. Of a decision that is gone nothing is recorded.
    RecordVerdict(Box<Judged>),
    /// Tell: a Kubernetes Event and an audit record. Comes before the status that says the same, so that a crash
    /// between them repeats the telling (same Event name) and never loses it.
    Announce(Announcement),
    /// Delete the grant, whose record has been kept long enough.
    DeleteGrant,
}

/// One thing to remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its kind.
    pub kind: ArtifactKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid, where known: nothing else of that name is removed.
    pub uid: Option<String>,
}

impl Target {
    /// What to remove, of that uid if one is known.
    pub fn new(key: ArtifactKey, uid: Option<String>) -> Self {
        let ArtifactKey {
            kind,
            namespace,
            name,
        } = key;
        Self {
            kind,
            namespace,
            name,
            uid,
        }
    }

    /// Its key.
    pub fn key(&self) -> ArtifactKey {
        ArtifactKey {
            kind: self.kind,
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }

    /// Whether access ends when it goes: it is a binding, and no elevation marker.
    pub fn gives_access(&self) -> bool {
        self.kind == ArtifactKind::RoleBinding && !is_marker(self.kind, &self.name)
    }
}

/// Removes these in their order: what gives access; then the rest, so that whoever is elevated is that as long as
/// there is access.
pub fn removal(targets: impl IntoIterator<Item = Target>) -> [Vec<Effect>; 2] {
    let (first, rest): (Vec<_>, Vec<_>) = targets.into_iter().partition(Target::gives_access);
    [first, rest].map(|targets| targets.into_iter().map(Effect::Delete).collect())
}

/// Which effects go first when many grants want the API server at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precedence {
    /// Ends access.
    End,
    /// Makes access.
    Begin,
    /// Bookkeeping: goes when no access waits.
    Record,
}

impl Effect {
    /// Its precedence across grants.
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

/// Kinds of effects, for metrics and logs.
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
    /// All of them.
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
    /// Its kind.
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

/// What to do about one grant: stages one after the other, the effects of a stage side by side. An effect that
/// fails does not stop the others of its stage; the next stage does not begin.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The stages; none is empty.
    pub stages: Vec<Vec<Effect>>,
    /// When to look again though nothing has changed.
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

    /// Whether what is to be done is decided anew when this is done: it waits for fuses, and records nothing of them.
    pub fn is_to_be_continued(&self) -> bool {
        let any = |wanted: fn(&Effect) -> bool| self.stages.iter().flatten().any(wanted);
        any(|effect| matches!(effect, Effect::AwaitFuses(_)))
            && !any(|effect| matches!(effect, Effect::RecordActive | Effect::RecordFuses))
    }
}
