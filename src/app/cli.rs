//! The command line of `curfew`.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use super::run::{Options, run};
use super::telemetry::{self, LogFormat};
use crate::api;
use crate::core::{Settings, Span, SpanError};

/// Just-in-time access for Kubernetes that ends on time even if its operator is dead.
#[derive(Debug, Parser)]
#[command(name = "curfew", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the operator.
    Run(RunArguments),
    /// Prints the CustomResourceDefinitions as YAML, ready for `kubectl apply --server-side -f -`.
    Crds,
}

#[derive(Debug, clap::Args)]
struct RunArguments {
    /// Address on which to serve /livez, /readyz and /metrics.
    #[arg(long, env = "CURFEW_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// The longest any access may last, whatever a policy says, such as 12h; at most 768h.
    #[arg(long, env = "CURFEW_MAX_DURATION", default_value = "12h", value_parser = parse_span)]
    max_duration: Span,
    /// The operator's own namespace; its service accounts never receive access.
    #[arg(long, env = "CURFEW_NAMESPACE", default_value = "curfew-system")]
    namespace: String,
    /// Name of this process in the Events it writes.
    #[arg(long, env = "CURFEW_INSTANCE", default_value = "curfew")]
    instance: String,
    /// How to write the log.
    #[arg(long, env = "CURFEW_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// What to log, such as `info` or `info,curfew=debug`.
    #[arg(long, env = "CURFEW_LOG", default_value = "info")]
    log: String,
}

fn parse_span(text: &str) -> Result<Span, SpanError> {
    Span::parse(text)
}

/// Runs the command that was asked for. Exit codes: 0 done, 1 failed, 2 not understood.
pub fn main(cli: Cli) -> ExitCode {
    let outcome = match cli.command {
        Command::Run(arguments) => run_operator(arguments),
        Command::Crds => print_crds(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[allow(clippy::print_stderr, reason = "where a command says what is wrong")]
            {
                eprintln!("curfew: {error}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run_operator(arguments: RunArguments) -> Result<(), Box<dyn std::error::Error>> {
    telemetry::init(arguments.log_format, &arguments.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(Options {
        listen: arguments.listen,
        settings: Settings {
            cap: arguments.max_duration,
            namespace: arguments.namespace,
        },
        instance: arguments.instance,
    }))?;
    Ok(())
}

fn print_crds() -> Result<(), Box<dyn std::error::Error>> {
    use std::io::Write as _;
    let mut text = String::new();
    for crd in api::crds() {
        text.push_str("---\n");
        text.push_str(&serde_yaml::to_string(&crd)?);
    }
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever reads has seen enough (`curfew crds | head`).
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
