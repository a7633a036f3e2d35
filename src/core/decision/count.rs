//! Counts approvals: those on record and the new decisions.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::{ApprovalRecord, DecisionKind, Principal, reasons};
use crate::core::decision::Decision;
use crate::core::decision::records::missing;
use crate::core::decision::records::{MissingApprovals, check_recorded, describe_counted};
use crate::core::decision::verdict::Verdict;
use crate::core::policy::approval::{ApprovalRequirement, Stage};
use crate::core::request::Request;

/// Approval count of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalCount {
    /// Every approval on record, void ones included.
    pub approvals: Vec<ApprovalRecord>,
    /// Verdict on each decision that was evaluated, by uid of the decision.
    pub verdicts: Vec<(String, Verdict)>,
    /// Missing approvals; `None` if the request is approved.
    pub missing: Option<MissingApprovals>,
}

/// What approvals are counted for.
#[derive(Clone, Copy, Debug)]
pub struct ApprovalContext<'a> {
    /// Required approvals.
    pub demands: &'a ApprovalRequirement,
    /// The request.
    pub request: &'a Request,
    /// Hash of the access that the request would give now.
    pub hash: &'a str,
    /// Deadline of approval. A decision made at or after this time is too late, whenever it is read.
    pub until: Timestamp,
}

/// Counts the approvals on record that still count, then the open decisions in their order. A decision of a
/// later stage waits for that stage.
pub fn count_approvals(
    ballot: &ApprovalContext<'_>,
    recorded: &[ApprovalRecord],
    decisions: &[Decision],
) -> ApprovalCount {
    let demands = ballot.demands;
    let approvals = check_recorded(demands, ballot.request, ballot.hash, recorded);
    let mut approval_count = ApprovalCount {
        missing: missing(demands, &approvals),
        approvals,
        verdicts: Vec::new(),
    };
    let mut open: Vec<&Decision> = decisions
        .iter()
        .filter(|decision| decision.kind == DecisionKind::Approve && decision.is_open())
        .collect();
    // A counted approval can complete a stage. Early decisions are then evaluated again.
    loop {
        let before = open.len();
        open.retain(|decision| approval_count.count(ballot, decision));
        if open.len() == before {
            break;
        }
    }
    let waiting = open.iter().map(|decision| {
        let stage = demands
            .stage_of(&decision.decider)
            .map_or("its stage", |stage| stage.name.as_str());
        let message = format!("counts when stage {stage} begins");
        (decision.uid.clone(), Verdict::waiting(message))
    });
    approval_count.verdicts.extend(waiting);
    approval_count
}

impl ApprovalCount {
    /// Evaluates one decision. Returns whether the decision has to wait.
    fn count(&mut self, ballot: &ApprovalContext<'_>, decision: &Decision) -> bool {
        let verdict = match self.place(ballot, decision) {
            Placement::Ignored(verdict) => verdict,
            Placement::Later => return true,
            Placement::Recorded(message) => Verdict::counted(message),
            Placement::Stage(stage, approver) => {
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
                self.missing = missing(ballot.demands, &self.approvals);
                Verdict::counted(describe_counted(&record, &self.approvals, Some(ballot.demands)))
            }
        };
        self.verdicts.push((decision.uid.clone(), verdict));
        false
    }

    /// Where an approval counts. The order of the checks decides which reason is reported.
    fn place<'a>(&self, ballot: &ApprovalContext<'a>, decision: &Decision) -> Placement<'a> {
        let recorded = self
            .approvals
            .iter()
            .find(|record| record.decision_uid == decision.uid);
        // Recorded in the grant, but without a verdict: a crash came between the two writes.
        if let Some(record) = recorded {
            return Placement::Recorded(describe_counted(record, &self.approvals, Some(ballot.demands)));
        }
        match self.cannot_count(ballot, decision) {
            Some(verdict) => Placement::Ignored(verdict),
            None => self.stage(ballot, decision),
        }
    }

    /// Verdict on an approval that cannot count in any stage.
    fn cannot_count(&self, ballot: &ApprovalContext<'_>, decision: &Decision) -> Option<Verdict> {
        let ApprovalContext {
            demands,
            request,
            hash,
            until,
        } = *ballot;
        if let Some(verdict) = decision.about_oneself(request) {
            return Some(verdict);
        }
        if decision.made_at >= until {
            return Some(Verdict::ignored(
                reasons::TOO_LATE,
                format!("approvers had until {until}"),
            ));
        }
        if demands.stage_of(&decision.decider).is_none() {
            return Some(decision.not_listed(demands));
        }
        let earlier = self
            .approvals
            .iter()
            .find(|record| record.void.is_none() && record.username == decision.decider.username);
        if let Some(record) = earlier {
            return Some(Verdict::ignored(
                reasons::ALREADY_APPROVED,
                format!(
                    "{} has already approved in stage {}",
                    record.username, record.stage
                ),
            ));
        }
        (decision.access_hash.as_deref() != Some(hash)).then(|| {
            Verdict::ignored(
                reasons::ACCESS_CHANGED,
                format!(
                    "approves {}, but the requested access is {hash}; \
                     look at the grant again and approve that hash",
                    decision.access_hash.as_deref().unwrap_or("nothing"),
                ),
            )
        })
    }

    /// The first stage, from the current one on, that lists the decider.
    fn stage<'a>(&self, ballot: &ApprovalContext<'a>, decision: &Decision) -> Placement<'a> {
        let not_asked = |message: String| Placement::Ignored(Verdict::ignored(reasons::NOT_ASKED, message));
        let Some(missing) = &self.missing else {
            return not_asked("the request already has all its approvals".to_owned());
        };
        let stages = &ballot.demands.stages;
        let current = stages.iter().position(|stage| stage.name == missing.stage);
        let mut open_stages = stages.iter().enumerate().filter_map(|(position, stage)| {
            let approver = stage.lists(&decision.decider)?;
            (Some(position) >= current).then_some((position, stage, approver))
        });
        match open_stages.next() {
            None => not_asked(format!(
                "all stages that list the decider are complete; {} is the current stage",
                missing.stage
            )),
            Some((position, stage, approver)) if Some(position) == current => {
                Placement::Stage(stage, approver)
            }
            Some(_) => Placement::Later,
        }
    }
}

/// Where an approval counts.
enum Placement<'a> {
    Ignored(Verdict),
    Recorded(String),
    Stage(&'a Stage, &'a Principal),
    Later,
}
