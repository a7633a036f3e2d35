//! The command line of `curfew`.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::builder::NonEmptyStringValueParser;
use clap::{Parser, Subcommand};

use crate::api;
use crate::app::drain;
use crate::app::operator::options::OperatorOptions;
use crate::app::operator::run;
use crate::app::sweep;
use crate::app::sweep::report;
use crate::app::telemetry;
use crate::app::telemetry::LogFormat;
use crate::core::cleanup::drain::DrainOptions;
use crate::core::guard::{GuardSettings, guards};
use crate::core::settings::Settings;
use crate::core::time::duration::{AccessDuration, AccessDurationError};

const GUARDS_HEADER: &str = "\
# What the API server itself refuses, whether or not an operator runs. Printed by `curfew guards`; docs/architecture.md
# says what each guard is for.
";

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
    /// Removes access that should have ended. It needs no operator, and works as a second layer beside the operator.
    Sweep(SweepArguments),
    /// Ends all access that Curfew made, and waits until nothing is left. Use it before you remove Curfew. It works with
    /// and without an operator. Exit code 0: nothing is left. Exit code 1: the named objects are left.
    Drain(DrainArguments),
    /// Prints the CustomResourceDefinitions as YAML for `kubectl apply --server-side -f -`.
    Crds,
    /// Prints the guards as YAML for `kubectl apply --server-side -f -`. Guards are admission policies: the API server
    /// enforces them even if no operator runs.
    Guards(GuardArguments),
}

#[derive(Debug, clap::Args)]
struct RunArguments {
    /// Address for /livez, /readyz and /metrics.
    #[arg(long, env = "CURFEW_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    #[command(flatten)]
    installation: Installation,
    /// Name of this replica in Events and in the leader Lease. Each replica needs a name of its own. Default: the host
    /// name, which in a pod is the name of the pod.
    #[arg(long, env = "CURFEW_INSTANCE", value_parser = NonEmptyStringValueParser::new())]
    instance: Option<String>,
    /// Format of the log.
    #[arg(long, env = "CURFEW_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// Log filter, such as `info` or `info,curfew=debug`.
    #[arg(long, env = "CURFEW_LOG", default_value = "info")]
    log: String,
}

#[derive(Debug, clap::Args)]
struct SweepArguments {
    /// Makes one round and exits. Exit code 0: no overdue access is left. Exit code 1: something could not be read or
    /// removed.
    #[arg(long)]
    once: bool,
    /// Changes nothing, and shows the objects that would be removed.
    #[arg(long)]
    dry_run: bool,
    /// Format of the report of each round.
    #[arg(long, short, default_value = "table")]
    output: report::Output,
    /// Time between two rounds.
    #[arg(long, env = "CURFEW_SWEEP_EVERY", default_value = "60s", value_parser = parse_span)]
    every: AccessDuration,
    /// Time after the expiry during which the sweep leaves access to the operator and the fuse.
    #[arg(long, env = "CURFEW_SWEEP_GRACE", default_value = "5s", value_parser = parse_span)]
    grace: AccessDuration,
    /// Namespace of the operator, in which the heartbeat Leases are.
    #[arg(long, env = "CURFEW_NAMESPACE", default_value = "curfew-system")]
    namespace: String,
    /// Name of this process in its heartbeat Lease.
    #[arg(long, env = "CURFEW_INSTANCE", default_value = "curfew-sweep")]
    instance: String,
    /// Format of the log.
    #[arg(long, env = "CURFEW_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// Log filter, such as `info` or `info,curfew=debug`.
    #[arg(long, env = "CURFEW_LOG", default_value = "info")]
    log: String,
}

#[derive(Debug, clap::Args)]
struct DrainArguments {
    /// Longest time until the drain gives up.
    #[arg(long, env = "CURFEW_DRAIN_TIMEOUT", default_value = "5m", value_parser = parse_span)]
    timeout: AccessDuration,
    /// Changes nothing, and shows the objects that would be deleted.
    #[arg(long)]
    dry_run: bool,
    /// Also deletes ended grants. Without this flag they stay as records.
    #[arg(long)]
    records: bool,
    /// Removes Curfew's finalizer from grants once their artifacts are gone. Use it only if no operator will run again.
    /// The guard curfew-grant denies it: delete that guard first.
    #[arg(long)]
    without_operator: bool,
    /// Format of the report.
    #[arg(long, short, default_value = "table")]
    output: report::Output,
    /// Namespace of the operator, in which its heartbeat Lease is.
    #[arg(long, env = "CURFEW_NAMESPACE", default_value = "curfew-system")]
    namespace: String,
}

