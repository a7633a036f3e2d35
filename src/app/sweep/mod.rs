//! `curfew sweep`: finds and removes overdue access in rounds, once or until the request to stop.

mod item;
pub mod report;

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use kube::{Client, Config};

use crate::api::ArtifactKind;
use crate::app::error::RunError;
use crate::app::stop::Stop;
use crate::app::sweep::item::{SweepAction, SweepItem};
use crate::app::sweep::report::SweepReport;
use crate::cluster::cleanup::sweep::{clocks, find, grants, remove};
use crate::cluster::client::client;
use crate::cluster::replica::heartbeat::{HeartbeatLease, beat, last_beat};
use crate::core::artifact::key::ArtifactKey;
use crate::core::cleanup::sweep::{
    Clocks, Grants, LabelledObject, Removal, Sweeping, sweep, waits_for_access,
};
use crate::core::replica::heartbeat::{OPERATOR, SWEEP, SWEEP_SILENCE};
use crate::core::replica::retry::Class;
use crate::core::time::duration::AccessDuration;

pub use crate::app::sweep::report::Output;

/// Number of removals that run at once, as in the operator.
pub(super) const AT_ONCE: usize = 16;

/// Attempts of a round if objects changed between read and removal. The Job controller and the garbage collector work on
/// the same objects, and are done by then.
const LOOKS: usize = 3;

/// Kinds in the order in which they are listed: bindings first, because they give access.
pub(super) const KINDS: [ArtifactKind; 3] =
    [ArtifactKind::RoleBinding, ArtifactKind::Role, ArtifactKind::Job];

/// Settings of the sweep.
#[derive(Clone, Debug)]
pub struct SweepArguments {
    /// Whether to make a single round.
    pub once: bool,
    /// Whether to change nothing and only report.
    pub dry_run: bool,
    /// Time between two rounds.
    pub every: AccessDuration,
    /// Time after the expiry during which access is left to operator and fuse.
    pub grace: AccessDuration,
    /// Namespace of the heartbeat Leases.
    pub namespace: String,
    /// Name of this process in its heartbeat Lease.
    pub instance: String,
    /// Format of the report of a round.
    pub output: Output,
}

/// Error of a sweep.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The sweep could not start.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The round left overdue access, or could not read everything.
    #[error("the sweep failed: {0}")]
    Failed(String),
    /// The report could not be printed.
    #[error("cannot print the report: {0}")]
    Print(#[from] std::io::Error),
}

/// Makes one round, or rounds until SIGTERM or SIGINT.
///
/// # Errors
/// The sweep cannot start or print. With `once`, also a failed round; otherwise the next round tries again.
pub async fn run(options: SweepArguments) -> Result<(), SweepError> {
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
    // The next process continues an unfinished round.
    tokio::select! {
        outcome = rounds => outcome,
        () = stop.wait() => Ok(()),
    }
}

/// Makes one round: finds, removes, renews the heartbeat Lease, and prints the report.
async fn make_round(client: &Client, options: &SweepArguments) -> Result<(), SweepError> {
    let mut report = round(client, options).await;
    keep_in_touch(client, options, &mut report).await;
    report.log();
    report.print(options.output)?;
    match report.failure() {
        None => Ok(()),
        Some(failure) => Err(SweepError::Failed(failure)),
    }
}

async fn round(client: &Client, options: &SweepArguments) -> SweepReport {
    let mut report = SweepReport::new(options.dry_run, Timestamp::now());
    let clocks = match clocks(client).await {
        Ok(clocks) => clocks,
        // If this machine's clock is ahead, access would end early without notice.
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

/// Lists the artifacts and decides. A kind that cannot be listed is reported, and the others are handled.
async fn look_around(
    client: &Client,
    clocks: Clocks,
    grace: SignedDuration,
    report: &mut SweepReport,
) -> Sweeping {
    let mut found: Vec<LabelledObject> = Vec::new();
    report.looks_again();
    for kind in KINDS {
        match find(client, kind).await {
            Ok(more) => found.extend(more),
            Err(error) => report.unread(&error),
        }
    }
    // After the artifacts: an artifact that is created meanwhile has its grant before it.
    let grants = match grants(client).await {
        Ok(uids) => Grants::Listed(uids),
        Err(error) if error.is_absent() => {
            Grants::Unknown("the CRD accessgrants.access.curfew.dev is not installed".to_owned())
        }
        Err(error) if error.class() == Class::Denied => Grants::Unknown(error.to_string()),
        Err(error) => {
            report.unread(&error);
            Grants::Unknown(error.to_string())
        }
    };
    report.knows_grants(&grants);
    sweep(found, &grants, clocks.now(), grace)
}

/// Removes stage by stage. Returns whether an object changed since it was read, so that another attempt makes sense.
async fn apply(client: &Client, sweeping: &Sweeping, last: bool, report: &mut SweepReport) -> bool {
    let mut changed = false;
    let mut standing: BTreeSet<ArtifactKey> = BTreeSet::new();
    for stage in std::iter::once(&sweeping.access).chain(&sweeping.rest) {
        let (waiting, due): (Vec<&Removal>, Vec<&Removal>) = stage
            .iter()
            .partition(|removal| waits_for_access(&removal.what, &standing));
        for removal in waiting {
            report.add(SweepItem::of(
                removal,
                SweepAction::Waiting,
                "access of the same grant is not removed yet",
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
            report.add(SweepItem::outcome(removal, outcome));
        }
    }
    changed
}

/// Renews the heartbeat Lease after a round that succeeded, and reads the heartbeat of the operator.
async fn keep_in_touch(client: &Client, options: &SweepArguments, report: &mut SweepReport) {
    match last_beat(client, &options.namespace, OPERATOR).await {
        Ok(last) => report.heard_the_operator(last),
        Err(error) => report.unread(&error),
    }
    if options.dry_run || report.failure().is_some() {
        return;
    }
    let heart = HeartbeatLease {
        lease: SWEEP,
        holder: options.instance.clone(),
        silence: SWEEP_SILENCE,
    };
    if let Err(error) = beat(client, &options.namespace, &heart, Timestamp::now()).await {
        report.unread(&error);
    }
}
