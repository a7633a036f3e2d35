//! `curfew sweep`: rounds of looking and removing, once or until it is told to stop.

mod item;
mod report;

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use jiff::{SignedDuration, Timestamp};
use kube::{Client, Config};

use super::error::RunError;
use super::stop::Stop;
use crate::api::ArtifactKind;
use crate::cluster::client;
use crate::cluster::heartbeat::{Heart, beat, last_beat};
use crate::cluster::sweep::{clocks, find, grants, remove};
use crate::core::heartbeat::{OPERATOR, SWEEP, SWEEP_SILENCE};
use crate::core::sweep::{Clocks, Grants, Labelled, Removal, Sweeping, sweep, waits_for_access};
use crate::core::{ArtifactKey, Class, Span};

use item::{Action, Item};
pub use report::Output;
use report::Report;

/// How many removals are under way at once: as many as the operator's own.
pub(super) const AT_ONCE: usize = 16;

/// How often a round looks when what it was about to remove has changed meanwhile: the Job controller and the garbage
/// collector are at the same objects, and have done by then.
const LOOKS: usize = 3;

/// The order in which is looked: what gives access first.
pub(super) const KINDS: [ArtifactKind; 3] =
    [ArtifactKind::RoleBinding, ArtifactKind::Role, ArtifactKind::Job];

/// What the sweep is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether to make one round only.
    pub once: bool,
    /// Whether to change nothing and tell what would be done.
    pub dry_run: bool,
    /// How long to wait between rounds.
    pub every: Span,
    /// How long after its end something is left to the operator and its fuse.
    pub grace: Span,
    /// Where the heartbeats are.
    pub namespace: String,
    /// This process, as its heartbeat names it.
    pub instance: String,
    /// How to print a round.
    pub output: Output,
}

/// Why a sweep did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// It could not begin.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Its round left something over.
    #[error("the sweep has failed: {0}")]
    Failed(String),
    /// Its report could not be printed.
    #[error("cannot print the report: {0}")]
    Print(#[from] std::io::Error),
}

/// Sweeps once, or until it is told to stop (SIGTERM, SIGINT).
pub async fn run(options: Options) -> Result<(), SweepError> {
    let config = Config::infer().await.map_err(RunError::from)?;
    let client = client(config).map_err(RunError::from)?;
    if options.once {
        return make_round(&client, &options).await;
    }
    let stop = Stop::on_signals().map_err(RunError::Signals)?;
    let rounds = async {
        loop {
            match make_round(&client, &options).await {
                // The next round tries again.
                Ok(()) | Err(SweepError::Failed(_)) => {}
                Err(other) => return Err(other),
            }
            tokio::time::sleep(Duration::from_secs(options.every.seconds().into())).await;
        }
    };
    // What a round has not come to is taken up by the next process.
    tokio::select! {
        outcome = rounds => outcome,
        () = stop.wait() => Ok(()),
    }
}

/// One round: looks, removes, beats, and prints what it has done.
async fn make_round(client: &Client, options: &Options) -> Result<(), SweepError> {
    let mut report = round(client, options).await;
    keep_in_touch(client, options, &mut report).await;
    report.log();
    report.print(options.output)?;
    match report.failure() {
        None => Ok(()),
        Some(failure) => Err(SweepError::Failed(failure)),
    }
}

async fn round(client: &Client, options: &Options) -> Report {
    let mut report = Report::new(options.dry_run, Timestamp::now());
    let clocks = match clocks(client).await {
        Ok(clocks) => clocks,
        // A fast clock of this machine's would end access early, and nobody could tell.
        Err(error) => {
            report.unread(&error);
            return report;
        }
    };
    report.told_the_time(clocks);
    let grace = SignedDuration::from_secs(options.grace.seconds().into());
    for look in 1..=LOOKS {
        let sweeping = look_around(client, clocks, grace, &mut report).await;
        let changed = if options.dry_run {
            report.would_remove(&sweeping);
            false
        } else {
            apply(client, &sweeping, look == LOOKS, &mut report).await
        };
        report.found(&sweeping);
        if !changed {
            break;
        }
    }
    report
}

/// Lists, and decides. What cannot be listed is told, and the rest goes on.
async fn look_around(
    client: &Client,
    clocks: Clocks,
    grace: SignedDuration,
    report: &mut Report,
) -> Sweeping {
    let mut found: Vec<Labelled> = Vec::new();
    report.looks_again();
    for kind in KINDS {
        match find(client, kind).await {
            Ok(more) => found.extend(more),
            Err(error) => report.unread(&error),
        }
    }
    // After what was made for them: what is made meanwhile has its grant before it.
    let grants = match grants(client).await {
        Ok(uids) => Grants::Listed(uids),
        Err(error) if error.is_absent() => Grants::Unknown("there is no CRD of grants".to_owned()),
        Err(error) if error.class() == Class::Denied => Grants::Unknown(error.to_string()),
        Err(error) => {
            report.unread(&error);
            Grants::Unknown(error.to_string())
        }
    };
    report.knows_grants(&grants);
    sweep(found, &grants, clocks.now(), grace)
}

/// Removes stage by stage. Says whether something has changed since it was read, so that it is worth another look.
async fn apply(client: &Client, sweeping: &Sweeping, last: bool, report: &mut Report) -> bool {
    let mut changed = false;
    let mut standing: BTreeSet<ArtifactKey> = BTreeSet::new();
    for stage in std::iter::once(&sweeping.access).chain(&sweeping.rest) {
        let (waiting, due): (Vec<&Removal>, Vec<&Removal>) = stage
            .iter()
            .partition(|removal| waits_for_access(&removal.what, &standing));
        for removal in waiting {
            report.add(Item::of(
                removal,
                Action::Waiting,
                "access that it goes with still stands",
            ));
        }
        let outcomes = stream::iter(due)
            .map(async |removal| (removal, remove(client, &removal.what).await))
            .buffered(AT_ONCE)
            .collect::<Vec<_>>()
            .await;
        for (removal, outcome) in outcomes {
            if let Err(error) = &outcome {
                if removal.what.gives_access() {
                    standing.insert(removal.what.key.of_fuse());
                }
                if error.class() == Class::Conflict && !last {
                    changed = true;
                    continue;
                }
            }
            report.add(Item::outcome(removal, outcome));
        }
    }
    changed
}

/// Beats after a round that succeeded, and listens for the operator.
async fn keep_in_touch(client: &Client, options: &Options, report: &mut Report) {
    match last_beat(client, &options.namespace, OPERATOR).await {
        Ok(last) => report.heard_the_operator(last),
        Err(error) => report.unread(&error),
    }
    if options.dry_run || report.failure().is_some() {
        return;
    }
    let heart = Heart {
        lease: SWEEP,
        holder: options.instance.clone(),
        silence: SWEEP_SILENCE,
    };
    if let Err(error) = beat(client, &options.namespace, &heart, Timestamp::now()).await {
        report.unread(&error);
    }
}
