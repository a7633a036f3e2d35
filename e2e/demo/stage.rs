//! Where the story happens: a cluster, people who may call it, and kubectl.

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

/// How long one kubectl may take; deleting a namespace is the longest of what it is asked to do.
const KUBECTL: Duration = Duration::from_mins(2);

/// What the demo installs, in this order: the arguments of `kubectl apply` and, for the end, of `kubectl delete`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    /// Curfew itself.
    Curfew,
    /// The sandbox and its policy.
    Sandbox,
    /// A policy that hands out the role of an administrator.
    Administrator,
    /// A namespace in production and its policy.
    Production,
}

impl Installed {
    /// The files it consists of.
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

/// The cluster.
pub enum Cluster {
    /// One of our own.
    Embedded(Box<Plane>),
    /// That of a kubectl context.
    Current {
        /// The context's name; every kubectl is told, in case the user switches it meanwhile.
        context: String,
    },
}

/// What a kubectl answered.
#[derive(Debug)]
pub struct Answer {
    /// Whether it exited with 0.
    pub ok: bool,
    /// What it printed.
    pub text: String,
}

/// The stage.
pub struct Stage {
    /// The cluster.
    pub cluster: Cluster,
    /// What was installed there, or may have been in part.
    pub installed: Vec<Installed>,
    /// The running operator.
    pub operator: Option<Guarded>,
    /// For the operator's token and log.
    pub folder: TempDir,
}

impl Stage {
    /// A control plane of its own.
    pub async fn embedded(screen: &mut Screen) -> anyhow::Result<Self> {
        screen.step("A Kubernetes control plane starts on this machine");
        screen.say(
            "etcd, kube-apiserver and kube-controller-manager, the real ones, in a temporary folder.\n\
             They are built from source the first time, which takes 10 to 20 minutes; after that they are kept.",
        );
        build_the_plane().await?;
        let plane = screen.during("starting", Plane::start()).await?;
        let stage = Self::on(Cluster::Embedded(Box::new(plane)))?;
        stage.fills_in_requesters().await?;
        let version = stage.ask(Who::Admin, &["version"]).await?;
        let version = version.text.lines().find(|line| line.starts_with("Server"));
        screen.say(version.unwrap_or("the server does not say its version"));
        screen.say(
            "It knows people by their tokens: admin, alice and eve of the group devs, bob of the group leads and dave of\n\
             the group security.\n\
             The name before the $ says who types.",
        );
        Ok(stage)
    }

