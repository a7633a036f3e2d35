//! Whose approval a request needs, and whether it has it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::decision::{Decision, Verdict};
use super::policy::{Problem, lists};
use super::{Expression, Request, Span};
use crate::api::{self, ApprovalRecord, DecisionKind, Principal, PrincipalKind, Subject, reasons};

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
                    "paths SelfServe and Manual need it: name stages with approvers",
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
                    "over all stages {required} different people are required, but {listed} listed: each counts once"
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

/// How the approvals of a request stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Every approval, those that do not count any more among them.
    pub approvals: Vec<ApprovalRecord>,
    /// What was made of each decision that was looked at, by its uid.
    pub verdicts: Vec<(String, Verdict)>,
    /// Who is still missing; nobody, once it is approved.
    pub missing: Option<Missing>,
}

/// What people are asked.
#[derive(Clone, Copy, Debug)]
pub struct Ballot<'a> {
    /// Whose yes it takes.
    pub demands: &'a Demands,
    /// The request.
    pub request: &'a Request,
    /// Hash of the access that it would give now.
    pub hash: &'a str,
    /// Until when: what is decided later comes too late, whenever it is looked at.
    pub until: Timestamp,
}

/// Counts approvals: those recorded, as far as they still stand, and those among `decisions` that nobody has judged
/// yet, in their order. A decision of a later stage waits for it.
pub fn tally(ballot: &Ballot<'_>, recorded: &[ApprovalRecord], decisions: &[Decision]) -> Tally {
    let demands = ballot.demands;
    let approvals = standing(demands, ballot.request, ballot.hash, recorded);
    let mut tally = Tally {
        missing: demands.missing(&approvals),
        approvals,
        verdicts: Vec::new(),
    };
    let mut open: Vec<&Decision> = decisions
        .iter()
        .filter(|decision| decision.kind == DecisionKind::Approve && decision.is_open())
        .collect();
    // A decision that was early is looked at again when its stage has come.
    loop {
        let before = open.len();
        open.retain(|decision| tally.consider(ballot, decision));
        if open.len() == before {
            break;
        }
    }
    let waiting = open.iter().map(|decision| {
        let stage = demands
            .stage_of(decision)
            .map_or("its stage", |stage| stage.name.as_str());
        let message = format!("counts when stage {stage} is asked");
        (decision.uid.clone(), Verdict::waiting(message))
    });
    tally.verdicts.extend(waiting);
    tally
}

impl Tally {
    /// Takes one decision in. Answers whether it has to wait.
    fn consider(&mut self, ballot: &Ballot<'_>, decision: &Decision) -> bool {
        let verdict = match self.place(ballot, decision) {
            Place::Ignored(verdict) => verdict,
            Place::Later => return true,
            Place::Recorded(message) => Verdict::counted(message),
            Place::Stage(stage, approver) => {
                let record = ApprovalRecord {
                    stage: stage.name.clone(),
                    username: decision.decider.username.clone(),
                    approver: approver.clone(),
                    access_hash: ballot.hash.to_owned(),
                    decision: decision.name.clone(),
                    decision_uid: decision.uid.clone(),
                    decided_at: Time(decision.made_at),
                    void: None,
                };
                self.approvals.push(record.clone());
                self.missing = ballot.demands.missing(&self.approvals);
                Verdict::counted(describe_counted(&record, &self.approvals, Some(ballot.demands)))
            }
        };
        self.verdicts.push((decision.uid.clone(), verdict));
        false
    }

    fn place<'a>(&self, ballot: &Ballot<'a>, decision: &Decision) -> Place<'a> {
        let Ballot {
            demands,
            request,
            hash,
            until,
        } = *ballot;
        let ignored = |reason, message: String| Place::Ignored(Verdict::ignored(reason, message));
        // Recorded before, and not yet told: whoever wrote it down died then.
        if let Some(record) = self
            .approvals
            .iter()
            .find(|record| record.decision_uid == decision.uid)
        {
            return Place::Recorded(describe_counted(record, &self.approvals, Some(demands)));
        }
        if let Some(verdict) = decision.about_oneself(request) {
            return Place::Ignored(verdict);
        }
        if decision.made_at >= until {
            return ignored(reasons::TOO_LATE, format!("people were asked until {until}"));
        }
        if demands.stage_of(decision).is_none() {
            return Place::Ignored(decision.not_listed(demands));
        }
        if let Some(record) = self
            .approvals
            .iter()
            .find(|record| record.void.is_none() && record.username == decision.decider.username)
        {
            return ignored(
                reasons::ALREADY_APPROVED,
                format!(
                    "{} has approved already, in stage {}",
                    record.username, record.stage
                ),
            );
        }
        if decision.access_hash.as_deref() != Some(hash) {
            return ignored(
                reasons::ACCESS_CHANGED,
                format!(
                    "approves {}, but what is asked for is {hash}: look at the grant again and approve that",
                    decision.access_hash.as_deref().unwrap_or("nothing"),
                ),
            );
        }
        let Some(missing) = &self.missing else {
            return ignored(
                reasons::NOT_ASKED,
                "enough people have approved already".to_owned(),
            );
        };
        let current = demands
            .stages
            .iter()
            .position(|stage| stage.name == missing.stage);
        let mut places = demands.stages.iter().enumerate().filter_map(|(position, stage)| {
            let approver = lists(&stage.approvers, &decision.decider)?;
            (Some(position) >= current).then_some((position, stage, approver))
        });
        match places.next() {
            None => ignored(
                reasons::NOT_ASKED,
                format!(
                    "the stages that list them are complete; {} is asked",
                    missing.stage
                ),
            ),
            Some((position, stage, approver)) if Some(position) == current => Place::Stage(stage, approver),
            Some(_) => Place::Later,
        }
    }
}

/// Where an approval counts.
enum Place<'a> {
    Ignored(Verdict),
    Recorded(String),
    Stage(&'a Stage, &'a Principal),
    Later,
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
    fn stage_of(&self, decision: &Decision) -> Option<&Stage> {
        self.stages
            .iter()
            .find(|stage| decision.is_listed(&stage.approvers))
    }

    /// Whether any stage lists whoever decided.
    pub fn lists(&self, decision: &Decision) -> bool {
        self.stage_of(decision).is_some()
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
        return Some("the access is not the one that was approved".to_owned());
    }
    if record.username == request.requester.username
        || request.subject == Subject::user(record.username.clone())
    {
        return Some("nobody approves their own access".to_owned());
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
        return format!("approves as {approver} in stage {stage}");
    };
    let until = approvals
        .iter()
        .position(|other| other.decision_uid == record.decision_uid)
        .unwrap_or(approvals.len());
    let before = approvals.iter().take(until);
    let before = before.filter(|other| other.stage == *stage && other.void.is_none());
    format!(
        "approves as {approver}: {} of {} from {stage}",
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
