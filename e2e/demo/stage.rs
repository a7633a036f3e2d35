//! Stage of the demo: the cluster, the people, kubectl, and what must be removed at the end.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use kube::config::Kubeconfig;
use tempfile::TempDir;
use tokio::process::Command;

use crate::harness::{Guarded, Plane, in_repository};
use crate::people::Who;
use crate::screen::Screen;

/// Longest time of one kubectl command. The slowest command deletes a namespace.
const KUBECTL: Duration = Duration::from_mins(2);

/// Groups of files that the demo installs in this order. The removal takes the opposite order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    /// The CRDs and manifests of Curfew.
    Curfew,
    /// The namespace `sandbox` and its policy.
    Sandbox,
    /// A policy that hands out the role `admin`.
    Administrator,
    /// The namespace `checkout-production` and its policy.
    Production,
}

impl Installed {
    /// The files as arguments of `kubectl apply` and `kubectl delete`.
    pub fn files(self) -> &'static [&'static str] {
        match self {
            Self::Curfew => &["-f", "crds/", "-f", "manifests/"],
            Self::Sandbox => &[
                "-f",
                "examples/sandbox/namespace.yaml",
                "-f",
                "examples/sandbox/policy.yaml",
            ],
            Self::Administrator => &["-f", "e2e/demo/administrator.yaml"],
            Self::Production => &[
                "-f",
                "examples/production/namespace.yaml",
                "-f",
                "examples/production/policy.yaml",
            ],
        }
    }
}

/// Cluster that the demo uses.
pub enum Cluster {
    /// A control plane that the demo has started.
    Embedded(Box<Plane>),
    /// The cluster of a kubectl context.
    Current {
        /// Name of the context. Every kubectl command names it, because the user can switch the current context.
        context: String,
    },
}

/// Result of one kubectl command.
#[derive(Debug)]
pub struct Answer {
    /// Whether kubectl exited with 0.
    pub ok: bool,
    /// Stdout, then stderr, without white space at the end.
    pub text: String,
}

/// Everything that the demo uses and must remove.
pub struct Stage {
    /// The cluster in which the demo runs.
    pub cluster: Cluster,
    /// Groups of files that are installed, perhaps only in part.
    pub installed: Vec<Installed>,
    /// The operator while it runs.
    pub operator: Option<Guarded>,
    /// Temporary folder for the operator's kubeconfig, the operator's log and the files of decisions.
    pub folder: TempDir,
}

impl Stage {
    /// Builds the control plane if necessary, and starts it.
    pub async fn embedded(screen: &mut Screen) -> anyhow::Result<Self> {
        screen.step("A Kubernetes control plane starts on this machine");
        screen.say(
            "It is a real etcd, kube-apiserver and kube-controller-manager, in a temporary folder.\n\
             The first time they are built from source, which takes 10 to 20 minutes. The binaries are kept.",
        );
        build_the_plane().await?;
        let plane = screen.during("starting", Plane::start()).await?;
        let stage = Self::on(Cluster::Embedded(Box::new(plane)))?;
        stage.fills_in_requesters().await?;
        let version = stage.ask(Who::Admin, &["version"]).await?;
        let version = version.text.lines().find(|line| line.starts_with("Server"));
        screen.say(version.unwrap_or("The API server does not say its version."));
        screen.say(
            "Each person has a token: admin, alice and eve (group devs), bob (group leads) and dave (group security).\n\
             The name before the $ is the person who types the command.",
        );
        Ok(stage)
    }

