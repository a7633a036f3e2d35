//! Whose approval a request needs, and what of it is on record.

use std::collections::{BTreeMap, BTreeSet};

use super::{Expression, Identity, Problem, Request, Span};
use crate::api::{self, ApprovalRecord, Principal, PrincipalKind, Subject};

/// Void approvals that a grant keeps as evidence. With those that count (8 stages of 16) they fit the CRD's bound.
const VOID_KEPT: usize = 32;

/// When people are asked.
#[derive(Clone, Debug)]
pub enum Approval {
    /// Never: the policy suffices.
    Never,
    /// When the expression holds, or cannot be judged.
    When(Expression, Demands),
    /// Always.
    Always(Demands),
}

/// Whose yes it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demands {
    /// How long a request waits, from its creation.
    pub timeout: Span,
    /// One after the other; at least one.
    pub stages: Vec<Stage>,
}

/// Some people, of whom some have to approve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// How many.
    pub required: usize,
    /// Of whom.
    pub approvers: Vec<Principal>,
}

impl Approval {
    /// Parses what a policy says of approval, or says everything that is wrong with it.
    pub fn parse(approval: Option<&api::Approval>, path: api::Path) -> Result<Self, Vec<Problem>> {
        let Some(approval) = approval else {
            return match path {
                api::Path::Automatic => Ok(Self::Never),
                api::Path::SelfServe | api::Path::Manual => Err(vec![Problem::new(
                    "spec.approval",
                    "required by paths SelfServe and Manual: set stages with approvers",
                )]),
            };
        };
        let mut problems = impossible(&approval.stages);
        let timeout = Span::try_from(&approval.timeout)
            .map_err(|error| problems.push(Problem::new("spec.approval.timeout", error.to_string())))
            .ok();
        let expression = approval.required_when.as_ref().and_then(|text| {
            Expression::parse(text)
                .map_err(|malformed| {
                    problems.push(Problem::new("spec.approval.requiredWhen", malformed.to_string()));
                })
                .ok()
        });
        let Some(timeout) = timeout.filter(|_| problems.is_empty()) else {
            return Err(problems);
        };
        let stages = approval.stages.iter().map(Stage::from).collect();
        let demands = Demands { timeout, stages };
        Ok(match (path, expression) {
            (api::Path::Automatic, _) => Self::Never,
            (api::Path::SelfServe, Some(expression)) => Self::When(expression, demands),
            (api::Path::SelfServe, None) | (api::Path::Manual, _) => Self::Always(demands),
        })
    }

    /// What it takes where people are asked at all.
    pub fn demands(&self) -> Option<&Demands> {
        match self {
            Self::Never => None,
            Self::When(_, demands) | Self::Always(demands) => Some(demands),
        }
    }
}

impl Stage {
    /// As which of its approvers it lists whoever decided. A service account is never one of a group of them: whoever
    /// may edit its namespace can act as it.
    pub fn lists(&self, decider: &Identity) -> Option<&Principal> {
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

/// Stages that nobody could ever satisfy: they list fewer people than they ask for. Groups can have any number.
fn impossible(stages: &[api::ApprovalStage]) -> Vec<Problem> {
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
                    "{required} different people required over all stages, but {listed} listed: at most {listed}, each person counts once"
                ),
            ));
        }
    }
    problems
}

/// Who is still missing: so many of one stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Name of the stage.
    pub stage: String,
    /// How many have approved in it.
    pub counted: usize,
    /// How many it takes.
    pub required: usize,
}

impl Demands {
    /// Who is missing: of the first stage that is not complete.
    pub fn missing(&self, approvals: &[ApprovalRecord]) -> Option<Missing> {
        self.stages.iter().find_map(|stage| {
            let counted = counted_in(approvals, &stage.name);
            (counted < stage.required).then(|| Missing {
                stage: stage.name.clone(),
                counted,
                required: stage.required,
            })
        })
    }