#[derive(Debug, clap::Args)]
struct GuardArguments {
    #[command(flatten)]
    installation: Installation,
    /// Omits the policies that fill in the requester, for Kubernetes 1.30 to 1.35. There each grant must state its
    /// requester.
    #[arg(long, env = "CURFEW_WITHOUT_MUTATION")]
    without_mutation: bool,
}

/// Settings that operator and guards must share.
#[derive(Debug, clap::Args)]
struct Installation {
    /// Longest duration of any access, such as 12h; at most 768h. A policy cannot exceed it.
    #[arg(long, env = "CURFEW_MAX_DURATION", default_value = "12h", value_parser = parse_span)]
    max_duration: AccessDuration,
    /// Namespace of the operator. Its service accounts never receive access.
    #[arg(long, env = "CURFEW_NAMESPACE", default_value = "curfew-system")]
    namespace: String,
    /// Service account of the operator. The service account of the sweep has the same name with the suffix `-sweep`.
    #[arg(long, env = "CURFEW_SERVICE_ACCOUNT", default_value = "curfew")]
    service_account: String,
    /// Namespace of the service accounts that people act as.
    #[arg(long, env = "CURFEW_IDENTITIES", default_value = "curfew-identities")]
    identities: String,
    /// User that may also create objects with Curfew's label, such as the service account of a backup tool. Can be
    /// repeated.
    #[arg(long = "creator", env = "CURFEW_CREATORS", value_delimiter = ',')]
    creators: Vec<String>,
}

impl Installation {
    fn settings(&self) -> Settings {
        Settings {
            cap: self.max_duration,
            namespace: self.namespace.clone(),
            identities: self.identities.clone(),
        }
    }

    fn guards(self) -> GuardSettings {
        GuardSettings {
            namespace: self.namespace,
            sweeper: format!("{}-sweep", self.service_account),
            operator: self.service_account,
            identities: self.identities,
            cap: self.max_duration,
            creators: self.creators,
        }
    }
}

fn parse_span(text: &str) -> Result<AccessDuration, AccessDurationError> {
    AccessDuration::parse(text)
}

/// Runs a command. Exit codes: 0 success, 1 failure, 2 wrong usage.
pub fn main(cli: Cli) -> ExitCode {
    let outcome = match cli.command {
        Command::Run(arguments) => run_operator(arguments),
        Command::Sweep(arguments) => run_sweep(arguments),
        Command::Drain(arguments) => run_drain(arguments),
        Command::Crds => print_crds(),
        Command::Guards(arguments) => print_guards(arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[allow(clippy::print_stderr, reason = "errors of a command belong on standard error")]
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
    runtime.block_on(run(OperatorOptions {
        listen: arguments.listen,
        settings: arguments.installation.settings(),
        guards: arguments.installation.guards(),
        instance: arguments.instance.unwrap_or_else(host_name),
    }))?;
    Ok(())
}

fn run_sweep(arguments: SweepArguments) -> Result<(), Box<dyn std::error::Error>> {
    telemetry::init(arguments.log_format, &arguments.log)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(sweep::run(sweep::SweepArguments {
        once: arguments.once,
        dry_run: arguments.dry_run,
        every: arguments.every,
        grace: arguments.grace,
        namespace: arguments.namespace,
        instance: arguments.instance,
        output: arguments.output,
    }))?;
    Ok(())
}

/// Host name. If the kernel gives none, all replicas have the name `curfew`: then each replica that starts takes the
/// leader Lease from another at once, which does no other harm.
fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "curfew".to_owned())
}

fn run_drain(arguments: DrainArguments) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(drain::run(drain::DrainArguments {
        timeout: arguments.timeout,
        dry_run: arguments.dry_run,
        demands: DrainOptions {
            records: arguments.records,
            without_operator: arguments.without_operator,
        },
        output: arguments.output,
        namespace: arguments.namespace,
    }))?;
    Ok(())
}

