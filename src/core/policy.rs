//! A policy, parsed: after this nothing in it can be wrong.

use std::collections::BTreeMap;

use kube::core::{Expression, Selector, SelectorExt as _};
use regex::{Regex, RegexBuilder};

use super::act_as;
use super::rules::{NotNarrowable, canonical, escalating, narrow};
use super::window::Window;
use super::{Approval, Condition, Identity, Problem, Settings, Span};
use crate::api::{
    self, AccessPolicy, AccessPolicySpec, Escalation, FuseDemand, Narrowing, OnChange, Principal,
    PrincipalKind, RoleKind, Rule, Selection, SelectorOperator, Subject, SubjectKind,
};

/// Bytes a compiled `reason.pattern` may take: some thousand times what patterns in use need, and small enough
/// that a thousand policies fit into memory.
const PATTERN_SIZE_LIMIT: usize = 256 * 1024;

/// A parsed policy.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its generation.
    pub generation: i64,
    /// When people are asked, and whom it takes.
    pub approval: Approval,
    selector: Selector,
    requesters: Vec<Principal>,
    subjects: Vec<Principal>,
    /// When access may exist; empty means always.
    pub windows: Vec<Window>,
    /// What has to be true of a request besides.
    pub conditions: Vec<Condition>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Length of access that names none.
    pub default_duration: Span,
    /// Greatest length.
    pub max_duration: Span,
    /// What reasons must look like.
    pub reason: ReasonRule,
    /// Most live grants of one subject.
    pub active_per_subject: u16,
    /// Most requests of one requester that wait.
    pub pending_per_requester: u16,
    /// What happens to live grants this policy would refuse.
    pub on_policy_change: OnChange,
    /// What it demands of the fuses of access.
    pub fuse: FuseDemand,
    /// How long ended grants stay.
    pub retention: Span,
    /// What it hands out.
    pub entitlements: Vec<Entitlement>,
}

/// What a reason must look like.
#[derive(Clone, Debug, Default)]
pub struct ReasonRule {
    /// Fewest characters without surrounding white space.
    pub min_length: usize,
    /// Pattern the whole reason must match, as it was written and compiled.
    pub pattern: Option<(String, Regex)>,
}

/// One item of access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entitlement {
    /// Its name.
    pub name: String,
    /// Whether a request that names none gets it.
    pub by_default: bool,
    /// What it gives.
    pub access: Access,
}

/// What an entitlement gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// An existing role, as it is.
    Role {
        /// Its kind.
        kind: RoleKind,
        /// Its name.
        name: String,
        /// What happens when its rules change.
        on_change: OnChange,
        /// Whether it may hold rules by which its holder can gain more.
        escalation: Escalation,
    },
    /// Rules of the policy's own.
    Rules {
        /// Whether requests name the objects they need.
        narrowing: Narrowing,
        /// The rules offered, canonical.
        rules: Vec<Rule>,
    },
    /// The right to act as a service account, in the namespace of that.
    ActAs {
        /// Namespace of the service account.
        namespace: String,
        /// Its name.
        service_account: String,
        /// The `ClusterRole` that allows it.
        role: String,
        /// What happens when that role changes, or the service account is made again.
        on_change: OnChange,
    },
}

impl Policy {
    /// Parses a policy, or says everything that is wrong with it.
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

    /// Whether grants of a namespace with these labels may name this policy.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.selector.matches(labels)
    }

    /// The selector, as people write it.
    pub fn selector(&self) -> String {
        if self.selector.selects_all() {
            "all namespaces".to_owned()
        } else {
            self.selector.to_string()
        }
    }

    /// Whether this identity may ask.
    pub fn lists_requester(&self, identity: &Identity) -> bool {
        identity.listed_in(&self.requesters).is_some()
    }

    /// Whether this subject, not being the requester, may receive access.
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

    /// Who may ask, for messages.
    pub fn requesters(&self) -> String {
        listed(&self.requesters)
    }

    /// Who else may receive access, for messages.
    pub fn subjects(&self) -> String {
        listed(&self.subjects)
    }

    /// The existing roles it hands out.
    pub fn role_names(&self) -> impl Iterator<Item = (RoleKind, &str)> {
        self.entitlements
            .iter()
            .filter_map(|entitlement| match &entitlement.access {
                Access::Role { kind, name, .. } => Some((*kind, name.as_str())),
                Access::ActAs { role, .. } => Some((RoleKind::ClusterRole, role.as_str())),
                Access::Rules { .. } => None,
            })
    }

    /// The service accounts it lets people act as.
    pub fn identities(&self) -> impl Iterator<Item = &str> {
        self.entitlements
            .iter()
            .filter_map(|entitlement| match &entitlement.access {
                Access::ActAs { service_account, .. } => Some(service_account.as_str()),
                Access::Role { .. } | Access::Rules { .. } => None,
            })
    }

    /// Whether it hands out rules of its own.
    pub fn offers_rules(&self) -> bool {
        self.entitlements
            .iter()
            .any(|entitlement| matches!(entitlement.access, Access::Rules { .. }))
    }

    /// The entitlement of that name.
    pub fn entitlement(&self, name: &str) -> Option<&Entitlement> {
        self.entitlements
            .iter()
            .find(|entitlement| entitlement.name == name)
    }
}

