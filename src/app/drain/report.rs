//! Report of a drain, for people and for programs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::app::sweep::report::Output;
use crate::app::terminal::{align, print};
use crate::cluster::client::error::Error;
use crate::core::artifact::key::kind_name;
use crate::core::cleanup::drain::{DrainRound, DrainedGrant, Draining, HeldBy};
use crate::core::cleanup::sweep::LabelledObject;

/// Number of left objects in the error of a drain. The report has all of them.
const LEFT_NAMED: usize = 10;

/// Shortest time between two progress lines.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// What the drain did with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainAction {
    /// Deleted the object.
    Deleted,
    /// Removed a finalizer of someone else that blocked the deletion; with that the object was gone.
    Freed,
    /// The object was gone before the deletion.
    AlreadyGone,
    /// Removed Curfew's finalizer from a record, instead of the operator; the record stays.
    LetGo,
    /// Dry run: the object would be deleted.
    WouldDelete,
    /// The object is still there; see the reason.
    Left,
}

impl DrainAction {
    /// The word in the table; the same as in the JSON report.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Deleted => "Deleted",
            Self::Freed => "Freed",
            Self::AlreadyGone => "AlreadyGone",
            Self::LetGo => "LetGo",
            Self::WouldDelete => "WouldDelete",
            Self::Left => "Left",
        }
    }
}

impl Serialize for DrainAction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Actions after which the object is gone.
const GONE: [DrainAction; 3] = [DrainAction::Deleted, DrainAction::Freed, DrainAction::AlreadyGone];

/// One object in the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainItem {
    namespace: String,
    kind: &'static str,
    name: String,
    uid: String,
    action: DrainAction,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    /// Whether only the operator can release the object.
    #[serde(skip)]
    waits_for_operator: bool,
}

impl DrainItem {
    /// Item of a grant.
    pub fn of_grant(grant: &DrainedGrant, action: DrainAction, reason: &str) -> Self {
        Self {
            namespace: grant.namespace.clone(),
            kind: "AccessGrant",
            name: grant.name.clone(),
            uid: grant.uid.clone(),
            action,
            reason: reason.to_owned(),
            waits_for_operator: action == DrainAction::Left && grant.held_by() == Some(HeldBy::Operator),
        }
    }

    /// Item of an artifact.
    pub fn of_made(what: &LabelledObject, action: DrainAction, reason: &str) -> Self {
        Self {
            namespace: what.key.namespace.clone(),
            kind: kind_name(what.key.kind),
            name: what.key.name.clone(),
            uid: what.uid.clone(),
            action,
            reason: reason.to_owned(),
            waits_for_operator: false,
        }
    }
}

/// Requester of new grants during the drain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct NewRequest {
    by: String,
    grants: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    deleted: usize,
    would_delete: usize,
    left: usize,
    records_kept: usize,
}

/// Report of a drain.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainReport {
    at: Timestamp,
    dry_run: bool,
    drained: bool,
    items: Vec<DrainItem>,
    /// Failed reads of the last round.
    errors: Vec<String>,
    /// Why the drain stopped early.
    unfinished: Option<String>,
    /// Requesters of new grants during the drain.
    new_requests: Vec<NewRequest>,
    /// Last heartbeat of the operator, if an object waits for the operator.
    operator: Option<String>,
    summary: Summary,
    /// Position of each item, by uid.
    #[serde(skip)]
    places: HashMap<String, usize>,
    /// Uids that this round has found.
    #[serde(skip)]
    seen: HashSet<String>,
    #[serde(skip)]
    told: Option<Instant>,
}

impl DrainReport {
    /// An empty report.
    pub fn new(dry_run: bool, at: Timestamp) -> Self {
        Self {
            at,
            dry_run,
            drained: false,
            items: Vec::new(),
            errors: Vec::new(),
            unfinished: None,
            new_requests: Vec::new(),
            operator: None,
            summary: Summary::default(),
            places: HashMap::new(),
            seen: HashSet::new(),
            told: None,
        }
    }

    /// Begins another round.
    pub fn looks_again(&mut self) {
        self.errors.clear();
        self.seen.clear();
    }

    /// Ends a round. An object that was left before, and that this round has not found, counts as gone.
    pub fn looked(&mut self) {
        if !self.errors.is_empty() {
            return;
        }
        for item in &mut self.items {
            if item.action == DrainAction::Left && !self.seen.contains(&item.uid) {
                item.action = DrainAction::AlreadyGone;
                item.waits_for_operator = false;
                item.reason.clear();
            }
        }
    }

    /// Adds an error of a read.
    pub fn unread(&mut self, error: &Error) {
        self.errors.push(error.to_string());
    }

    /// Notes the number of grants that stay as records.
    pub fn records(&mut self, records: usize) {
        self.summary.records_kept = records;
    }

    /// Adds an item. It replaces an earlier item of the same object.
    pub fn add(&mut self, item: DrainItem) {
        self.seen.insert(item.uid.clone());
        let place = self.places.get(&item.uid).copied();
        if let Some(before) = place.and_then(|place| self.items.get_mut(place)) {
            *before = item;
        } else {
            self.places.insert(item.uid.clone(), self.items.len());
            self.items.push(item);
        }
    }

    /// Adds the objects that a dry run would delete.
    pub fn would_delete(&mut self, draining: &Draining) {
        for grant in draining
            .grants
            .iter()
            .chain(&draining.waiting)
            .chain(&draining.released)
        {
            self.add(DrainItem::of_grant(grant, DrainAction::WouldDelete, ""));
        }
        for what in draining.made.iter().flatten() {
            self.add(DrainItem::of_made(what, DrainAction::WouldDelete, ""));
        }
    }