    /// The cluster of the current context. Fails if Curfew is installed there, or if the user does not agree.
    pub async fn current(screen: &mut Screen, agreed: bool) -> anyhow::Result<Self> {
        screen.step("The cluster of the current kubectl context");
        let kubeconfig = Kubeconfig::read().context("cannot read the kubeconfig")?;
        let context = kubeconfig.current_context.filter(|context| !context.is_empty());
        let context =
            context.context("kubectl has no current context. Run: kubectl config use-context NAME")?;
        let stage = Self::on(Cluster::Current {
            context: context.clone(),
        })?;
        let info = stage.ask(Who::Admin, &["version"]).await?;
        ensure!(info.ok, "context {context}: {}", info.text);
        screen.say(&format!("Context {context}:"));
        screen.answer(&info.text);
        stage.fills_in_requesters().await?;
        let present = stage.what_is_there().await?;
        ensure!(
            present.is_empty(),
            "context {context} already has objects with names that the demo uses. The demo would delete them\n\
             at the end, so it does not start. Use another cluster, or remove them first:\n{present}"
        );
        screen.say(
            "The demo installs Curfew and the namespaces sandbox and checkout-production in this cluster. It runs the\n\
             operator on this machine, and removes everything at the end. It impersonates the people (--as), so you\n\
             must be an administrator.",
        );
        if !agreed {
            ask_consent(&context).await?;
        }
        Ok(stage)
    }

    fn on(cluster: Cluster) -> anyhow::Result<Self> {
        Ok(Self {
            cluster,
            installed: Vec::new(),
            operator: None,
            folder: tempfile::Builder::new().prefix("curfew-demo-").tempdir()?,
        })
    }

    /// The kubeconfig of the cluster's administrator, and the name of the context in it.
    pub fn kubeconfig(&self) -> anyhow::Result<(Kubeconfig, String)> {
        match &self.cluster {
            Cluster::Embedded(plane) => {
                let kubeconfig = Kubeconfig::read_from(plane.kubeconfig_for(Who::Admin.name())?)?;
                let context = kubeconfig
                    .current_context
                    .clone()
                    .context("the kubeconfig of the control plane has no current context")?;
                Ok((kubeconfig, context))
            }
            Cluster::Current { context } => Ok((Kubeconfig::read()?, context.clone())),
        }
    }

    /// The last 20 lines of the operator's log; `None` if no operator runs.
    pub fn operator_log_tail(&self) -> Option<String> {
        self.operator.as_ref().map(|operator| operator.log_tail(20))
    }

    /// The command line as a person types it.
    pub fn shown(&self, who: Who, args: &[&str]) -> anyhow::Result<String> {
        let args = self.arguments(who, args)?;
        let args: Vec<String> = args.into_iter().map(quoted).collect();
        Ok(format!("kubectl {}", args.join(" ")))
    }

