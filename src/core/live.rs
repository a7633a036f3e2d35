//! A live grant, recorded as granted and not ended: whether something ends it now.

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
use super::verdict::revoking;
use super::window::{Opening, opening};
use super::{Artifact, Request, Span, kind_name};
use crate::api::{
    AccessGrant, AccessGrantStatus, ArtifactKind, ArtifactRecord, Escalation, FuseDemand, OnChange,
    ResolvedAccess, ResolvedEntitlement, ResolvedRole, RevocationCause,
};

/// How long live access outlasts its policy. GitOps tools replace objects by deleting and creating them; without
/// this, a chart that moves a policy would end everybody's access.
pub const POLICY_GONE_GRACE: SignedDuration = SignedDuration::from_secs(60);

/// How long a request, and access that is being made, waits for a policy that is not there or not usable yet: tools
/// apply a policy and a grant in one go, and the policy's roles besides, within a second or two.
pub const POLICY_GRACE: SignedDuration = SignedDuration::from_secs(5);

/// A live grant.
#[derive(Clone, Copy, Debug)]
pub struct Live<'a> {
    /// Its status.
    pub status: &'a AccessGrantStatus,
    /// Its recorded end.
    pub expires_at: Timestamp,
    /// Whether the access has been in force: everything recorded was made.
    pub active: bool,
}

impl<'a> Live<'a> {
    /// The live grant of this status; none if it is undecided or ended.
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

    /// Until when it outlasts a policy that is not there, or has not been judged, since `since`. What is not in force
    /// yet waits as long as a request does: an operator that takes over has judged no policy when it looks first.
    fn outlasts_its_policy(&self, since: Timestamp) -> Timestamp {
        let grace = if self.active {
            POLICY_GONE_GRACE
        } else {
            POLICY_GRACE
        };
        since.saturating_add(grace).unwrap_or(Timestamp::MAX)
    }

    /// Whether the access of that entitlement has an elevation marker.
    fn is_elevated(&self, entitlement: &str) -> bool {
        self.status
            .artifacts
            .iter()
            .any(|record| record.entitlement == entitlement && is_marker(record.kind, &record.name))
    }

    /// Whether what was found is one of the things recorded.
    pub fn records(&self, found: &Found) -> bool {
        self.status
            .artifacts
            .iter()
            .any(|record| is_record_of(record, found))
    }

    /// The uid that is recorded of something made.
    fn uid_of(&self, key: &ArtifactKey) -> Option<&String> {
        let mut records = self.status.artifacts.iter();
        records
            .find(|record| ArtifactKey::from(*record) == *key)?
            .uid
            .as_ref()
    }

    /// Whether whatever owns what was found is what was recorded to, as far as that is recorded: of fuses their uids are,
    /// once they hold access.
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

