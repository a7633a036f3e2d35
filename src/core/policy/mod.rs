//! An AccessPolicy, parsed. A `Policy` value has no problem left: every field has been checked.

pub mod approval;
pub mod condition;
pub mod entitlement;
pub mod preflight;
pub mod problem;
pub mod status;

use std::collections::BTreeMap;

use kube::core::{Expression, Selector, SelectorExt as _};
use regex::{Regex, RegexBuilder};

use crate::api;
use crate::api::{
    AccessPolicy, AccessPolicySpec, FuseDemand, OnChange, Principal, PrincipalKind, RoleKind,
    SelectorOperator, Subject, SubjectKind,
};
use crate::core::policy::approval::ApprovalRule;
use crate::core::policy::condition::Condition;
use crate::core::policy::entitlement::{Access, Entitlement, parse_entitlement};
use crate::core::policy::problem::Problem;
use crate::core::request::caller::Caller;
use crate::core::settings::Settings;
use crate::core::time::duration::AccessDuration;
use crate::core::time::window::Window;

/// Greatest size of a compiled `reason.pattern`, in bytes. It is about a thousand times what common patterns
/// need. A thousand policies with patterns of this size still fit into memory (250 MiB).
const PATTERN_SIZE_LIMIT: usize = 256 * 1024;

/// A parsed policy.
#[derive(Clone, Debug)]
pub struct Policy {
    /// `metadata.name`; empty only in an object that does not come from the API server.
    pub name: String,
    /// `metadata.uid`. Part of the access hash: a recreated policy has another hash.
    pub uid: String,
    /// `metadata.generation`, as of which the policy was parsed.
    pub generation: i64,
    /// When approval is required, and of whom.
    pub approval: ApprovalRule,
    selector: Selector,
    requesters: Vec<Principal>,
    subjects: Vec<Principal>,
    /// Times at which access may exist; empty means always.
    pub windows: Vec<Window>,
    /// CEL conditions that a request must meet, in addition to the other fields.
    pub conditions: Vec<Condition>,
    /// `metadata.labels`, which conditions can read.
    pub labels: BTreeMap<String, String>,
    /// Access duration of a request that names none.
    pub default_duration: AccessDuration,
    /// Longest access duration. Not above the operator's `--max-duration`.
    pub max_duration: AccessDuration,
    /// Requirements on `spec.reason` of a grant.
    pub reason: ReasonRule,
    /// Most live grants of one subject under this policy.
    pub active_per_subject: u16,
    /// Most undecided requests of one requester under this policy.
    pub pending_per_requester: u16,
    /// What happens to live grants that the policy, as edited, would deny.
    pub on_policy_change: OnChange,
    /// Whether access needs a fuse.
    pub fuse: FuseDemand,
    /// How long an ended grant is kept as a record.
    pub retention: AccessDuration,
    /// The access that requests can choose from.
    pub entitlements: Vec<Entitlement>,
}

/// Requirements on the reason of a request.
#[derive(Clone, Debug, Default)]
pub struct ReasonRule {
    /// Fewest characters, without white space at both ends; 0 means no requirement.
    pub min_length: usize,
    /// Pattern that the whole reason must match: as written, and compiled with anchors at both ends.
    pub pattern: Option<(String, Regex)>,
}

impl Policy {
    /// Parses a policy.
    ///
    /// # Errors
    /// Returns every problem at once, in the order of the checks. An author then corrects the policy in one
    /// edit.
    pub fn parse(policy: &AccessPolicy, settings: &Settings) -> Result<Self, Vec<Problem>> {
        let spec = &policy.spec;
        let mut problems = Vec::new();
        let durations = parse_durations(spec, settings, &mut problems);
        let windows = parse_windows(&spec.windows, &mut problems);
        let conditions = parse_conditions(&spec.conditions, &mut problems);
        let approval = parse_approval(spec, &mut problems);
        let reason = parse_reason(spec.reason.as_ref(), &mut problems);
        let entitlements = parse_entitlements(spec, settings, &mut problems);
        let (Some(durations), true) = (durations, problems.is_empty()) else {
            return Err(problems);
        };
        Ok(Self {
            name: policy.metadata.name.clone().unwrap_or_default(),
            uid: policy.metadata.uid.clone().unwrap_or_default(),
            generation: policy.metadata.generation.unwrap_or_default(),
            approval,
            selector: parse_selector(&spec.namespace_selector),
            requesters: spec.requesters.clone(),
            subjects: spec.subjects.clone(),
            windows,
            conditions,
            labels: policy.metadata.labels.clone().unwrap_or_default(),
            default_duration: durations.default,
            max_duration: durations.max,
            reason,
            active_per_subject: spec.limits.active_per_subject,
            pending_per_requester: spec.limits.pending_per_requester,
            on_policy_change: spec.on_policy_change,
            fuse: spec.fuse,
            retention: durations.retention,
            entitlements,
        })
    }