    /// The arguments of kubectl. On the demo's own control plane each person has a kubeconfig. On another cluster the
    /// arguments name the context and impersonate the person.
    fn arguments<'a>(&'a self, who: Who, args: &[&'a str]) -> anyhow::Result<Vec<&'a str>> {
        Ok(match &self.cluster {
            Cluster::Embedded(_) => args.to_vec(),
            Cluster::Current { context } => {
                [&["--context", context][..], args, &who.impersonation()?].concat()
            }
        })
    }

    /// Runs kubectl as a person, in the folder of the repository.
    ///
    /// # Errors
    /// kubectl cannot be started or takes longer than [`KUBECTL`]. A kubectl that fails is an [`Answer`].
    pub async fn ask(&self, who: Who, args: &[&str]) -> anyhow::Result<Answer> {
        let arguments = self.arguments(who, args)?;
        let mut command = match &self.cluster {
            Cluster::Embedded(plane) => Command::from(plane.kubectl_as(who.name(), &arguments)?),
            Cluster::Current { .. } => Command::new("kubectl"),
        };
        if matches!(self.cluster, Cluster::Current { .. }) {
            command.args(arguments);
        }
        // A process group of its own keeps Ctrl-C from kubectl: the demo still needs kubectl to clean up.
        command
            .current_dir(in_repository("."))
            .stdin(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        let output = tokio::time::timeout(KUBECTL, command.output())
            .await
            .with_context(|| format!("kubectl {} did not exit in time", args.join(" ")))?
            .context("cannot run kubectl")?;
        let printed = [output.stdout, output.stderr].concat();
        Ok(Answer {
            ok: output.status.success(),
            text: String::from_utf8_lossy(&printed).trim_end().to_owned(),
        })
    }

    /// Names of the existing objects that the demo would install, one per line; empty in a cluster without Curfew.
    pub async fn what_is_there(&self) -> anyhow::Result<String> {
        let query = ["get", "--ignore-not-found", "--output", "name"];
        let files = [
            Installed::Curfew.files(),
            &["-f", "examples/sandbox/namespace.yaml"],
            &["-f", "examples/production/namespace.yaml"],
        ];
        let files = [&query[..], &files.concat()].concat();
        // The other objects in the files of the policies have kinds that only exist once Curfew is installed.
        let roles = [
            "clusterrole",
            "curfew-grantable-sandbox",
            "curfew-grantable-sandbox-administrator",
            "curfew-grantable-production",
        ];
        let roles = [&query[..], &roles].concat();
        let mut present = Vec::new();
        for query in [files, roles] {
            let answer = self.ask(Who::Admin, &query).await?;
            ensure!(answer.ok, "kubectl {}: {}", query.join(" "), answer.text);
            if !answer.text.is_empty() {
                present.push(answer.text);
            }
        }
        Ok(present.join("\n"))
    }

    /// Commands that remove the rest after an interrupted cleanup.
    pub fn removal_by_hand(&self) -> String {
        match &self.cluster {
            Cluster::Embedded(_) => "the control plane stops by itself".to_owned(),
            Cluster::Current { .. } => "to remove the rest, run:\n\
                 kubectl delete --ignore-not-found -f e2e/demo/administrator.yaml -f examples/sandbox/\n\
                 kubectl delete --ignore-not-found -f examples/production/\n\
                 kubectl delete --ignore-not-found -f manifests/ -f crds/"
                .to_owned(),
        }
    }

    /// Fails if the API server is too old to fill in the requester (older than Kubernetes 1.36).
    async fn fills_in_requesters(&self) -> anyhow::Result<()> {
        let answer = self
            .ask(
                Who::Admin,
                &["get", "--raw", "/apis/admissionregistration.k8s.io/v1"],
            )
            .await?;
        ensure!(
            answer.text.contains("\"mutatingadmissionpolicies\""),
            "the demo needs Kubernetes 1.36 or newer: this API server has no MutatingAdmissionPolicy in \
             admissionregistration.k8s.io/v1"
        );
        Ok(())
    }
}

/// Builds the binaries of the control plane if the cache has none. The script prints its progress to stderr.
async fn build_the_plane() -> anyhow::Result<()> {
    let script = in_repository("e2e/plane/build.sh");
    let built = Command::new(&script)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await
        .with_context(|| format!("cannot run {}", script.display()))?;
    ensure!(built.success(), "{}: {built}", script.display());
    Ok(())
}

/// Asks the user at the terminal for consent.
async fn ask_consent(context: &str) -> anyhow::Result<()> {
    ensure!(
        std::io::stdin().is_terminal(),
        "cannot ask whether to install into context {context}: stdin is no terminal. To agree, set YES=1 (or --yes)"
    );
    let mut out = std::io::stdout();
    write!(out, "   Continue with context {context}? [y/N] ")?;
    out.flush()?;
    // On a thread of its own: reading stdin blocks, and Ctrl-C must still work.
    let line = tokio::task::spawn_blocking(|| std::io::stdin().lines().next()).await?;
    match line.transpose()?.unwrap_or_default().trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => bail!("nothing was installed"),
    }
}

/// An argument in quotes, if a shell needs them.
fn quoted(arg: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_./,:=@".contains(character);
    if !arg.is_empty() && arg.chars().all(plain) {
        arg.to_owned()
    } else {
        format!("'{}'", arg.replace('\'', r"'\''"))
    }
}

/// Content of a file of the repository, without comment lines.
pub fn without_comments(path: &str) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(in_repository(path))
        .with_context(|| Path::new(path).display().to_string())?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}
