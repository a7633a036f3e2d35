//! `make bench`: how fast Curfew starts and ends access on a real control plane, and at what cost.
//!
//! The baseline is a bare client, the simplest possible operator, in the same run on the same control plane. Each of
//! the two is a process of its own. etcd waits for the disk, as in production. A watch of the benchmark records when
//! each RoleBinding is created and deleted.
//!
//! Absolute times depend on the machine and on its other work. Compare ratios within one run.

#[path = "../harness/mod.rs"]
mod harness;

mod approvals;
mod bare;
mod contender;
mod figures;
mod guards;
mod load;
mod progress;
mod readings;
mod report;
mod stages;
mod watch;
mod writes;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Parser;
use contender::{Contender, Running};
use harness::{Plane, in_repository, install};
use jiff::Timestamp;
use load::{Load, NAMESPACE};
use progress::Teller;
use readings::Readings;
use report::{Report, Setting};
use stages::{Bench, Scale};
use watch::Sightings;

/// Measures Curfew against a bare client on a new control plane. Prints a table. A missed target does not change the
/// exit code.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Arguments {
    #[command(subcommand)]
    mode: Option<Mode>,
    /// Measure less, with bursts of 100 only: about two minutes.
    #[arg(long)]
    quick: bool,
    /// File for everything that was measured, as JSON.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench.json"))]
    json: PathBuf,
    /// Operator to measure. Default: the `curfew` built beside this program.
    #[arg(long)]
    operator: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Mode {
    /// Run as the bare client. The benchmark starts this itself.
    Bare,
    /// Measure the time that the guards add to requests of others: about three minutes.
    Guards,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.mode {
        Some(Mode::Bare) => return bare::run().await,
        Some(Mode::Guards) => return guards::run(&arguments.json).await,
        None => {}
    }
    let operator = arguments.operator.map_or_else(contender::built_operator, Ok)?;
    let scale = if arguments.quick {
        Scale::QUICK
    } else {
        Scale::FULL
    };
    let mut teller = Teller::new(scale.phases());
    teller.phase("starting a control plane with a durable etcd, and installing Curfew");
    let plane = Plane::start_durable().await?;
    let outcome = measure(
        &plane,
        &operator,
        &scale,
        teller,
        arguments.quick,
        &arguments.json,
    )
    .await;
    if outcome.is_err() {
        plane.keep_logs();
    }
    plane.stop().await?;
    std::io::stdout().write_all(outcome?.as_bytes())?;
    Ok(())
}

/// Measures everything and writes the JSON file. Returns the text of the report.
async fn measure(
    plane: &Plane,
    operator: &Path,
    scale: &Scale,
    teller: Teller,
    quick: bool,
    json: &Path,
) -> anyhow::Result<String> {
    let at = Timestamp::now().to_string();
    prepare(plane, operator).await?;
    let mut bench = Bench {
        plane,
        operator,
        load: Load::new(plane.admin().await?),
        sightings: Sightings::begin(plane.admin().await?, NAMESPACE).await?,
        readings: Readings::default(),
        writes: Vec::new(),
        teller,
    };
    bench.run(scale).await?;
    let report = Report {
        setting: Setting {
            at,
            seconds: bench.teller.elapsed().as_secs(),
            processors: std::thread::available_parallelism()?.get(),
            kubernetes: plane.admin().await?.apiserver_version().await?.git_version,
            quick,
        },
        readings: &bench.readings,
        writes: &bench.writes,
    };
    report.write(json)?;
    Ok(report.text()?)
}

/// Installs Curfew and the policies, and waits until all policies are `Ready`.
async fn prepare(plane: &Plane, operator: &Path) -> anyhow::Result<()> {
    install(plane).await?;
    plane.apply(&in_repository("e2e/bench/policy.yaml")).await?;
    let running = Running::start(plane, Contender::Curfew, operator).await?;
    plane
        .run_kubectl(&[
            "wait",
            "--for=condition=Ready",
            "--timeout=60s",
            "accesspolicies",
            "--all",
        ])
        .await?;
    running.stop().await
}
