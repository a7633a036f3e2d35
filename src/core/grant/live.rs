//! Reasons to end the access of a live grant: a grant that is recorded as granted and has not ended.

use jiff::{SignedDuration, Timestamp};

use crate::api::{AccessGrantStatus, ArtifactRecord};
use crate::core::artifact::found::{Content, Found};
use crate::core::artifact::key::{ArtifactKey, fuse_of, is_marker};
use crate::core::artifact::target::Target;
use crate::core::facts::{Input, PolicyFacts};
use crate::core::time::timestamp::later;
use crate::core::time::window::{Opening, opening};

/// How long access in force continues after its policy is gone: 60 s. GitOps tools replace objects by deletion and
/// creation; without this time, a chart that moves a policy would end all its access.
pub const POLICY_GONE_GRACE: SignedDuration = SignedDuration::from_secs(60);

/// How long a request, or access that is being created, waits for a missing or unready policy: 5 s. Tools apply a
/// policy, its roles and a grant together, within one or two seconds.
pub const POLICY_GRACE: SignedDuration = SignedDuration::from_secs(5);

/// A live grant.
#[derive(Clone, Copy, Debug)]
pub struct Live<'a> {
    /// The recorded status.
    pub status: &'a AccessGrantStatus,
    /// The recorded end of the access (UTC).
    pub expires_at: Timestamp,
    /// Whether the access has come into force: all recorded artifacts were created.
    pub active: bool,
}

impl<'a> Live<'a> {
    /// The live grant with this status; `None` if the grant is undecided or has ended.
    pub fn of(status: &'a AccessGrantStatus) -> Option<Self> {
        if status.ended_at.is_some() {
            return None;
        }
        let expires_at = status.expires_at.as_ref()?.0;
        Some(Self {
            status,
            expires_at,
            active: status.activated_at.is_some(),
        })
    }

    /// Time until which access continues, if its policy is missing or unchecked since `since`.
    ///
    /// Access that is not in force yet waits as long as a request does: a new leader has checked no policy at first.
    pub(crate) fn outlasts_its_policy(&self, since: Timestamp) -> Timestamp {
        let grace = if self.active {
            POLICY_GONE_GRACE
        } else {
            POLICY_GRACE
        };
        later(since, grace)
    }

    /// Whether the entitlement has an elevation marker.
    pub(crate) fn is_elevated(&self, entitlement: &str) -> bool {
        self.status
            .artifacts
            .iter()
            .any(|record| record.entitlement == entitlement && is_marker(record.kind, &record.name))
    }

    /// Whether the found artifact is recorded.
    pub fn records(&self, found: &Found) -> bool {
        self.status
            .artifacts
            .iter()
            .any(|record| is_record_of(record, found))
    }

    /// The recorded uid of an artifact.
    pub(crate) fn uid_of(&self, key: &ArtifactKey) -> Option<&String> {
        let mut records = self.status.artifacts.iter();
        records
            .find(|record| ArtifactKey::from(*record) == *key)?
            .uid
            .as_ref()
    }

    /// Whether the found artifact has the recorded owner. A fuse whose uid is not recorded yet counts as the right
    /// owner: uids of fuses are recorded once the fuses own access.
    pub fn is_held_as_recorded(&self, found: &Found, grant_uid: &str) -> bool {
        let records = &self.status.artifacts;
        let Some(record) = records.iter().find(|record| is_record_of(record, found)) else {
            return false;
        };
        match (&found.content, fuse_of(record, records)) {
            (Content::Fuse(_), _) => true,
            (_, None) => found.owner.as_deref() == Some(grant_uid),
            (_, Some(fuse)) => fuse.uid.is_none() || found.owner == fuse.uid,
        }
    }

    /// All artifacts to delete to end the access: the recorded ones and the found ones.
    pub fn targets(&self, found: &[Found]) -> Vec<Target> {
        let recorded = self.status.artifacts.iter().map(|record| {
            let found = found.iter().find(|found| is_record_of(record, found));
            let uid = found.map(|found| found.uid.clone());
            Target::new(record.into(), uid.or_else(|| record.uid.clone()))
        });
        let others = found
            .iter()
            .filter(|found| !self.records(found))
            .map(Target::from);
        recorded.chain(others).collect()
    }
}

impl From<&Found> for Target {
    fn from(found: &Found) -> Self {
        Self::new(found.key(), Some(found.uid.clone()))
    }
}

fn is_record_of(record: &ArtifactRecord, found: &Found) -> bool {
    ArtifactKey::from(record) == found.key()
}

/// Time of the next reconcile of a live grant if nothing changes.
pub fn next_look(input: &Input<'_>, live: &Live<'_>, now: Timestamp) -> Timestamp {
    let other = match input.policy {
        PolicyFacts::Absent { since, .. }
        | PolicyFacts::Unready {
            since, policy: None, ..
        } => Some(live.outlasts_its_policy(*since)),
        PolicyFacts::Ready(policy)
        | PolicyFacts::Unready {
            policy: Some(policy), ..
        } => match opening(&policy.windows, now) {
            Opening::Until(end) => Some(end),
            Opening::Always | Opening::Closed { .. } => None,
        },
    };
    // With `onChange: Keep` this time can be in the past; it must not wake the grant again and again.
    other
        .filter(|other| *other > now)
        .map_or(live.expires_at, |other| other.min(live.expires_at))
}
