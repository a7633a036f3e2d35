//! What a drain has done and what it leaves, for people and for machines.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::app::sweep::Output;
use crate::app::table::{align, print};
use crate::cluster::Error;
use crate::core::drain::{Asked, Draining, HeldBy, Look};
use crate::core::kind_name;
use crate::core::sweep::Labelled;

/// How many of what is left the sentence names in which a drain ends; the report has all.
const LEFT_NAMED: usize = 10;

/// How often progress is told at most.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// What was done with something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Deleted it.
    Deleted,
    /// Took off a finalizer that held back access while it was being deleted; with that it went.
    Freed,
    /// Found it gone when it came to it.
    AlreadyGone,
    /// Took our finalizer off a record, in the operator's place; the record stays.
    LetGo,
    /// Would have deleted it, were it no dry run.
    WouldDelete,
    /// It is still there: the reason says why.
    Left,
}

impl Action {
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

impl Serialize for Action {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What is not there any more.
const GONE: [Action; 3] = [Action::Deleted, Action::Freed, Action::AlreadyGone];

/// Something that a drain tells of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    namespace: String,
    kind: &'static str,
    name: String,
    uid: String,
    action: Action,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    /// Whether the operator alone can let it go.
    #[serde(skip)]
    waits_for_operator: bool,
}

impl Item {
    /// A grant.
    pub fn of_grant(grant: &Asked, action: Action, reason: &str) -> Self {
        Self {
            namespace: grant.namespace.clone(),
            kind: "AccessGrant",
            name: grant.name.clone(),
            uid: grant.uid.clone(),
            action,
            reason: reason.to_owned(),
            waits_for_operator: action == Action::Left && grant.held_by() == Some(HeldBy::Operator),
        }
    }

    /// Something that was made for a grant.
    pub fn of_made(what: &Labelled, action: Action, reason: &str) -> Self {
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

/// Somebody who asked while everything was being drained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Newcomer {
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

/// What a drain has done and what it leaves.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    at: Timestamp,
    dry_run: bool,
    drained: bool,
    items: Vec<Item>,
    /// What could not be read.
    errors: Vec<String>,
    /// Why it ended before nothing was left.
    unfinished: Option<String>,
    /// Who asked meanwhile.
    newcomers: Vec<Newcomer>,
    /// Where something waits for the operator: when that last lived.
    operator: Option<String>,
    summary: Summary,
    /// Where the items are, by uid.
    #[serde(skip)]
    places: HashMap<String, usize>,
    /// The uids that the present look has found.
    #[serde(skip)]
    seen: HashSet<String>,
    #[serde(skip)]
    told: Option<Instant>,
}

impl Report {
    /// Of a drain that begins.
    pub fn new(dry_run: bool, at: Timestamp) -> Self {
        Self {
            at,
            dry_run,
            drained: false,
            items: Vec::new(),
            errors: Vec::new(),
            unfinished: None,
            newcomers: Vec::new(),
            operator: None,
            summary: Summary::default(),
            places: HashMap::new(),
            seen: HashSet::new(),
            told: None,
        }
    }

    /// Another look begins.
    pub fn looks_again(&mut self) {
        self.errors.clear();
        self.seen.clear();
    }

    /// A look is over: what was left before and could not be found any more has gone by itself.
    pub fn looked(&mut self) {
        if !self.errors.is_empty() {
            return;
        }
        for item in &mut self.items {
            if item.action == Action::Left && !self.seen.contains(&item.uid) {
                item.action = Action::AlreadyGone;
                item.waits_for_operator = false;
                item.reason.clear();
            }
        }
    }

    /// Something could not be read.
    pub fn unread(&mut self, error: &Error) {
        self.errors.push(error.to_string());
    }

    /// How many grants stay as records.
    pub fn records(&mut self, records: usize) {
        self.summary.records_kept = records;
    }

    /// Something was done, or not; that counts and not what was told of the same thing before.
    pub fn add(&mut self, item: Item) {
        self.seen.insert(item.uid.clone());
        let place = self.places.get(&item.uid).copied();
        if let Some(before) = place.and_then(|place| self.items.get_mut(place)) {
            *before = item;
        } else {
            self.places.insert(item.uid.clone(), self.items.len());
            self.items.push(item);
        }
    }

    /// What a dry run leaves.
    pub fn would_delete(&mut self, draining: &Draining) {
        for grant in draining
            .grants
            .iter()
            .chain(&draining.waiting)
            .chain(&draining.released)
        {
            self.add(Item::of_grant(grant, Action::WouldDelete, ""));
        }
        for what in draining.made.iter().flatten() {
            self.add(Item::of_made(what, Action::WouldDelete, ""));
        }
    }

    /// Who has asked meanwhile, and how often.
    pub fn newcomers(&mut self, by: &BTreeMap<String, usize>) {
        let newcomers = by.iter().map(|(by, &grants)| Newcomer {
            by: by.clone(),
            grants,
        });
        self.newcomers = newcomers.collect();
    }

    /// It ends before nothing is left, for this reason.
    pub fn unfinished(&mut self, why: String) {
        self.unfinished = Some(why);
    }

    /// Whether something is left that waits for the operator.
    pub fn waits_for_operator(&self) -> bool {
        self.items.iter().any(|item| item.waits_for_operator)
    }

    /// When the operator last lived.
    pub fn heard_the_operator(&mut self, last: Result<Option<Timestamp>, Error>) {
        self.operator = Some(match last {
            Ok(Some(last)) => format!("the operator was last heard at {last}"),
            Ok(None) => "the operator has left no heartbeat".to_owned(),
            Err(error) => format!("whether the operator lives is not known: {error}"),
        });
    }

    /// Tells how far it is in the middle of a look, when that takes long.
    pub fn tick(&mut self, look: &Look) {
        if self.told.get_or_insert_with(Instant::now).elapsed() >= TOLD_EVERY {
            self.tell(&format!(
                "{} to go of this look",
                look.found.saturating_sub(look.gone)
            ));
        }
    }

    /// Tells what a look has left.
    pub fn progress(&mut self, look: &Look) {
        let left: Vec<&Item> = self.left().collect();
        let text = match (left.first(), self.errors.first()) {
            (Some(first), _) => format!("{} left, such as {}", left.len(), sentence(first)),
            (None, Some(error)) => format!("cannot see what is left: {error}"),
            (None, None) if look.found == 0 => "nothing found; looking once more".to_owned(),
            (None, None) => "0 left of what was found; looking again".to_owned(),
        };
        self.tell(&text);
    }

    fn tell(&mut self, text: &str) {
        self.told = Some(Instant::now());
        let gone = self.count(&GONE);
        // Nobody is served by a drain that ends because nobody reads how far it is.
        writeln!(io::stderr().lock(), "{gone} gone; {text}{}", self.who_came()).ok();
    }

    fn left(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| item.action == Action::Left)
    }

    fn count(&self, of: &[Action]) -> usize {
        self.items.iter().filter(|item| of.contains(&item.action)).count()
    }

    fn who_came(&self) -> String {
        if self.newcomers.is_empty() {
            return String::new();
        }
        let who = self
            .newcomers
            .iter()
            .map(|newcomer| format!("{} ({})", newcomer.by, newcomer.grants));
        let who = who.collect::<Vec<_>>().join(", ");
        format!("; asked for access meanwhile: {who}")
    }

    /// Why it has failed; `None`: nothing is left, or a dry run could read everything.
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

    /// Prints it.
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
            would_delete: self.count(&[Action::WouldDelete]),
            left: self.count(&[Action::Left]),
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

fn sentence(item: &Item) -> String {
    let Item {
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
mod tests;
