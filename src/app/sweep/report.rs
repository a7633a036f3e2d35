//! Report of a round, for people and for programs.

use std::collections::HashSet;
use std::io;

use clap::ValueEnum;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::app::sweep::item::{SweepAction, SweepItem};
use crate::app::terminal::{align, print};
use crate::cluster::client::error::Error;
use crate::core::cleanup::sweep::{Clocks, Grants, Sweeping};
use crate::core::replica::heartbeat::{OPERATOR_SILENCE, silence};
use crate::core::time::duration::AccessDuration;

/// Number of problems in the error of a failed round. The log has all problems.
const PROBLEMS_NAMED: usize = 10;

/// Format of a report on standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table for people: a line for each object, and a summary.
    Table,
    /// One JSON document on one line, with times in UTC (RFC 3339).
    Json,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Times {
    server: Timestamp,
    local: Timestamp,
    /// Seconds by which this machine's clock is ahead of the API server's; negative: behind.
    ahead_seconds: f64,
    #[serde(skip)]
    read: Clocks,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OperatorLife {
    last_heartbeat: Option<Timestamp>,
    /// Whether the last heartbeat is older than 2 minutes.
    silent: bool,
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    removed: usize,
    would_remove: usize,
    failed: usize,
    kept: usize,
    within_time: usize,
}

/// Report of a round.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SweepReport {
    at: Timestamp,
    dry_run: bool,
    succeeded: bool,
    clocks: Option<Times>,
    items: Vec<SweepItem>,
    /// Failed reads and writes that belong to no item.
    errors: Vec<String>,
    /// Why orphans could not be identified. Expired access is removed anyway.
    grants_not_listed: Option<String>,
    operator: Option<OperatorLife>,
    summary: Summary,
    /// Uids of the items.
    #[serde(skip)]
    told: HashSet<String>,
}

impl SweepReport {
    /// An empty report.
    pub fn new(dry_run: bool, at: Timestamp) -> Self {
        Self {
            at,
            dry_run,
            succeeded: false,
            clocks: None,
            items: Vec::new(),
            errors: Vec::new(),
            grants_not_listed: None,
            operator: None,
            summary: Summary::default(),
            told: HashSet::new(),
        }
    }

    /// Adds an error of a read or write.
    pub fn unread(&mut self, error: &Error) {
        self.errors.push(error.to_string());
    }

    /// Begins another attempt. Failures of the last attempt count only if they happen again.
    pub fn looks_again(&mut self) {
        self.errors.clear();
        self.items.retain(|item| !item.fails);
    }

    /// Notes the time.
    pub fn told_the_time(&mut self, clocks: Clocks) {
        self.at = clocks.now();
        self.clocks = Some(Times {
            server: clocks.server,
            local: clocks.answered,
            ahead_seconds: clocks.skew().ahead().as_secs_f64(),
            read: clocks,
        });
    }

    /// Notes whether orphans can be identified.
    pub fn knows_grants(&mut self, grants: &Grants) {
        self.grants_not_listed = match grants {
            Grants::Listed(_) => None,
            Grants::Unknown(why) => Some(why.clone()),
        };
    }

    /// Adds an item. It replaces an earlier item of the same object.
    pub fn add(&mut self, item: SweepItem) {
        if !self.told.insert(item.uid.clone()) {
            self.items.retain(|other| other.uid != item.uid);
        }
        self.items.push(item);
    }

    /// Adds the objects that a dry run would remove.
    pub fn would_remove(&mut self, sweeping: &Sweeping) {
        for removal in std::iter::once(&sweeping.access).chain(&sweeping.rest).flatten() {
            self.add(SweepItem::of(removal, SweepAction::WouldRemove, ""));
        }
    }

    /// Adds the objects that stay.
    pub fn found(&mut self, sweeping: &Sweeping) {
        self.summary.within_time = sweeping.within_time;
        for finding in &sweeping.findings {
            self.add(SweepItem::finding(finding));
        }
    }

    /// Notes the last heartbeat of the operator.
    pub fn heard_the_operator(&mut self, last: Option<Timestamp>) {
        let silent = last.is_none_or(|last| silence(Some(last), last, self.at) > OPERATOR_SILENCE);
        self.operator = Some(OperatorLife {
            last_heartbeat: last,
            silent,
        });
    }

    /// Why the round failed; `None`: no overdue access is left.
    pub fn failure(&self) -> Option<String> {
        let clocks = self.clocks_are(Clocks::fail).then(|| {
            format!(
                "{}: correct the wrong clock; until then only access that has expired by both clocks is removed",
                self.difference()
            )
        });
        let left = self.items.iter().filter(|item| item.fails);
        let left =
            left.map(|item| format!("{} {}/{}: {}", item.kind, item.namespace, item.name, item.reason));
        let mut problems: Vec<String> = clocks
            .into_iter()
            .chain(self.errors.iter().cloned())
            .chain(left)
            .collect();
        let more = problems.len().saturating_sub(PROBLEMS_NAMED);
        problems.truncate(PROBLEMS_NAMED);
        if more > 0 {
            problems.push(format!("and {more} more"));
        }
        (!problems.is_empty()).then(|| problems.join("; "))
    }

