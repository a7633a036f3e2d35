//! One thing that a round tells of.

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::cluster::Error;
use crate::cluster::sweep::Gone;
use crate::core::kind_name;
use crate::core::sweep::{Finding, Labelled, Matter, Overdue, Removal};

/// What a round did with something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Removed it.
    Removed,
    /// Took off a finalizer that held it back while it was being deleted; with that it went.
    Freed,
    /// Found it gone when it came to it.
    AlreadyGone,
    /// Would have removed it, were it no dry run.
    WouldRemove,
    /// Left it, because access that it goes with still stands.
    Waiting,
    /// Tried to remove it, in vain.
    Failed,
    /// Left it where it is: the reason says why.
    Kept,
}

impl Action {
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

impl Serialize for Action {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Something that a round tells of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// Its namespace.
    pub namespace: String,
    /// Its kind, as Kubernetes writes it.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    grant_uid: String,
    /// The end as it is written there.
    not_after: Option<String>,
    /// What was done with it.
    pub action: Action,
    /// Why, for people.
    pub reason: String,
    /// The end, if that can be read.
    #[serde(skip)]
    pub ended: Option<Timestamp>,
    /// Whether the round has failed by it.
    #[serde(skip)]
    pub fails: bool,
}

impl Item {
    fn new(what: &Labelled, action: Action, reason: String) -> Self {
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
            fails: matches!(action, Action::Waiting | Action::Failed),
        }
    }

    /// Something to remove, and what was done about it.
    pub fn of(removal: &Removal, action: Action, more: &str) -> Self {
        let mut reason = match removal.why {
            Overdue::Since(_) => "its end has passed".to_owned(),
            Overdue::NoEnd => "access that says no end that can be read".to_owned(),
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

    /// Something whose removal was tried.
    pub fn outcome(removal: &Removal, outcome: Result<Gone, Error>) -> Self {
        match outcome {
            Ok(Gone::Deleted) => Self::of(removal, Action::Removed, ""),
            Ok(Gone::Already) => Self::of(removal, Action::AlreadyGone, ""),
            Ok(Gone::Freed) => Self::of(
                removal,
                Action::Freed,
                "a finalizer of somebody else held it back and was taken off",
            ),
            Err(error) => Self::of(removal, Action::Failed, &error.to_string()),
        }
    }

    /// Something that is left where it is.
    pub fn finding(finding: &Finding) -> Self {
        match finding.matter {
            Matter::Orphan { ends } => Self::new(
                &finding.what,
                Action::Kept,
                format!("its grant is gone; it is removed at its end, {ends}"),
            ),
            Matter::NoEnd => Self {
                fails: true,
                ..Self::new(
                    &finding.what,
                    Action::Kept,
                    "says no end that can be read, and is not known to give access: find out who made it, and delete \
                     it"
                    .to_owned(),
                )
            },
        }
    }
}