    /// Whether grants in a namespace with these labels may name this policy.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.selector.matches(labels)
    }

    /// The namespace selector as text, for messages.
    pub fn selector(&self) -> String {
        if self.selector.selects_all() {
            "all namespaces".to_owned()
        } else {
            self.selector.to_string()
        }
    }

    /// Whether the policy lists this caller as a requester.
    pub fn lists_requester(&self, identity: &Caller) -> bool {
        identity.listed_in(&self.requesters).is_some()
    }

    /// Whether the policy lists this subject. A requester is always a possible subject and needs no entry.
    pub fn lists_subject(&self, subject: &Subject) -> bool {
        self.subjects.iter().any(|principal| {
            let kind = match principal.kind {
                PrincipalKind::User => SubjectKind::User,
                PrincipalKind::ServiceAccount => SubjectKind::ServiceAccount,
                PrincipalKind::Group => return false,
            };
            kind == subject.kind && principal.name == subject.name && principal.namespace == subject.namespace
        })
    }

    /// The requesters as text, for messages.
    pub fn requesters(&self) -> String {
        joined(&self.requesters)
    }

    /// The subjects as text, for messages; empty if only requesters themselves receive access.
    pub fn subjects(&self) -> String {
        joined(&self.subjects)
    }

    /// Every existing role that the policy offers, roles for acting as an account included.
    pub fn role_names(&self) -> impl Iterator<Item = (RoleKind, &str)> {
        self.entitlements
            .iter()
            .filter_map(|entitlement| match &entitlement.access {
                Access::Role { kind, name, .. } => Some((*kind, name.as_str())),
                Access::ActAs { role, .. } => Some((RoleKind::ClusterRole, role.as_str())),
                Access::Rules { .. } => None,
            })
    }

    /// Names of the service accounts that the policy lets people act as.
    pub fn identities(&self) -> impl Iterator<Item = &str> {
        self.entitlements
            .iter()
            .filter_map(|entitlement| match &entitlement.access {
                Access::ActAs { service_account, .. } => Some(service_account.as_str()),
                Access::Role { .. } | Access::Rules { .. } => None,
            })
    }

    /// Whether any entitlement has rules of its own. The operator must hold such rules to grant them.
    pub fn offers_rules(&self) -> bool {
        self.entitlements
            .iter()
            .any(|entitlement| matches!(entitlement.access, Access::Rules { .. }))
    }

    /// The entitlement of this name.
    pub fn entitlement(&self, name: &str) -> Option<&Entitlement> {
        self.entitlements
            .iter()
            .find(|entitlement| entitlement.name == name)
    }
}

