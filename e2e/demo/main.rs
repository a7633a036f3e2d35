//! `make demo`: one access to a Kubernetes namespace, from the request to its end, as it happens.
//!
//! The demo runs every command that it shows, and checks every claim against an answer of the API server. It exits
//! with 0 if all claims are true. At the end, and after an interrupt, it removes everything that it created on the
//! machine or in the cluster.

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
use claims::{Claim, Claims};
use clap::{Parser, ValueEnum};
use interrupt::Interrupt;
use screen::Screen;
use stage::Stage;

/// Shows one access to a Kubernetes namespace, from the request to its end.
#[derive(Debug, Parser)]
#[command(name = "demo")]
struct Arguments {
    /// The cluster to use.
    #[arg(long, value_enum, default_value_t = Where::Embedded)]
    cluster: Where,
    /// Install into the current cluster without asking first.
    #[arg(long)]
    yes: bool,
}

/// Clusters that the demo can use.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Where {
    /// A new control plane on this machine. The demo removes it at the end.
    Embedded,
    /// The cluster of kubectl's current context. At the end the demo removes everything that it installed there.
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
    // A plain drop would wait for the thread that reads stdin, where nobody answers any more.
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
            "All claims are true. The demo took {:.0} s.",
            began.elapsed().as_secs_f64()
        ));
    } else {
        screen.failure("Not all claims are true: see the lines with ✗ or -.");
    }
    if played.is_ok() && claims.all_held() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Sets the stage, tells the story, and always takes the stage down, also after an error.
async fn play(arguments: &Arguments, screen: &mut Screen, claims: &mut Claims) -> anyhow::Result<()> {
    let mut interrupt = Interrupt::listen()?;
    let mut stage = tokio::select! {
        stage = set_stage(arguments, screen) => stage?,
        () = interrupt.came() => return Err(anyhow!("interrupted; nothing is left behind")),
    };
    let outcome = tokio::select! {
        outcome = story::tell(&mut stage, screen, claims) => outcome,
        () = interrupt.came() => Err(anyhow!("interrupted")),
    };
    if let Err(error) = &outcome {
        screen.failure(&format!("{error:#}"));
        if let Some(log) = stage.operator_log_tail().filter(|_| !interrupt.has_come()) {
            screen.answer(&log);
        }
    }
    let by_hand = stage.removal_by_hand();
    let taken_down = tokio::select! {
        taken_down = takedown::take_down(stage, screen) => taken_down,
        () = interrupt.came() => Err(anyhow!("interrupted during the cleanup; {by_hand}")),
    };
    let observed = taken_down
        .as_ref()
        .map_or_else(|error| format!("{error:#}"), Clone::clone);
    claims.judge(screen, Claim::LeavesNoTrace, taken_down.is_ok(), &observed);
    outcome
}

async fn set_stage(arguments: &Arguments, screen: &mut Screen) -> anyhow::Result<Stage> {
    screen.title("Curfew: access to a Kubernetes namespace that ends on time");
    match arguments.cluster {
        Where::Embedded => Stage::embedded(screen).await,
        Where::Current => Stage::current(screen, arguments.yes).await,
    }
}
