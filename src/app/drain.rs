//! `curfew drain`: looks and removes until nothing is left of what Curfew made, or its time is over.

mod report;

use std::collections::BTreeSet;
use std::time::Duration;

use futures::stream;
use futures::{Stream, StreamExt as _};
use jiff::Timestamp;
use kube::{Client, Config};
use tokio::time::{Instant, sleep, timeout_at};

use super::error::RunError;
use super::sweep::{AT_ONCE, KINDS, Output};
use crate::api::REVOKE_FINALIZER;
use crate::cluster::drain::{Dismissed, asked, dismiss, release};
use crate::cluster::heartbeat::last_beat;
use crate::cluster::sweep::{Gone, find, remove};
use crate::cluster::{self, client};
use crate::core::drain::{Asked, Course, Demands, Draining, HeldBy, Look, Newcomers, Next, drain};
use crate::core::heartbeat::OPERATOR;
use crate::core::sweep::{Labelled, waits_for_access};
use crate::core::{ArtifactKey, Class, Span};

use report::{Action, Item, Report};

/// What to do where no operator comes back.
const WITHOUT_OPERATOR: &str = "Where no operator comes back: kubectl delete validatingadmissionpolicybinding \
     curfew-grant, and then curfew drain --without-operator";

/// What the drain is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long to go on.
    pub timeout: Span,
    /// Whether to change nothing and tell what would be done.
    pub dry_run: bool,
    /// What is wanted besides.
    pub demands: Demands,
    /// How to print what was done.
    pub output: Output,
    /// Where the operator's heartbeat is.
    pub namespace: String,
}

/// Why a drain did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    /// It could not begin.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Something is left, or may be.
    #[error("not drained: {0}")]
    Left(String),
    /// Its report could not be printed.
    #[error("cannot print the report: {0}")]
    Print(#[from] std::io::Error),
}

/// Ends all access and waits until nothing is left of it.
pub async fn run(options: Options) -> Result<(), DrainError> {
    let config = Config::infer().await.map_err(RunError::from)?;
    let client = client(config).map_err(RunError::from)?;
    let mut report = Report::new(options.dry_run, Timestamp::now());
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

/// Look after look, until one says that it was the last.
async fn go_on(client: &Client, options: &Options, until: Instant, report: &mut Report) {
    let (mut course, mut newcomers) = (Course::default(), Newcomers::default());
    loop {
        let looked = look(client, options, &mut newcomers, report);
        let Ok(look) = timeout_at(until, looked).await else {
            return report.unfinished(format!(
                "its {} were over in the middle of a look",
                options.timeout
            ));
        };
        report.looked();
        report.newcomers(newcomers.by());
        if options.dry_run {
            return;
        }
        match course.after(&look) {
            Next::Done => return,
            Next::GiveUp => {
                return report.unfinished(
                    "what is left is refused again and again: see which right is missing".to_owned(),
                );
            }
            Next::Look(pause) => {
                report.progress(&look);
                if Instant::now() + pause >= until {
                    let over = format!("its {} were over", options.timeout);
                    return report.unfinished(if course.is_quiet() {
                        format!("{over} before a second look could find nothing as well: give it more time")
                    } else {
                        over
                    });
                }
                sleep(pause).await;
            }
        }
    }
}

/// One look at everything: removes what it finds, and tells what that leaves.
async fn look(client: &Client, options: &Options, newcomers: &mut Newcomers, report: &mut Report) -> Look {
    report.looks_again();
    let mut look = Look::default();
    let draining = read(client, options, &mut look, report).await;
    newcomers.seen(&draining);
    report.records(draining.records);
    look.found = draining.len();
    if options.dry_run {
        report.would_delete(&draining);
        return look;
    }
    for grant in &draining.waiting {
        report.add(Item::of_grant(grant, Action::Left, &why_held(grant)));
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
        let (waiting, due): (Vec<&Labelled>, Vec<&Labelled>) =
            turn.iter().partition(|what| waits_for_access(what, &standing));
        for what in waiting {
            report.add(Item::of_made(
                what,
                Action::Left,
                "access that it goes with still stands",
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

/// Everything that is there. What cannot be read leaves the rest to be removed all the same.
async fn read(client: &Client, options: &Options, look: &mut Look, report: &mut Report) -> Draining {
    let mut unread = |error: &cluster::Error| {
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

/// Does something with each, some at once, and answers as they are done.
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

fn dismissed(grant: &Asked, outcome: Result<Dismissed, cluster::Error>, look: &mut Look) -> Item {
    match outcome {
        Ok(Dismissed::Deleted) => {
            look.gone += 1;
            Item::of_grant(grant, Action::Deleted, "")
        }
        Ok(Dismissed::Already) => {
            look.gone += 1;
            Item::of_grant(grant, Action::AlreadyGone, "")
        }
        // Being deleted from now on.
        Ok(Dismissed::HeldBack) => {
            look.gone += 1;
            Item::of_grant(grant, Action::Left, &why_held(grant))
        }
        Err(error) => Item::of_grant(grant, Action::Left, &failed(&error, look)),
    }
}

/// A grant from which our finalizer was taken, or was to be.
fn let_go(grant: &Asked, outcome: Result<Dismissed, cluster::Error>, look: &mut Look) -> Item {
    match outcome {
        // A record that was not being deleted stays, without it.
        Ok(_) if grant.over && !grant.deleting => {
            look.gone += 1;
            Item::of_grant(grant, Action::LetGo, "")
        }
        Ok(Dismissed::HeldBack) => {
            look.gone += 1;
            Item::of_grant(grant, Action::Left, "held back by finalizers of somebody else")
        }
        Err(error) => {
            let why = failed(&error, look);
            Item::of_grant(grant, Action::Left, &format!("{why}. {WITHOUT_OPERATOR}"))
        }
        gone => dismissed(grant, gone, look),
    }
}

fn removed(what: &Labelled, outcome: Result<Gone, cluster::Error>, look: &mut Look) -> Item {
    let action = match outcome {
        Ok(Gone::Deleted) => Action::Deleted,
        Ok(Gone::Freed) => Action::Freed,
        Ok(Gone::Already) => Action::AlreadyGone,
        Err(error) => {
            let mut why = failed(&error, look);
            if !what.finalizers.is_empty() {
                why = format!(
                    "{why}; held back by the finalizers {}",
                    what.finalizers.join(", ")
                );
            }
            return Item::of_made(what, Action::Left, &why);
        }
    };
    look.gone += 1;
    Item::of_made(what, action, "")
}

fn failed(error: &cluster::Error, look: &mut Look) -> String {
    // A guard refuses as if the object were wrong.
    if matches!(error.class(), Class::Denied | Class::Invalid) {
        look.refused += 1;
    }
    error.to_string()
}

fn why_held(grant: &Asked) -> String {
    match grant.held_by() {
        None | Some(HeldBy::Operator) => format!(
            "waits for the operator, which alone takes off the finalizer {REVOKE_FINALIZER}: start it. {WITHOUT_OPERATOR}"
        ),
        Some(HeldBy::Others(finalizers)) => {
            format!(
                "held back by the finalizers {} of somebody else",
                finalizers.join(", ")
            )
        }
    }
}
