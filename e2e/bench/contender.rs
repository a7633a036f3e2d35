//! Who is measured: Curfew, or the bare client, each as a process of its own with an account of its own: the guards let nobody
//! else do what only Curfew may, and Curfew nothing else.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;

use crate::bare;
use crate::harness::{Guard, Guarded, Operator, OperatorOptions, Plane, eventually};

/// How long the bare client may take to be ready, and either to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// The namespace and the name of the bare client's account, as in `policy.yaml`. The namespace is one whose accounts'
/// requests are in the audit log.
const ACCOUNT: (&str, &str) = ("curfew-system", "bare");

/// Each bare client has a log of its own.
static STARTED: AtomicUsize = AtomicUsize::new(0);

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contender {
    /// The least an operator could do.
    Bare,
    /// What is to be judged.
    Curfew,
}

impl Contender {
    /// Both, in the order in which they are measured.
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

/// One of the two, running.
#[derive(Debug)]
pub enum Running {
    /// The bare client.
    Bare(Guarded),
    /// Curfew.
    Curfew(Operator),
}

/// What a process has used.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Memory now, in MiB.
    pub resident_mib: f64,
    /// Processor time since its start, in seconds.
    pub cpu_seconds: f64,
}

/// What Curfew says it has done since its start, by its metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Grants recorded as active.
    pub active: f64,
    /// Grants recorded as ended.
    pub ended: f64,
    /// Passes over one grant.
    pub passes: f64,
    /// Effects tried.
    pub effects: f64,
    /// Those of them that were not applied at once.
    pub odd_effects: f64,
}

impl Running {
    /// Starts it and waits until it is ready.
    pub async fn start(plane: &Plane, who: Contender, operator: &Path) -> anyhow::Result<Self> {
        match who {
            Contender::Curfew => Operator::start(plane, operator, OperatorOptions::default())
                .await
                .map(Self::Curfew),
            Contender::Bare => start_bare(plane).await.map(Self::Bare),
        }
    }

    /// Which of the two it is.
    pub fn who(&self) -> Contender {
        match self {
            Self::Bare(_) => Contender::Bare,
            Self::Curfew(_) => Contender::Curfew,
        }
    }

    /// What it has used.
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

    /// What it says it has done; the bare client says nothing.
    pub async fn progress(&self) -> anyhow::Result<Option<Progress>> {
        let Self::Curfew(operator) = self else {
            return Ok(None);
        };
        let metrics = operator.metrics().await?;
        let sum = |series: &str, but: &str| sum(&metrics, series, but);
        Ok(Some(Progress {
            active: sum("curfew_activation_seconds_count", "-"),
            ended: sum("curfew_revocations_total", "-"),
            passes: sum("curfew_passes_total", "-"),
            effects: sum("curfew_effects_total", "-"),
            odd_effects: sum("curfew_effects_total", "outcome=\"Applied\""),
        }))
    }

    /// Ends it.
    pub async fn stop(self) -> anyhow::Result<()> {
        match self {
            Self::Bare(process) => process.terminate(PATIENCE).await.map(drop),
            Self::Curfew(operator) => operator.terminate().await.map(drop),
        }
    }

    /// What it has logged, for when it did not do its work.
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

/// The sum of all series of that name whose line does not contain `but`.
fn sum(metrics: &str, series: &str, but: &str) -> f64 {
    let values = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(series)?;
        let ours = rest.starts_with('{') || rest.starts_with(' ');
        if !ours || rest.contains(but) {
            return None;
        }
        rest.rsplit(' ').next()?.parse::<f64>().ok()
    });
    values.sum()
}

/// Where `cargo build --release --bin curfew` puts the operator: this program is `target/release/examples/bench`.
pub fn built_operator() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let folder = program.parent().and_then(Path::parent);
    let operator = folder
        .map(|folder| folder.join("curfew"))
        .filter(|operator| operator.is_file());
    operator.context(
        "no operator: build it with `cargo build --release --bin curfew`, or name it with --operator",
    )
}