    /// Notes the requesters of new grants, each with the number of grants.
    pub fn new_requests(&mut self, by: &BTreeMap<String, usize>) {
        let new_requests = by.iter().map(|(by, &grants)| NewRequest {
            by: by.clone(),
            grants,
        });
        self.new_requests = new_requests.collect();
    }

    /// Notes why the drain stops early.
    pub fn unfinished(&mut self, why: String) {
        self.unfinished = Some(why);
    }

    /// Whether an object waits for the operator.
    pub fn waits_for_operator(&self) -> bool {
        self.items.iter().any(|item| item.waits_for_operator)
    }

    /// Notes the last heartbeat of the operator.
    pub fn heard_the_operator(&mut self, last: Result<Option<Timestamp>, Error>) {
        self.operator = Some(match last {
            Ok(Some(last)) => format!("the last heartbeat of the operator was at {last}"),
            Ok(None) => "the operator has left no heartbeat".to_owned(),
            Err(error) => format!("the heartbeat of the operator cannot be read: {error}"),
        });
    }

    /// Prints progress within a long round.
    pub fn tick(&mut self, look: &DrainRound) {
        if self.told.get_or_insert_with(Instant::now).elapsed() >= TOLD_EVERY {
            self.tell(&format!(
                "{} to go in this round",
                look.found.saturating_sub(look.gone)
            ));
        }
    }

    /// Prints the result of a round.
    pub fn progress(&mut self, look: &DrainRound) {
        let left: Vec<&DrainItem> = self.left().collect();
        let text = match (left.first(), self.errors.first()) {
            (Some(first), _) => format!("{} left, such as {}", left.len(), sentence(first)),
            (None, Some(error)) => format!("cannot read the rest: {error}"),
            (None, None) if look.found == 0 => "nothing found; checking once more".to_owned(),
            (None, None) => "0 left; checking again".to_owned(),
        };
        self.tell(&text);
    }

    fn tell(&mut self, text: &str) {
        self.told = Some(Instant::now());
        let gone = self.count(&GONE);
        // A drain must not fail because nobody reads its progress.
        writeln!(io::stderr().lock(), "deleted {gone}, {text}{}", self.who_came()).ok();
    }

    fn left(&self) -> impl Iterator<Item = &DrainItem> {
        self.items.iter().filter(|item| item.action == DrainAction::Left)
    }

    fn count(&self, of: &[DrainAction]) -> usize {
        self.items.iter().filter(|item| of.contains(&item.action)).count()
    }

    fn who_came(&self) -> String {
        if self.new_requests.is_empty() {
            return String::new();
        }
        let who = self
            .new_requests
            .iter()
            .map(|new_request| format!("{} ({})", new_request.by, new_request.grants));
        let who = who.collect::<Vec<_>>().join(", ");
        format!("; asked for access meanwhile: {who}")
    }

    /// Why the drain failed; `None`: nothing is left, or a dry run could read everything.
    pub fn failure(&self) -> Option<String> {
        let mut problems: Vec<String> = self.unfinished.iter().chain(&self.errors).cloned().collect();
        problems.extend(self.left().take(LEFT_NAMED).map(sentence));
        if problems.is_empty() {
            return None;
        }
        let more = self.left().count().saturating_sub(LEFT_NAMED);
        if more > 0 {
            problems.push(format!("and {more} more"));
        }
        problems.extend(self.operator.iter().cloned());
        Some(problems.join("; ") + &self.who_came())
    }

    /// Prints the report.
    pub fn print(&mut self, output: Output) -> io::Result<()> {
        self.sum_up();
        print(&match output {
            Output::Json => serde_json::to_string(self).map_err(io::Error::other)? + "\n",
            Output::Table => self.table(),
        })
    }

    fn sum_up(&mut self) {
        self.summary = Summary {
            deleted: self.count(&GONE),
            would_delete: self.count(&[DrainAction::WouldDelete]),
            left: self.count(&[DrainAction::Left]),
            records_kept: self.summary.records_kept,
        };
        self.drained = self.failure().is_none() && !self.dry_run;
    }

    fn table(&self) -> String {
        let mut rows = Vec::new();
        if !self.items.is_empty() {
            rows.push(["NAMESPACE", "KIND", "NAME", "ACTION", "REASON"].map(str::to_owned));
        }
        rows.extend(self.items.iter().map(|item| {
            [
                item.namespace.clone(),
                item.kind.to_owned(),
                item.name.clone(),
                item.action.as_str().to_owned(),
                item.reason.clone(),
            ]
        }));
        align(&rows) + &self.last_line() + "\n"
    }

    fn last_line(&self) -> String {
        let Summary {
            deleted,
            would_delete,
            left,
            records_kept,
        } = self.summary;
        let done = if self.dry_run {
            format!("{would_delete} would be deleted (dry run)")
        } else if self.drained {
            format!("{deleted} gone, nothing is left")
        } else {
            format!("{deleted} gone, {left} left, not drained")
        };
        format!("{done}; {records_kept} records kept{}", self.who_came())
    }
}

fn sentence(item: &DrainItem) -> String {
    let DrainItem {
        kind,
        namespace,
        name,
        reason,
        ..
    } = item;
    if reason.is_empty() {
        return format!("{kind} {namespace}/{name}");
    }
    format!("{kind} {namespace}/{name}: {reason}")
}

#[cfg(test)]
#[path = "tests/report.rs"]
mod tests;