    fn clocks_are(&self, so: impl Fn(&Clocks) -> bool) -> bool {
        self.clocks.as_ref().is_some_and(|times| so(&times.read))
    }

    fn difference(&self) -> String {
        let skew = self.clocks.as_ref().map(|clocks| clocks.read.skew());
        let skew = skew.map_or_else(|| "as".to_owned(), |skew| skew.to_string());
        format!("this machine's clock is {skew} the API server's")
    }

    fn operators_silence(&self) -> Option<String> {
        let operator = self.operator.as_ref().filter(|operator| operator.silent)?;
        Some(match operator.last_heartbeat {
            Some(last) => format!(
                "the operator has been silent for {}",
                length(self.at.duration_since(last))
            ),
            None => "the operator has left no heartbeat".to_owned(),
        })
    }

    /// Logs failures, warnings and removals.
    pub fn log(&self) {
        for item in &self.items {
            let SweepItem {
                namespace,
                kind,
                name,
                reason,
                action,
                ..
            } = item;
            match action {
                _ if item.fails => {
                    tracing::error!(
                        namespace,
                        kind,
                        name,
                        reason,
                        action = action.as_str(),
                        "not removed"
                    );
                }
                SweepAction::Removed if item.ended.is_none() => {
                    tracing::warn!(
                        namespace,
                        kind,
                        name,
                        reason,
                        "removed access without an expiry: the guards were missing when it was created; check them"
                    );
                }
                SweepAction::Removed | SweepAction::Freed => {
                    tracing::warn!(
                        namespace,
                        kind,
                        name,
                        reason,
                        action = action.as_str(),
                        "removed expired access"
                    );
                }
                SweepAction::Kept => tracing::warn!(namespace, kind, name, reason, "left"),
                SweepAction::AlreadyGone
                | SweepAction::WouldRemove
                | SweepAction::Waiting
                | SweepAction::Failed => {}
            }
        }
        for error in &self.errors {
            tracing::error!(error, "failed");
        }
        if self.clocks_are(Clocks::differ) {
            tracing::warn!("{}: the earlier clock counts", self.difference());
        }
        if let Some(why) = &self.grants_not_listed {
            tracing::info!(why, "orphans are not identified; expired access is still removed");
        }
        if let Some(silence) = self.operators_silence() {
            tracing::warn!("{silence}");
        }
    }

    /// Prints it.
    pub fn print(&mut self, output: Output) -> io::Result<()> {
        self.sum_up();
        let text = match output {
            Output::Json => serde_json::to_string(self).map_err(io::Error::other)? + "\n",
            Output::Table => self.table(),
        };
        print(&text)
    }

    fn sum_up(&mut self) {
        let count = |of: &[SweepAction]| self.items.iter().filter(|item| of.contains(&item.action)).count();
        self.summary = Summary {
            removed: count(&[SweepAction::Removed, SweepAction::Freed]),
            would_remove: count(&[SweepAction::WouldRemove]),
            failed: count(&[SweepAction::Failed, SweepAction::Waiting]),
            kept: count(&[SweepAction::Kept]),
            within_time: self.summary.within_time,
        };
        self.succeeded = self.failure().is_none();
    }

    fn table(&self) -> String {
        let mut rows =
            vec![["NAMESPACE", "KIND", "NAME", "ENDED-AGO", "ACTION", "REASON"].map(str::to_owned)];
        rows.extend(self.items.iter().map(|item| {
            [
                item.namespace.clone(),
                item.kind.to_owned(),
                item.name.clone(),
                self.ended_ago(item),
                item.action.as_str().to_owned(),
                item.reason.clone(),
            ]
        }));
        if self.items.is_empty() {
            rows.clear();
        }
        align(&rows) + &self.last_line() + "\n"
    }

    fn ended_ago(&self, item: &SweepItem) -> String {
        match item.ended {
            None => "<unknown>".to_owned(),
            Some(end) if end > self.at => "<not yet>".to_owned(),
            Some(end) => length(self.at.duration_since(end)),
        }
    }

    fn last_line(&self) -> String {
        let Summary {
            removed,
            would_remove,
            failed,
            kept,
            within_time,
        } = self.summary;
        let mut parts = vec![if self.dry_run {
            format!("{would_remove} would be removed, {kept} kept, {within_time} within their time (dry run)")
        } else {
            format!("{removed} removed, {failed} not removed, {kept} kept, {within_time} within their time")
        }];
        parts.extend(self.errors.iter().cloned());
        if self.clocks_are(Clocks::differ) {
            parts.push(self.difference());
        }
        parts.extend(
            self.grants_not_listed
                .iter()
                .map(|why| format!("orphans not identified: {why}")),
        );
        parts.extend(self.operators_silence());
        parts.join("; ")
    }
}

fn length(time: SignedDuration) -> String {
    let seconds = time.as_secs().max(0);
    match u32::try_from(seconds).ok().and_then(AccessDuration::from_seconds) {
        Some(span) => span.to_string(),
        None if seconds == 0 => "0s".to_owned(),
        None => format!("{}h", seconds / 3600),
    }
}

#[cfg(test)]
#[path = "tests/report.rs"]
mod tests;
