//! `curfew drain`: removes everything that Curfew made, in rounds, until nothing is left or the time is over.

mod report;

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use jiff::Timestamp;
use kube::{Client, Config};
use tokio::time::{Instant, sleep, timeout_at};

use crate::api::REVOKE_FINALIZER;
use crate::app::drain::report::{DrainAction, DrainItem, DrainReport};
use crate::app::error::RunError;
use crate::app::sweep::report::Output;
use crate::app::sweep::{AT_ONCE, KINDS};
use crate::cluster::cleanup::drain::{Dismissed, asked, dismiss, release};
use crate::cluster::cleanup::sweep::{Gone, find, remove};
use crate::cluster::client::{client, error};
use crate::cluster::replica::heartbeat::last_beat;
use crate::core::artifact::key::ArtifactKey;
use crate::core::cleanup::drain::{
    DrainOptions, DrainProgress, DrainRound, DrainedGrant, Draining, HeldBy, NewRequests, NextRound, drain,
};
use crate::core::cleanup::sweep::{LabelledObject, waits_for_access};
use crate::core::replica::heartbeat::OPERATOR;
use crate::core::replica::retry::Class;
use crate::core::time::duration::AccessDuration;

/// Advice for the case that no operator runs again.
const WITHOUT_OPERATOR: &str = "If no operator will run again: kubectl delete validatingadmissionpolicybinding \
     curfew-grant, then curfew drain --without-operator";

/// Settings of the drain.
#[derive(Clone, Debug)]
pub struct DrainArguments {
    /// Longest time until the drain gives up.
    pub timeout: AccessDuration,
    /// Whether to change nothing and only report.
    pub dry_run: bool,
    /// Options: delete records, work without an operator.
    pub demands: DrainOptions,
    /// Format of the report.
    pub output: Output,
    /// Namespace of the operator's heartbeat Lease.
    pub namespace: String,
}

/// Error of a drain.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    /// The drain could not start.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Something is left, or could not be read.
    #[error("not drained: {0}")]
    Left(String),
    /// The report could not be printed.
    #[error("cannot print the report: {0}")]
    Print(#[from] std::io::Error),
}

/// Ends all access and waits until nothing is left.
///
/// # Errors
/// Something is left after the timeout, or could not be read.
pub async fn run(options: DrainArguments) -> Result<(), DrainError> {
    let config = Config::infer().await.map_err(RunError::from)?;
    let client = client(config).map_err(RunError::from)?;
    let mut report = DrainReport::new(options.dry_run, Timestamp::now());
    let until = Instant::now() + Duration::from_secs(options.timeout.seconds().into());
    go_on(&client, &options, until, &mut report).await;
    if report.waits_for_operator() {
        report.heard_the_operator(last_beat(&client, &options.namespace, OPERATOR).await);
    }
    report.print(options.output)?;
    match report.failure() {
        None => Ok(()),
        Some(failure) => Err(DrainError::Left(failure)),
    }
}

/// Makes rounds until one is the last.
async fn go_on(client: &Client, options: &DrainArguments, until: Instant, report: &mut DrainReport) {
    let (mut course, mut new_requests) = (DrainProgress::default(), NewRequests::default());
    loop {
        let looked = look(client, options, &mut new_requests, report);
        let Ok(look) = timeout_at(until, looked).await else {
            return report.unfinished(format!(
                "the timeout of {} was reached during a round",
                options.timeout
            ));
        };
        report.looked();
        report.new_requests(new_requests.by());
        if options.dry_run {
            return;
        }
        match course.after(&look) {
            NextRound::Done => return,
            NextRound::GiveUp => {
                return report.unfinished(
                    "deletions are refused again and again: give the missing right to your account"
                        .to_owned(),
                );
            }
            NextRound::Look(pause) => {
                report.progress(&look);
                if Instant::now() + pause >= until {
                    let over = format!("the timeout of {} was reached", options.timeout);
                    return report.unfinished(if course.is_quiet() {
                        format!("{over} before a second round could confirm that nothing is left: set a longer --timeout")
                    } else {
                        over
                    });
                }
                sleep(pause).await;
            }
        }
    }
}

/// Makes one round: reads everything, removes it, and reports the rest.
async fn look(
    client: &Client,
    options: &DrainArguments,
    new_requests: &mut NewRequests,
    report: &mut DrainReport,
) -> DrainRound {
    report.looks_again();
    let mut look = DrainRound::default();
    let draining = read(client, options, &mut look, report).await;
    new_requests.seen(&draining);
    report.records(draining.records);
    look.found = draining.len();
    if options.dry_run {
        report.would_delete(&draining);
        return look;
    }
    for grant in &draining.waiting {
        report.add(DrainItem::of_grant(grant, DrainAction::Left, &why_held(grant)));
    }
    let mut outcomes = side_by_side(&draining.released, |grant| release(client, grant));
    while let Some((grant, outcome)) = outcomes.next().await {
        report.add(let_go(grant, outcome, &mut look));
    }
    let mut outcomes = side_by_side(&draining.grants, |grant| dismiss(client, grant));
    while let Some((grant, outcome)) = outcomes.next().await {
        report.add(dismissed(grant, outcome, &mut look));
        report.tick(&look);
    }
    let mut standing: BTreeSet<ArtifactKey> = BTreeSet::new();
    for turn in &draining.made {
        let (waiting, due): (Vec<&LabelledObject>, Vec<&LabelledObject>) =
            turn.iter().partition(|what| waits_for_access(what, &standing));
        for what in waiting {
            report.add(DrainItem::of_made(
                what,
                DrainAction::Left,
                "access of the same grant is not removed yet",
            ));
        }
        let mut outcomes = side_by_side(due, |what| remove(client, what));
        while let Some((what, outcome)) = outcomes.next().await {
            if outcome.is_err() && what.gives_access() {
                standing.insert(what.key.of_fuse());
            }
            report.add(removed(what, outcome, &mut look));
            report.tick(&look);
        }
    }
    look
}

