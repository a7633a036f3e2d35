//! One object in the report of a round.

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::cluster::cleanup::sweep::Gone;
use crate::cluster::client::error::Error;
use crate::core::artifact::key::kind_name;
use crate::core::cleanup::sweep::{Finding, LabelledObject, Matter, Overdue, Removal};

/// What a round did with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SweepAction {
    /// Deleted the object.
    Removed,
    /// Removed a finalizer of someone else that blocked the deletion; with that the object was gone.
    Freed,
    /// The object was gone before the deletion.
    AlreadyGone,
    /// Dry run: the object would be deleted.
    WouldRemove,
    /// The object stays until the access of the same grant is removed.
    Waiting,
    /// The deletion failed.
    Failed,
    /// The object stays; see the reason.
    Kept,
}

impl SweepAction {
    /// The word in the table; the same as in the JSON report.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Removed => "Removed",
            Self::Freed => "Freed",
            Self::AlreadyGone => "AlreadyGone",
            Self::WouldRemove => "WouldRemove",
            Self::Waiting => "Waiting",
            Self::Failed => "Failed",
            Self::Kept => "Kept",
        }
    }
}

impl Serialize for SweepAction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// One object in the report of a round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SweepItem {
    /// Namespace of the object.
    pub namespace: String,
    /// Kind, as Kubernetes writes it, such as `RoleBinding`.
    pub kind: &'static str,
    /// Name of the object.
    pub name: String,
    /// Uid of the object.
    pub uid: String,
    grant_uid: String,
    /// Expiry as the annotation has it; may be no valid time.
    not_after: Option<String>,
    /// What the round did with the object.
    pub action: SweepAction,
    /// Reason of the action, for people.
    pub reason: String,
    /// Expiry, if the annotation is a valid time.
    #[serde(skip)]
    pub ended: Option<Timestamp>,
    /// Whether the object makes the round fail.
    #[serde(skip)]
    pub fails: bool,
}

impl SweepItem {
    fn new(what: &LabelledObject, action: SweepAction, reason: String) -> Self {
        Self {
            namespace: what.key.namespace.clone(),
            kind: kind_name(what.key.kind),
            name: what.key.name.clone(),
            uid: what.uid.clone(),
            grant_uid: what.grant_uid.clone(),
            not_after: what.not_after.clone(),
            action,
            reason,
            ended: what.end(),
            fails: matches!(action, SweepAction::Waiting | SweepAction::Failed),
        }
    }

    /// An object to remove. `more` adds to the reason.
    pub fn of(removal: &Removal, action: SweepAction, more: &str) -> Self {
        let mut reason = match removal.why {
            Overdue::Since(_) => "expired".to_owned(),
            Overdue::NoEnd => "access without a readable expiry".to_owned(),
        };
        if removal.orphan {
            reason.push_str(", its grant is gone");
        }
        if !more.is_empty() {
            reason.push_str("; ");
            reason.push_str(more);
        }
        Self::new(&removal.what, action, reason)
    }

    /// An object and the outcome of its removal.
    pub fn outcome(removal: &Removal, outcome: Result<Gone, Error>) -> Self {
        match outcome {
            Ok(Gone::Deleted) => Self::of(removal, SweepAction::Removed, ""),
            Ok(Gone::Already) => Self::of(removal, SweepAction::AlreadyGone, ""),
            Ok(Gone::Freed) => Self::of(
                removal,
                SweepAction::Freed,
                "a finalizer of someone else blocked the deletion and was removed",
            ),
            Err(error) => Self::of(removal, SweepAction::Failed, &error.to_string()),
        }
    }

    /// An object that stays.
    pub fn finding(finding: &Finding) -> Self {
        match finding.matter {
            Matter::Orphan { ends } => Self::new(
                &finding.what,
                SweepAction::Kept,
                format!("its grant is gone; the object is removed at its expiry, {ends}"),
            ),
            Matter::NoEnd => Self {
                fails: true,
                ..Self::new(
                    &finding.what,
                    SweepAction::Kept,
                    "has no readable expiry, and is not known to give access: find out who created the object, and \
                     delete it"
                    .to_owned(),
                )
            },
        }
    }
}
