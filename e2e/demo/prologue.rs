//! What happens before anybody asks: Curfew is installed, runs, and has a policy.

use anyhow::ensure;

use crate::harness::eventually;
use crate::operator;
use crate::people::Who;
use crate::sightings::Bystander;
use crate::stage::{Installed, Stage};
use crate::story::{NAMESPACE, SOON, Story};

impl Story<'_> {
    /// The objects, the permissions and the rules of admission.
    pub async fn install(&mut self) -> anyhow::Result<()> {
        self.screen.step("Curfew is installed");
        self.screen.say(
            "Three kinds of objects (crds/), what the operator may do, and the guards by which the API server itself\n\
             checks who asks, and lets nobody make access larger or longer (manifests/).",
        );
        self.stage.installed.push(Installed::Curfew);
        let apply = [&["apply", "--server-side"], Installed::Curfew.files()].concat();
        self.must(Who::Admin, &apply).await?;
        let in_force = in_force(self.stage);
        self.screen
            .during("waiting until the API server acts by it", in_force)
            .await
    }

    /// The operator, and a bystander who watches what it does.
    pub async fn run_the_operator(&mut self) -> anyhow::Result<Bystander> {
        self.screen.step("The operator runs");
        self.screen.say(
            "As a process on this machine, with a token of its own service account: it may do what manifests/rbac.yaml\n\
             says and nothing else.",
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
        ensure!(token.ok, "no token for the operator: {}", token.text);
        self.screen.answer("(a token, not shown here)");
        let (kubeconfig, context) = self.stage.kubeconfig()?;
        let kubeconfig = operator::kubeconfig(&kubeconfig, &context, &token.text)?;
        self.start_operator(&kubeconfig).await?;
        self.operator_kubeconfig.clone_from(&kubeconfig);
        Bystander::watch(operator::client(&kubeconfig).await?, NAMESPACE).await
    }

    /// The operator, until it is ready.
    pub async fn start_operator(&mut self, kubeconfig: &str) -> anyhow::Result<()> {
        self.screen.command("curfew", "curfew run --listen 127.0.0.1:0");
        let process = operator::start(kubeconfig, self.stage.folder.path())?;
        let process = self.stage.operator.insert(process);
        self.screen
            .during("waiting until it says that it is ready", operator::ready(process))
            .await
    }

    /// The namespace and its policy.
    pub async fn apply_the_policy(&mut self) -> anyhow::Result<()> {
        self.screen.step("The security team writes a policy, once");
        self.screen.say(
            "The group devs may ask for access to namespaces with the label env=sandbox, for at most four hours.\n\
             What they get unless they ask for more is the role view.",
        );
        self.stage.installed.push(Installed::Sandbox);
        let apply = [&["apply", "--server-side"], Installed::Sandbox.files()].concat();
        self.must(Who::Admin, &apply).await?;
        let wait = ["wait", "--for=condition=Ready", "apol/sandbox", "--timeout=30s"];
        self.must(Who::Admin, &wait).await?;
        self.must(Who::Admin, &["get", "apol"]).await.map(drop)
    }
}

/// Waits until the API server serves the new kinds, fills in who asks and refuses forgeries: its admission policies
/// are loaded by informers, a moment after they were stored.
async fn in_force(stage: &Stage) -> anyhow::Result<()> {
    let dry_run = ["create", "--dry-run=server", "--output=yaml", "-f"];
    let filled = [&dry_run[..], &["e2e/harness/probe.yaml"]].concat();
    eventually("the API server fills in who asks", SOON, async || {
        match stage.ask(Who::Admin, &filled).await {
            Ok(answer) if answer.ok && answer.text.contains("requester:") => Ok(()),
            Ok(answer) => Err(answer.text),
            Err(error) => Err(format!("{error:#}")),
        }
    })
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