fn print_crds() -> Result<(), Box<dyn std::error::Error>> {
    let mut text = String::new();
    for crd in api::crds() {
        text.push_str("---\n");
        text.push_str(&serde_yaml::to_string(&crd)?);
    }
    print(&text)
}

fn print_guards(arguments: GuardArguments) -> Result<(), Box<dyn std::error::Error>> {
    print(&guards_as_yaml(
        &arguments.installation.guards(),
        arguments.without_mutation,
    )?)
}

fn guards_as_yaml(settings: &GuardSettings, without_mutation: bool) -> Result<String, serde_yaml::Error> {
    let mut text = String::from(GUARDS_HEADER);
    for guard in guards(settings) {
        if without_mutation && guard.kind.mutates() {
            continue;
        }
        text.push_str("---\n");
        text.push_str(&serde_yaml::to_string(&guard.manifest)?);
    }
    Ok(text)
}

fn print(text: &str) -> Result<(), Box<dyn std::error::Error>> {
    use std::io::Write as _;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // The reader stopped early, such as `curfew crds | head`.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::checks::golden::assert_golden;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        guards: GuardArguments,
    }

    /// Scripts and manifests depend on the flags, their defaults and their environment variables.
    #[test]
    fn golden_help_is_unchanged() {
        let mut command = Cli::command().term_width(120);
        command.build();
        let mut text = command.render_long_help().to_string();
        for subcommand in command
            .get_subcommands_mut()
            .filter(|command| command.get_name() != "help")
        {
            text.extend(["\n---- ", subcommand.get_name(), "\n"]);
            let mut subcommand = subcommand
                .clone()
                .mut_args(|argument| argument.hide_env_values(true));
            text.push_str(&subcommand.render_long_help().to_string());
        }
        let lines = text.lines().map(str::trim_end).collect::<Vec<_>>();
        assert_golden("help.txt", &(lines.join("\n") + "\n"));
    }

    /// `make guards` writes it again.
    #[test]
    fn the_guards_in_the_repository_match_the_default_flags() {
        let flags = Flags::parse_from(["guards"]).guards;
        let printed = guards_as_yaml(&flags.installation.guards(), flags.without_mutation).unwrap();
        assert!(
            printed == include_str!("../../manifests/guards.yaml"),
            "manifests/guards.yaml is out of date: run make guards"
        );
    }

    #[test]
    fn without_mutation_omits_only_mutating_policies() {
        let flags = Flags::parse_from(["guards", "--without-mutation"]).guards;
        let printed = guards_as_yaml(&flags.installation.guards(), flags.without_mutation).unwrap();
        assert!(!printed.contains("kind: Mutating"));
        assert!(
            include_str!("../../manifests/guards.yaml")
                .ends_with(printed.strip_prefix(GUARDS_HEADER).unwrap())
        );
    }

    #[test]
    fn every_flag_reaches_the_guards() {
        let flags = Flags::parse_from([
            "guards",
            "--namespace=security",
            "--service-account=jit",
            "--identities=roles",
            "--max-duration=1h",
            "--creator=velero",
            "--creator=system:serviceaccount:velero:velero",
        ])
        .guards;
        let settings = flags.installation.guards();
        assert_eq!(
            settings,
            GuardSettings {
                namespace: "security".to_owned(),
                operator: "jit".to_owned(),
                sweeper: "jit-sweep".to_owned(),
                identities: "roles".to_owned(),
                cap: AccessDuration::parse("1h").unwrap(),
                creators: vec![
                    "velero".to_owned(),
                    "system:serviceaccount:velero:velero".to_owned()
                ],
            }
        );
        let printed = guards_as_yaml(&settings, false).unwrap();
        // One guard is named so; no namespace is.
        let (all, names) = ("curfew-identities", "ame: curfew-identities\n");
        assert_eq!(printed.matches(all).count(), printed.matches(names).count());
        // The canary is always called so.
        let others = printed.replace("serviceaccount:security:curfew-canary", "");
        assert!(!others.contains("curfew-system") && !others.contains("serviceaccount:security:curfew"));
        assert!(printed.contains(
            "['system:serviceaccount:security:jit', 'velero', 'system:serviceaccount:velero:velero']"
        ));
    }
}