fn joined(principals: &[Principal]) -> String {
    principals
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The durations of a policy, parsed.
struct Durations {
    max: AccessDuration,
    default: AccessDuration,
    retention: AccessDuration,
}

/// Parses the durations; `None` if a duration is malformed. A duration over its bound is a problem too.
fn parse_durations(
    spec: &AccessPolicySpec,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Option<Durations> {
    let mut parse = |field: &str, text: &api::DurationText| {
        AccessDuration::try_from(text)
            .map_err(|error| problems.push(Problem::new(field, error.to_string())))
            .ok()
    };
    let max = parse("spec.duration.max", &spec.duration.max);
    let default = match &spec.duration.default {
        Some(text) => parse("spec.duration.default", text),
        None => max,
    };
    let retention = parse("spec.retention", &spec.retention);
    if let Some(max) = max.filter(|max| *max > settings.cap) {
        problems.push(Problem::new(
            "spec.duration.max",
            format!(
                "{max} exceeds the cluster's cap: at most {} (set by the operator's --max-duration)",
                settings.cap
            ),
        ));
    }
    if let (Some(default), Some(max)) = (default, max)
        && default > max
    {
        problems.push(Problem::new(
            "spec.duration.default",
            format!("{default} exceeds spec.duration.max: at most {max}"),
        ));
    }
    Some(Durations {
        max: max?,
        default: default?,
        retention: retention?,
    })
}

fn parse_windows(written: &[api::Window], problems: &mut Vec<Problem>) -> Vec<Window> {
    let mut windows = Vec::new();
    for (position, window) in written.iter().enumerate() {
        match Window::parse(window) {
            Ok(window) => windows.push(window),
            Err(error) => {
                problems.push(Problem::new(
                    format!("spec.windows[{position}]"),
                    error.to_string(),
                ));
            }
        }
    }
    windows
}

fn parse_conditions(written: &[api::RequestCondition], problems: &mut Vec<Problem>) -> Vec<Condition> {
    let mut conditions = Vec::new();
    for condition in written {
        match Condition::parse(condition) {
            Ok(condition) => conditions.push(condition),
            Err(problem) => problems.push(problem),
        }
    }
    conditions
}

/// Parses the approval rule. `ApprovalRule::Never` stands in for an invalid rule; a policy with problems is never
/// used.
fn parse_approval(spec: &AccessPolicySpec, problems: &mut Vec<Problem>) -> ApprovalRule {
    ApprovalRule::parse(spec.approval.as_ref(), spec.path).unwrap_or_else(|invalid| {
        problems.extend(invalid);
        ApprovalRule::Never
    })
}

fn parse_selector(selector: &api::NamespaceSelector) -> Selector {
    let labels = selector
        .match_labels
        .iter()
        .map(|(key, value)| Expression::Equal(key.clone(), value.clone()));
    let requirements = selector.match_expressions.iter().map(|requirement| {
        let values = requirement.values.iter().cloned().collect();
        match requirement.operator {
            SelectorOperator::In => Expression::In(requirement.key.clone(), values),
            SelectorOperator::NotIn => Expression::NotIn(requirement.key.clone(), values),
            SelectorOperator::Exists => Expression::Exists(requirement.key.clone()),
            SelectorOperator::DoesNotExist => Expression::DoesNotExist(requirement.key.clone()),
        }
    });
    labels.chain(requirements).collect()
}

fn parse_reason(written: Option<&api::ReasonDemands>, problems: &mut Vec<Problem>) -> ReasonRule {
    let Some(written) = written else {
        return ReasonRule::default();
    };
    let pattern = written.pattern.as_ref().and_then(|pattern| {
        let compiled = |pattern: &str| RegexBuilder::new(pattern).size_limit(PATTERN_SIZE_LIMIT).build();
        // Compiled without the group first: `a)|(?:b` is valid only inside the group, which it would close.
        match compiled(pattern).and_then(|_| compiled(&format!("^(?:{pattern})$"))) {
            Ok(regex) => Some((pattern.clone(), regex)),
            Err(error) => {
                problems.push(Problem::new(
                    "spec.reason.pattern",
                    format!("{pattern:?} is not a regular expression (RE2 syntax): {error}"),
                ));
                None
            }
        }
    });
    ReasonRule {
        min_length: usize::from(written.min_length.unwrap_or_default()),
        pattern,
    }
}

fn parse_entitlements(
    spec: &AccessPolicySpec,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Vec<Entitlement> {
    // The schema denies this too. Only a fuse can own the binding: its namespace is not that of the grant.
    if spec.fuse == FuseDemand::None
        && spec
            .entitlements
            .iter()
            .any(|entitlement| entitlement.act_as.is_some())
    {
        problems.push(Problem::new(
            "spec.fuse",
            "None is not allowed with actAs: a grant cannot own a binding in another namespace; \
             set Preferred or Required",
        ));
    }
    spec.entitlements
        .iter()
        .enumerate()
        .filter_map(|(position, entitlement)| parse_entitlement(position, entitlement, settings, problems))
        .collect()
}

/// Any object name. Used to test whether rules can be narrowed at all.
const ANY_NAME: &str = "any";

#[cfg(test)]
#[path = "tests/parsing.rs"]
mod tests;
