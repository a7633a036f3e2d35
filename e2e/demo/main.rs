//! `make demo`: one access to a Kubernetes namespace, from the request to its end, as it happens.
//!
//! Every command that is shown is run, and every claim is judged by what the API server said. Exits with 0 when all of
//! them held, and leaves the machine (or the cluster that was lent to it) as it was, also when it is interrupted.

#[path = "../harness/mod.rs"]
mod harness;

mod claims;
mod clock;
mod dead;
mod decisions;
mod interrupt;
mod operator;
mod people;
mod prologue;
mod screen;
mod sightings;
mod stage;
mod story;
mod takedown;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::anyhow;
use clap::{Parser, ValueEnum};

use claims::{Claim, Claims};
use interrupt::Interrupt;
use screen::Screen;
use stage::Stage;

/// Shows one access to a Kubernetes namespace, from the request to its end.
#[derive(Debug, Parser)]
#[command(name = "demo")]
struct Arguments {
    /// Where to show it.
    #[arg(long, value_enum, default_value_t = Where::Embedded)]
    cluster: Where,
    /// Do not ask before something is installed into the current cluster.
    #[arg(long)]
    yes: bool,
}

/// The clusters to choose from.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Where {
    /// A control plane of its own on this machine, removed at the end.
    Embedded,
    /// The cluster of kubectl's current context; everything that is installed there is removed at the end.
    Current,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut screen = Screen::new();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            screen.failure(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run(&arguments, &mut screen));
    // Does not wait for a question that nobody will answer any more.
    runtime.shutdown_background();
    code
}

async fn run(arguments: &Arguments, screen: &mut Screen) -> ExitCode {
    let mut claims = Claims::default();
    let began = Instant::now();
    let played = play(arguments, screen, &mut claims).await;
    claims.show(screen);
    if let Err(error) = &played {
        screen.failure(&format!("{error:#}"));
    } else if claims.all_held() {
        screen.success(&format!(
            "Everything held. It took {:.0} s.",
            began.elapsed().as_secs_f64()
        ));
    } else {
        screen.failure("Not everything held.");
    }
    if played.is_ok() && claims.all_held() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Sets the stage, tells the story and takes the stage down, whatever became of the story.
async fn play(arguments: &Arguments, screen: &mut Screen, claims: &mut Claims) -> anyhow::Result<()> {
    let mut interrupt = Interrupt::listen()?;
    let mut stage = tokio::select! {
        stage = set(arguments, screen) => stage?,
        () = interrupt.came() => return Err(anyhow!("interrupted; nothing was left behind")),
    };
    let told = tokio::select! {
        told = story::tell(&mut stage, screen, claims) => told,
        () = interrupt.came() => Err(anyhow!("interrupted")),
    };
    if let Err(error) = &told {
        screen.failure(&format!("{error:#}"));
        if let Some(log) = stage.operator_log_tail().filter(|_| !interrupt.has_come()) {
            screen.answer(&log);
        }
    }
    let by_hand = stage.removal_by_hand();
    let taken_down = tokio::select! {
        taken_down = takedown::take_down(stage, screen) => taken_down,
        () = interrupt.came() => Err(anyhow!("interrupted while tidying up; {by_hand}")),
    };
    let seen = taken_down
        .as_ref()
        .map_or_else(|error| format!("{error:#}"), Clone::clone);
    claims.judge(screen, Claim::LeavesNoTrace, taken_down.is_ok(), &seen);
    told
}

async fn set(arguments: &Arguments, screen: &mut Screen) -> anyhow::Result<Stage> {
    screen.title("Curfew: access to a Kubernetes namespace that ends on time");
    match arguments.cluster {
        Where::Embedded => Stage::embedded(screen).await,
        Where::Current => Stage::current(screen, arguments.yes).await,
    }
}