fn listed(principals: &[Principal]) -> String {
    principals
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The durations of a policy.
struct Durations {
    max: Span,
    default: Span,
    retention: Span,
}

/// Parses the durations; `None` if one of them is malformed. A duration over its bound is a problem too.
fn parse_durations(
    spec: &AccessPolicySpec,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Option<Durations> {
    let mut parse = |field: &str, text: &api::DurationText| {
        Span::try_from(text)
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

/// The approval rule. `Approval::Never` stands in for an invalid one: a policy with problems is never used.
fn parse_approval(spec: &AccessPolicySpec, problems: &mut Vec<Problem>) -> Approval {
    Approval::parse(spec.approval.as_ref(), spec.path).unwrap_or_else(|invalid| {
        problems.extend(invalid);
        Approval::Never
    })
}

fn parse_selector(selector: &api::NamespaceSelector) -> Selector {
    let labels = selector
        .match_labels
        .iter()
        .map(|(key, value)| Expression::Equal(key.clone(), value.clone()));
    let demands = selector.match_expressions.iter().map(|demand| {
        let values = demand.values.iter().cloned().collect();
        match demand.operator {
            SelectorOperator::In => Expression::In(demand.key.clone(), values),
            SelectorOperator::NotIn => Expression::NotIn(demand.key.clone(), values),
            SelectorOperator::Exists => Expression::Exists(demand.key.clone()),
            SelectorOperator::DoesNotExist => Expression::DoesNotExist(demand.key.clone()),
        }
    });
    labels.chain(demands).collect()
}

fn parse_reason(demands: Option<&api::ReasonDemands>, problems: &mut Vec<Problem>) -> ReasonRule {
    let Some(demands) = demands else {
        return ReasonRule::default();
    };
    let pattern = demands.pattern.as_ref().and_then(|pattern| {
        let compiled = |pattern: &str| RegexBuilder::new(pattern).size_limit(PATTERN_SIZE_LIMIT).build();
        // By itself first: `a)|(?:b` would only make sense inside the group, and escape it.
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
        min_length: usize::from(demands.min_length.unwrap_or_default()),
        pattern,
    }
}

fn parse_entitlements(
    spec: &AccessPolicySpec,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Vec<Entitlement> {
    // The schema refuses it as well; a grant in another namespace could never own what is made for it.
    if spec.fuse == FuseDemand::None && spec.entitlements.iter().any(|offer| offer.act_as.is_some()) {
        problems.push(Problem::new(
            "spec.fuse",
            "None is not allowed with actAs: a grant cannot own a binding in another namespace; set Preferred or Required",
        ));
    }
    spec.entitlements
        .iter()
        .enumerate()
        .filter_map(|(position, entitlement)| parse_entitlement(position, entitlement, settings, problems))
        .collect()
}

fn parse_entitlement(
    position: usize,
    entitlement: &api::Entitlement,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Option<Entitlement> {
    let access = match (&entitlement.role, &entitlement.rules, &entitlement.act_as) {
        (Some(role), None, None) => Access::Role {
            kind: role.kind,
            name: role.name.clone(),
            on_change: role.on_change,
            escalation: role.escalation,
        },
        (None, None, Some(identity)) => Access::ActAs {
            namespace: settings.identities.clone(),
            service_account: identity.service_account.clone(),
            role: act_as::role_name(&identity.service_account),
            on_change: identity.on_change,
        },
        (None, Some(rules), None) => {
            let items = canonical(&rules.items.iter().map(Rule::from).collect::<Vec<_>>());
            problems.extend(never_granted(position, rules.narrowing, &items));
            Access::Rules {
                narrowing: rules.narrowing,
                rules: items,
            }
        }
        _ => {
            problems.push(Problem::new(
                format!("spec.entitlements[{position}]"),
                "give exactly one of role, rules and actAs",
            ));
            return None;
        }
    };
    Some(Entitlement {
        name: entitlement.name.clone(),
        by_default: entitlement.selection == Selection::Default,
        access,
    })
}

/// A name that narrows nothing by itself, to try whether rules can be narrowed at all.
const ANY_NAME: &str = "any";

/// What makes rules of a policy's own unusable: that they could be used to gain more, or that requests must
/// narrow what cannot be narrowed.
fn never_granted(position: usize, narrowing: Narrowing, rules: &[Rule]) -> Option<Problem> {
    let field = format!("spec.entitlements[{position}].rules");
    if let Some(rule) = escalating(rules) {
        return Some(Problem::new(field, format!("cannot be granted: {rule}")));
    }
    if narrowing != Narrowing::Required {
        return None;
    }
    match narrow(rules, &[ANY_NAME.to_owned()]) {
        Ok(_) | Err(NotNarrowable::NotOffered { .. }) => None,
        Err(error) => Some(Problem::new(
            format!("{field}.narrowing"),
            format!("Required, but no request can satisfy it: {error}"),
        )),
    }
}

#[cfg(test)]
mod tests;
