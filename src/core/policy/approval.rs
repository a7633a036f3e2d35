//! Approval rule of a policy, and the approvals on record.

use std::collections::BTreeSet;

use crate::api;
use crate::api::{Principal, PrincipalKind};
use crate::core::expression::Expression;
use crate::core::policy::problem::Problem;
use crate::core::request::caller::Caller;
use crate::core::time::duration::AccessDuration;

/// Most void approvals that a grant keeps as evidence. Together with the approvals that count (8 stages of
/// 16) they fit the bound of the CRD.
pub(crate) const VOID_KEPT: usize = 32;

/// When approval is required.
#[derive(Clone, Debug)]
pub enum ApprovalRule {
    /// Never: requests need no approval.
    Never,
    /// If the expression is true, or cannot be evaluated.
    When(Expression, ApprovalRequirement),
    /// For every request.
    Always(ApprovalRequirement),
}

/// Required approvals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalRequirement {
    /// How long a request waits for approvals, from its creation.
    pub timeout: AccessDuration,
    /// Stages in the order in which they are asked; at least one.
    pub stages: Vec<Stage>,
}

/// A group of approvers, and how many of them must approve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Name, unique within the policy.
    pub name: String,
    /// How many different people must approve; at least 1.
    pub required: usize,
    /// Users and groups that can approve.
    pub approvers: Vec<Principal>,
}

impl ApprovalRule {
    /// Parses the approval rule of a policy.
    ///
    /// # Errors
    /// Returns every problem of the rule.
    pub fn parse(approval: Option<&api::ApprovalSpec>, path: api::Path) -> Result<Self, Vec<Problem>> {
        let Some(approval) = approval else {
            return match path {
                api::Path::Automatic => Ok(Self::Never),
                api::Path::SelfServe | api::Path::Manual => Err(vec![Problem::new(
                    "spec.approval",
                    "required by paths SelfServe and Manual: set stages with approvers",
                )]),
            };
        };
        let mut problems = unsatisfiable(&approval.stages);
        let timeout = AccessDuration::try_from(&approval.timeout)
            .map_err(|error| problems.push(Problem::new("spec.approval.timeout", error.to_string())))
            .ok();
        let expression = approval.required_when.as_ref().and_then(|text| {
            Expression::parse(text)
                .map_err(|error| {
                    problems.push(Problem::new("spec.approval.requiredWhen", error.to_string()));
                })
                .ok()
        });
        let Some(timeout) = timeout.filter(|_| problems.is_empty()) else {
            return Err(problems);
        };
        let stages = approval.stages.iter().map(Stage::from).collect();
        let demands = ApprovalRequirement { timeout, stages };
        Ok(match (path, expression) {
            (api::Path::Automatic, _) => Self::Never,
            (api::Path::SelfServe, Some(expression)) => Self::When(expression, demands),
            (api::Path::SelfServe, None) | (api::Path::Manual, _) => Self::Always(demands),
        })
    }

    /// Required approvals; `None` if the policy never asks for any.
    pub fn demands(&self) -> Option<&ApprovalRequirement> {
        match self {
            Self::Never => None,
            Self::When(_, demands) | Self::Always(demands) => Some(demands),
        }
    }
}

impl Stage {
    /// The entry by which the stage lists this decider: a user or a group. `None` for a service account, even
    /// as a member of a listed group, because everyone who may edit its namespace can act as it.
    pub fn lists(&self, decider: &Caller) -> Option<&Principal> {
        decider
            .listed_in(&self.approvers)
            .filter(|_| decider.service_account().is_none())
    }
}

impl From<&api::ApprovalStage> for Stage {
    fn from(stage: &api::ApprovalStage) -> Self {
        Self {
            name: stage.name.clone(),
            required: usize::from(stage.required),
            approvers: stage.approvers.clone(),
        }
    }
}

/// Problems of stages that require more people than they list. A group counts as any number of people.
fn unsatisfiable(stages: &[api::ApprovalStage]) -> Vec<Problem> {
    let people = |stage: &api::ApprovalStage| {
        let users = stage
            .approvers
            .iter()
            .map(|approver| (approver.kind == PrincipalKind::User).then(|| approver.name.clone()));
        users.collect::<Option<BTreeSet<_>>>()
    };
    let mut problems: Vec<_> = stages
        .iter()
        .filter_map(|stage| {
            let listed = people(stage)?.len();
            let required = usize::from(stage.required);
            (listed < required).then(|| {
                Problem::new(
                    format!("spec.approval.stages[{}].required", stage.name),
                    format!("{required} required, but {listed} listed: at most {listed}"),
                )
            })
        })
        .collect();
    let all = stages.iter().map(people).collect::<Option<Vec<_>>>();
    let required: usize = stages.iter().map(|stage| usize::from(stage.required)).sum();
    if let Some(all) = all.filter(|_| problems.is_empty()) {
        let listed = all.into_iter().flatten().collect::<BTreeSet<_>>().len();
        if listed < required {
            problems.push(Problem::new(
                "spec.approval.stages",
                format!(
                    "{required} different people required over all stages, but {listed} listed: \
                     at most {listed}, each person counts once"
                ),
            ));
        }
    }
    problems
}

impl ApprovalRequirement {
    /// The first stage that lists the decider.
    pub fn stage_of(&self, decider: &Caller) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.lists(decider).is_some())
    }

    /// Whether any stage lists the decider.
    pub fn lists(&self, decider: &Caller) -> bool {
        self.stage_of(decider).is_some()
    }
}
