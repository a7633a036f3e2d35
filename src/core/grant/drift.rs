//! Artifacts changed by somebody else.

use jiff::Timestamp;

use crate::api::ArtifactKind;
use crate::core::artifact::found::Found;
use crate::core::artifact::key::kind_name;
use crate::core::artifact::{Artifact, Holder, artifacts};
use crate::core::facts::Input;
use crate::core::grant::live::Live;

/// Drift: the first artifact that someone else changed or deleted. Before the access is in force, a missing artifact is
/// not drift: it is not created yet.
pub(crate) fn drift(input: &Input<'_>, live: &Live<'_>, now: Timestamp) -> Option<String> {
    artifacts(input.grant, live.status, now)
        .iter()
        .find_map(|wanted| {
            let called = || format!("{} {}", kind_name(wanted.kind()), wanted.name);
            let recorded = live.uid_of(&wanted.key());
            let Some(there) = input.found.iter().find(|found| found.key() == wanted.key()) else {
                // A fuse without a recorded uid was never created: the API server refused it.
                let was_made = recorded.is_some() || wanted.kind() != ArtifactKind::Job;
                return (live.active && was_made)
                    .then(|| format!("{} was deleted by someone else", called()));
            };
            if recorded.is_some_and(|uid| *uid != there.uid) {
                return Some(format!("{} was replaced by someone else", called()));
            }
            if !is_held(input, live, wanted, there) {
                return Some(format!("{} has lost its owner", called()));
            }
            wanted.compare(there).err()
        })
}

/// Whether the found artifact has the wanted owner.
fn is_held(input: &Input<'_>, live: &Live<'_>, wanted: &Artifact, there: &Found) -> bool {
    let by_the_grant = there.owner == input.grant.metadata.uid;
    match wanted.holder {
        Holder::Nothing => there.owner.is_none(),
        Holder::Grant => by_the_grant,
        Holder::Fuse => {
            let key = wanted.key().of_fuse();
            // If the fuse was refused, the grant owns the access until the fuse can be created.
            if by_the_grant && wanted.is_beside_its_grant() && live.uid_of(&key).is_none() {
                return true;
            }
            match input.found.iter().find(|found| found.key() == key) {
                Some(fuse) => there.owner.as_ref() == Some(&fuse.uid),
                // Before the access is in force, a deleted fuse takes its artifacts along, and all are created again.
                None => !live.active,
            }
        }
    }
}