    /// Everything to remove to end the access: what is recorded and what was found.
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

impl Ending {
    /// That of a live grant at its recorded end.
    pub(super) fn at_its_time(live: &Live<'_>) -> Self {
        Self {
            cause: RevocationCause::DeadlineReached,
            message: format!("the end was reached at {}", live.expires_at),
            by: None,
            due: live.expires_at,
            was_active: live.active,
        }
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

/// Whether something ends the grant now, and what: the first of these in this order.
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

/// When a live grant has to be looked at again though nothing has changed.
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
    // A policy that is kept in spite of a change would wake for ever on a moment that has passed.
    other
        .filter(|other| *other > now)
        .map_or(live.expires_at, |other| other.min(live.expires_at))
}

/// What somebody else changed of what was made. Until everything was made, missing things are only not made yet.
fn drift(input: &Input<'_>, live: &Live<'_>, now: Timestamp) -> Option<String> {
    artifacts(input.grant, live.status, now)
        .iter()
        .find_map(|wanted| {
            let called = || format!("{} {}", kind_name(wanted.kind()), wanted.name);
            let recorded = live.uid_of(&wanted.key());
            let Some(there) = input.found.iter().find(|found| found.key() == wanted.key()) else {
                // A fuse whose uid nobody has recorded was refused so far.
                let was_made = recorded.is_some() || wanted.kind() != ArtifactKind::Job;
                return (live.active && was_made)
                    .then(|| format!("{} was deleted by somebody else", called()));
            };
            if recorded.is_some_and(|uid| *uid != there.uid) {
                return Some(format!("{} was replaced by somebody else", called()));
            }
            if !is_held(input, live, wanted, there) {
                return Some(format!("{} is no longer held by what holds it", called()));
            }
            wanted.compare(there).err()
        })
}

/// Whether what was found is owned by what is to hold it.
fn is_held(input: &Input<'_>, live: &Live<'_>, wanted: &Artifact, there: &Found) -> bool {
    let by_the_grant = there.owner == input.grant.metadata.uid;
    match wanted.holder {
        Holder::Nothing => there.owner.is_none(),
        Holder::Grant => by_the_grant,
        Holder::Fuse => {
            let key = wanted.key().of_fuse();
            // Where a fuse was refused the grant itself holds the access, until it is handed over.
            if by_the_grant && wanted.is_beside_its_grant() && live.uid_of(&key).is_none() {
                return true;
            }
            match input.found.iter().find(|found| found.key() == key) {
                Some(fuse) => there.owner.as_ref() == Some(&fuse.uid),
                // Until everything was made, a fuse that went takes along what it held; that is made again.
                None => !live.active,
            }
        }
    }
}

/// What changed of a named role, where the policy does not say to keep the access. It cannot keep access that has come
/// to allow what outlasts it: only what was elevated from its beginning is guarded against that.
fn role_change(input: &Input<'_>, live: &Live<'_>) -> Option<String> {
    let resolved = live.status.resolved.as_ref()?;
    resolved.entitlements.iter().find_map(|entitlement| {
        let role = entitlement.role.as_ref()?;
        let there = input.roles.get(&(role.kind, role.name.clone()));
        if live.active && keeps(input.policy, entitlement, role) {
            let outgrown = there.is_some_and(|there| outgrows(there, entitlement, live));
            return outgrown.then(|| {
                format!(
                    "the rules of role {} now allow to make what outlasts the access",
                    role.name
                )
            });
        }
        match there {
            None => Some(format!("role {} was deleted", role.name)),
            Some(there) if there.uid != role.uid => {
                Some(format!("role {} was deleted and made again", role.name))
            }
            Some(there) if there.rules_hash() != role.rules_hash => {
                Some(format!("the rules of role {} changed", role.name))
            }
            Some(_) => identity_change(entitlement, input.identities),
        }
    })
}

/// Whether a role has come to allow what its access was never guarded against.
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
        Some(uid) if *uid != identity.uid => Some(format!("{called} was deleted and made again")),
        Some(_) => None,
    }
}

fn keeps(policy: &PolicyFacts, entitlement: &ResolvedEntitlement, role: &ResolvedRole) -> bool {
    let (PolicyFacts::Ready(policy)
    | PolicyFacts::Unready {
        policy: Some(policy), ..
    }) = policy
    else {
        return false;
    };
    policy
        .entitlement(&entitlement.name)
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

/// Whether the policy as it is now would refuse the grant, and does not say to keep it then.
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
                format!("policy {name} would refuse it now: {refusal}"),
            ))
        }
    }
}

/// What the policy as it is now finds wrong with the access as it was granted.
fn refusal(input: &Input<'_>, live: &Live<'_>, policy: &Policy, now: Timestamp) -> Option<String> {
    let resolved = live.status.resolved.as_ref()?;
    let request = match as_granted(input.grant, &resolved.duration) {
        Ok(request) => request,
        Err(refusals) => return Some(refusals),
    };
    let question = input.question(&request, policy, now);
    // Conditions are judged up to the activation and not after it: an expression has no end that a fuse could hold,
    // and one that turned false by itself would end access at whatever moment somebody looked.
    let judged = if live.active {
        readmit(&question)
    } else {
        admit(&question)
    };
    if let Err(refusals) = judged {
        return Some(refusals.to_string());
    }
    if policy.fuse == FuseDemand::Required && resolved.fuse == FuseDemand::None {
        return Some("it demands a fuse now, and no fuse holds this access".to_owned());
    }
    unapproved(input.grant, &question, resolved).or_else(|| {
        resolved
            .entitlements
            .iter()
            .find_map(|entitlement| beyond(policy, input, entitlement))
    })
}

/// Whose approval a policy that was edited since asks for, and the access does not have.
fn unapproved(grant: &AccessGrant, question: &Question<'_>, resolved: &ResolvedAccess) -> Option<String> {
    // The policy that the access was approved under was satisfied, at that instant: what its expression says of another
    // instant ends nothing.
    if question.policy.generation == resolved.policy_generation {
        return None;
    }
    let demands = demanded(question)?;
    let recorded = grant.status.as_ref().map_or(&[][..], |status| &status.approvals);
    let approvals = standing(demands, question.request, &resolved.hash, recorded);
    let missing = demands.missing(&approvals)?;
    Some(format!(
        "it asks for {} approvals from {} now, of which this has {}",
        missing.required, missing.stage, missing.counted
    ))
}

/// The request with the duration it was granted: what the policy gives by default may have changed since.
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
            // Whether rules that changed since end the access is for the entitlement's `onChange` to say.
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
        _ => Some(format!("entitlement {name} is another one now")),
    }
}