    /// The cluster of the current context, if it is free of Curfew and somebody agrees.
    pub async fn current(screen: &mut Screen, agreed: bool) -> anyhow::Result<Self> {
        screen.step("The cluster of the current kubectl context");
        let kubeconfig = Kubeconfig::read().context("there is no kubeconfig")?;
        let context = kubeconfig.current_context.filter(|context| !context.is_empty());
        let context = context.context("kubectl has no current context: kubectl config use-context")?;
        let stage = Self::on(Cluster::Current {
            context: context.clone(),
        })?;
        let info = stage.ask(Who::Admin, &["version"]).await?;
        ensure!(info.ok, "context {context}: {}", info.text);
        screen.say(&format!("Context {context}:"));
        screen.answer(&info.text);
        stage.fills_in_requesters().await?;
        let there = stage.what_is_there().await?;
        ensure!(
            there.is_empty(),
            "context {context} holds things of these names already. The demo removes at the end what it installs, and\n\
             would remove these with it, so it does not begin:\n{there}"
        );
        screen.say(
            "It will install Curfew and the namespaces sandbox and checkout-production there, run the operator on this\n\
             machine, and remove everything at the end. People are played by impersonation (--as), so you must be an administrator.",
        );
        if !agreed {
            agree(&context).await?;
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

    /// The kubeconfig of the cluster's administrator, and the context in it.
    pub fn kubeconfig(&self) -> anyhow::Result<(Kubeconfig, String)> {
        match &self.cluster {
            Cluster::Embedded(plane) => {
                let kubeconfig = Kubeconfig::read_from(plane.kubeconfig_for(Who::Admin.name())?)?;
                let context = kubeconfig
                    .current_context
                    .clone()
                    .context("no context of the plane")?;
                Ok((kubeconfig, context))
            }
            Cluster::Current { context } => Ok((Kubeconfig::read()?, context.clone())),
        }
    }

    /// The end of what the operator said.
    pub fn operator_log_tail(&self) -> Option<String> {
        self.operator.as_ref().map(|operator| operator.log_tail(20))
    }

    /// The command line as somebody types it.
    pub fn shown(&self, who: Who, args: &[&str]) -> anyhow::Result<String> {
        let args = self.arguments(who, args)?;
        let args: Vec<String> = args.into_iter().map(quoted).collect();
        Ok(format!("kubectl {}", args.join(" ")))
    }

    /// What kubectl is told: on our own cluster a person is known by a kubeconfig, on another one the context is
    /// named and people are impersonated.
    fn arguments<'a>(&'a self, who: Who, args: &[&'a str]) -> anyhow::Result<Vec<&'a str>> {
        Ok(match &self.cluster {
            Cluster::Embedded(_) => args.to_vec(),
            Cluster::Current { context } => {
                [&["--context", context][..], args, &who.impersonation()?].concat()
            }
        })
    }

    /// Runs kubectl as somebody, in the repository.
    pub async fn ask(&self, who: Who, args: &[&str]) -> anyhow::Result<Answer> {
        let arguments = self.arguments(who, args)?;
        let mut command = match &self.cluster {
            Cluster::Embedded(plane) => Command::from(plane.kubectl_as(who.name(), &arguments)?),
            Cluster::Current { .. } => Command::new("kubectl"),
        };
        if matches!(self.cluster, Cluster::Current { .. }) {
            command.args(arguments);
        }
        // In a group of its own: Ctrl-C is for us, who tidy up with it.
        command
            .current_dir(in_repository("."))
            .stdin(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        let output = tokio::time::timeout(KUBECTL, command.output())
            .await
            .with_context(|| format!("kubectl {} does not come back", args.join(" ")))?
            .context("cannot run kubectl")?;
        let printed = [output.stdout, output.stderr].concat();
        Ok(Answer {
            ok: output.status.success(),
            text: String::from_utf8_lossy(&printed).trim_end().to_owned(),
        })
    }

    /// What is there of the names that the demo installs, one a line. In a cluster without Curfew: nothing.
    pub async fn what_is_there(&self) -> anyhow::Result<String> {
        let query = ["get", "--ignore-not-found", "--output", "name"];
        let files = [
            Installed::Curfew.files(),
            &["-f", "examples/sandbox/namespace.yaml"],
            &["-f", "examples/production/namespace.yaml"],
        ];
        let files = [&query[..], &files.concat()].concat();
        // The rest of the policies' files is of a kind that only Curfew brings.
        let roles = [
            "clusterrole",
            "curfew-grantable-sandbox",
            "curfew-grantable-sandbox-administrator",
            "curfew-grantable-production",
        ];
        let role = [&query[..], &roles].concat();
        let mut there = Vec::new();
        for query in [files, role] {
            let answer = self.ask(Who::Admin, &query).await?;
            ensure!(answer.ok, "kubectl {}: {}", query.join(" "), answer.text);
            if !answer.text.is_empty() {
                there.push(answer.text);
            }
        }
        Ok(there.join("\n"))
    }

    /// How to remove by hand what an interrupted removal left.
    pub fn removal_by_hand(&self) -> String {
        match &self.cluster {
            Cluster::Embedded(_) => "the control plane ends by itself".to_owned(),
            Cluster::Current { .. } => "to remove what may be left:\n\
                 kubectl delete --ignore-not-found -f e2e/demo/administrator.yaml -f examples/sandbox/\n\
                 kubectl delete --ignore-not-found -f examples/production/\n\
                 kubectl delete --ignore-not-found -f manifests/ -f crds/"
                .to_owned(),
        }
    }

    /// Fails where the API server is too old to fill in who asks.
    async fn fills_in_requesters(&self) -> anyhow::Result<()> {
        let answer = self
            .ask(
                Who::Admin,
                &["get", "--raw", "/apis/admissionregistration.k8s.io/v1"],
            )
            .await?;
        ensure!(
            answer.text.contains("\"mutatingadmissionpolicies\""),
            "the demo needs Kubernetes 1.36 or newer: this one has no MutatingAdmissionPolicy in \
             admissionregistration.k8s.io/v1"
        );
        Ok(())
    }
}

/// Builds the control plane if that was not done yet; the script says how far it is.
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

/// Asks the person at the terminal.
async fn agree(context: &str) -> anyhow::Result<()> {
    ensure!(
        std::io::stdin().is_terminal(),
        "nobody is there to ask whether to install into context {context}: say YES=1 (or --yes)"
    );
    let mut out = std::io::stdout();
    write!(out, "   Go on with context {context}? [y/N] ")?;
    out.flush()?;
    // Where it blocks nothing, not even Ctrl-C.
    let line = tokio::task::spawn_blocking(|| std::io::stdin().lines().next()).await?;
    match line.transpose()?.unwrap_or_default().trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => bail!("nothing was installed"),
    }
}

/// An argument as a shell reads it.
fn quoted(arg: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_./,:=@".contains(character);
    if !arg.is_empty() && arg.chars().all(plain) {
        arg.to_owned()
    } else {
        format!("'{}'", arg.replace('\'', r"'\''"))
    }
}

/// A file of the repository without its comments.
pub fn without_comments(path: &str) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(in_repository(path))
        .with_context(|| Path::new(path).display().to_string())?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}
