//! The plan for artifacts whose grant no longer exists.

use jiff::Timestamp;

use crate::api::{AccessGrant, ArtifactKind, RevocationCause};
use crate::core::artifact::found::Found;
use crate::core::artifact::target::Target;
use crate::core::grant::live::Live;
use crate::core::grant::revocation::DueRevocation;
use crate::core::grant::transition::Transition;
use crate::core::plan::effect::{Effect, Plan, removal};

/// The plan for the orphans of one grant: everything that has the label of a grant that no longer exists.
///
/// # Guarantees
/// Deletes bindings first, then the rest, and then proves that no access is left. `last` is the grant as it was last
/// seen. If it was live then, its end is announced after the proof.
pub fn plan_orphan(last: Option<&AccessGrant>, found: &[Found], now: Timestamp) -> Plan {
    let recorded = last.and_then(|grant| grant.status.as_ref()).and_then(Live::of);
    let gives_access: Vec<Target> = recorded
        .map_or_else(
            || found.iter().map(Target::from).collect(),
            |live| live.targets(found),
        )
        .into_iter()
        .filter(|target| target.kind != ArtifactKind::Job)
        .collect();
    let announcement = recorded.map(|live| {
        Effect::Announce(Transition::Ended(DueRevocation {
            cause: RevocationCause::GrantDeleted,
            message: "the grant was deleted".to_owned(),
            by: None,
            due: now.min(live.expires_at),
            was_active: live.active,
        }))
    });
    let [bindings, rest] = removal(found.iter().map(Target::from));
    let proof = (!gives_access.is_empty()).then_some(Effect::ProveAbsent(gives_access));
    Plan::new(
        [
            bindings,
            rest,
            Vec::from_iter(proof),
            Vec::from_iter(announcement),
        ],
        None,
    )
}
