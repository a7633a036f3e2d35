//! Reasons to end the access of a live grant: a grant that is recorded as granted and has not ended.

use jiff::{SignedDuration, Timestamp};

use super::act_as::allows_exactly;
use super::admit::{admit, readmit};
use super::approval::standing;
use super::artifact::{Holder, artifacts};
use super::condition::demanded;
use super::effect::Target;
use super::ending::Ending;
use super::facts::{Content, Found, Identities, Input, PolicyFacts, RoleFacts};
use super::naming::{ArtifactKey, fuse_of, is_marker};
use super::policy::{Access, Policy};
use super::question::Question;
use super::rules::{covers, escalating, outlasting};
use super::status::later;
use super::verdict::revoking;
use super::window::{Opening, opening};
use super::{Artifact, Request, Span, kind_name};
use crate::api::{
    AccessGrant, AccessGrantStatus, ArtifactKind, ArtifactRecord, Escalation, FuseDemand, OnChange,
    ResolvedAccess, ResolvedEntitlement, ResolvedRole, RevocationCause,
};

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
    fn outlasts_its_policy(&self, since: Timestamp) -> Timestamp {
        let grace = if self.active {
            POLICY_GONE_GRACE
        } else {
            POLICY_GRACE
        };
        later(since, grace)
    }

    /// Whether the entitlement has an elevation marker.
    fn is_elevated(&self, entitlement: &str) -> bool {
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
    fn uid_of(&self, key: &ArtifactKey) -> Option<&String> {
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

/// The revocation that is due now, if any. The first cause in this order counts: end reached, Revoke decision, grant or
/// namespace deleted, creation refused, drift, role changed, policy changed.
pub fn ending(input: &Input<'_>, live: &Live<'_>, now: Timestamp) -> Option<Ending> {
    if now >= live.expires_at {
        return Some(Ending::at_its_time(live));
    }
    if let Some(decision) = revoking(input) {
        return Some(Ending::decided(decision, now, live.active));
    }
    let (cause, message) = if input.grant.metadata.deletion_timestamp.is_some() {
        (RevocationCause::GrantDeleted, "the grant was deleted".to_owned())
    } else if input.namespace.is_none_or(|namespace| namespace.terminating) {
        (
            RevocationCause::GrantDeleted,
            "the namespace is being deleted".to_owned(),
        )
    } else if let Some(refused) = input.tried.refusal() {
        (RevocationCause::RefusedByApiServer, refused.to_owned())
    } else if let Some(message) = drift(input, live, now) {
        (RevocationCause::ArtifactChanged, message)
    } else if let Some(message) = role_change(input, live) {
        (RevocationCause::RoleChanged, message)
    } else {
        policy_change(input, live, now)?
    };
    Some(Ending {
        cause,
        message,
        by: None,
        due: now,
        was_active: live.active,
    })
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

/// Drift: the first artifact that someone else changed or deleted. Before the access is in force, a missing artifact is
/// not drift: it is not created yet.
fn drift(input: &Input<'_>, live: &Live<'_>, now: Timestamp) -> Option<String> {
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

/// A change of an existing role that ends the access.
///
/// The policy can keep the access with `onChange: Keep`. Exception: rules that newly allow persistence always end the
/// access, because only access that was elevated from its start is guarded against persistence.
fn role_change(input: &Input<'_>, live: &Live<'_>) -> Option<String> {
    let resolved = live.status.resolved.as_ref()?;
    resolved.entitlements.iter().find_map(|entitlement| {
        let role = entitlement.role.as_ref()?;
        let there = input.roles.get(&(role.kind, role.name.clone()));
        if live.active && keeps(input.policy, entitlement, role) {
            let outgrown = there.is_some_and(|there| outgrows(there, entitlement, live));
            return outgrown.then(|| {
                format!(
                    "the rules of role {} now allow the subject to create objects that outlast the access",
                    role.name
                )
            });
        }
        match there {
            None => Some(format!("role {} was deleted", role.name)),
            Some(there) if there.uid != role.uid => {
                Some(format!("role {} was deleted and created again", role.name))
            }
            Some(there) if there.rules_hash() != role.rules_hash => {
                Some(format!("the rules of role {} changed", role.name))
            }
            Some(_) => identity_change(entitlement, input.identities),
        }
    })
}

/// Whether a role now allows persistence that its access is not guarded against.
fn outgrows(role: &RoleFacts, entitlement: &ResolvedEntitlement, live: &Live<'_>) -> bool {
    match &entitlement.act_as {
        Some(identity) => !allows_exactly(role.rules(), &identity.service_account),
        None => outlasting(role.rules()) && !live.is_elevated(&entitlement.name),
    }
}

fn identity_change(entitlement: &ResolvedEntitlement, identities: &Identities) -> Option<String> {
    let identity = entitlement.act_as.as_ref()?;
    let called = format!(
        "service account {}/{}",
        identity.namespace, identity.service_account
    );
    match identities.get(&identity.service_account) {
        None => Some(format!("{called} was deleted")),
        Some(uid) if *uid != identity.uid => Some(format!("{called} was deleted and created again")),
        Some(_) => None,
    }
}

fn keeps(policy: &PolicyFacts, entitlement: &ResolvedEntitlement, role: &ResolvedRole) -> bool {
    policy
        .last_known()
        .and_then(|policy| policy.entitlement(&entitlement.name))
        .is_some_and(|offer| match &offer.access {
            Access::Role {
                kind,
                name,
                on_change,
                ..
            } => *kind == role.kind && *name == role.name && *on_change == OnChange::Keep,
            Access::ActAs {
                role: name,
                on_change,
                ..
            } => *name == role.name && *on_change == OnChange::Keep,
            Access::Rules { .. } => false,
        })
}

/// A change of the policy that ends the access: the current policy would deny the grant, and does not keep it.
fn policy_change(input: &Input<'_>, live: &Live<'_>, now: Timestamp) -> Option<(RevocationCause, String)> {
    let name = &input.grant.spec.policy_ref.name;
    match input.policy {
        PolicyFacts::Absent { since, why, .. } => (now >= live.outlasts_its_policy(*since))
            .then(|| (RevocationCause::PolicyDeleted, format!("policy {name} {why}"))),
        PolicyFacts::Unready {
            since,
            why,
            policy: None,
        } => (now >= live.outlasts_its_policy(*since)).then(|| {
            (
                RevocationCause::PolicyChanged,
                format!("policy {name} cannot be used: {why}"),
            )
        }),
        PolicyFacts::Ready(policy)
        | PolicyFacts::Unready {
            policy: Some(policy), ..
        } => {
            if live.active && policy.on_policy_change == OnChange::Keep {
                return None;
            }
            let refusal = refusal(input, live, policy, now)?;
            Some((
                RevocationCause::PolicyChanged,
                format!("policy {name} would deny it now: {refusal}"),
            ))
        }
    }
}

/// Why the current policy would deny the access as it was granted.
fn refusal(input: &Input<'_>, live: &Live<'_>, policy: &Policy, now: Timestamp) -> Option<String> {
    let resolved = live.status.resolved.as_ref()?;
    let request = match as_granted(input.grant, &resolved.duration) {
        Ok(request) => request,
        Err(refusals) => return Some(refusals),
    };
    let question = input.question(&request, policy, now);
    // Conditions are evaluated until the activation, not after it. A fuse cannot enforce an expression, and an
    // expression that becomes false by itself would end access at the time of an arbitrary reconcile.
    let judged = if live.active {
        readmit(&question)
    } else {
        admit(&question)
    };
    if let Err(refusals) = judged {
        return Some(refusals.to_string());
    }
    if policy.fuse == FuseDemand::Required && resolved.fuse == FuseDemand::None {
        return Some("it requires a fuse now, and this access has no fuse".to_owned());
    }
    unapproved(input.grant, &question, resolved).or_else(|| {
        resolved
            .entitlements
            .iter()
            .find_map(|entitlement| beyond(policy, input, entitlement))
    })
}

/// Approvals that the edited policy requires and the access does not have.
fn unapproved(grant: &AccessGrant, question: &Question<'_>, resolved: &ResolvedAccess) -> Option<String> {
    // The unchanged policy was satisfied at the time of the approval. Its expression at another time ends nothing.
    if question.policy.generation == resolved.policy_generation {
        return None;
    }
    let demands = demanded(question)?;
    let recorded = grant.status.as_ref().map_or(&[][..], |status| &status.approvals);
    let approvals = standing(demands, question.request, &resolved.hash, recorded);
    let missing = demands.missing(&approvals)?;
    Some(format!(
        "it requires {} approvals from {} now; this access has {}",
        missing.required, missing.stage, missing.counted
    ))
}

/// The request with the granted duration, since the default of the policy can have changed.
fn as_granted(grant: &AccessGrant, duration: &str) -> Result<Request, String> {
    let request = Request::parse(grant).map_err(|refusals| refusals.to_string())?;
    Ok(Request {
        duration: Span::parse(duration).ok().or(request.duration),
        ..request
    })
}

fn beyond(policy: &Policy, input: &Input<'_>, entitlement: &ResolvedEntitlement) -> Option<String> {
    let name = &entitlement.name;
    let Some(offer) = policy.entitlement(name) else {
        return Some(format!("it no longer offers {name}"));
    };
    match (&offer.access, &entitlement.role, &entitlement.act_as) {
        (
            Access::Role {
                kind,
                name: role,
                escalation,
                ..
            },
            Some(held),
            None,
        ) if *kind == held.kind && *role == held.name => input
            .roles
            .get(&(*kind, role.clone()))
            // If the rules have changed, the entitlement's `onChange` decides; see `role_change`.
            .filter(|there| *escalation == Escalation::Refuse && there.rules_hash() == held.rules_hash)
            .and_then(|there| escalating(there.rules()))
            .map(|rule| format!("entitlement {name}: {role} can be used to gain more access ({rule})")),
        (
            Access::ActAs {
                namespace,
                service_account,
                ..
            },
            Some(_),
            Some(held),
        ) if *namespace == held.namespace && *service_account == held.service_account => None,
        (Access::Rules { rules, .. }, None, None) => covers(rules, &entitlement.rules)
            .err()
            .map(|uncovered| format!("entitlement {name}: {uncovered}")),
        _ => Some(format!("entitlement {name} now grants something else")),
    }
}
