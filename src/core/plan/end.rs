//! Deletes, proves absence, records.

use jiff::Timestamp;

use crate::api::{AccessGrant, ArtifactKind, REVOKE_FINALIZER};
use crate::core::artifact::found::Found;
use crate::core::artifact::target::Target;
use crate::core::facts::Input;
use crate::core::grant::live::Live;
use crate::core::grant::retention::deletable_at;
use crate::core::grant::revocation::DueRevocation;
use crate::core::grant::transition::Transition;
use crate::core::plan::CLOCKS_AGAIN;
use crate::core::plan::decide::was_denied;
use crate::core::plan::effect::{Effect, Plan, removal};
use crate::core::time::timestamp::later;

/// Withdrawn before there was access. The verdict of the Revoke comes before the end of the grant: with it the Revoke
/// blocks the same request, which a tool may make again at once.
pub(crate) fn withdraw(input: &Input<'_>, ending: DueRevocation, verdicts: [Vec<Effect>; 2]) -> Plan {
    let end = [
        vec![Effect::Announce(Transition::Ended(ending.clone()))],
        vec![Effect::RecordEnded(ending)],
    ];
    let leftovers = removals(input, |_| true);
    Plan::new(leftovers.into_iter().chain(verdicts).chain(end), None)
}

/// Whether our finalizer is on the grant.
pub(crate) fn has_finalizer(grant: &AccessGrant) -> bool {
    grant
        .metadata
        .finalizers
        .iter()
        .flatten()
        .any(|finalizer| finalizer == REVOKE_FINALIZER)
}

/// Takes our finalizer off the grant, if it is there.
fn release(input: &Input<'_>) -> Option<Effect> {
    has_finalizer(input.grant).then_some(Effect::RemoveFinalizer)
}

/// Proves that these are absent, without the fuses: a fuse gives no access, and marks no one as elevated.
fn proof(targets: impl Iterator<Item = Target>) -> Option<Effect> {
    let targets: Vec<_> = targets
        .filter(|target| target.kind != ArtifactKind::Job)
        .collect();
    (!targets.is_empty()).then_some(Effect::ProveAbsent(targets))
}

/// Ends access: bindings first, then the rest, then the proof of absence, the verdicts, the Event, the record and the
/// finalizer. The verdict of a Revoke comes before the end of the grant: with it the Revoke blocks the same request,
/// which a tool may make again at once.
pub(crate) fn revoke(
    input: &Input<'_>,
    live: &Live<'_>,
    ending: DueRevocation,
    verdicts: [Vec<Effect>; 2],
) -> Plan {
    let targets = live.targets(input.found);
    let proof = proof(targets.iter().cloned());
    let end = [
        vec![Effect::Announce(Transition::Ended(ending.clone()))],
        vec![Effect::RecordEnded(ending)],
        Vec::from_iter(release(input)),
    ];
    let stages = removal(targets)
        .into_iter()
        .chain([Vec::from_iter(proof)])
        .chain(verdicts)
        .chain(end);
    Plan::new(stages, None)
}

/// A grant that is over: removes what is left of it, and deletes the grant when its retention has passed.
pub(crate) fn after_the_end(
    input: &Input<'_>,
    ended_at: Timestamp,
    verdicts: [Vec<Effect>; 2],
    now: Timestamp,
) -> Plan {
    let mut stages = remove_everything(input);
    stages.extend(verdicts);
    if input.grant.metadata.deletion_timestamp.is_some() {
        return Plan::new(stages, None);
    }
    let denied = input.grant.status.as_ref().is_some_and(was_denied);
    let wake = match deletable_at(&input.grant.metadata, ended_at, denied, input.policy) {
        Some(at) if at > now => Some(at),
        // A record that is deleted by a wrong clock does not come back.
        Some(_) if input.skewed.is_some() => Some(later(now, CLOCKS_AGAIN)),
        Some(_) => {
            // A leftover that a foreign finalizer blocks must not outlive the record of its grant.
            if input.found.is_empty() {
                stages.push(vec![Effect::DeleteGrant]);
            }
            None
        }
        None => None,
    };
    Plan::new(stages, wake)
}

/// Deletes everything that was found. A finalizer of ours goes after the proof that all of it is absent.
pub(crate) fn remove_everything(input: &Input<'_>) -> Vec<Vec<Effect>> {
    let mut stages = Vec::from(removals(input, |_| true));
    if let Some(release) = release(input) {
        let proof = proof(input.found.iter().map(Target::from));
        stages.extend([Vec::from_iter(proof), vec![release]]);
    }
    stages
}

/// Deletes the artifacts that match `unwanted`, bindings first.
pub(crate) fn removals(input: &Input<'_>, unwanted: impl Fn(&Found) -> bool) -> [Vec<Effect>; 2] {
    let unwanted = input.found.iter().filter(|found| unwanted(found));
    removal(unwanted.map(Target::from))
}
