//! Checks of a request against its policy at one instant. Each named check reports the field, its value and
//! what would be accepted.

use jiff::{SignedDuration, Timestamp};

use crate::api::{Subject, SubjectKind, reasons};
use crate::core::evaluate::conditions::unmet_conditions;
use crate::core::evaluate::entitlements::requested_entitlements;
use crate::core::evaluate::question::CheckInput;
use crate::core::policy::entitlement::Entitlement;
use crate::core::request::refusal::{Refusal, Refusals};
use crate::core::time::duration::AccessDuration;
use crate::core::time::window::{Opening, opening};

/// An admitted request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// User or service account that receives the access.
    pub subject: Subject,
    /// Access duration, counted from activation.
    pub duration: AccessDuration,
    /// Latest end that the request names (`spec.notAfter`).
    pub not_after: Option<Timestamp>,
    /// When the open windows close; `None` if the policy has no windows.
    pub window_end: Option<Timestamp>,
    /// Granted entitlements; their rules are already narrowed.
    pub entitlements: Vec<Entitlement>,
}

/// Checks a request against its policy. Roles are not read here: [`crate::core::evaluate::resolve`] does that.
///
/// # Errors
/// Returns the refusals of all failed checks, conditions last.
pub fn admit(question: &CheckInput<'_>) -> Result<Admitted, Refusals> {
    admit_with(question, unmet_conditions(question))
}

/// Checks a waiting request or live access again, without the conditions of the policy. Conditions are
/// checked when the request is made and at activation only. For rules that must hold during access there are
/// windows, because a fuse can enforce the end of a window.
///
/// # Errors
/// Returns the refusals of all failed checks.
pub fn readmit(question: &CheckInput<'_>) -> Result<Admitted, Refusals> {
    admit_with(question, Vec::new())
}

fn admit_with(question: &CheckInput<'_>, unmet: Vec<Refusal>) -> Result<Admitted, Refusals> {
    let mut refusals: Vec<Refusal> = CHECKS.iter().filter_map(|check| check(question)).collect();
    let window_end = window_end(question).unwrap_or_else(|refusal| {
        refusals.push(refusal);
        None
    });
    let entitlements = requested_entitlements(question).unwrap_or_else(|denied| {
        refusals.extend(denied);
        Vec::new()
    });
    refusals.extend(unmet);
    Refusals::from_list(refusals)?;
    Ok(Admitted {
        subject: question.request.subject.clone(),
        duration: question.duration(),
        not_after: question.request.not_after,
        window_end,
        entitlements,
    })
}

