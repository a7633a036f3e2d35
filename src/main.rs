//! The operator and its companions.

use std::process::ExitCode;

use clap::Parser as _;
use curfew::app::cli::{Cli, main as run};

fn main() -> ExitCode {
    run(Cli::parse())
}