/// Reads all grants and artifacts. A kind that cannot be read does not stop the removal of the others.
async fn read(
    client: &Client,
    options: &DrainArguments,
    look: &mut DrainRound,
    report: &mut DrainReport,
) -> Draining {
    let mut unread = |error: &error::Error| {
        if error.class() == Class::Denied {
            look.refused += 1;
        } else {
            look.unread += 1;
        }
        report.unread(error);
    };
    let grants = asked(client).await.unwrap_or_else(|error| {
        unread(&error);
        Vec::new()
    });
    let (mut found, mut whole) = (Vec::new(), true);
    for kind in KINDS {
        match find(client, kind).await {
            Ok(more) => found.extend(more),
            Err(error) => {
                unread(&error);
                whole = false;
            }
        }
    }
    drain(grants, found, whole, options.demands)
}

/// Runs an operation on each object, 16 at once, and returns the results in order.
fn side_by_side<'a, T, F, O>(
    those: impl IntoIterator<Item = &'a T>,
    deed: impl Fn(&'a T) -> F,
) -> impl Stream<Item = (&'a T, O)> + Unpin
where
    T: 'a,
    F: Future<Output = O>,
{
    let deeds = stream::iter(those).map(move |one| {
        let done = deed(one);
        async move { (one, done.await) }
    });
    Box::pin(deeds.buffered(AT_ONCE))
}

fn dismissed(
    grant: &DrainedGrant,
    outcome: Result<Dismissed, error::Error>,
    look: &mut DrainRound,
) -> DrainItem {
    match outcome {
        Ok(Dismissed::Deleted) => {
            look.gone += 1;
            DrainItem::of_grant(grant, DrainAction::Deleted, "")
        }
        Ok(Dismissed::Already) => {
            look.gone += 1;
            DrainItem::of_grant(grant, DrainAction::AlreadyGone, "")
        }
        // The deletion has begun.
        Ok(Dismissed::HeldBack) => {
            look.gone += 1;
            DrainItem::of_grant(grant, DrainAction::Left, &why_held(grant))
        }
        Err(error) => DrainItem::of_grant(grant, DrainAction::Left, &failed(&error, look)),
    }
}

/// Outcome for a grant whose finalizer of Curfew was to be removed.
fn let_go(
    grant: &DrainedGrant,
    outcome: Result<Dismissed, error::Error>,
    look: &mut DrainRound,
) -> DrainItem {
    match outcome {
        // A record that is not being deleted stays, without the finalizer.
        Ok(_) if grant.over && !grant.deleting => {
            look.gone += 1;
            DrainItem::of_grant(grant, DrainAction::LetGo, "")
        }
        Ok(Dismissed::HeldBack) => {
            look.gone += 1;
            DrainItem::of_grant(
                grant,
                DrainAction::Left,
                "held back by finalizers of someone else",
            )
        }
        Err(error) => {
            let why = failed(&error, look);
            DrainItem::of_grant(grant, DrainAction::Left, &format!("{why}. {WITHOUT_OPERATOR}"))
        }
        gone => dismissed(grant, gone, look),
    }
}

fn removed(what: &LabelledObject, outcome: Result<Gone, error::Error>, look: &mut DrainRound) -> DrainItem {
    let action = match outcome {
        Ok(Gone::Deleted) => DrainAction::Deleted,
        Ok(Gone::Freed) => DrainAction::Freed,
        Ok(Gone::Already) => DrainAction::AlreadyGone,
        Err(error) => {
            let mut why = failed(&error, look);
            if !what.finalizers.is_empty() {
                why = format!(
                    "{why}; held back by the finalizers {}",
                    what.finalizers.join(", ")
                );
            }
            return DrainItem::of_made(what, DrainAction::Left, &why);
        }
    };
    look.gone += 1;
    DrainItem::of_made(what, action, "")
}

fn failed(error: &error::Error, look: &mut DrainRound) -> String {
    // The API server reports a denial by a guard as an invalid object.
    if matches!(error.class(), Class::Denied | Class::Invalid) {
        look.refused += 1;
    }
    error.to_string()
}

fn why_held(grant: &DrainedGrant) -> String {
    match grant.held_by() {
        None | Some(HeldBy::Operator) => format!(
            "waits for the operator, which alone removes the finalizer {REVOKE_FINALIZER}: start the operator. {WITHOUT_OPERATOR}"
        ),
        Some(HeldBy::Others(finalizers)) => {
            format!(
                "held back by the finalizers {} of someone else",
                finalizers.join(", ")
            )
        }
    }
}