type Check = fn(&CheckInput<'_>) -> Option<Refusal>;

/// Checks in the order of their refusals. The first failed check gives the condition its reason.
const CHECKS: [Check; 9] = [
    namespace_is_alive,
    namespace_is_selected,
    requester_is_listed,
    automation_names_an_end,
    start_is_near,
    subject_is_accountable,
    subject_is_listed,
    reason_suffices,
    duration_is_within_bounds,
];

fn namespace_is_alive(question: &CheckInput<'_>) -> Option<Refusal> {
    question
        .namespace
        .is_none_or(|namespace| namespace.terminating)
        .then(|| {
            Refusal::new(
                reasons::NAMESPACE_TERMINATING,
                "metadata.namespace",
                format!(
                    "namespace {} is being deleted; request access in another namespace",
                    question.namespace_name
                ),
            )
        })
}

fn namespace_is_selected(question: &CheckInput<'_>) -> Option<Refusal> {
    let namespace = question.namespace?;
    (!question.policy.selects(&namespace.labels)).then(|| {
        Refusal::new(
            reasons::NAMESPACE_NOT_SELECTED,
            "metadata.namespace",
            format!(
                "policy {} covers namespaces with {}; {} is not one of them",
                question.policy.name,
                question.policy.selector(),
                question.namespace_name
            ),
        )
    })
}

fn requester_is_listed(question: &CheckInput<'_>) -> Option<Refusal> {
    let requester = &question.request.requester;
    (!question.policy.lists_requester(requester)).then(|| {
        Refusal::new(
            reasons::REQUESTER_NOT_LISTED,
            "spec.requester",
            format!(
                "{} may not request access under policy {}; its requesters are {}",
                requester.username,
                question.policy.name,
                question.policy.requesters()
            ),
        )
    })
}

/// Tools recreate the same request again and again. Without an end this would give permanent access.
fn automation_names_an_end(question: &CheckInput<'_>) -> Option<Refusal> {
    let request = question.request;
    if request.requester.service_account().is_some() && request.not_after.is_none() {
        return Some(Refusal::new(
            reasons::NOT_AFTER_REQUIRED,
            "spec.notAfter",
            "required when the requester is a service account; \
             set the latest end, such as 2026-12-01T18:00:00Z",
        ));
    }
    let end = request.not_after.filter(|end| *end <= question.now)?;
    Some(Refusal::new(
        reasons::NOT_AFTER_PASSED,
        "spec.notAfter",
        format!("{end} has passed; set a time in the future"),
    ))
}

/// How far ahead access may be requested. 30 days reach the next maintenance window, but do not prepare
/// access for next month's employee. The longest access duration (32 days) is similar.
const FARTHEST_START: SignedDuration = SignedDuration::from_hours(30 * 24);

fn start_is_near(question: &CheckInput<'_>) -> Option<Refusal> {
    let latest = question
        .now
        .saturating_add(FARTHEST_START)
        .unwrap_or(Timestamp::MAX);
    (question.start > latest).then(|| {
        Refusal::new(
            reasons::NOT_BEFORE_INVALID,
            "spec.notBefore",
            format!("{} is more than 30 days ahead: at most {latest}", question.start),
        )
    })
}

/// Names that begin with `system:` belong to Kubernetes. A name with invisible characters is not the name
/// that people read.
fn subject_is_accountable(question: &CheckInput<'_>) -> Option<Refusal> {
    let subject = &question.request.subject;
    let refuse = |why: &str| {
        Some(Refusal::new(
            reasons::SUBJECT_FORBIDDEN,
            "spec.subject",
            format!("{:?} cannot receive access: {why}", subject.name),
        ))
    };
    if subject.name.starts_with("system:") {
        return refuse(
            "names that begin with system: belong to Kubernetes; name a user or a service account",
        );
    }
    if subject.name == "*" || subject.name.trim() != subject.name || subject.name.chars().any(is_deceptive) {
        return refuse("a name has no wildcard, no space at either end and no invisible character");
    }
    if subject.kind != SubjectKind::ServiceAccount {
        return None;
    }
    let settings = question.settings;
    match subject.namespace.as_deref() {
        Some(namespace) if namespace == settings.namespace => {
            refuse("it is in Curfew's own namespace; name a user or another service account")
        }
        Some(namespace) if namespace == settings.identities => refuse(
            "everyone who may act as it would have the access, and no one would be accountable; name a user",
        ),
        _ => None,
    }
}

/// Control characters, and characters that reorder or hide text (Unicode TR 36). These are line and paragraph
/// separators and every character that shows nothing by default (`Default_Ignorable_Code_Point`).
fn is_deceptive(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

fn subject_is_listed(question: &CheckInput<'_>) -> Option<Refusal> {
    let request = question.request;
    if request.subject == request.requester.as_subject()
        || question.policy.lists_subject(&request.subject)
        // `subject_is_accountable` already refuses it; listing it in the policy would not help.
        || subject_is_accountable(question).is_some()
    {
        return None;
    }
    let listed = question.policy.subjects();
    let accepted = if listed.is_empty() {
        "only requesters themselves may receive access".to_owned()
    } else {
        format!("allowed subjects are the requester, {listed}")
    };
    Some(Refusal::new(
        reasons::SUBJECT_NOT_LISTED,
        "spec.subject",
        format!(
            "{} may not receive access under policy {}; {accepted}",
            request.subject, question.policy.name
        ),
    ))
}

fn reason_suffices(question: &CheckInput<'_>) -> Option<Refusal> {
    let rule = &question.policy.reason;
    let reason = question.request.reason.trim();
    let refuse = |message: String| Some(Refusal::new(reasons::REASON_INSUFFICIENT, "spec.reason", message));
    let length = reason.chars().count();
    if length < rule.min_length {
        return refuse(format!(
            "{length} characters given, at least {} required",
            rule.min_length
        ));
    }
    if let Some((pattern, _)) = rule.pattern.as_ref().filter(|(_, regex)| !regex.is_match(reason)) {
        return refuse(format!(
            "{reason:?} does not match the required pattern {pattern:?}"
        ));
    }
    None
}

fn duration_is_within_bounds(question: &CheckInput<'_>) -> Option<Refusal> {
    let asked = question.duration();
    let allowed = question.policy.max_duration.min(question.settings.cap);
    (asked > allowed).then(|| {
        Refusal::new(
            reasons::DURATION_TOO_LONG,
            "spec.duration",
            format!(
                "{asked} asked, at most {allowed} allowed by policy {}",
                question.policy.name
            ),
        )
    })
}

fn window_end(question: &CheckInput<'_>) -> Result<Option<Timestamp>, Refusal> {
    match opening(&question.policy.windows, question.start) {
        Opening::Always => Ok(None),
        Opening::Until(end) => Ok(Some(end)),
        Opening::Closed { next } => {
            let next = next.map_or_else(
                || "none opens within two weeks".to_owned(),
                |next| format!("the next opens at {next}"),
            );
            Err(Refusal::new(
                reasons::OUTSIDE_WINDOWS,
                if question.start > question.now {
                    "spec.notBefore"
                } else {
                    "metadata.creationTimestamp"
                },
                format!(
                    "no window of policy {} is open at {}; {next}",
                    question.policy.name, question.start
                ),
            ))
        }
    }
}

#[cfg(test)]
#[path = "tests/admit.rs"]
mod tests;
