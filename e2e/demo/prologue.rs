//! First part of the demo: Curfew is installed, the operator runs, and a policy is ready.

use anyhow::ensure;

use crate::harness::eventually;
use crate::operator;
use crate::people::Who;
use crate::sightings::Bystander;
use crate::stage::{Installed, Stage};
use crate::story::{NAMESPACE, SOON, Story};

impl Story<'_> {
    /// Installs the CRDs, the permissions and the guards, and waits until the guards are in force.
    pub async fn install(&mut self) -> anyhow::Result<()> {
        self.screen.step("Curfew is installed");
        self.screen.say(
            "crds/ has three kinds of objects. manifests/ has the permissions of the operator, and the guards.\n\
             Guards are admission policies: with them the API server itself checks who asks, and denies larger or\n\
             longer access.",
        );
        self.stage.installed.push(Installed::Curfew);
        let apply = [&["apply", "--server-side"], Installed::Curfew.files()].concat();
        self.must(Who::Admin, &apply).await?;
        let in_force = in_force(self.stage);
        self.screen
            .during("waiting until the guards are in force", in_force)
            .await
    }

    /// Starts the operator. Returns a bystander that watches the namespace.
    pub async fn run_the_operator(&mut self) -> anyhow::Result<Bystander> {
        self.screen.step("The operator runs");
        self.screen.say(
            "It is a process on this machine, with a token of its own service account. It has the permissions of\n\
             manifests/rbac.yaml and no others.",
        );
        let args = [
            "create",
            "token",
            "curfew",
            "--namespace",
            "curfew-system",
            "--duration",
            "1h",
        ];
        self.screen
            .command(Who::Admin.name(), &self.stage.shown(Who::Admin, &args)?);
        let token = self.stage.ask(Who::Admin, &args).await?;
        ensure!(token.ok, "cannot create a token for the operator: {}", token.text);
        self.screen.answer("(a token, not shown here)");
        let (kubeconfig, context) = self.stage.kubeconfig()?;
        let kubeconfig = operator::kubeconfig(&kubeconfig, &context, &token.text)?;
        self.start_operator(&kubeconfig).await?;
        self.operator_kubeconfig.clone_from(&kubeconfig);
        Bystander::watch(operator::client(&kubeconfig).await?, NAMESPACE).await
    }

    /// Starts the operator and waits until it is ready.
    pub async fn start_operator(&mut self, kubeconfig: &str) -> anyhow::Result<()> {
        self.screen.command("curfew", "curfew run --listen 127.0.0.1:0");
        let process = operator::start(kubeconfig, self.stage.folder.path())?;
        let process = self.stage.operator.insert(process);
        self.screen
            .during("waiting until the operator is ready", operator::ready(process))
            .await
    }

    /// Applies the namespace and its policy, and waits until the policy is ready.
    pub async fn apply_the_policy(&mut self) -> anyhow::Result<()> {
        self.screen.step("The security team writes a policy, once");
        self.screen.say(
            "The group devs may ask for access to namespaces with the label env=sandbox, for at most four hours.\n\
             Without further wishes they get the role view.",
        );
        self.stage.installed.push(Installed::Sandbox);
        let apply = [&["apply", "--server-side"], Installed::Sandbox.files()].concat();
        self.must(Who::Admin, &apply).await?;
        let wait = ["wait", "--for=condition=Ready", "apol/sandbox", "--timeout=30s"];
        self.must(Who::Admin, &wait).await?;
        self.must(Who::Admin, &["get", "apol"]).await.map(drop)
    }
}

/// Waits until the API server serves the new kinds, fills in the requester and refuses a forgery. The API server loads
/// admission policies with informers, a moment after they are stored.
async fn in_force(stage: &Stage) -> anyhow::Result<()> {
    let dry_run = ["create", "--dry-run=server", "--output=yaml", "-f"];
    let filled = [&dry_run[..], &["e2e/harness/probe.yaml"]].concat();
    eventually(
        "the API server fills in the requester",
        SOON,
        async || match stage.ask(Who::Admin, &filled).await {
            Ok(answer) if answer.ok && answer.text.contains("requester:") => Ok(()),
            Ok(answer) => Err(answer.text),
            Err(error) => Err(format!("{error:#}")),
        },
    )
    .await?;
    let forged = [&dry_run[..], &["e2e/harness/forged.yaml"]].concat();
    eventually(
        "the API server refuses a forged requester",
        SOON,
        async || match stage.ask(Who::Admin, &forged).await {
            Ok(answer) if !answer.ok && answer.text.contains("spec.requester.username must be you") => Ok(()),
            Ok(answer) => Err(answer.text),
            Err(error) => Err(format!("{error:#}")),
        },
    )
    .await
}
