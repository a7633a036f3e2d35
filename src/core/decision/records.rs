//! Approvals on record: valid or void.

use std::collections::BTreeMap;

use crate::api::{ApprovalRecord, Subject};
use crate::core::policy::approval::{ApprovalRequirement, VOID_KEPT};
use crate::core::request::Request;

/// Approvals that are missing in one stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingApprovals {
    /// Name of the stage.
    pub stage: String,
    /// How many people have approved in it.
    pub counted: usize,
    /// How many people must approve in it.
    pub required: usize,
}

/// Missing approvals of the first incomplete stage; `None` if all stages are complete.
pub fn missing(demands: &ApprovalRequirement, approvals: &[ApprovalRecord]) -> Option<MissingApprovals> {
    demands.stages.iter().find_map(|stage| {
        let counted = counted_in(approvals, &stage.name);
        (counted < stage.required).then(|| MissingApprovals {
            stage: stage.name.clone(),
            counted,
            required: stage.required,
        })
    })
}

pub(crate) fn counted_in(approvals: &[ApprovalRecord], stage: &str) -> usize {
    let counts = |record: &&ApprovalRecord| record.stage == stage && record.void.is_none();
    approvals.iter().filter(counts).count()
}

/// The recorded approvals, checked again: each one that no longer counts is marked void, with the reason. Of
/// the void ones only the newest 32 are kept.
pub fn check_recorded(
    demands: &ApprovalRequirement,
    request: &Request,
    hash: &str,
    recorded: &[ApprovalRecord],
) -> Vec<ApprovalRecord> {
    let checked: Vec<_> = recorded
        .iter()
        .map(|record| ApprovalRecord {
            void: record
                .void
                .clone()
                .or_else(|| void_reason(demands, request, hash, record)),
            ..record.clone()
        })
        .collect();
    let void = checked.iter().filter(|record| record.void.is_some()).count();
    let mut surplus = void.saturating_sub(VOID_KEPT);
    checked
        .into_iter()
        .filter(|record| {
            let dropped = record.void.is_some() && surplus > 0;
            surplus -= usize::from(dropped);
            !dropped
        })
        .collect()
}

/// Why an approval no longer counts; `None` if it counts.
fn void_reason(
    demands: &ApprovalRequirement,
    request: &Request,
    hash: &str,
    record: &ApprovalRecord,
) -> Option<String> {
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
        return Some(format!("the policy no longer has stage {}", record.stage));
    };
    (!stage.approvers.contains(&record.approver))
        .then(|| format!("stage {} no longer lists {}", record.stage, record.approver))
}

/// Position of an approval in its stage, for messages. Every caller gets the same text at any time, as long
/// as the policy requires the same number.
pub fn describe_counted(
    record: &ApprovalRecord,
    approvals: &[ApprovalRecord],
    demands: Option<&ApprovalRequirement>,
) -> String {
    let (approver, stage) = (&record.approver, &record.stage);
    let mut stages = demands.into_iter().flat_map(|demands| &demands.stages);
    let Some(current) = stages.find(|other| other.name == *stage) else {
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
        current.required
    )
}

/// Void approvals with their reasons, for messages: one entry for each person. A person who has approved
/// again is left out.
pub fn describe_void(approvals: &[ApprovalRecord]) -> Option<String> {
    let has_valid = |username: &str| {
        let mut records = approvals.iter().filter(|record| record.username == username);
        records.any(|record| record.void.is_none())
    };
    let entries: BTreeMap<_, _> = approvals
        .iter()
        .filter(|record| !has_valid(&record.username))
        .filter_map(|record| Some((&record.username, record.void.as_ref()?)))
        .collect();
    let entries: Vec<_> = entries
        .into_iter()
        .map(|(username, why)| format!("{username}'s approval is void: {why}"))
        .collect();
    (!entries.is_empty()).then(|| entries.join("; "))
}

/// People who approved, with the stage, for messages; `None` if no one has approved.
pub fn describe_approvals(approvals: &[ApprovalRecord]) -> Option<String> {
    let entries: Vec<_> = approvals
        .iter()
        .filter(|record| record.void.is_none())
        .map(|record| format!("{} ({})", record.username, record.stage))
        .collect();
    (!entries.is_empty()).then(|| format!("approved by {}", entries.join(", ")))
}
