//! The two programs that are measured: Curfew and the bare client.
//!
//! Each is a process with a service account of its own. The guards require this: they reserve some requests for
//! Curfew's account, and deny this account all others.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;

use crate::bare;
use crate::harness::{Guard, Guarded, Operator, OperatorOptions, Plane, eventually};

/// Time in which the bare client must become ready, and in which it must exit.
const PATIENCE: Duration = Duration::from_secs(30);

/// Namespace and name of the bare client's service account, as in `policy.yaml`. The audit log records requests of all
/// accounts in this namespace.
const ACCOUNT: (&str, &str) = ("curfew-system", "bare");

/// Number of bare clients started so far; gives each client a log file of its own.
static STARTED: AtomicUsize = AtomicUsize::new(0);

/// A program that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contender {
    /// The bare client: the simplest possible operator, as a baseline.
    Bare,
    /// Curfew.
    Curfew,
}

impl Contender {
    /// Both programs, in the order of measurement.
    pub const BOTH: [Self; 2] = [Self::Bare, Self::Curfew];
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bare => "bare",
            Self::Curfew => "curfew",
        })
    }
}

/// A running program that is measured.
#[derive(Debug)]
pub enum Running {
    /// The bare client.
    Bare(Guarded),
    /// Curfew.
    Curfew(Operator),
}

/// Memory and processor time of a process.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Resident memory now, in MiB.
    pub resident_mib: f64,
    /// Processor time since its start, in seconds.
    pub cpu_seconds: f64,
}

/// Work that Curfew has done since its start, from its metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Grants recorded as active.
    pub active: f64,
    /// Grants recorded as ended.
    pub ended: f64,
    /// Reconciles of one object.
    pub passes: f64,
    /// Effects that were tried.
    pub effects: f64,
    /// Tried effects with another outcome than `Applied`.
    pub odd_effects: f64,
}

impl Running {
    /// Starts the program and waits until it is ready.
    pub async fn start(plane: &Plane, who: Contender, operator: &Path) -> anyhow::Result<Self> {
        match who {
            Contender::Curfew => Operator::start(plane, operator, OperatorOptions::default())
                .await
                .map(Self::Curfew),
            Contender::Bare => start_bare(plane).await.map(Self::Bare),
        }
    }

    /// The program that runs.
    pub fn who(&self) -> Contender {
        match self {
            Self::Bare(_) => Contender::Bare,
            Self::Curfew(_) => Contender::Curfew,
        }
    }

    /// Memory and processor time of the process so far.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        let (kib, cpu_seconds) = match self {
            Self::Bare(process) => (process.resident_kib()?, process.cpu_seconds()?),
            Self::Curfew(operator) => (operator.resident_kib()?, operator.cpu_seconds()?),
        };
        let kib = u32::try_from(kib)?;
        Ok(Usage {
            resident_mib: f64::from(kib) / 1024.0,
            cpu_seconds,
        })
    }

    /// Work done so far; `None` for the bare client, which has no metrics.
    pub async fn progress(&self) -> anyhow::Result<Option<Progress>> {
        let Self::Curfew(operator) = self else {
            return Ok(None);
        };
        let metrics = operator.metrics().await?;
        let sum = |series: &str, except: &str| sum(&metrics, series, except);
        Ok(Some(Progress {
            active: sum("curfew_activation_seconds_count", "-"),
            ended: sum("curfew_revocations_total", "-"),
            passes: sum("curfew_passes_total", "-"),
            effects: sum("curfew_effects_total", "-"),
            odd_effects: sum("curfew_effects_total", "outcome=\"Applied\""),
        }))
    }

    /// Sends SIGTERM and waits until the process has exited.
    pub async fn stop(self) -> anyhow::Result<()> {
        match self {
            Self::Bare(process) => process.terminate(PATIENCE).await.map(drop),
            Self::Curfew(operator) => operator.terminate().await.map(drop),
        }
    }

    /// Log of the process, for the message of a failure.
    pub fn log(&self) -> String {
        match self {
            Self::Bare(process) => process.log(),
            Self::Curfew(operator) => operator.log(),
        }
    }
}

async fn start_bare(plane: &Plane) -> anyhow::Result<Guarded> {
    let name = format!("bare-{}", STARTED.fetch_add(1, Ordering::Relaxed));
    let token = plane.service_account_token(ACCOUNT.0, ACCOUNT.1).await?;
    let kubeconfig = plane.kubeconfig_with_token(&token, &plane.url(), &name)?;
    let log = plane.folder().join(format!("{name}.log"));
    let guard = Guard {
        name: &name,
        log: &log,
        sweep: None,
    };
    let program = std::env::current_exe()?;
    let process = guard.start(
        &program,
        &["bare"],
        &[("KUBECONFIG", kubeconfig.as_os_str() as &OsStr)],
    )?;
    eventually("the bare client is ready", PATIENCE, async || {
        let log = process.log();
        if log.lines().any(|line| line == bare::READY) {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await?;
    Ok(process)
}

/// Sum of all series with this name whose line does not contain `except`.
fn sum(metrics: &str, series: &str, except: &str) -> f64 {
    let values = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(series)?;
        let same_name = rest.starts_with('{') || rest.starts_with(' ');
        if !same_name || rest.contains(except) {
            return None;
        }
        rest.rsplit(' ').next()?.parse::<f64>().ok()
    });
    values.sum()
}

/// Path of the operator that `cargo build --release --bin curfew` builds: `target/release/curfew`. This program is
/// `target/release/examples/bench`.
pub fn built_operator() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let folder = program.parent().and_then(Path::parent);
    let operator = folder
        .map(|folder| folder.join("curfew"))
        .filter(|operator| operator.is_file());
    operator.context(
        "the operator is not built. Run `cargo build --release --bin curfew`, or give its path with --operator",
    )
}
