//! The command line of `curfew`.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::builder::NonEmptyStringValueParser;
use clap::{Parser, Subcommand};

use super::drain;
use super::options::Options;
use super::run::run;
use super::sweep;
use super::telemetry::{self, LogFormat};
use crate::api;
use crate::core::drain::Demands;
use crate::core::{GuardSettings, Settings, Span, SpanError, guards};

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
    /// Removes whatever has outlived its end, without an operator: an independent second look.
    Sweep(SweepArguments),
    /// Ends all access that Curfew made and waits until nothing of it is left, with or without an operator: before
    /// Curfew is removed. Exits with 0 when nothing is left, with 1 when something is, which it names.
    Drain(DrainArguments),
    /// Prints the CustomResourceDefinitions as YAML, ready for `kubectl apply --server-side -f -`.
    Crds,
    /// Prints the guards as YAML, ready for `kubectl apply --server-side -f -`: what the API server itself refuses.
    Guards(GuardArguments),
}

#[derive(Debug, clap::Args)]
struct RunArguments {
    /// Address on which to serve /livez, /readyz and /metrics.
    #[arg(long, env = "CURFEW_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    #[command(flatten)]
    installation: Installation,
    /// Name of this replica in the Events it writes and in the Lease it leads by; no two replicas may have the same.
    /// Default: the name of the host, which in a pod is the pod's.
    #[arg(long, env = "CURFEW_INSTANCE", value_parser = NonEmptyStringValueParser::new())]
    instance: Option<String>,
    /// How to write the log.
    #[arg(long, env = "CURFEW_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// What to log, such as `info` or `info,curfew=debug`.
    #[arg(long, env = "CURFEW_LOG", default_value = "info")]
    log: String,
}

#[derive(Debug, clap::Args)]
struct SweepArguments {
    /// Makes one round and exits: 0 if nothing overdue is left, 1 if something could not be read or removed.
    #[arg(long)]
    once: bool,
    /// Changes nothing, and shows what would be removed.
    #[arg(long)]
    dry_run: bool,
    /// How to print each round.
    #[arg(long, short, default_value = "table")]
    output: sweep::Output,
    /// How long to wait between rounds.
    #[arg(long, env = "CURFEW_SWEEP_EVERY", default_value = "60s", value_parser = parse_span)]
    every: Span,
    /// How long after its end something is left to the operator and its fuse, which come first while they live.
    #[arg(long, env = "CURFEW_SWEEP_GRACE", default_value = "5s", value_parser = parse_span)]
    grace: Span,
    /// The operator's own namespace, where the heartbeats are.
    #[arg(long, env = "CURFEW_NAMESPACE", default_value = "curfew-system")]
    namespace: String,
    /// Name of this process in its heartbeat.
    #[arg(long, env = "CURFEW_INSTANCE", default_value = "curfew-sweep")]
    instance: String,
    /// How to write the log.
    #[arg(long, env = "CURFEW_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// What to log, such as `info` or `info,curfew=debug`.
    #[arg(long, env = "CURFEW_LOG", default_value = "info")]
    log: String,
}

#[derive(Debug, clap::Args)]
struct DrainArguments {
    /// How long to go on before it gives up.
    #[arg(long, env = "CURFEW_DRAIN_TIMEOUT", default_value = "5m", value_parser = parse_span)]
    timeout: Span,
    /// Changes nothing, and shows what would be deleted.
    #[arg(long)]
    dry_run: bool,
    /// Deletes grants that are over as well, which otherwise stay as records.
    #[arg(long)]
    records: bool,
    /// Lets grants go whose finalizer waits for the operator, once nothing made for them is left, because none comes
    /// back. The guard curfew-grant refuses that: delete it first.
    #[arg(long)]
    without_operator: bool,
    /// How to print what was done.
    #[arg(long, short, default_value = "table")]
    output: sweep::Output,
    /// The operator's own namespace, where its heartbeat is.
    #[arg(long, env = "CURFEW_NAMESPACE", default_value = "curfew-system")]
    namespace: String,
}

#[derive(Debug, clap::Args)]
struct GuardArguments {
    #[command(flatten)]
    installation: Installation,
    /// Leaves out what fills in who asks, for Kubernetes 1.30 to 1.35: there a grant states its requester itself.
    #[arg(long, env = "CURFEW_WITHOUT_MUTATION")]
    without_mutation: bool,
}

/// What the operator and the guards have to agree on.
#[derive(Debug, clap::Args)]
struct Installation {
    /// The longest any access may last, whatever a policy says, such as 12h; at most 768h.
    #[arg(long, env = "CURFEW_MAX_DURATION", default_value = "12h", value_parser = parse_span)]
    max_duration: Span,
    /// The operator's own namespace; its service accounts never receive access.
    #[arg(long, env = "CURFEW_NAMESPACE", default_value = "curfew-system")]
    namespace: String,
    /// The operator's service account in its namespace; the sweeper's is called so with `-sweep` behind it.
    #[arg(long, env = "CURFEW_SERVICE_ACCOUNT", default_value = "curfew")]
    service_account: String,
    /// The namespace of the identities that people act as.
    #[arg(long, env = "CURFEW_IDENTITIES", default_value = "curfew-identities")]
    identities: String,
    /// User name of somebody else who may create what carries Curfew's label, such as a backup tool that restores.
    /// May be given more than once.
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

fn parse_span(text: &str) -> Result<Span, SpanError> {
    Span::parse(text)
}

/// Runs the command that was asked for. Exit codes: 0 done, 1 failed, 2 not understood.
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
    runtime.block_on(sweep::run(sweep::Options {
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

/// The name of the host. Where the kernel does not tell, replicas have one name: then each that starts takes the lead
/// from another at once, and nothing else is lost.
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
    runtime.block_on(drain::run(drain::Options {
        timeout: arguments.timeout,
        dry_run: arguments.dry_run,
        demands: Demands {
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
        // Whoever reads has seen enough (`curfew crds | head`).
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::golden::assert_golden;

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
            text.push_str(&format!("\n---- {}\n", subcommand.get_name()));
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
    fn the_guards_in_the_repository_are_those_of_the_default_flags() {
        let flags = Flags::parse_from(["guards"]).guards;
        let printed = guards_as_yaml(&flags.installation.guards(), flags.without_mutation).unwrap();
        assert!(
            printed == include_str!("../../manifests/guards.yaml"),
            "manifests/guards.yaml is out of date: run make guards"
        );
    }

    #[test]
    fn without_mutation_only_the_filling_in_is_missing() {
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
                cap: Span::parse("1h").unwrap(),
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