    /// The first stage that lists whoever decided.
    pub fn stage_of(&self, decider: &Identity) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.lists(decider).is_some())
    }

    /// Whether any stage lists whoever decided.
    pub fn lists(&self, decider: &Identity) -> bool {
        self.stage_of(decider).is_some()
    }
}

fn counted_in(approvals: &[ApprovalRecord], stage: &str) -> usize {
    let counts = |record: &&ApprovalRecord| record.stage == stage && record.void.is_none();
    approvals.iter().filter(counts).count()
}

/// The recorded approvals, each with why it is void if it is.
pub fn standing(
    demands: &Demands,
    request: &Request,
    hash: &str,
    recorded: &[ApprovalRecord],
) -> Vec<ApprovalRecord> {
    let judged: Vec<_> = recorded
        .iter()
        .map(|record| ApprovalRecord {
            void: record
                .void
                .clone()
                .or_else(|| fault(demands, request, hash, record)),
            ..record.clone()
        })
        .collect();
    let void = judged.iter().filter(|record| record.void.is_some()).count();
    let mut surplus = void.saturating_sub(VOID_KEPT);
    judged
        .into_iter()
        .filter(|record| {
            let goes = record.void.is_some() && surplus > 0;
            surplus -= usize::from(goes);
            !goes
        })
        .collect()
}

/// Why an approval does not count any more.
fn fault(demands: &Demands, request: &Request, hash: &str, record: &ApprovalRecord) -> Option<String> {
    if record.access_hash != hash {
        return Some("the access has changed since the approval".to_owned());
    }
    if record.username == request.requester.username
        || request.subject == Subject::user(record.username.clone())
    {
        return Some("no one may approve their own access".to_owned());
    }
    let stage = demands.stages.iter().find(|stage| stage.name == record.stage);
    let Some(stage) = stage else {
        return Some(format!("the policy has no stage {} any more", record.stage));
    };
    (!stage.approvers.contains(&record.approver)).then(|| {
        format!(
            "stage {} does not list {} any more",
            record.stage, record.approver
        )
    })
}

/// What an approval counts for, for messages: which one of its stage it is. The same whoever tells it, and whenever, as
/// long as the policy asks for the same number.
pub fn describe_counted(
    record: &ApprovalRecord,
    approvals: &[ApprovalRecord],
    demands: Option<&Demands>,
) -> String {
    let (approver, stage) = (&record.approver, &record.stage);
    let mut asked = demands.into_iter().flat_map(|demands| &demands.stages);
    let Some(asked) = asked.find(|asked| asked.name == *stage) else {
        return format!("approved as {approver} (stage {stage})");
    };
    let until = approvals
        .iter()
        .position(|other| other.decision_uid == record.decision_uid)
        .unwrap_or(approvals.len());
    let before = approvals.iter().take(until);
    let before = before.filter(|other| other.stage == *stage && other.void.is_none());
    format!(
        "approved as {approver} (stage {stage}: {} of {})",
        before.count() + 1,
        asked.required
    )
}

/// Whose approvals are void, and why, for messages: each once, and nobody who has approved again.
pub fn describe_void(approvals: &[ApprovalRecord]) -> Option<String> {
    let stands = |username: &str| {
        let mut records = approvals.iter().filter(|record| record.username == username);
        records.any(|record| record.void.is_none())
    };
    let told: BTreeMap<_, _> = approvals
        .iter()
        .filter(|record| !stands(&record.username))
        .filter_map(|record| Some((&record.username, record.void.as_ref()?)))
        .collect();
    let told: Vec<_> = told
        .into_iter()
        .map(|(username, why)| format!("{username}'s approval is void: {why}"))
        .collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// Who approved, for messages: each once, with the stage. Nothing, while nobody has.
pub fn describe_approvals(approvals: &[ApprovalRecord]) -> Option<String> {
    let told: Vec<_> = approvals
        .iter()
        .filter(|record| record.void.is_none())
        .map(|record| format!("{} ({})", record.username, record.stage))
        .collect();
    (!told.is_empty()).then(|| format!("approved by {}", told.join(", ")))
}
